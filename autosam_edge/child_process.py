"""Work in a process of its own with limits, for native code that can hang, crash or fill memory.

The child is a fresh interpreter that calls ``run_in_child(arguments, data)`` of one module. It is no fork and
needs no ``__main__`` guard in the program that uses this library. It inherits no handles and only the
variables in ``_KEPT``, it writes no core dump, and it dies with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal, NoReturn

from autosam_edge.errors import AutosamEdgeError, ErrorCode

if TYPE_CHECKING:
    from collections.abc import Sequence

Reason = Literal["time", "memory", "crash", "output"]
_KEPT = (
    "PATH",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
    "SYSTEMROOT",
    "TMPDIR",
    "TEMP",
    "TMP",
    "OPENBLAS_CORETYPE",
)
# A buffer for each core would count against the limit; and no package of the child reports its use.
_SET = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}
_TYPED_ERROR, _NO_MEMORY, _UNEXPECTED = 3, 12, 1  # exit codes of the child
_SEPARATOR = "\x1f"  # stands in no path
_START = (
    "import sys; sys.path[:] = sys.argv[1].split(chr(31)); "
    "from autosam_edge import child_process; child_process.be_the_child()"
)
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_HEADER = struct.Struct("<Q")
_STEP_S = 0.02
_READ_BYTES = 1 << 20


class ChildFailed(Exception):  # noqa: N818  what happened, which the caller turns into an error with a code
    """The child gave no result.

    Args:
        reason: ``time`` or ``memory``: it exceeded the limit; ``crash``: it ended by a signal or an
            unexpected exception; ``output``: its result was too large.
        detail: What is known about the end, as a phrase without patient data.
    """

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def can_run_child() -> bool:
    """Whether this system can start a Python of its own.

    False in a browser (Pyodide), on iOS and Android, and in programs that bring Python inside themselves
    (PyInstaller and others): there ``sys.executable`` is no Python.
    """
    return (
        sys.platform not in ("emscripten", "wasi", "ios", "android")
        and not getattr(sys, "frozen", False)
        and "py" in Path(sys.executable or "").name.lower()
    )


def run_child(
    module: str,
    arguments: Sequence[str] = (),
    data: bytes = b"",
    *,
    seconds: float,
    memory_mb: float,
    max_output_bytes: int = 1 << 20,
) -> bytes:
    """Call ``run_in_child(arguments, data)`` of a module in a child process, and return its bytes.

    Args:
        module: Module with a function ``run_in_child(arguments: list[str], data: bytes) -> bytes``.
        arguments: Texts for the function, such as paths.
        data: Bytes for the function; they go through a pipe, never through a file.
        seconds: Largest time from the start of the child to its end, s.
        memory_mb: Largest memory of the child, MB, with the 60 MB or so of Python itself. Linux only: other
            systems limit the time alone.
        max_output_bytes: Largest result, bytes.

    Returns:
        What the function returned.

    Raises:
        ChildFailed: The child exceeded a limit or crashed.
        AutosamEdgeError: The function raised this error.
    """
    settings = json.dumps([module, list(arguments), memory_mb, os.getpid()]).encode()
    paths = _SEPARATOR.join(_import_paths())
    unwritten = ["-B"] if sys.dont_write_bytecode else []  # -I hides PYTHONDONTWRITEBYTECODE
    command = [sys.executable, "-I", *unwritten, "-X", "utf8", "-c", _START, paths]
    child = subprocess.Popen(  # noqa: S603  our own code, no shell
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_SET},
        start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the child
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    result = bytearray()
    assert child.stdin is not None
    assert child.stdout is not None
    message = b"".join((_HEADER.pack(len(settings)), settings, _HEADER.pack(len(data))))
    helpers = [
        threading.Thread(target=_send, args=(child.stdin, message, data), daemon=True),
        threading.Thread(target=_receive, args=(child.stdout, result, max_output_bytes), daemon=True),
    ]
    try:
        for helper in helpers:
            helper.start()
        _wait(child, result, seconds, max_output_bytes)
    finally:
        child.kill()
        child.wait()
        for helper in helpers:
            helper.join()
        child.stdout.close()
        with contextlib.suppress(OSError):  # what the child no longer read
            child.stdin.close()  # not before: the child ends with this pipe
    return _result(child.returncode, bytes(result), memory_mb)


def _import_paths() -> list[str]:
    """The folders from which this process imports; an empty entry means the working directory."""
    with contextlib.suppress(FileNotFoundError):  # the working directory was deleted
        return [str(Path(entry).absolute()) for entry in sys.path]
    return [entry for entry in sys.path if Path(entry).is_absolute()]


def _send(stdin: IO[bytes], message: bytes, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the child ended early, which its exit code tells
        stdin.write(message)
        stdin.write(data)
        stdin.flush()


def _receive(stdout: IO[bytes], result: bytearray, most: int) -> None:
    while len(result) <= most and (block := os.read(stdout.fileno(), _READ_BYTES)):
        result += block


def _wait(child: subprocess.Popen[bytes], result: bytearray, seconds: float, most: int) -> None:
    """Wait for the end of the child.

    Raises:
        ChildFailed: It took too long, or its result is too large.
    """
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=_STEP_S)
            return
        if len(result) > most:
            raise ChildFailed("output", f"it gave more than {most} bytes")
        if time.monotonic() > deadline:
            raise ChildFailed("time", f"it took more than {seconds:g} s")


def _result(exit_code: int, result: bytes, memory_mb: float) -> bytes:
    if exit_code == 0:
        return result
    if exit_code == _NO_MEMORY:
        raise ChildFailed("memory", f"it needs more than {memory_mb:g} MB")
    if exit_code == _TYPED_ERROR:
        code, message, remedy = json.loads(result)
        raise ErrorCode(code, message, remedy)(message)
    ended = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    raise ChildFailed("crash", f"it ended with {ended}")


def be_the_child() -> NoReturn:
    """Do the work of the child; only :func:`run_child` starts a process with it."""
    stdin = sys.stdin.buffer
    module, arguments, memory_mb, parent = json.loads(_framed(stdin))
    _limit(memory_mb, parent)
    # Native code may print: it must not reach the result.
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        data = _framed(stdin)
        threading.Thread(target=_end_with, args=(stdin,), daemon=True).start()
        result, code = importlib.import_module(module).run_in_child(arguments, data), 0
    except MemoryError:
        result, code = b"", _NO_MEMORY
    except AutosamEdgeError as error:
        result, code = json.dumps([error.code, error.message, error.remedy]).encode(), _TYPED_ERROR
    except BaseException:  # the parent reports it; a traceback could quote patient data
        result, code = b"", _UNEXPECTED
    with os.fdopen(out, "wb") as stream:
        stream.write(result)
    os._exit(code)  # native libraries may crash as they are unloaded


def _framed(stdin: IO[bytes]) -> bytes:
    (size,) = _HEADER.unpack(stdin.read(_HEADER.size))
    return stdin.read(size)


def _end_with(stdin: IO[bytes]) -> None:
    """End this process when its parent has gone: the pipe then ends."""
    stdin.read(1)
    os._exit(_UNEXPECTED)


def _limit(memory_mb: float, parent: int) -> None:
    """Limit the memory, and on Linux let the kernel end this process with its parent."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        # Writable memory of its own; the address space also counts files and what is only reserved.
        most = int(memory_mb * 1024**2)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(_UNEXPECTED)

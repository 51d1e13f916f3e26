"""Work in a process of its own with limits, for native code that can hang, crash or fill memory.

The child is a fresh interpreter that calls ``run_in_child(arguments, data)`` of one module, once or often. It
is no fork and needs no ``__main__`` guard in the program that uses this library. It inherits no handles and
only the variables in ``_KEPT``, it writes no core dump, and it dies with its parent.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import queue
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
    from collections.abc import Iterator, Sequence

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
# What the package loads at its start is left out.
_START = """
import sys, types
sys.path[:] = sys.argv[1].split(chr(31))
package = sys.modules["autosam_edge"] = types.ModuleType("autosam_edge")
package.__path__ = [sys.argv[2]]
from autosam_edge.child_process import be_the_child
be_the_child(*sys.argv[3:])
"""
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_CALL = struct.Struct("<QQ")  # largest memory, bytes; length
_REPLY = struct.Struct("<BQ")  # code, length
_PIPE_BYTES = 1 << 20  # a frame of a CT at once; Linux gives 64 KiB otherwise
_STEP_S = 0.05


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


class ChildWorker:
    """A child process that calls ``run_in_child(arguments, data)`` of one module, again and again.

    It is used in a ``with`` statement, at whose end the child ends.

    Args:
        module: Module with a function ``run_in_child(arguments: list[str], data: bytes) -> bytes``.
        arguments: Texts for the function, such as paths.
    """

    def __init__(self, module: str, arguments: Sequence[str] = ()) -> None:
        package = str(Path(__file__).parent)
        paths = _SEPARATOR.join(_import_paths())
        self._child = subprocess.Popen(  # noqa: S603  our own code, no shell
            [
                sys.executable,
                "-I",
                *(["-B"] if sys.dont_write_bytecode else []),  # -I hides PYTHONDONTWRITEBYTECODE
                "-X",
                "utf8",
                "-c",
                _START,
                paths,
                package,
                str(os.getpid()),
                module,
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pipesize=_PIPE_BYTES,
            env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_SET},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the child
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        self._deadline: float | None = None
        self._memory_mb = 0.0
        self._late = False
        self._ended = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __enter__(self) -> ChildWorker:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._child.kill()
        self._child.wait()
        self._stdout.close()
        with contextlib.suppress(OSError):  # what the child no longer read
            self._stdin.close()

    def send(self, data: bytes, *, seconds: float, memory_mb: float) -> None:
        """Start one call; its result is what the next :meth:`receive` gives that no earlier call waits for.

        Args:
            data: Bytes for the function; they go through a pipe, never through a file.
            seconds: Largest time until the child has taken them, s; the first call includes its start.
            memory_mb: Largest memory of the child, MB, with the 60 MB or so of Python itself. Linux only:
                other systems limit the time alone.
        """
        self._memory_mb = memory_mb
        # The child may have ended early, which its exit code tells.
        with self._within(seconds), contextlib.suppress(OSError):
            self._stdin.write(_CALL.pack(int(memory_mb * 1024**2), len(data)))
            self._stdin.write(data)
            self._stdin.flush()

    def receive(self, *, seconds: float, max_output_bytes: int = 1 << 20) -> bytes:
        """Wait for the result of the earliest call that has given none.

        Args:
            seconds: Largest time to wait, s.
            max_output_bytes: Largest result, bytes.

        Returns:
            What the function returned.

        Raises:
            ChildFailed: The child exceeded a limit or crashed; it cannot be called again.
            AutosamEdgeError: The function raised this error.
        """
        with self._within(seconds):
            head = self._stdout.read(_REPLY.size)
            code, size = _REPLY.unpack(head) if len(head) == _REPLY.size else (None, 0)
            if size > max_output_bytes:
                raise ChildFailed("output", f"it gave more than {max_output_bytes} bytes")
            result = self._stdout.read(size)
            if code is None or len(result) < size:
                code = self._child.wait()
        if self._late:
            raise ChildFailed("time", f"it took more than {seconds:g} s")
        return _result(code, result, self._memory_mb)

    @contextlib.contextmanager
    def _within(self, seconds: float) -> Iterator[None]:
        self._deadline = time.monotonic() + seconds
        try:
            yield
        finally:
            self._deadline = None

    def _watch(self) -> None:
        """End the child at the deadline; a pipe that waits for it then ends too."""
        while not self._ended.wait(_STEP_S):
            deadline = self._deadline
            if deadline is not None and time.monotonic() > deadline:
                self._late = True
                self._child.kill()
                return


def run_child(
    module: str,
    arguments: Sequence[str] = (),
    data: bytes = b"",
    *,
    seconds: float,
    memory_mb: float,
    max_output_bytes: int = 1 << 20,
) -> bytes:
    """Call ``run_in_child(arguments, data)`` of a module in a child process of its own.

    Args:
        module: See :class:`ChildWorker`.
        arguments: See :class:`ChildWorker`.
        data: See :meth:`ChildWorker.send`.
        seconds: Largest time from the start of the child to its result, s.
        memory_mb: See :meth:`ChildWorker.send`.
        max_output_bytes: Largest result, bytes.

    Returns:
        What the function returned.

    Raises:
        ChildFailed: The child exceeded a limit or crashed.
        AutosamEdgeError: The function raised this error.
    """
    with ChildWorker(module, arguments) as worker:
        worker.send(data, seconds=seconds, memory_mb=memory_mb)
        return worker.receive(seconds=seconds, max_output_bytes=max_output_bytes)


def _import_paths() -> list[str]:
    """The folders from which this process imports; an empty entry means the working directory."""
    with contextlib.suppress(FileNotFoundError):  # the working directory was deleted
        return [str(Path(entry).absolute()) for entry in sys.path]
    return [entry for entry in sys.path if Path(entry).is_absolute()]


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


def be_the_child(parent: str, module: str, *arguments: str) -> NoReturn:
    """Do the work of the child; only :class:`ChildWorker` starts a process with it."""
    _die_with(int(parent))
    # Native code may print: it must not reach the result.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[tuple[int, bytes]] = queue.SimpleQueue()
    threading.Thread(target=_take_calls, args=(sys.stdin.buffer, calls), daemon=True).start()
    function, code = None, 0
    while True:
        try:
            function = function or importlib.import_module(module).run_in_child
            most, data = calls.get()
            _limit(most)
            result, code = function(list(arguments), data), 0
        except MemoryError:
            result, code = b"", _NO_MEMORY
        except AutosamEdgeError as error:
            result, code = json.dumps([error.code, error.message, error.remedy]).encode(), _TYPED_ERROR
        except BaseException:  # the parent reports it; a traceback could quote patient data
            result, code = b"", _UNEXPECTED
        out.write(_REPLY.pack(code, len(result)))
        out.write(result)
        out.flush()


def _take_calls(stdin: IO[bytes], calls: queue.SimpleQueue[tuple[int, bytes]]) -> None:
    """Take the calls of the parent, whatever the child is doing; end this process with it."""
    while len(head := stdin.read(_CALL.size)) == _CALL.size:
        most, size = _CALL.unpack(head)
        calls.put((most, stdin.read(size)))
    os._exit(_UNEXPECTED)  # the parent has gone, and with it the pipe


def _die_with(parent: int) -> None:
    """Leave no core dump, and on Linux let the kernel end this process with its parent."""
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before the call
            os._exit(_UNEXPECTED)


def _limit(most: int) -> None:
    """Limit the writable memory of this process, bytes: the address space also counts what is reserved."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))

"""Work in a process of its own with limits, for native code that can hang, crash or fill memory.

The child is a fresh interpreter that calls ``run_in_child(arguments, data)`` of one module, once or often. It
is no fork and needs no ``__main__`` guard in the program that uses this library. It inherits no handle but
that of the memory for its data and results, and only the variables in ``_KEPT``. It writes no core dump, and
it dies with its parent. :mod:`autosam_edge.system.child_side` is what it runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from autosam_edge.errors import ErrorCode
from autosam_edge.system.child_side import CALL, NO_MEMORY, REPLY, TYPED_ERROR
from autosam_edge.system.shared_slots import SLOTS, Slots, open_slots

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
_SET = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    # The C library of Linux keeps what a frame took for the next one: new pages cost a tenth of the decoding.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
_SEPARATOR = "\x1f"  # stands in no path
# What the package loads at its start is left out, and so is the search for cycles, a tenth of the start.
_START = """
import gc, sys, types
gc.disable()
sys.path[:] = sys.argv[1].split(chr(31))
package = sys.modules["autosam_edge"] = types.ModuleType("autosam_edge")
package.__path__ = [sys.argv[2]]
from autosam_edge.system.child_side import be_the_child
be_the_child(*sys.argv[3:])
"""
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
        package = str(Path(__file__).parents[1])
        paths = _SEPARATOR.join(_import_paths())
        handle = open_slots()
        self._child = subprocess.Popen(  # noqa: S603  our own code, no shell
            [
                sys.executable,
                "-I",
                "-S",  # the paths are given
                *(["-B"] if sys.dont_write_bytecode else []),  # -I hides PYTHONDONTWRITEBYTECODE
                "-X",
                "utf8",
                "-c",
                _START,
                paths,
                package,
                str(os.getpid()),
                "" if handle is None else str(handle),
                module,
                *arguments,
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=() if handle is None else (handle,),
            env={**{name: os.environ[name] for name in _KEPT if name in os.environ}, **_SET},
            start_new_session=True,  # Ctrl-C reaches the parent alone, which ends the child
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._stdin, self._stdout = self._child.stdin, self._child.stdout
        if sys.platform == "linux":
            import fcntl

            for pipe in (self._stdin, self._stdout):
                with contextlib.suppress(OSError):  # all pipes of a user together have a limit
                    fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._slots, self._sent, self._received = Slots(handle), 0, 0
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

        No more than ``SLOTS`` calls wait at one time.

        Args:
            data: Bytes for the function; they never stand in a file.
            seconds: Largest time until the child has taken them, s; the first call includes its start.
            memory_mb: Largest memory of the child, MB, with the 60 MB or so of Python itself. Linux only:
                other systems limit the time alone.
        """
        assert self._sent - self._received < SLOTS
        placed = self._slots.place(self._sent, len(data), result=False)
        self._sent += 1
        self._memory_mb = memory_mb
        if placed is not None:
            placed[:] = data
        # The child may have ended early, which its exit code tells.
        with self._within(seconds), contextlib.suppress(OSError):
            self._stdin.write(CALL.pack(int(memory_mb * 1024**2), len(data)))
            self._stdin.write(data if placed is None else b"")
            self._stdin.flush()

    def receive(self, *, seconds: float, max_output_bytes: int = 1 << 20) -> bytes | memoryview:
        """Wait for the result of the earliest call that has given none.

        Args:
            seconds: Largest time to wait, s.
            max_output_bytes: Largest result, bytes.

        Returns:
            What the function returned; it may change as soon as a further call is sent.

        Raises:
            ChildFailed: The child exceeded a limit or crashed; it cannot be called again.
            AutosamEdgeError: The function raised this error.
        """
        with self._within(seconds):
            head = self._stdout.read(REPLY.size)
            code, size = REPLY.unpack(head) if len(head) == REPLY.size else (None, 0)
            if size > max_output_bytes:
                raise ChildFailed("output", f"it gave more than {max_output_bytes} bytes")
            placed = self._slots.place(self._received, size, result=True)
            result = self._stdout.read(size) if placed is None else placed
            if code is None or len(result) < size:
                code = self._child.wait()
        self._received += 1
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
    module: str, arguments: Sequence[str] = (), data: bytes = b"", *, seconds: float, memory_mb: float
) -> bytes:
    """Call ``run_in_child(arguments, data)`` of a module in a child process of its own.

    Args:
        module: See :class:`ChildWorker`.
        arguments: See :class:`ChildWorker`.
        data: See :meth:`ChildWorker.send`.
        seconds: Largest time from the start of the child to its result, s.
        memory_mb: See :meth:`ChildWorker.send`.

    Returns:
        What the function returned.

    Raises:
        ChildFailed: The child exceeded a limit or crashed.
        AutosamEdgeError: The function raised this error.
    """
    with ChildWorker(module, arguments) as worker:
        worker.send(data, seconds=seconds, memory_mb=memory_mb)
        return bytes(worker.receive(seconds=seconds))


def _import_paths() -> list[str]:
    """The folders from which this process imports; an empty entry means the working directory."""
    with contextlib.suppress(FileNotFoundError):  # the working directory was deleted
        return [str(Path(entry).absolute()) for entry in sys.path]
    return [entry for entry in sys.path if Path(entry).is_absolute()]


def _result(exit_code: int, result: bytes | memoryview, memory_mb: float) -> bytes | memoryview:
    if exit_code == 0:
        return result
    if exit_code == NO_MEMORY:
        raise ChildFailed("memory", f"it needs more than {memory_mb:g} MB")
    if exit_code == TYPED_ERROR:
        code, message, remedy = json.loads(bytes(result))
        raise ErrorCode(code, message, remedy)(message)
    ended = f"signal {-exit_code}" if exit_code < 0 else f"exit code {exit_code}"
    raise ChildFailed("crash", f"it ended with {ended}")

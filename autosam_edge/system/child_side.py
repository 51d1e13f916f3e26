"""What a child process of :mod:`autosam_edge.system.child_process` runs. It loads little, to start soon."""

from __future__ import annotations

import importlib
import itertools
import json
import os
import queue
import signal
import struct
import sys
import threading
from typing import IO, NoReturn

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.shared_slots import Slots

CALL = struct.Struct("<QQ")
"""What precedes the data of a call: the largest memory, bytes, and their length."""
REPLY = struct.Struct("<BQ")
"""What precedes a result: a code, 0 or one of the following, and its length."""
TYPED_ERROR, NO_MEMORY, UNEXPECTED = 3, 12, 1
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def be_the_child(parent: str, handle: str, module: str, *arguments: str) -> NoReturn:
    """Do the work of the child, which only :class:`~autosam_edge.system.child_process.ChildWorker` starts."""
    _die_with(int(parent))
    # Native code may print: it must not reach the result.
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    calls: queue.SimpleQueue[tuple[int, bytes | memoryview]] = queue.SimpleQueue()
    slots = Slots(int(handle) if handle else None)
    threading.Thread(target=_take_calls, args=(sys.stdin.buffer, slots, calls), daemon=True).start()
    function, code = None, 0
    for call in itertools.count():
        try:
            function = function or importlib.import_module(module).run_in_child
            most, data = calls.get()
            _limit(most)
            result, code = function(list(arguments), bytes(data)), 0
        except MemoryError:
            result, code = b"", NO_MEMORY
        except AutosamEdgeError as error:
            result, code = json.dumps([error.code, error.message, error.remedy]).encode(), TYPED_ERROR
        except BaseException:  # the parent reports it; a traceback could quote patient data
            result, code = b"", UNEXPECTED
        placed = slots.place(call, len(result), result=True)
        if placed is not None:
            placed[:] = result
        out.write(REPLY.pack(code, len(result)))
        out.write(result if placed is None else b"")
        out.flush()
    raise AssertionError  # there is no last number


def _take_calls(
    stdin: IO[bytes], slots: Slots, calls: queue.SimpleQueue[tuple[int, bytes | memoryview]]
) -> None:
    """Take the calls of the parent, whatever the child is doing; end this process with it."""
    for call in itertools.count():
        if len(head := stdin.read(CALL.size)) < CALL.size:
            break
        most, size = CALL.unpack(head)
        placed = slots.place(call, size, result=False)
        calls.put((most, stdin.read(size) if placed is None else placed))
    os._exit(UNEXPECTED)  # the parent has gone, and with it the pipe


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
            os._exit(UNEXPECTED)


def _limit(most: int) -> None:
    """Limit the writable memory of this process, bytes: the address space also counts what is reserved."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_DATA, (most, resource.getrlimit(resource.RLIMIT_DATA)[1]))

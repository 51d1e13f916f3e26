"""Memory that two processes see: what goes through a pipe is copied twice, and page by page.

It has no name in any folder and ends with the processes, however they end. Linux has it; elsewhere, and where
a sandbox forbids it, :func:`open_slots` gives None.
"""

from __future__ import annotations

import mmap
import os
import sys

SLOTS = 5
"""Calls whose data and results stand in the memory at one time."""
SLOT_BYTES = (2 << 20) + 4096
"""Largest data or result, bytes: an image of 1024 x 1024 in 16 bits, and words about it."""
_BYTES = 2 * SLOTS * SLOT_BYTES


def open_slots() -> int | None:
    """Open such a memory; a page of it takes room when it is first written.

    Returns:
        Its file descriptor, which the caller closes; None if the system has none.
    """
    if sys.platform != "linux":
        return None
    import fcntl

    try:
        handle = os.memfd_create("autosam-edge", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return None
    os.ftruncate(handle, _BYTES)
    # If one process could make it shorter, the other would crash when it reads.
    fcntl.fcntl(handle, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    return handle


class Slots:
    """The memory as one of the processes sees it.

    Args:
        handle: Its file descriptor, which is closed; None if there is none.
    """

    def __init__(self, handle: int | None) -> None:
        self._memory = None
        if handle is not None:
            self._memory = memoryview(mmap.mmap(handle, _BYTES))
            os.close(handle)

    def place(self, call: int, size: int, *, result: bool) -> memoryview | None:
        """Where the data or the result of a call stand until the fifth call after it.

        Args:
            call: Number of the call, from 0.
            size: Size of the data or of the result, bytes.
            result: Whether the place of the result is asked for.

        Returns:
            The bytes; None if they go through the pipe.
        """
        if self._memory is None or size > SLOT_BYTES:
            return None
        start = (2 * (call % SLOTS) + result) * SLOT_BYTES
        return self._memory[start : start + size]

"""The garbage collector of a process that labels one scan and ends."""

from __future__ import annotations

import atexit
import contextlib
import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def collector_off() -> Iterator[None]:
    """Collect no reference cycles within the block.

    The collector looks at every object again and again, and the headers of a scan are many. Arrays are freed
    without it; the cycles of one scan take less than a megabyte.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def end_without_collection() -> None:
    """Skip the collections with which the interpreter ends; the system takes back all memory anyway."""
    atexit.register(gc.freeze)

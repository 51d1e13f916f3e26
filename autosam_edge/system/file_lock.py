"""Locks between processes; the operating system releases those of a process that is killed."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HELD = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK})
_PAUSE_S = 0.02


class LockedError(Exception):
    """Another process, or another thread, holds the lock."""


def lock_now(path: Path) -> tuple[int, bool]:
    """Lock a file, which is made when absent, or fail at once.

    Returns:
        The file's descriptor, whose closing releases the lock; and whether the file system knows locks, as
        some network file systems do not.

    Raises:
        LockedError: Somebody else holds the lock, or the file is another user's and may not be read.
        OSError: The file cannot be made.
    """
    try:
        handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o666)
    except PermissionError:
        handle = _opened_of_another_user(path)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # a browser, where no other process is
        return handle, False
    except OSError as error:
        if error.errno not in _HELD:
            return handle, False
        os.close(handle)
        raise LockedError from error
    except BaseException:
        os.close(handle)
        raise
    return handle, True


def _opened_of_another_user(path: Path) -> int:
    """Open a lock file that may not be written; a lock needs no more than to read it."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        if not os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES)) from None
        raise LockedError from None  # its user removed it a moment ago
    except PermissionError:
        raise LockedError from None


@contextmanager
def waiting_lock(path: Path, *, seconds: float) -> Iterator[None]:
    """Hold a lock for the block; the file is removed at its end.

    Args:
        seconds: Longest time to wait for another process.

    Raises:
        LockedError: Another process held the lock all the time.
        OSError: The file cannot be made.
    """
    end = time.monotonic() + seconds
    while True:
        try:
            handle, _ = lock_now(path)
            if os.name == "nt" or _is_named(handle, path):
                break
            os.close(handle)  # its holder removed the file while we opened it
        except LockedError:
            if time.monotonic() > end:
                raise
            time.sleep(_PAUSE_S)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # Windows removes no open file; the next process uses it again
            path.unlink()
        os.close(handle)


def _is_named(handle: int, path: Path) -> bool:
    """Whether a file still has its name: a lock on a removed file would keep nobody out."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False

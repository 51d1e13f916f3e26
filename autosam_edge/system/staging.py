"""Hidden folders in which content is made, and the renames that move it into its place.

A stage belongs to a process as long as that holds the lock of its file ``owner``. A process that is killed
leaves its stage, and the next process that makes one in the same folder completes the renames if they had
begun, and removes it. ADR 20 has the reasons.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autosam_edge.system.file_lock import LockedError, lock_now, waiting_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

WAIT_S = 20.0
"""Longest time to wait for another process, which moves its files in a few milliseconds."""
NEW = "new"
"""Folder of a stage for what is made."""
_FOLDER_LOCK = ".autosam-edge.lock"
_CANNOT = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
_STAGES = ".autosam-edge-*.partial"
# The names that are replaced stand in a file of the stage. Its own name says how far the renames are: before
# they begin, it is the plan.
_OWNER, _BEFORE, _PLAN, _REMOVING, _PLACING = "owner", "before", "plan", "removing", "placing"


@contextmanager
def new_stage(home: Path) -> Iterator[Path]:
    """A hidden folder in ``home`` with an empty folder ``new``, removed at the end."""
    stage, owner = home / _STAGES.replace("*", uuid.uuid4().hex), -1
    try:
        with waiting_lock(home / _FOLDER_LOCK, seconds=WAIT_S):  # nobody sees the stage without its lock
            _sweep(home)
            stage.mkdir()
            owner, _ = lock_now(stage / _OWNER)
        (stage / NEW).mkdir()
        yield stage
    finally:
        if owner >= 0:
            os.close(owner)
        if not _has_begun(stage):
            shutil.rmtree(stage, ignore_errors=True)


def sweep(folder: Path) -> None:
    """Complete or remove what killed processes have left in a folder.

    Args:
        folder: Existing folder. If it cannot be written, what is in it stays.
    """
    with contextlib.suppress(OSError, LockedError):
        if (folder / _FOLDER_LOCK).exists() or any(folder.glob(_STAGES)):
            with waiting_lock(folder / _FOLDER_LOCK, seconds=WAIT_S):
                _sweep(folder)


def _sweep(home: Path) -> None:
    """Complete or remove the stages of dead processes; the caller holds the lock of the folder."""
    for stage in home.glob(_STAGES):
        if stage.is_symlink():
            continue
        with contextlib.suppress(OSError, LockedError):  # its process lives, or it is another user's
            handle, known = lock_now(stage / _OWNER)
            os.close(handle)
            if not known:
                continue
            if _has_begun(stage):
                _move(stage)
            shutil.rmtree(stage, ignore_errors=True)


def _has_begun(stage: Path) -> bool:
    """Whether the renames of a stage have begun and are neither done nor undone."""
    return (stage / _REMOVING).exists() or (stage / _PLACING).exists()


def publish(stage: Path, names: Sequence[str]) -> None:
    """Move what a stage holds into the folder around it, in place of all that has one of the names."""
    plan = stage / _PLAN
    plan.write_text("\0".join(sorted(names)), encoding="utf-8", errors="surrogateescape")
    for path in (plan, stage / NEW):
        sync(path)
    with waiting_lock(stage.parent / _FOLDER_LOCK, seconds=WAIT_S):
        _sweep(stage.parent)  # a run that was killed among its renames must not go on after ours
        try:
            plan.replace(stage / _REMOVING)
            sync(stage)
            _move(stage)
        except BaseException:  # Ctrl-C too: a mixture of two runs would be a result that nobody made
            _move_back(stage)
            raise


def _move(stage: Path) -> None:
    """All old files leave before the first new one comes; a process that goes on from any point ends alike.

    The last name of all, by the alphabet, leaves first and comes last: where it is, everything is whole.
    """
    home, removing, placing = stage.parent, stage / _REMOVING, stage / _PLACING
    if removing.exists():
        (stage / _BEFORE).mkdir(exist_ok=True)
        for name in reversed(_names(removing)):
            if os.path.lexists(home / name):
                (home / name).replace(stage / _BEFORE / name)
        sync(home)
        removing.replace(placing)
        sync(stage)
    for path in sorted((stage / NEW).iterdir()):
        path.replace(home / path.name)
    sync(home)
    placing.unlink()


def _move_back(stage: Path) -> None:
    """Undo :func:`_move` from any point; if this fails too, the next process completes it."""
    home, removing, placing = stage.parent, stage / _REMOVING, stage / _PLACING
    if placing.exists():
        for name in _names(placing):
            if os.path.lexists(home / name) and not os.path.lexists(stage / NEW / name):
                (home / name).replace(stage / NEW / name)
        placing.replace(removing)
    if removing.exists():
        for name in _names(removing):
            if os.path.lexists(stage / _BEFORE / name):
                (stage / _BEFORE / name).replace(home / name)
        removing.unlink()


def _names(plan: Path) -> list[str]:
    """The names in a plan, in order; a path cannot be among them."""
    text = plan.read_text(encoding="utf-8", errors="surrogateescape")
    return [os.path.basename(name) for name in text.split("\0")]  # noqa: PTH119  a name of any bytes


def sync(path: Path) -> None:
    """Write a file or folder through to the disk, so that a rename never precedes its content.

    A file system that cannot do so with a folder, as some on a network cannot, is passed over.
    """
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for folders, and journals renames itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in _CANNOT or not path.is_dir():
            raise
    finally:
        os.close(handle)

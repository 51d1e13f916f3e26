"""Files and folders that appear whole or not at all.

Content is made in a hidden folder on the same file system, see :mod:`autosam_edge.system.staging`, and moved
into its place by renames. A block that fails, or is canceled, leaves nothing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from autosam_edge.error_codes import DISK_FULL, OUTPUT_BUSY, OUTPUT_NOT_WRITABLE, OUTPUT_OCCUPIED
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.file_lock import LockedError
from autosam_edge.system.staging import NEW, WAIT_S, new_stage, publish, sweep, sync

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the system's errors for a full disk, quota or file."""
_published = False


def anything_published() -> bool:
    """Whether this process has put a file or folder in its place: what it was asked for is on the disk."""
    return _published


def write_file(content: bytes, path: Path) -> None:
    """Write one file; see :func:`write_files`."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write small files: each is whole before any takes its name, and one of that name is replaced.

    Args:
        contents: Content of each file by its path.

    Raises:
        OutputError: See :func:`staged_file`.
    """
    with ExitStack() as stack:
        stages = {path: stack.enter_context(staged_file(path)) for path in contents}
        for path, content in contents.items():
            stages[path].write_bytes(content)


@contextmanager
def staged_file(path: Path) -> Iterator[Path]:
    """A path to write to that becomes ``path`` when the block ends well and vanishes when it does not.

    Args:
        path: File to make or to replace; missing parents are made.

    Yields:
        Path of a file of the same name, for the block to write.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the path is a folder (-002), the disk is
            full (-003), or another process blocks the folder (-007).
    """
    with explained():
        if path.is_dir():
            raise OUTPUT_OCCUPIED(
                f"{path.name} is a folder, expected a file.", remedy="Give the name of a file."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        with new_stage(path.parent) as stage:
            made = stage / NEW / path.name
            yield made
            sync(made)
            made.replace(path)
            _note_published()


@contextmanager
def staged_folder(out: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A new folder that becomes ``out`` when the block ends well and vanishes when it does not.

    Args:
        out: Folder to make; it must not hold anything yet.
        replaces: Name of a file that marks an older folder of the same kind, which is replaced at the end.

    Yields:
        The new folder, for the block to fill.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), holds something else (-002), the disk is
            full (-003), or another process blocks the folder above (-007).
    """
    with explained(out.name):
        refuse_occupied(out, unless=replaces)
        out = out.absolute()
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_stage(out.parent) as stage:
            made = stage / NEW / out.name
            made.mkdir()
            yield made
            for path in made.rglob("*"):
                sync(path)
            refuse_occupied(out, unless=replaces)
            publish(stage, [out.name])
            _note_published()


@contextmanager
def staged_results(target: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder to fill whose files go into ``target``, all or none, when the block ends well.

    Files of ``target`` with other names stay. A file of one of these names that the block did not make is
    removed, so that it cannot be taken for a result of this run.

    Args:
        target: Folder that receives the files; made when absent, with its parents.
        names: Names of all files that a run may make.

    Yields:
        The folder to fill.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or another process
            blocks the folder (-007). Nothing is left behind.
    """
    with explained():
        target = target.absolute()
        with made_folders(target.parent):
            sweep(target.parent)
            # Inside the folder when it exists, as it may be a mount point: a rename stays on one file system.
            with new_stage(target if target.is_dir() else target.parent) as stage:
                yield stage / NEW
                for path in (stage / NEW).iterdir():
                    sync(path)
                if stage.parent == target:
                    publish(stage, names)
                else:
                    _publish_folder(stage / NEW, target, names)


def refuse_occupied(out: Path, *, unless: str | None = None) -> None:
    """Refuse an output folder that holds anything.

    Args:
        out: The folder.
        unless: Name of a file; a folder that holds it is accepted.

    Raises:
        OutputError: AE-OUTPUT-002.
    """
    if unless is not None and (out / unless).is_file():
        return
    if os.path.lexists(out) and not (out.is_dir() and not any(out.iterdir())):
        raise OUTPUT_OCCUPIED(
            f"{out.name or '.'} is a file or a folder with other content, expected a new or empty folder.",
            remedy="Give another folder, or remove what is there yourself.",
        )


def require_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder can be written, by making a folder in it; nothing is left behind.

    Args:
        folder: Existing folder.
        needed_bytes: Free space that the results need, bytes.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the space is not there (-003), or another
            process blocks the folder (-007).
    """
    with explained():
        # os.access does not know of read-only mounts, quotas and network shares; making a folder does.
        with new_stage(folder):
            free = shutil.disk_usage(folder).free
        if free < needed_bytes:
            raise DISK_FULL(f"{free / 2**20:.0f} MiB are free, {needed_bytes / 2**20:.0f} MiB are needed.")


@contextmanager
def explained(what: str = "the output folder") -> Iterator[None]:
    """Convert errors of the operating system in the block.

    Args:
        what: Name of the file or folder that the block writes; paths of the errors are not repeated.

    Raises:
        OutputError: It cannot be written (AE-OUTPUT-001), the disk is full (-003), or another process blocks
            it (-007).
    """
    try:
        yield
    except AutosamEdgeError:
        raise
    except LockedError:
        raise OUTPUT_BUSY(f"another process has blocked {what} for {WAIT_S:.0f} s.") from None
    except OSError as error:
        number = errno_of(error)
        if number in FULL:
            raise DISK_FULL("the disk or the quota is full.") from error
        reason = os.strerror(number) if number else "unknown reason"
        raise OUTPUT_NOT_WRITABLE(f"{what} cannot be written ({type(error).__name__}: {reason}).") from error


def errno_of(error: OSError) -> int | None:
    """The number of an error; pydicom raises one without a number from that of the operating system."""
    return error.errno or getattr(error.__cause__, "errno", None)


def _note_published() -> None:
    global _published
    _published = True


@contextmanager
def made_folders(folder: Path) -> Iterator[None]:
    """Make a folder and its parents; at the end of the block, those that are new and empty go."""
    made: list[Path] = []
    try:
        for parent in [parent for parent in (*reversed(folder.parents), folder) if not parent.exists()]:
            parent.mkdir(exist_ok=True)
            made.append(parent)
        yield
    finally:
        with contextlib.suppress(OSError):  # one that holds something stays, and so do those around it
            for parent in reversed(made):
                parent.rmdir()


def _publish_folder(made: Path, target: Path, names: Sequence[str]) -> None:
    """Make a folder appear by one rename, or put its files into the one that another process has made."""
    sync(made)
    try:
        made.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        with new_stage(target) as stage:
            made.replace(stage / NEW)
            publish(stage, names)
    sync(target.parent)
    _note_published()

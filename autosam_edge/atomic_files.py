"""Files and folders that appear whole or not at all.

Content is made under a temporary name on the same file system, synced, and moved into place by renames. A
block that fails, is canceled or killed leaves no result: what may stay after a kill is a hidden file or
folder whose name ends in ``.partial``, which nothing reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import uuid
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from autosam_edge.error_codes import DISK_FULL, OUTPUT_NOT_WRITABLE, OUTPUT_OCCUPIED
from autosam_edge.errors import AutosamEdgeError, OutputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""Numbers of the system's errors for a full disk, quota or file."""


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
        Path of a file in the same folder, for the block to write.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the path is a folder (-002), or the disk is
            full (-003).
    """
    if path.is_dir():
        raise OUTPUT_OCCUPIED(f"{path.name} is a folder, expected a file.", remedy="Give the name of a file.")
    stage = path.with_name(_hidden(path.name))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield stage
        sync(stage)
        stage.replace(path)
    except OutputError:
        raise
    except OSError as error:
        raise explain(error) from error
    finally:
        with contextlib.suppress(OSError):  # after the rename it is no longer there
            stage.unlink()


@contextmanager
def staged_folder(out: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A new folder that becomes ``out`` when the block ends well and vanishes when it does not.

    Args:
        out: Folder to make; it must not hold anything yet.
        replaces: Name of a file that marks an older folder of the same kind, which is replaced at the end.

    Yields:
        The new folder, for the block to fill.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), holds something else (-002), or the disk is
            full (-003).
    """
    refuse_occupied(out, unless=replaces)
    stage = out.absolute().parent / _hidden(out.name)
    try:
        stage.mkdir(parents=True)
        yield stage
        for path in (*stage.rglob("*"), stage):
            sync(path)
        _replace_folder(stage, out)
    except OutputError:
        raise
    except OSError as error:
        raise explain(error, out.name) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


@contextmanager
def staged_results(target: Path, names: Sequence[str]) -> Iterator[Path]:
    """A folder to fill whose files go into ``target``, all or none, when the block ends well.

    Files of ``target`` with other names stay. A file of one of these names that the block did not make is
    removed, so that it cannot be taken for a result of this run.

    Args:
        target: Folder that receives the files; made when absent, with its parents.
        names: Names of all files that the block may make.

    Yields:
        The folder to fill.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), or the disk is full (-003).
            Nothing is left behind.
    """
    made_parents: list[Path] = []
    stage: Path | None = None
    try:
        made_parents = _make_parents(target)
        # Inside the folder when it exists, as it may be a mount point, and else beside it: a rename stays on
        # one file system.
        home = target if target.is_dir() else target.absolute().parent
        stage = home / _hidden("autosam-edge")
        stage.mkdir()  # not tempfile.mkdtemp: its mode 0700 would stay with the results
        yield stage
        _move_files(stage, target, names)
    except OutputError:
        raise
    except OSError as error:
        raise explain(error) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if not target.exists():
            with contextlib.suppress(OSError):  # another process may have put something there
                for parent in reversed(made_parents):
                    parent.rmdir()


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
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OUTPUT_OCCUPIED(
            f"{out.name} is a file or a folder with other content, expected a new or empty folder.",
            remedy="Give another folder, or remove what is there yourself.",
        )


def require_space(folder: Path, needed_bytes: int) -> None:
    """Check that a folder can be written, by making a folder in it; nothing is left behind.

    Args:
        folder: Existing folder.
        needed_bytes: Free space that the results need, bytes.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), or the space is not there (-003).
    """
    probe = folder / _hidden("autosam-edge")
    try:
        # os.access does not know of read-only mounts, quotas and network shares; making a folder does.
        probe.mkdir()
        probe.rmdir()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise explain(error) from error
    if free < needed_bytes:
        raise _disk_full(f"{free / 2**20:.0f} MiB are free, {needed_bytes / 2**20:.0f} MiB are needed")


def sync(path: Path) -> None:
    """Write a file or folder through to the disk, so that a rename never precedes its content."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for folders, and journals renames itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def explain(error: OSError, what: str = "the output folder") -> AutosamEdgeError:
    """Convert an error of the operating system.

    Args:
        error: Error of the system; its path is not repeated.
        what: Name of the file or folder that could not be written.
    """
    if error.errno in FULL:
        return _disk_full("the disk or the quota is full")
    reason = os.strerror(error.errno) if error.errno else "unknown reason"
    return OUTPUT_NOT_WRITABLE(f"{what} cannot be written ({type(error).__name__}: {reason}).")


def _disk_full(what: str) -> AutosamEdgeError:
    return DISK_FULL(f"{what}.")


def _hidden(name: str) -> str:
    """A temporary name that no other process has."""
    return f".{name}-{uuid.uuid4().hex}.partial"


def _make_parents(target: Path) -> list[Path]:
    """Make the parents of a folder; return those that were missing, outermost first."""
    missing = [parent for parent in reversed(target.absolute().parents) if not parent.exists()]
    for parent in missing:
        parent.mkdir(exist_ok=True)
    return missing


def _replace_folder(stage: Path, out: Path) -> None:
    """Rename, after what is there has left; it is deleted last, so that one of the two is always whole."""
    if not out.exists():
        stage.rename(out)
        return
    old = stage.with_suffix(".old")
    out.rename(old)
    try:
        stage.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old)


def _move_files(stage: Path, target: Path, names: Sequence[str]) -> None:
    """Move finished files into place: the whole folder by one rename, or file by file.

    When one of the renames of files fails, those before it are undone.
    """
    sync(stage)
    if stage.parent != target:
        try:
            stage.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another process made the folder meanwhile: its files and ours live side by side, and the last
            # rename of a name wins.
        else:
            sync(target.absolute().parent)
            return
    undo: list[Callable[[], object]] = []
    try:
        for name in names:
            final, fresh, kept = target / name, stage / name, stage / f"{name}.before"
            if final.exists():
                if fresh.exists():
                    _link_or_copy(final, kept)
                else:
                    final.rename(kept)
                undo.append(partial(kept.replace, final))
            elif fresh.exists():
                undo.append(partial(final.unlink, missing_ok=True))
            if fresh.exists():
                fresh.replace(final)
    except BaseException:  # Ctrl-C too: a mixture of old and new files would be a result that nobody made
        for step in reversed(undo):
            step()
        raise
    sync(target)


def _link_or_copy(file: Path, spare: Path) -> None:
    """Keep a file under a second name beside its own, so that its replacement is one atomic rename."""
    try:
        os.link(file, spare)
    except OSError:  # file systems such as exFAT have no links
        shutil.copy2(file, spare)

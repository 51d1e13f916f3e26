"""A folder that appears as a whole or not at all."""

from __future__ import annotations

import errno
import os
import shutil
import uuid
from contextlib import contextmanager
from typing import TYPE_CHECKING

from autosam_edge.errors import OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def staged_folder(out: Path, *, replaces: str | None = None) -> Iterator[Path]:
    """A new folder beside ``out`` that becomes ``out`` when the block ends well and vanishes when it does not.

    What a kill leaves is a hidden folder whose name ends in ``.partial``, which nothing reads.

    Args:
        out: Folder to make; it must not hold anything yet.
        replaces: A folder that holds a file of this name is an older one, and gives way at the end.

    Raises:
        OutputError: The folder holds something (AE-OUTPUT-002), or it cannot be written (AE-OUTPUT-001, AE-OUTPUT-003).
    """
    refuse_occupied(out, unless=replaces)
    stage = out.absolute().parent / f".{out.name}-{uuid.uuid4().hex}.partial"
    try:
        stage.mkdir(parents=True)
        yield stage
        for path in (*stage.rglob("*"), stage):
            _sync(path)
        _publish(stage, out)
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise OutputError(
                "AE-OUTPUT-003", "the disk or the quota is full.", remedy="Free some space or choose another disk."
            ) from error
        reason = os.strerror(error.errno) if error.errno else type(error).__name__
        raise OutputError(
            "AE-OUTPUT-001", f"{out.name} cannot be written ({reason}).", remedy="Give a folder that you may write to."
        ) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def refuse_occupied(out: Path, *, unless: str | None = None) -> None:
    """Refuse an output folder that holds anything.

    Args:
        out: The folder.
        unless: It holds a file of this name.

    Raises:
        OutputError: AE-OUTPUT-002.
    """
    if unless is not None and (out / unless).is_file():
        return
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            "AE-OUTPUT-002",
            f"{out.name} is a file, or a folder that holds something else.",
            remedy="Give another folder, or remove what is there yourself.",
        )


def _publish(stage: Path, out: Path) -> None:
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


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk, so that the rename never gets there before its content does."""
    if os.name == "nt":
        return  # has no handle for folders, and its journal keeps the order
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

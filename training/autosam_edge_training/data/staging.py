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
def staged_folder(out: Path) -> Iterator[Path]:
    """A new folder beside ``out`` that becomes ``out`` when the block ends well and vanishes when it does not.

    What a kill leaves is a hidden folder whose name ends in ``.partial``, which nothing reads.

    Args:
        out: Folder to make; it must not hold anything yet.

    Raises:
        OutputError: The folder holds something (AE-OUTPUT-002), or it cannot be written (AE-OUTPUT-001, AE-OUTPUT-003).
    """
    refuse_occupied(out)
    stage = out.absolute().parent / f".{out.name}-{uuid.uuid4().hex}.partial"
    try:
        stage.mkdir(parents=True)
        yield stage
        for path in (*stage.rglob("*"), stage):
            _sync(path)
        if out.is_dir():
            out.rmdir()  # Windows does not rename over an empty folder
        stage.rename(out)
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


def refuse_occupied(out: Path) -> None:
    """Refuse an output folder that holds anything.

    Raises:
        OutputError: AE-OUTPUT-002.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise OutputError(
            "AE-OUTPUT-002",
            f"{out.name} is a file, or a folder that holds something else.",
            remedy="Give another folder, or remove what is there yourself.",
        )


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk, so that the rename never gets there before its content does."""
    if os.name == "nt":
        return  # has no handle for folders, and its journal keeps the order
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Find the DICOM files of a folder by content; names, links and a DICOMDIR are not trusted."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.dicom.header import Header, read_header
from autosam_edge.error_codes import INPUT_UNREADABLE, TOO_MANY_FILES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_FILES = 20_000  # a whole-body CT at 0.5 mm has about 4,000
MAX_DEPTH = 12  # patient / study / series plus what archives put around them
_IGNORED_NAMES = frozenset({"thumbs.db", "desktop.ini", "dicomdir"})


@dataclass(eq=False)
class DicomFiles:
    """The DICOM files below a root, and how many other files were passed over.

    Args:
        headers: Header of each DICOM file, in order of path.
        skipped: Number of files that were passed over, by reason.
        paths: Paths of all files below the root.
    """

    headers: list[Header] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    paths: set[str] = field(default_factory=set)


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Regular files and symbolic links below ``root`` in a stable order; links are yielded, never followed.

    Raises:
        InputError: There are too many files or folders within folders (AE-DICOM-023), or a folder cannot be
            read (AE-INPUT-003).
    """
    pending, count = [(os.fspath(root), 0)], 0
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
        except OSError as error:
            raise INPUT_UNREADABLE(f"a folder cannot be read ({type(error).__name__}).") from error
        for entry in entries:
            if entry.is_symlink() or entry.is_file(follow_symlinks=False):
                count += 1
                yield entry
            elif entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, depth + 1))
        if count > MAX_FILES or depth > MAX_DEPTH:
            raise TOO_MANY_FILES(
                f"the folder holds more than {MAX_FILES} files or {MAX_DEPTH} levels of folders."
            )


def find_dicom_files(root: Path) -> DicomFiles:
    """Read the headers of all DICOM files below a folder, or of one file.

    Files are recognized by content (PS3.10 section 7.1), not by extension. Symbolic links are not followed.

    Args:
        root: A folder or a file.

    Raises:
        InputError: A file is damaged (AE-DICOM-005), inflates beyond reason (AE-DICOM-021) or cannot be read
            (AE-INPUT-003).
    """
    found = DicomFiles()
    if root.is_file():
        header = read_header(root, root.name)
        if header is not None:
            found.headers.append(header)
        return found
    for entry in walk(root):
        found.paths.add(entry.path)
        if entry.is_symlink():
            found.skipped["symbolic link"] += 1
            continue
        path = Path(entry.path)
        if entry.name.lower() in _IGNORED_NAMES or entry.name.startswith("._"):
            found.skipped["file that is not an image"] += 1
            continue
        header = read_header(path, path.relative_to(root).as_posix())
        if header is None:
            found.skipped[
                "file that is not DICOM" if entry.stat(follow_symlinks=False).st_size else "empty file"
            ] += 1
        else:
            found.headers.append(header)
    found.headers.sort(key=lambda header: header.name)
    return found

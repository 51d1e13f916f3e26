"""Find the DICOM files of a folder by content; names, links and a DICOMDIR are not trusted."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.dicom.header import Header
from autosam_edge.dicom.image_kinds import MEDIA_DIRECTORY
from autosam_edge.dicom.parse import Allowance, read_header
from autosam_edge.error_codes import INPUT_UNREADABLE, LINK_LEADS_OUT, TOO_MANY_FILES
from autosam_edge.system.memory import require_room

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

MAX_FILES = 20_000  # a whole-body CT at 0.5 mm has about 4,000
MAX_DEPTH = 12  # patient / study / series plus what archives put around them
INPUTS_OF_THEIR_OWN = {
    ".nii": "NIfTI file",
    ".nii.gz": "NIfTI file",
    ".hdr": "NIfTI file",
    ".nrrd": "NRRD file",
    ".nhdr": "NRRD file",
    ".mha": "MetaImage file",
    ".mhd": "MetaImage file",
    ".zip": "zip archive",
}
"""What can be given as the input itself, by the end of the name."""
_HEADERS_BETWEEN = 64  # headers between two looks at the memory; what is kept of each is 64 KiB at most
_NO_IMAGE = "file that is not an image"
_IGNORED_NAMES = {"thumbs.db": _NO_IMAGE, "desktop.ini": _NO_IMAGE, "dicomdir": MEDIA_DIRECTORY}


@dataclass(eq=False)
class DicomFiles:
    """The DICOM files below a root, and how many other files were passed over.

    Args:
        headers: Header of each DICOM file, in order of path.
        skipped: Number of files that were passed over, by reason.
        paths: Path of everything in the folder; empty where files were given.
    """

    headers: list[Header] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    paths: set[str] = field(default_factory=set)


def walk(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below ``root`` but its folders, in no order; links are given, never followed.

    Raises:
        InputError: There are too many files or folders within folders (AE-DICOM-023), or a folder cannot be
            read (AE-INPUT-003).
    """
    pending, count = [(os.fspath(root), 0)], 0
    while pending:
        folder, depth = pending.pop()
        try:
            with os.scandir(folder) as listing:
                entries = list(listing)
        except OSError as error:
            raise INPUT_UNREADABLE(f"a folder cannot be read ({type(error).__name__}).") from error
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                pending.append((entry.path, depth + 1))
            else:
                count += 1
                yield entry
        if count > MAX_FILES or depth > MAX_DEPTH:
            raise TOO_MANY_FILES(
                f"the folder holds more than {MAX_FILES} files or {MAX_DEPTH} levels of folders."
            )


def find_dicom_files(
    root: Path | Sequence[Path],
    max_memory_mb: float | None = None,
    on_header: Callable[[Header], None] = lambda _: None,
) -> DicomFiles:
    """Read the headers of all DICOM files below a folder, of one file, or of the files that are given.

    Files are recognized by content (PS3.10 section 7.1), not by extension. A symbolic link to a file of the
    folder adds nothing, as that file is read at its own place. Messages call a file by its number in the
    order of the paths, as ``find | LC_ALL=C sort`` lists them: names of files and folders may be patients'.

    Args:
        root: A folder, a file, or paths of files.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets none.
        on_header: Function that is called with each header that was read.

    Raises:
        InputError: A file is damaged (AE-DICOM-005, -006), larger than reasonable (AE-DICOM-021) or cannot be
            read (AE-INPUT-003); a link leads out of the folder (AE-INPUT-009), a slice is inside gzip
            (AE-INPUT-011), or see :func:`walk`.
        BudgetError: The headers take more than the limit (AE-MEMORY-001).
    """
    found, allowance = DicomFiles(), Allowance(max_memory_mb=max_memory_mb)

    def read(path: Path, name: str) -> bool:
        header = read_header(path, name, allowance)
        if header is not None:
            on_header(header)
            found.headers.append(header)
            if len(found.headers) % _HEADERS_BETWEEN == 0:
                require_room(0.0, max_memory_mb, what="the headers of the input")
        return header is not None

    if not isinstance(root, Path) or root.is_file():
        files = [root] if isinstance(root, Path) else root
        for number, path in enumerate(files, 1):
            if not read(path, f"file {number} of {len(files)}"):
                found.skipped[_not_dicom(path)] += 1
        return found
    entries = sorted(walk(root), key=lambda entry: entry.path)
    found.paths.update(entry.path for entry in entries)
    real_root = os.path.realpath(root)
    for number, entry in enumerate(entries, 1):
        name = f"file {number} of {len(entries)}"
        reason = not_read(entry, real_root, name)
        if not reason and read(Path(entry.path), name):
            continue
        found.skipped[reason or _not_dicom(entry)] += 1
    return found


def not_read(entry: os.DirEntry[str], real_root: str, name: str) -> str:
    """Why something in a folder is passed over without opening it; empty if it is opened."""
    if entry.is_symlink():
        _check_link(entry, real_root, name)
        return "symbolic link to what is read at its own place"
    if not entry.is_file(follow_symlinks=False):
        return "pipe, socket or device"
    return _IGNORED_NAMES.get(entry.name.lower(), _NO_IMAGE if entry.name.startswith("._") else "")


def _check_link(link: os.DirEntry[str], real_root: str, name: str) -> None:
    """Refuse a link that may stand for a slice which is not in the folder."""
    try:
        target = os.path.realpath(link.path, strict=True)
    except OSError as error:  # there is none, it may not be seen, or links form a circle
        raise LINK_LEADS_OUT(f"{name} is a symbolic link that leads to no file.") from error
    if not Path(target).is_relative_to(real_root):
        raise LINK_LEADS_OUT(f"{name} is a symbolic link that leads out of the input folder.")


def _not_dicom(entry: os.DirEntry[str] | Path) -> str:
    """The kind of a file whose content is not DICOM."""
    if not entry.stat(follow_symlinks=False).st_size:
        return "empty file"
    ends = (kind for end, kind in INPUTS_OF_THEIR_OWN.items() if entry.name.lower().endswith(end))
    return next(ends, "file that is not DICOM")

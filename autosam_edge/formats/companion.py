"""The second file of a volume whose header and voxels are two files; it is never looked for elsewhere."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.error_codes import COMPANION_MISSING, INPUT_UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Sequence

_OTHER_OF_NIFTI = {".hdr": (".img", ".img.gz"), ".img": (".hdr", ".hdr.gz")}  # the best first
_NAME_OF_VOXELS = re.compile(
    rb"^(?:ElementDataFile[ \t]*[=:]|data ?file:(?!=))[ \t]*(.*?)[ \t\r]*$", re.MULTILINE | re.IGNORECASE
)
_MAX_HEADER_BYTES = 1 << 20


def named_companion(header: Path, name: bytes, field: str) -> Path:
    """The file of voxels that a header names.

    Args:
        name: Name as it stands in the header: in the encoding of this system's names of files, or else in
            Latin-1.
        field: Field of the header that holds the name, for the message.

    Raises:
        InputError: The name is a path that leads elsewhere, or no such file is there (AE-INPUT-012).
    """
    plain = name.removeprefix(b"./")
    if not plain or plain in (b".", b"..") or any(letter in plain for letter in b"/\\:\0"):
        raise COMPANION_MISSING(
            f"{field} of the header is not the plain name of a file in the header's folder.",
            remedy=f"Put both files into one folder, and write the name alone into {field}.",
        )
    found = header.parent / os.fsdecode(plain)
    if not os.path.lexists(found):
        found = header.parent / plain.decode("latin-1")
    return _checked(header, found, f"the file that {field} of the header names")


def sibling(path: Path, endings: Sequence[str]) -> Path | None:
    """The file of the same name with one of other endings, in upper or lower case; None if there is none.

    Args:
        endings: Endings such as ``.img`` and ``.img.gz``, the best first.
    """
    stem = path.name[: -len(".gz")] if path.name.lower().endswith(".gz") else path.name
    stem = stem.rpartition(".")[0]
    try:
        # One name is looked up in no time, where a list of a folder of very many files is not.
        names = [name for ending in endings if os.path.lexists(path.with_name(name := stem + ending))]
        if not names:
            names = sorted(found.name for found in path.parent.iterdir())
    except OSError as error:
        raise INPUT_UNREADABLE(f"the folder cannot be read ({type(error).__name__}).") from error
    for ending in endings:
        for name in names:
            if name.lower() == (stem + ending).lower():
                return _checked(path, path.parent / name, f"the {ending} file")
    return None


def _checked(header: Path, found: Path, what: str) -> Path:
    try:
        there = found.is_file()
        inside = found.resolve().parent == header.parent.resolve()
    except OSError as error:  # a name that is too long, or a folder that cannot be read
        raise COMPANION_MISSING(f"{what} cannot be read ({type(error).__name__}).") from error
    if not there:
        raise COMPANION_MISSING(f"{what} is not in the folder.")
    if not inside:
        raise COMPANION_MISSING(
            f"{what} is a link that leads out of the folder.", remedy="Copy both files into one folder."
        )
    return found


def companion_status(path: Path) -> os.stat_result | None:
    """Size and time of the other file of a volume in two files, from a look at the start of the header.

    Args:
        path: Header, or ``.img``, also inside gzip.

    Returns:
        None where there is no such file, or it is refused: the reader of the volume tells why.
    """
    ending, found = Path(path.name.lower().removesuffix(".gz")).suffix, None
    try:
        if ending in _OTHER_OF_NIFTI:
            found = sibling(path, _OTHER_OF_NIFTI[ending])
        elif ending in (".mhd", ".nhdr"):
            with path.open("rb") as file:
                named = _NAME_OF_VOXELS.search(file.read(_MAX_HEADER_BYTES))
            found = named and named_companion(path, named[1], "a field")
        return found.stat() if found else None
    except (OSError, ValueError):
        return None

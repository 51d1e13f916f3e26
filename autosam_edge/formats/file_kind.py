"""What a file is, told by how it starts; nothing of a third party is loaded for it."""

from __future__ import annotations

import re

ENOUGH_BYTES = 4096
NIFTI_1_MAGICS = (b"n+1\0", b"ni1\0")  # one file; a pair of files
NIFTI_2_MAGICS = (b"n+2\0", b"ni2\0")
_METAIMAGE_FIELD = re.compile(rb"^\s*(ObjectType|NDims)\s*[=:]", re.MULTILINE)
_OTHERS = {
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"GIF8": "a GIF picture",
    b"II*\0": "a TIFF picture",
    b"MM\0*": "a TIFF picture",
    b"%PDF": "a PDF document",
    b"\x89HDF": "an HDF5 or MINC file",
    b"CDF": "a NetCDF or MINC file",
    b"\x93NUMPY": "a NumPy array",
    b"7z\xbc\xaf": "a 7z archive",
    b"Rar!": "a RAR archive",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"(\xb5/\xfd": "a Zstandard file",
    b"<?xml": "an XML file",
    b"# vtk": "a VTK file",
}


def is_nifti(start: bytes) -> bool:
    """Whether a file starts like NIfTI, by its first 348 bytes or more, inflated."""
    return start[344:348] in NIFTI_1_MAGICS or start[4:8] in NIFTI_2_MAGICS


def is_analyze(start: bytes) -> bool:
    """Whether a file starts like Analyze 7.5, or like NIfTI without its magic number; see above."""
    if len(start) < 348 or is_nifti(start):
        return False
    if start[:4] == (348).to_bytes(4, "little"):
        return 1 <= int.from_bytes(start[40:42], "little") <= 7
    return start[:4] == (348).to_bytes(4, "big") and 1 <= int.from_bytes(start[40:42], "big") <= 7


def kind_of(start: bytes) -> str:
    """``nifti``, ``nrrd``, ``metaimage``, ``zip``, or nothing, by the first 4096 bytes, inflated."""
    if start[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if start.startswith(b"NRRD000"):
        return "nrrd"
    if is_nifti(start) or is_analyze(start):  # the reader tells why it refuses Analyze
        return "nifti"
    if b"\0" not in start[:16] and _METAIMAGE_FIELD.search(start[:1024]):
        return "metaimage"
    return ""


def other_kind(start: bytes) -> str:
    """What a file is that cannot be read, as a phrase; empty if that is unknown."""
    if start[257:262] == b"ustar":
        return "a tar archive"
    return next((words for magic, words in _OTHERS.items() if start.startswith(magic)), "")

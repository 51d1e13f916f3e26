"""Reader of NRRD (format of teem). A detached header may name a file of its own folder only."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import nrrd
import numpy as np

from autosam_edge.ct_grid import check_ct_grid
from autosam_edge.error_codes import (
    COMPANION_MISSING,
    NRRD_DAMAGED,
    NRRD_GRID_INVALID,
    NRRD_NOT_3D,
    NRRD_ORIENTATION_INVALID,
    NRRD_VALUES_INVALID,
)
from autosam_edge.formats.companion import named_companion
from autosam_edge.formats.hounsfield import read_volume
from autosam_edge.formats.voxels import StoredVoxels, VoxelEncoding, opened
from autosam_edge.geometry import FloatMatrix, Grid
from autosam_edge.warning_codes import EXTRA_AXES

if TYPE_CHECKING:
    from pathlib import Path

    from nrrd.types import NRRDHeader

    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Volume

_LPS_FROM = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
_WITH_TIME = ("time", "rast", "last", "lpst")
_ONE_VOLUME = "Give one of its volumes as a 3D file; 3D Slicer saves each item of a sequence."
_ENCODINGS: dict[str, VoxelEncoding] = {
    "raw": "raw",
    "gzip": "zlib",
    "gz": "zlib",
    "bzip2": "bzip2",
    "bz2": "bzip2",
    "ascii": "text",
    "text": "text",
    "txt": "text",
    "hex": "hex",
}
_TYPES = {  # after "unsigned" became u, "signed" and a second word "int" nothing, and _t was cut off
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "longlong": "i8", "int64": "i8", "ulonglong": "u8", "uint64": "u8",
    "float": "f4", "double": "f8",
}  # fmt: skip
_FIELDS_OF_TWO_WORDS = {  # they may also be written as one word
    name.replace(b" ", b""): name
    for name in (
        b"space dimension", b"space directions", b"space origin", b"space units", b"measurement frame",
        b"data file", b"line skip", b"byte skip",
    )
}  # fmt: skip
_VECTORS = (b"space directions", b"space origin", b"measurement frame")
_VOXELS_FILE = b"data file"
_SEVERAL_FILES = re.compile(rb"LIST(\s|$)|.*%\d*d")  # a list below the header; a pattern
_MILLIMETERS = ("", "mm", "millimeter", "millimeters", "millimetre", "millimetres")
_MAX_HEADER_BYTES = 1 << 20
_MAX_LINES = 10_000  # before the voxels


def read_nrrd(path: Path, *, max_memory_mb: float | None = None) -> Volume:
    """Read a CT volume whose values are HU.

    Args:
        path: A ``.nrrd`` file, or a ``.nhdr`` header beside its file of voxels.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.

    Returns:
        (D, H, W) HU with its grid in LPS mm.

    Raises:
        InputError: The file is damaged (AE-NRRD-001), not 3D (AE-NRRD-002), has no usable place in the
            patient (AE-NRRD-003), its values cannot be HU (AE-NRRD-004), its grid cannot be a CT's
            (AE-NRRD-005), its voxels are missing (AE-INPUT-012) or too many (AE-INPUT-013).
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).
    """
    header, end = _read_header(path)
    warnings = _drop_extra_axes(header)
    affine = _affine(header)
    try:
        voxels = _voxels(path, header, end)
    except (KeyError, TypeError, OverflowError) as error:
        raise _damaged(f"a field is missing or malformed ({type(error).__name__})") from error
    try:
        grid = Grid(voxels.shape, affine)
    except ValueError as error:
        raise NRRD_ORIENTATION_INVALID(f"the space of the image is not usable: {error}.") from error
    warnings += check_ct_grid(grid, NRRD_GRID_INVALID)
    return read_volume("nrrd", path, voxels, grid, NRRD_VALUES_INVALID, warnings, max_memory_mb)


def _read_header(path: Path) -> tuple[NRRDHeader, int]:
    """The fields of the header, and the place where it ends, bytes."""
    fields: dict[bytes, bytes] = {}
    with opened(path) as file:
        magic = file.readline(_MAX_HEADER_BYTES)
        while (line := file.readline(_MAX_HEADER_BYTES)).strip():
            name, value = _field(line)
            # The format allows a field once only, but 3D Slicer has written the same field twice.
            if name and fields.setdefault(name, value) != value:
                raise _damaged("a field stands twice with different values")
            if name == _VOXELS_FILE and _SEVERAL_FILES.match(value):
                raise COMPANION_MISSING(
                    "'data file' of the NRRD header names several files, by a list or a pattern.",
                    remedy="Save the volume as one .nrrd file.",
                )
            if file.tell() > _MAX_HEADER_BYTES:
                raise _damaged("the header does not end")
        end = file.tell()
    try:
        header = dict(nrrd.read_header([magic, *(b"%s: %s" % field for field in fields.items())]))
    except Exception as error:  # NRRDError, ValueError and more
        raise _damaged(f"the header breaks the format ({type(error).__name__})") from error
    if _VOXELS_FILE in fields:
        header["data file"] = fields[_VOXELS_FILE]  # pynrrd leaves letters out of a name that is not ASCII
    return header, end


def _field(line: bytes) -> tuple[bytes, bytes]:
    """Name and description of a field as pynrrd reads them; no name for a comment or a key with its value."""
    if line.startswith(b"#"):
        return b"", b""
    # Keys may hold a colon, as descriptions may; some writers leave out the blank after it.
    separator = re.search(rb":=|:\s", line) or re.search(rb":", line)
    if separator is None:
        raise _damaged("a line of the header has no colon")
    if separator[0] == b":=":
        return b"", b""
    name, value = line[: separator.start()], line[separator.end() :].strip()
    name = b" ".join(name.lower().split())
    name = _FIELDS_OF_TWO_WORDS.get(name, name)
    if name in _VECTORS:
        value = re.sub(rb"\s*,\s*", b",", re.sub(rb"(?<=\()\s+|\s+(?=\))", b"", value))
    return name, value


def _damaged(why: str) -> Exception:
    return NRRD_DAMAGED(f"the NRRD file is damaged or not NRRD: {why}.")


def _drop_extra_axes(header: NRRDHeader) -> list[ScanWarning]:
    """Leave out axes of length 1 that do not lie in space; refuse what is not 3D then."""
    try:
        sizes = [int(size) for size in header["sizes"]]
        dimension = int(header["dimension"])
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(f"a field is missing or malformed ({type(error).__name__})") from error
    if dimension != len(sizes) or min(sizes, default=0) < 1:
        raise _damaged("'sizes' does not fit 'dimension'")
    directions = np.asarray(header.get("space directions", np.zeros((dimension, 3))), dtype=np.float64)
    if dimension < 3:
        raise NRRD_NOT_3D(f"the image has {dimension} dimensions, expected 3.")
    if str(header.get("space", "")).lower().endswith(_WITH_TIME):
        raise NRRD_NOT_3D("the space of the image has an axis of time, expected 3 axes.", remedy=_ONE_VOLUME)
    if directions.shape != (dimension, 3):
        raise NRRD_ORIENTATION_INVALID("'space directions' is missing or malformed.")
    in_space = [not np.isnan(row).all() for row in directions]  # pynrrd reads "none" as NaN
    kept = [axis for axis in range(dimension) if in_space[axis] or sizes[axis] > 1]
    if len(kept) != 3 or not all(in_space[axis] for axis in kept):
        told = " x ".join(map(str, sizes))
        raise NRRD_NOT_3D(
            f"the image has {dimension} axes ({told}), {sum(in_space)} of them in space, "
            "as a sequence or a color image has, expected 3, all in space.",
            remedy=_ONE_VOLUME,
        )
    header["sizes"] = [sizes[axis] for axis in kept]
    header["space directions"] = directions[kept] if "space directions" in header else None
    return [EXTRA_AXES(f"3 of {dimension} axes were kept; the rest has length 1.")] if dimension > 3 else []


def _voxels(path: Path, header: NRRDHeader, end: int) -> StoredVoxels:
    """Where the voxels are, by the fields of the header."""
    encoding = _ENCODINGS.get(str(header["encoding"]).lower())
    words = str(header["type"]).lower().removesuffix("_t").replace("unsigned ", "u").replace("signed ", "")
    kind = _TYPES.get(words.removesuffix(" int").replace(" ", ""))
    if encoding is None or kind is None:
        raise _damaged("'encoding' or 'type' is none that a volume of numbers has")
    order = {"little": "<", "big": ">"}.get(str(header.get("endian", "")).lower())
    if order is None and kind[1] != "1" and encoding != "text":
        raise _damaged("'endian' is missing or wrong")
    named = header.get("data file")
    if named is not None:
        path, end = named_companion(path, named, "'data file'"), 0
    x, y, z = header["sizes"]
    voxels = StoredVoxels(path, np.dtype(f"{order or '='}{kind}"), (z, y, x), NRRD_DAMAGED, encoding, end)
    return _after_skips(voxels, lines=int(header.get("line skip", 0)), count=int(header.get("byte skip", 0)))


def _after_skips(voxels: StoredVoxels, *, lines: int, count: int) -> StoredVoxels:
    """The voxels after 'line skip' lines and 'byte skip' bytes, which count within a compressed stream."""
    if not 0 <= lines <= _MAX_LINES or count < -1 or (count == -1 and voxels.encoding != "raw"):
        raise _damaged("'line skip' or 'byte skip' is out of range")
    with opened(voxels.path) as file:
        file.seek(voxels.start)
        for _ in range(lines):
            if not file.readline(_MAX_HEADER_BYTES):
                raise _damaged("'line skip' leads beyond the end")
        start = file.tell()
        if count == -1:
            start = max(start, file.seek(0, 2) - voxels.count * voxels.dtype.itemsize)
    compressed = voxels.encoding in ("zlib", "bzip2")
    return replace(
        voxels, start=start + (0 if compressed else max(count, 0)), skip=count if compressed else 0
    )


def _affine(header: NRRDHeader) -> FloatMatrix:
    """Our (d, h, w) -> LPS matrix; the rows of 'space directions' belong to (x, y, z)."""
    space = str(header.get("space", "")).lower()
    if space not in _LPS_FROM:
        raise NRRD_ORIENTATION_INVALID("the space is not LPS, RAS or LAS, so left and right are unknown.")
    for keyword, shape in (("space directions", (3, 3)), ("space origin", (3,))):
        given = header.get(keyword)
        if given is None or np.shape(given) != shape or not np.isfinite(np.asarray(given, dtype=float)).all():
            raise NRRD_ORIENTATION_INVALID(f"'{keyword}' is missing or malformed.")
    if any(unit.lower() not in _MILLIMETERS for unit in header.get("space units", ())):
        raise NRRD_ORIENTATION_INVALID("'space units' is not mm.")
    signs = np.array(_LPS_FROM[space])
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(header["space directions"], dtype=np.float64) * signs).T[:, ::-1]
    affine[:3, 3] = np.asarray(header["space origin"], dtype=np.float64) * signs
    return affine

"""Reader of MetaImage, the format of ITK: ``.mha``, or ``.mhd`` beside a file of voxels.

Positions are in LPS, as ITK reads them. Like ITK, the reader does not use CenterOfRotation.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import check_ct_grid
from autosam_edge.encoded_bytes import Encoding
from autosam_edge.error_codes import (
    COMPANION_MISSING,
    METAIMAGE_DAMAGED,
    METAIMAGE_GRID_INVALID,
    METAIMAGE_NOT_3D,
    METAIMAGE_ORIENTATION_INVALID,
    METAIMAGE_VALUES_INVALID,
)
from autosam_edge.formats.companion import named_companion
from autosam_edge.formats.hounsfield import read_volume
from autosam_edge.formats.voxels import StoredVoxels, opened
from autosam_edge.geometry import FloatMatrix, Grid, Shape
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.warning_codes import EXTRA_AXES, ORIENTATION_LETTERS_IGNORED

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Segmentation, Volume

    Fields = dict[str, str]

_TYPES = {
    "MET_CHAR": "i1", "MET_UCHAR": "u1", "MET_SHORT": "i2", "MET_USHORT": "u2",
    "MET_INT": "i4", "MET_UINT": "u4", "MET_LONG": "i4", "MET_ULONG": "u4",
    "MET_LONG_LONG": "i8", "MET_ULONG_LONG": "u8", "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_MODALITIES = ("MET_MOD_CT", "CT", "MET_MOD_OTHER", "MET_MOD_UNKNOWN", "MET_MOD_?")
_TRUTH = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_FREE_TEXT = "Comment"  # a field that may stand in several lines
_MAX_HEADER_BYTES = 1 << 16
_UNIT_LENGTH = 1e-3  # rows of the matrix that are written with four digits


def read_metaimage(path: Path, *, max_memory_mb: float | None = None) -> Volume:
    """Read a CT volume whose values are HU.

    Args:
        path: A ``.mha`` file, or a ``.mhd`` header beside its file of voxels.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.

    Returns:
        (D, H, W) HU with its grid in LPS mm.

    Raises:
        InputError: The file is damaged (AE-MHA-001), not 3D (AE-MHA-002), has no usable place in the patient
            (AE-MHA-003), its values cannot be HU (AE-MHA-004), its grid cannot be a CT's (AE-MHA-005), its
            voxels are missing (AE-INPUT-012) or too many (AE-INPUT-013).
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).

    Source:
        MetaIO's documentation, https://itk.org/Wiki/ITK/MetaIO/Documentation; ITK, itkMetaImageIO.
    """
    fields, end = _read_header(path)
    shape, extra = _shape(fields)
    _check_values(fields)
    affine = _affine(fields)
    try:
        grid = Grid(shape, affine)
    except ValueError as error:
        raise METAIMAGE_ORIENTATION_INVALID(f"the place of the image is not usable: {error}.") from error
    warnings = [EXTRA_AXES(f"3 of {3 + extra} axes were kept; the rest has length 1.")] if extra else []
    warnings += _check_letters(fields, grid)
    warnings += check_ct_grid(grid, METAIMAGE_GRID_INVALID)
    voxels = _voxels(path, fields, end, shape)
    return read_volume("metaimage", path, voxels, grid, METAIMAGE_VALUES_INVALID, warnings, max_memory_mb)


def _read_header(path: Path) -> tuple[Fields, int]:
    """The fields of the header, which ends with ElementDataFile, and the place where it ends, bytes."""
    fields: Fields = {}
    with opened(path) as file:
        while "ElementDataFile" not in fields:
            line = file.readline(_MAX_HEADER_BYTES)
            if not line or file.tell() > _MAX_HEADER_BYTES:
                raise METAIMAGE_DAMAGED("the MetaImage header ends without ElementDataFile.")
            name, found, value = re.sub(r"[=:]", "=", line.decode("latin-1"), count=1).partition("=")
            name, value = name.strip(), value.strip()
            if found and name != _FREE_TEXT and fields.setdefault(name, value) != value:
                raise METAIMAGE_DAMAGED("a field of the MetaImage header stands twice with different values.")
        end = file.tell()
    return fields, end


def _shape(fields: Fields) -> tuple[Shape, int]:
    """Voxels along (D, H, W), and the number of axes beyond the third, all of length 1."""
    if fields.get("ObjectType", "Image").lower() != "image":
        raise METAIMAGE_NOT_3D("the MetaIO file holds another object than an image.")
    count = _numbers(fields, "NDims", 1)
    if count is None or count[0] not in range(1, 11):
        raise METAIMAGE_DAMAGED("NDims of the MetaImage header is missing or malformed.")
    sides = _numbers(fields, "DimSize", int(count[0]))
    if sides is None or min(sides) < 1 or not all(side.is_integer() for side in sides):
        raise METAIMAGE_DAMAGED("DimSize of the MetaImage header is missing or malformed.")
    x, y, z, *rest = [int(side) for side in (*sides, 1, 1)]
    if len(sides) < 3 or any(side > 1 for side in rest):
        told = " x ".join(f"{side:.0f}" for side in sides)
        raise METAIMAGE_NOT_3D(f"the image has {len(sides)} dimensions ({told}), expected 3.")
    return (z, y, x), len(sides) - 3


def _numbers(fields: Fields, name: str, count: int) -> list[float] | None:
    """The numbers of a field, None if it is missing or does not hold that many finite numbers."""
    try:
        values = [float(word) for word in fields.get(name, "").split()]
    except ValueError:
        return None
    return values if len(values) == count and np.isfinite(values).all() else None


def _is_true(fields: Fields, *names: str, default: bool = False) -> bool:
    """Whether a field that may have several names is true.

    ITK takes any other word than True, T and 1 for false, also Yes; here it is refused.
    """
    given = {_TRUTH.get(fields[name].lower()) for name in names if name in fields} or {default}
    if None in given:
        raise METAIMAGE_DAMAGED(f"{' or '.join(names)} of the MetaImage header is neither True nor False.")
    if len(given) > 1:
        raise METAIMAGE_DAMAGED(f"{' and '.join(names)} of the MetaImage header contradict each other.")
    return True in given


def _check_values(fields: Fields) -> None:
    """Refuse values that the header says are no plain HU."""
    if _numbers(fields, "ElementNumberOfChannels", 1) not in (None, [1.0]):
        raise METAIMAGE_VALUES_INVALID("the voxels hold several channels, as colors do, expected one.")
    if fields.get("Modality", _MODALITIES[0]).upper() not in _MODALITIES:
        raise METAIMAGE_VALUES_INVALID("Modality of the MetaImage header is not CT.")
    for name, neutral in (("ElementToIntensityFunctionSlope", 1), ("ElementToIntensityFunctionOffset", 0)):
        if name in fields and _numbers(fields, name, 1) != [neutral]:
            raise METAIMAGE_VALUES_INVALID(
                f"{name} is set, which ITK ignores, so the HU are unknown.",
                remedy="Save the volume with its values in HU and without this field.",
            )


def _affine(fields: Fields) -> FloatMatrix:
    """Our (d, h, w) -> LPS matrix; row k of the matrix in the file is the direction of axis (x, y, z)[k]."""
    axes = len(fields["DimSize"].split())
    matrix = _one_of(fields, ("TransformMatrix", "Orientation", "Rotation"), axes * axes)
    offset = _one_of(fields, ("Offset", "Position", "Origin"), axes)
    spacing = _one_of(fields, ("ElementSpacing",) if "ElementSpacing" in fields else ("ElementSize",), axes)
    if fields.get("DistanceUnits", "mm").lower() not in ("mm", "?"):
        raise METAIMAGE_ORIENTATION_INVALID("DistanceUnits of the MetaImage header is not mm.")
    directions = np.reshape(matrix, (axes, axes))[:3, :3]
    if np.abs(np.linalg.norm(directions, axis=1) - 1.0).max() > _UNIT_LENGTH:
        raise METAIMAGE_ORIENTATION_INVALID("the rows of the MetaImage's matrix are not of length 1.")
    affine = np.eye(4)
    affine[:3, :3] = (directions * np.asarray(spacing)[:3, None]).T[:, ::-1]
    affine[:3, 3] = offset[:3]
    return affine


def _one_of(fields: Fields, names: tuple[str, ...], count: int) -> list[float]:
    """The numbers of a field that has several names."""
    given = [name for name in names if name in fields]
    values = [_numbers(fields, name, count) for name in given]
    if not values or values[0] is None or any(other != values[0] for other in values):
        raise METAIMAGE_ORIENTATION_INVALID(
            f"{' or '.join(given or names)} of the MetaImage header is missing or malformed."
        )
    return values[0]


def _check_letters(fields: Fields, grid: Grid) -> Iterator[ScanWarning]:
    """A warning if AnatomicalOrientation, which ITK ignores, contradicts the matrix."""
    letters = fields.get("AnatomicalOrientation", "").upper()
    if not re.fullmatch("[RLAPIS]{3}", letters):
        return
    by_matrix = _letters_of(grid)
    # Some writers name the side that an axis goes to.
    if letters not in (by_matrix, by_matrix.translate(str.maketrans("RAILPS", "LPSRAI"))):
        yield ORIENTATION_LETTERS_IGNORED(
            "AnatomicalOrientation contradicts the matrix of the MetaImage; the matrix was used, as ITK does."
        )


def _letters_of(grid: Grid) -> str:
    """The side that each axis W, H, D comes from, such as RAI, as ITK names it."""
    # Each axis of the patient stands for one of the image, the surest pair first, as in ITK.
    directions, named = grid.direction.T[::-1], [""] * 3
    left = np.abs(directions)
    for _ in named:
        axis, world = divmod(int(left.argmax()), 3)
        named[axis] = ("RAI" if directions[axis, world] > 0 else "LPS")[world]
        left[axis, :] = left[:, world] = -1.0
    return "".join(named)


def _voxels(path: Path, fields: Fields, end: int, shape: Shape) -> StoredVoxels:
    """Where the voxels are, by the fields of the header."""
    kind = _TYPES.get(fields.get("ElementType", ""))
    header_size = [0.0] if "HeaderSize" not in fields else _numbers(fields, "HeaderSize", 1)
    if kind is None or header_size is None or header_size[0] < -1:
        raise METAIMAGE_DAMAGED("ElementType or HeaderSize of the MetaImage header is missing or malformed.")
    order = ">" if _is_true(fields, "BinaryDataByteOrderMSB", "ElementByteOrderMSB") else "<"
    dtype = np.dtype(order + kind)
    name = fields["ElementDataFile"]
    if name.upper() != "LOCAL":
        if name.upper().startswith("LIST") or "%" in name:
            raise COMPANION_MISSING(
                "the MetaImage keeps its voxels in several files.", remedy="Save the volume as one .mha file."
            )
        path, end = named_companion(path, name.encode("latin-1"), "ElementDataFile"), 0
    start = end if header_size[0] == 0 else int(header_size[0])
    if start < 0:  # the voxels are the end of the file
        with opened(path) as file:
            start = max(0, file.seek(0, 2) - shape[0] * shape[1] * shape[2] * dtype.itemsize)
    encoding: Encoding = "zlib" if _is_true(fields, "CompressedData") else "raw"
    if not _is_true(fields, "BinaryData", default=True):
        encoding = "text"
    return StoredVoxels(path, dtype, shape, METAIMAGE_DAMAGED, encoding, start)


def write_metaimage(segmentation: Segmentation, path: Path) -> None:
    """Write the labels as compressed uint8 ``.mha`` on the input's grid, in LPS, as ITK does.

    The affine is exact in float64. Of a tilted or sheared grid the axes are not at right angles: ITK reads
    them as they are, but programs that take the matrix for a rotation do not.

    Raises:
        OSError: The file cannot be written.
    """
    grid = segmentation.grid
    columns = grid.affine[:3, 2::-1]  # of the axes W, H, D, as MetaImage counts them
    spacing = np.linalg.norm(columns, axis=0)
    voxels = zlib.compress(segmentation.labels.tobytes(), 6)
    fields = {
        "ObjectType": "Image",
        "NDims": 3,
        "BinaryData": True,
        "BinaryDataByteOrderMSB": False,
        "CompressedData": True,
        "CompressedDataSize": len(voxels),
        "TransformMatrix": _spaced((columns / spacing).T.ravel()),
        "Offset": _spaced(grid.affine[:3, 3]),
        "CenterOfRotation": "0 0 0",
        "AnatomicalOrientation": _letters_of(grid),
        "ElementSpacing": _spaced(spacing),
        "DimSize": _spaced(grid.shape[::-1]),
        "Comment": RESEARCH_USE,
        "ElementType": "MET_UCHAR",
        "ElementDataFile": "LOCAL",
    }
    header = "".join(f"{key} = {value}\n" for key, value in fields.items())
    path.write_bytes(header.encode() + voxels)


def _spaced(values: Iterable[float]) -> str:
    return " ".join(f"{value:.17g}" for value in values)

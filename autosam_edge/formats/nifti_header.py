"""Header of a NIfTI file or pair: where its voxels are, and where they lie in the patient.

RAS coordinates occur only in the modules of NIfTI; all other modules use LPS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from nibabel.quaternions import quat2mat

from autosam_edge.error_codes import (
    COMPANION_MISSING,
    NIFTI_DAMAGED,
    NIFTI_FORMS_DIFFER,
    NIFTI_NOT_3D,
    NIFTI_ORIENTATION_INVALID,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.companion import sibling
from autosam_edge.formats.file_kind import NIFTI_1_MAGICS, NIFTI_2_MAGICS, is_analyze, is_nifti
from autosam_edge.formats.voxels import StoredVoxels, read_start
from autosam_edge.geometry import FloatMatrix, Grid
from autosam_edge.warning_codes import ALIGNED_FORM_IGNORED, EXTRA_AXES

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge.scan_warning import ScanWarning

SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ZYX = np.eye(4)[:, [2, 1, 0, 3]]  # swaps the first and third index axis
_HEADER_BYTES = 540  # NIfTI-2; NIfTI-1 has 348
# Two forms that move no voxel by more than this differ by rounding; the labels would not change.
_ROUNDING_VOXELS = 0.25
# Near half a turn, which is the usual orientation of CT, a quaternion in float32 is exact to 0.06 degrees.
_ROUNDING_RAD = np.radians(0.1)
_LEAST_REAL_PART = 1e-7  # of a quaternion, squared; nifti1_io.c takes less for 0
_MOST_UNIT_LENGTH = 1.001  # of a quaternion, squared; three decimals are the fewest that anybody writes
_MILLIMETER = 2  # NIFTI_UNITS_MM; the other bits of xyzt_units are about time
_RIGID = 0.01  # a rigid alignment keeps the spacing; it is stored in float32


def lps_affine(ras_affine: FloatMatrix) -> FloatMatrix:
    """NIfTI's (i, j, k) -> RAS matrix as our (d, h, w) -> LPS matrix."""
    return np.asarray(_LPS_FROM_RAS @ ras_affine @ _ZYX, dtype=np.float64)


def ras_affine(lps: FloatMatrix) -> FloatMatrix:
    """Inverse of :func:`lps_affine`."""
    return np.asarray(_LPS_FROM_RAS @ lps @ _ZYX, dtype=np.float64)


@dataclass(frozen=True)
class NiftiFile:
    """What the header of a NIfTI file says.

    Args:
        path: The file, or the header of a pair.
        voxels: Where the voxels are.
        grid: Where they lie in the patient.
    """

    path: Path
    voxels: StoredVoxels
    grid: Grid
    warnings: tuple[ScanWarning, ...]


def read_nifti_header(path: Path) -> NiftiFile:
    """Read the header of a NIfTI-1 or NIfTI-2 image.

    Whether a file is compressed is told by its content.

    Args:
        path: A file, or the header or the voxels of a pair (``.hdr`` and ``.img``).

    Raises:
        InputError: The header is damaged (AE-NIFTI-001), not 3D (-002), gives no usable place (-003) or two
            that contradict each other (-007); the other file of a pair is missing (AE-INPUT-012).
    """
    start, zipped = read_start(path, _HEADER_BYTES)
    if not is_nifti(start) and not is_analyze(start):  # the voxels of a pair, or nothing that is known
        path = sibling(path, (".hdr", ".hdr.gz")) or path
        start, zipped = read_start(path, _HEADER_BYTES)
    header = _parsed(start)
    try:
        shape, extra = _shape(header)
        dtype = header.get_data_dtype()
        slope, intercept = header.get_slope_inter()
        offset = int(header.get_data_offset())
        units = int(header["xyzt_units"]) & 7
    except InputError:
        raise
    except Exception as error:  # nibabel raises KeyError, HeaderDataError, OverflowError and more
        raise NIFTI_DAMAGED(f"the NIfTI header is damaged ({type(error).__name__}).") from error
    if offset < header.single_vox_offset * header.is_single:
        raise NIFTI_DAMAGED("the NIfTI header is damaged (vox_offset lies within the header).")
    if units not in (0, _MILLIMETER):
        raise NIFTI_ORIENTATION_INVALID("the header gives lengths in another unit than mm.")
    image = path if header.is_single else sibling(path, (".img", ".img.gz"))
    if image is None:
        raise COMPANION_MISSING("the header belongs to a pair of files, and its .img file is not there.")
    if image != path:
        _, zipped = read_start(image, 2)
    grid, notes = _grid(header, shape)
    if extra:
        notes.append(EXTRA_AXES(f"3 of {3 + extra} axes were kept; the rest has length 1."))
    voxels = StoredVoxels(
        image,
        dtype,
        shape,
        NIFTI_DAMAGED,
        "zlib" if zipped else "raw",
        start=0 if zipped else offset,
        skip=offset if zipped else 0,
        slope=1.0 if slope is None else slope,
        intercept=0.0 if intercept is None else intercept,
    )
    return NiftiFile(path, voxels, grid, tuple(notes))


def _header_class(start: bytes) -> Any:  # noqa: ANN401  nibabel ships no types
    if start[344:348] in NIFTI_1_MAGICS:
        return (nib.nifti1.Nifti1Header, nib.nifti1.Nifti1PairHeader)[NIFTI_1_MAGICS.index(start[344:348])]
    return (nib.nifti2.Nifti2Header, nib.nifti2.Nifti2PairHeader)[NIFTI_2_MAGICS.index(start[4:8])]


def _parsed(start: bytes) -> Any:  # noqa: ANN401  nibabel ships no types
    """The header, without nibabel's checks: they repair in silence."""
    if is_analyze(start):
        raise NIFTI_ORIENTATION_INVALID(
            "the header is Analyze 7.5, or a NIfTI header that lost its magic number: "
            "left and right are unknown."
        )
    if not is_nifti(start):
        raise NIFTI_DAMAGED("the file does not start with a NIfTI header.")
    header = _header_class(start)
    try:
        return header(start[: header.template_dtype.itemsize], check=False)
    except Exception as error:  # a short block, an impossible byte order
        raise NIFTI_DAMAGED(f"the NIfTI header is damaged ({type(error).__name__}).") from error


def _shape(header: Any) -> tuple[tuple[int, int, int], int]:  # noqa: ANN401
    """Voxels along (D, H, W), and the number of axes beyond the third, all of length 1."""
    sides = [int(side) for side in header.get_data_shape()]
    told = " x ".join(map(str, sides))
    if not sides or min(sides) < 1:
        raise NIFTI_DAMAGED(f"the NIfTI header is damaged (it tells of {told or 'no'} voxels).")
    if len(sides) < 3:
        raise NIFTI_NOT_3D(f"the image has {len(sides)} dimensions ({told}), expected 3.")
    if any(side > 1 for side in sides[3:]):
        raise NIFTI_NOT_3D(
            f"the image has {len(sides)} dimensions ({told}), as a series in time or a vector image has, "
            "expected 3.",
            remedy="Give one of its volumes as a 3D file.",
        )
    return (sides[2], sides[1], sides[0]), len(sides) - 3


def _grid(header: Any, shape: tuple[int, int, int]) -> tuple[Grid, list[ScanWarning]]:  # noqa: ANN401
    """The place of the voxels by sform, else by qform; the two must not contradict each other."""
    sform_code, qform_code = int(header["sform_code"]), int(header["qform_code"])
    sform = _form_grid(header, shape, "sform") if sform_code > 0 else None
    try:
        qform = _form_grid(header, shape, "qform") if qform_code > 0 else None
    except InputError:
        if sform is None or (qform_code == SCANNER != sform_code):
            raise
        qform = None  # the sform would be used whatever the qform says
    if sform is None:
        if qform is None:
            raise NIFTI_ORIENTATION_INVALID(
                "neither sform nor qform is set, so left and right are unknown.",
                remedy="Convert the scan again from DICOM with a tool that writes the orientation.",
            )
        return qform, []
    if qform is None:
        _check_pixdim(header, sform)
        return sform, []
    if min(_moved_voxels(sform, form, qform.affine) for form in _as_qform(sform, qform)) <= _ROUNDING_VOXELS:
        return sform, []
    if (sform_code == SCANNER) != (qform_code == SCANNER) and _rigidly_aligned(sform, qform):
        used = "sform" if sform_code == SCANNER else "qform"
        return (sform if sform_code == SCANNER else qform), [
            ALIGNED_FORM_IGNORED(
                f"sform and qform give different places; {used}, which is the scanner's, was used."
            )
        ]
    raise NIFTI_FORMS_DIFFER(
        f"sform and qform place voxels up to {_moved_mm(sform, qform):.3g} mm apart"
        f"{'' if _same_hand(sform, qform) else ', one as the mirror image of the other'}, "
        "expected the same places."
    )


def _form_grid(header: Any, shape: tuple[int, int, int], form: str) -> Grid:  # noqa: ANN401
    """The grid by ``sform`` or ``qform``."""
    try:
        affine = header.get_sform() if form == "sform" else _qform(header)
        return Grid(shape, lps_affine(np.asarray(affine, dtype=np.float64)))
    except Exception as error:  # nibabel raises ValueError and HeaderDataError
        raise NIFTI_ORIENTATION_INVALID(f"the {form} is not usable ({type(error).__name__}).") from error


def _qform(header: Any) -> FloatMatrix:  # noqa: ANN401
    """The matrix of the qform to RAS, as nifti1_io.c computes it, but without sizes that are not given.

    Raises:
        ValueError: A size is no positive number, or the quaternion is longer than by rounding.
    """
    sign, *sizes = np.asarray(header["pixdim"][:4], dtype=np.float64)
    imaginary = np.array([header[f"quatern_{letter}"] for letter in "bcd"], dtype=np.float64)
    square = float(imaginary @ imaginary)
    if not (min(sizes) > 0 and square <= _MOST_UNIT_LENGTH):
        raise ValueError
    real = np.sqrt(1.0 - square) if 1.0 - square >= _LEAST_REAL_PART else 0.0
    sizes[2] = -sizes[2] if sign < 0 else sizes[2]
    affine = np.eye(4)
    affine[:3, :3] = quat2mat([real, *imaginary]) * sizes  # of any length
    affine[:3, 3] = [header[f"qoffset_{letter}"] for letter in "xyz"]
    return affine


def _as_qform(sform: Grid, qform: Grid | None = None) -> list[FloatMatrix]:
    """The affines that a qform of the same place may say: it has no shear, so it has the nearest rotation."""
    left, _, right = np.linalg.svd(sform.direction)
    rotation = left @ right
    if qform is not None and np.linalg.norm(rotation - qform.direction) / np.sqrt(2) <= _ROUNDING_RAD:
        rotation = qform.direction
    # Where the axes are sheared, writers give either the length of an axis or the distance of its layers.
    heights = 1.0 / np.linalg.norm(np.linalg.inv(sform.affine[:3, :3]), axis=1)
    affines = [sform.affine]
    for spacing_mm in (np.asarray(sform.spacing_mm), heights):
        affine = np.array(sform.affine)
        affine[:3, :3] = rotation * spacing_mm
        affines.append(affine)
    return affines


def _check_pixdim(header: Any, sform: Grid) -> None:  # noqa: ANN401
    """Refuse sizes of voxels that contradict the only form: ITK takes them, nibabel does not."""
    told = np.abs(np.asarray(header["pixdim"][3:0:-1], dtype=np.float64))
    if not np.isfinite(told).all() or not told.all():
        return  # not set
    sizes = [np.linalg.norm(affine[:3, :3], axis=0) for affine in _as_qform(sform)[1:]]
    moved = np.min([np.abs(told / size - 1.0) for size in sizes], axis=0) * (np.asarray(sform.shape) - 1)
    if moved.max() > _ROUNDING_VOXELS:
        spacing, pixdim = (" x ".join(f"{edge:.4g}" for edge in edges) for edges in (sform.spacing_mm, told))
        raise NIFTI_FORMS_DIFFER(
            f"the voxels are {spacing} mm (D, H, W) by the sform and {pixdim} mm by pixdim, "
            "expected the same size.",
            remedy="Convert the scan again from DICOM, or correct pixdim.",
        )


def _corners(grid: Grid) -> FloatMatrix:
    """(4, 8) indices of the outermost voxels."""
    corners = np.indices((2, 2, 2)).reshape(3, 8) * (np.array(grid.shape)[:, None] - 1.0)
    return np.vstack([corners, np.ones(8)])


def _moved_voxels(grid: Grid, one: FloatMatrix, other: FloatMatrix) -> float:
    """How far two affines lie apart at most, in voxels of a grid."""
    moved_mm = ((other - one) @ _corners(grid))[:3]
    return float(np.linalg.norm(np.linalg.inv(grid.affine[:3, :3]) @ moved_mm, axis=0).max())


def _moved_mm(one: Grid, other: Grid) -> float:
    return float(np.linalg.norm(((other.affine - one.affine) @ _corners(one))[:3], axis=0).max())


def _same_hand(one: Grid, other: Grid) -> bool:
    return bool(np.linalg.det(one.direction) * np.linalg.det(other.direction) > 0)


def _rigidly_aligned(one: Grid, other: Grid) -> bool:
    """Whether one grid is the other, moved and slightly turned, as an alignment to another image does."""
    return one.orientation == other.orientation and np.allclose(one.spacing_mm, other.spacing_mm, rtol=_RIGID)

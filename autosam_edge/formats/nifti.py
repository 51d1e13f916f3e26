"""Reader and writer of NIfTI-1 (nifti1.h). RAS coordinates occur only here; all other modules use LPS."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from autosam_edge.ct_grid import check_ct_grid
from autosam_edge.error_codes import (
    NIFTI_DAMAGED,
    NIFTI_GRID_INVALID,
    NIFTI_NOT_3D,
    NIFTI_ORIENTATION_INVALID,
    NIFTI_VALUES_INVALID,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.hounsfield import as_hu
from autosam_edge.geometry import FloatMatrix, Grid
from autosam_edge.volume import RESEARCH_USE, Source, Volume

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge.volume import Segmentation

_LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_ZYX = np.eye(4)[:, [2, 1, 0, 3]]  # swaps the first and third index axis


def lps_affine(ras_affine: FloatMatrix) -> FloatMatrix:
    """NIfTI's (i, j, k) -> RAS matrix as our (d, h, w) -> LPS matrix."""
    return np.asarray(_LPS_FROM_RAS @ ras_affine @ _ZYX, dtype=np.float64)


def ras_affine(lps: FloatMatrix) -> FloatMatrix:
    """Inverse of :func:`lps_affine`."""
    return np.asarray(_LPS_FROM_RAS @ lps @ _ZYX, dtype=np.float64)


def read_array(path: Path) -> tuple[npt.NDArray[Any], Grid]:
    """Stored values, scaled, in (D, H, W) order with their grid.

    Raises:
        InputError: Not a readable 3D NIfTI image with a position (AE-NIFTI-001 to -003).
    """
    if not path.name.lower().endswith((".nii", ".nii.gz")):  # nibabel goes by the name
        raise NIFTI_DAMAGED("the file is not named .nii or .nii.gz.")
    try:
        image = nib.load(path)
        if not isinstance(image, nib.Nifti1Image):
            raise NIFTI_DAMAGED(
                "the file is not a NIfTI-1 or NIfTI-2 image.", remedy="Give one .nii or .nii.gz file."
            )
        proxy: Any = image.dataobj
        slope, inter = float(proxy.slope), float(proxy.inter)
        stored = proxy.get_unscaled()
    except InputError:
        raise
    except (
        Exception
    ) as error:  # nibabel, zlib and NumPy each raise their own; all mean "this file cannot be read"
        raise NIFTI_DAMAGED(
            f"the NIfTI file is damaged or not NIfTI ({type(error).__name__}).",
            remedy="Copy the file again or convert it anew.",
        ) from error
    while stored.ndim > 3 and stored.shape[-1] == 1:
        stored = stored[..., 0]
    if stored.ndim != 3:
        raise NIFTI_NOT_3D(f"the image has {stored.ndim} dimensions, expected 3.")
    header: Any = image.header
    if int(header["sform_code"]) == 0 and int(header["qform_code"]) == 0:
        raise NIFTI_ORIENTATION_INVALID(
            "neither sform nor qform is set, so left and right are unknown.",
            remedy="Convert the scan again from DICOM with a tool that writes the orientation.",
        )
    if header.get_xyzt_units()[0] not in ("mm", "unknown"):
        raise NIFTI_ORIENTATION_INVALID("the header gives lengths in another unit than mm.")
    values = stored.T  # (x, y, z) -> (z, y, x): a view; nibabel arrays are in Fortran order
    if (slope, inter) != (1.0, 0.0):
        values = _scaled(values, slope, inter)
    try:
        grid = Grid((values.shape[0], values.shape[1], values.shape[2]), lps_affine(image.affine))
    except ValueError as error:
        raise NIFTI_ORIENTATION_INVALID(f"the affine is not usable: {error}.") from error
    return values, grid


def read_nifti(path: Path) -> Volume:
    """Read a CT volume whose values are HU.

    Raises:
        InputError: See :func:`read_array`; AE-NIFTI-004 when the values cannot be HU, AE-NIFTI-006 when the
            grid cannot be a CT's.
    """
    values, grid = read_array(path)
    warnings = check_ct_grid(grid, NIFTI_GRID_INVALID)
    hu, notes = as_hu(values, NIFTI_VALUES_INVALID)
    digest = hashlib.sha256(hu.data).hexdigest()
    return Volume(hu, grid, Source("nifti", digest, (path,)), (*warnings, *notes))


def _scaled(values: npt.NDArray[Any], slope: float, inter: float) -> npt.NDArray[Any]:
    """``values * slope + inter``, in integers if all three are integers and the result fits into int32."""
    if values.dtype.kind not in "iuf":
        return values  # refused or used as it is by the caller
    whole = values.dtype.kind in "iu" and slope.is_integer() and inter.is_integer()
    ends = [float(end) * slope + inter for end in (values.min(), values.max())]
    if whole and max(abs(end) for end in ends) <= np.iinfo(np.int32).max:
        dtype: type = np.int16 if min(ends) >= -32768 and max(ends) <= 32767 else np.int32
        # Integer arithmetic wraps around, so a result that fits is right even where an operand does not fit.
        scaled: npt.NDArray[Any] = values.astype(dtype)
        scaled *= np.int64(slope).astype(dtype)
        scaled += np.int64(inter).astype(dtype)
        return scaled
    return np.asarray(values * np.float64(slope) + inter)


_SCANNER = 1  # NIFTI_XFORM_SCANNER_ANAT
_LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
_COMMENT = 6  # NIFTI_ECODE_COMMENT
_QFORM_TOLERANCE_MM = 1e-3  # a float32 quaternion is coarser than a float32 matrix


def write_nifti(segmentation: Segmentation, path: Path) -> None:
    """Write the labels as a gzipped uint8 NIfTI on the input's grid; equal segmentations give equal bytes.

    The sform carries the affine. NIfTI-1 stores it as float32, which is worth 1e-4 mm up to coordinates of
    two meters and 3e-4 mm up to eight; NIfTI-2 would hold float64, but SimpleITK and what is built on it
    cannot open it. The qform says the same, or is left unset where it cannot: it has no shear. The exact
    affine, the label table, the provenance and the research-use statement are JSON in a header extension
    (code 6).

    Args:
        segmentation: Labels, (D, H, W).
        path: File to write, ``.nii.gz``.

    Raises:
        OSError: The file cannot be written.

    Source:
        NIfTI-1.1, nifti1.h, "3D image (volume) orientation and location in space" and "header extension".
    """
    grid = segmentation.grid
    ras = ras_affine(grid.affine)
    header = nib.Nifti1Header()
    header.set_data_shape(grid.shape[::-1])
    header.set_data_dtype(np.uint8)
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1.0, 0.0)
    header.set_intent(_LABEL_INTENT, allow_unknown=True)
    header.set_sform(ras, code=_SCANNER)
    header.set_qform(ras, code=_SCANNER, strip_shears=True)
    if not grid.same_as(
        Grid(grid.shape, lps_affine(np.asarray(header.get_qform(), dtype=np.float64))),
        tolerance_mm=_QFORM_TOLERANCE_MM,
    ):
        header["qform_code"] = 0
    header["cal_max"] = max((label.value for label in segmentation.table), default=0)
    made_by = segmentation.provenance.software_and_version[:50].encode("ascii", "replace")
    header["descrip"] = made_by + b"; Research use only"
    header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, _extension(segmentation)))
    _write_gzip(header, segmentation.labels, path)


def _extension(segmentation: Segmentation) -> bytes:
    """Label table and provenance as JSON."""
    content = {
        "research_use": RESEARCH_USE,
        "labels": [
            {
                "value": label.value,
                "name": label.name,
                "title": label.title,
                "snomed_ct": {"code": label.snomed_code, "meaning": label.snomed_meaning},
                "laterality": label.laterality,
                "color": list(label.color),
            }
            for label in segmentation.table
        ],
        "affine_lps_mm": segmentation.grid.affine.tolist(),
        "array_order": "D, H, W = k, j, i",
        "provenance": segmentation.provenance.as_dict(),
        "warnings": [warning.as_dict() for warning in segmentation.warnings],
    }
    return json.dumps(content, sort_keys=True, ensure_ascii=True, allow_nan=False).encode("ascii")


def _write_gzip(header: nib.Nifti1Header, labels: npt.NDArray[np.uint8], path: Path) -> None:
    """Header, extension, then voxels slice by slice, so that a (D, H, W) view is never copied as a whole."""
    header.set_data_offset(header.single_vox_offset + header.extensions.get_sizeondisk())
    header.structarr["magic"] = header.single_magic
    start = io.BytesIO()
    header.write_to(start)
    start.write(b"\0" * (header.get_data_offset() - start.tell()))
    # Level 1: labels are long runs, so higher levels take several times longer for a few kilobytes. No name
    # and no time in the gzip header.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=raw, mtime=0) as stream,
    ):
        stream.write(start.getvalue())
        for plane in labels:
            stream.write(np.ascontiguousarray(plane).data)

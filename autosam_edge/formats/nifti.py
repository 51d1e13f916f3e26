"""Reader of NIfTI (nifti1.h, nifti2.h), writer of NIfTI-1."""

from __future__ import annotations

import gzip
import io
import json
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from autosam_edge.ct_grid import check_ct_grid
from autosam_edge.error_codes import NIFTI_GRID_INVALID, NIFTI_VALUES_INVALID
from autosam_edge.formats.hounsfield import read_volume
from autosam_edge.formats.nifti_header import SCANNER, ras_affine, read_nifti_header
from autosam_edge.formats.voxels import read_values
from autosam_edge.geometry import Grid
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge.volume import Segmentation, Volume


def read_array(path: Path) -> tuple[npt.NDArray[Any], Grid]:
    """Values in (D, H, W) order with their grid: in their own type, in float64 where they are scaled.

    Args:
        path: A NIfTI file, or the header or the voxels of a pair (``.hdr`` and ``.img``).

    Raises:
        InputError: Not a readable 3D NIfTI image with a position (AE-NIFTI-001 to -003, -007), too large
            (AE-INPUT-013), half of a pair (AE-INPUT-012) or not readable (AE-INPUT-003).
    """
    file = read_nifti_header(path)
    file.voxels.require_size()
    return read_values(file.voxels), file.grid


def read_nifti(path: Path, *, max_memory_mb: float | None = None) -> Volume:
    """Read a CT volume whose values are HU.

    Args:
        path: A NIfTI file, or the header or the voxels of a pair (``.hdr`` and ``.img``).
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.

    Raises:
        InputError: See :func:`read_array`; AE-NIFTI-004 when the values cannot be HU, AE-NIFTI-006 when the
            grid cannot be a CT's.
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).
    """
    file = read_nifti_header(path)
    warnings = (*file.warnings, *check_ct_grid(file.grid, NIFTI_GRID_INVALID))
    return read_volume(
        "nifti", file.path, file.voxels, file.grid, NIFTI_VALUES_INVALID, warnings, max_memory_mb
    )


LABEL_INTENT = 1002  # NIFTI_INTENT_LABEL
_COMMENT = 6  # NIFTI_ECODE_COMMENT


def write_nifti(segmentation: Segmentation, path: Path) -> None:
    """Write the labels as a gzipped uint8 NIfTI on the input's grid; equal segmentations give equal bytes.

    The sform carries the affine. NIfTI-1 stores it as float32, which is worth 1e-4 mm up to coordinates of
    two meters and 3e-4 mm up to eight; NIfTI-2 would hold float64, but SimpleITK and what is built on it
    cannot open it. The qform says the same as the nearest rotation, for it has no shear. ITK refuses a file
    whose axes are not at right angles, be it by rounding, unless the qform is set, and then places it by the
    qform: in the labels of a tilted scan it shows the slices without their tilt. The exact affine, the label
    table, the provenance and the research-use statement are JSON in a header extension (code 6).

    Raises:
        OSError: The file cannot be written.

    Source:
        NIfTI-1.1, nifti1.h, "3D image (volume) orientation and location in space" and "header extension".
    """
    header = nifti_header(segmentation.grid, np.dtype(np.uint8))
    header.set_intent(LABEL_INTENT, allow_unknown=True)
    header["cal_max"] = max((label.value for label in segmentation.table), default=0)
    made_by = segmentation.provenance.software_and_version[:50].encode("ascii", "replace")
    header["descrip"] = made_by + b"; Research use only"
    header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, _extension(segmentation)))
    _write_gzip(header, segmentation.labels, path)


def nifti_header(grid: Grid, dtype: np.dtype[Any]) -> nib.Nifti1Header:
    """Header of a single file, see :func:`write_nifti`; voxels follow it and 4 bytes."""
    ras = ras_affine(grid.affine)
    header = nib.Nifti1Header()
    header.set_data_shape(grid.shape[::-1])
    header.set_data_dtype(dtype)
    header.set_data_offset(header.single_vox_offset)
    header.structarr["magic"] = header.single_magic
    header.set_xyzt_units("mm", "sec")
    header.set_slope_inter(1.0, 0.0)
    header.set_sform(ras, code=SCANNER)
    header.set_qform(ras, code=SCANNER, strip_shears=True)
    return header


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

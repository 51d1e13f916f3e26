"""Reader of NRRD (format of teem). Only attached headers: a detached one could name any file."""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any

import nrrd
import numpy as np

from autosam_edge.ct_grid import check_ct_grid
from autosam_edge.error_codes import (
    NRRD_DAMAGED,
    NRRD_GRID_INVALID,
    NRRD_NOT_3D,
    NRRD_ORIENTATION_INVALID,
    NRRD_VALUES_INVALID,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.hounsfield import as_hu
from autosam_edge.geometry import FloatMatrix, Grid
from autosam_edge.volume import Source, Volume

if TYPE_CHECKING:
    from pathlib import Path

_LPS_FROM = {
    "left-posterior-superior": (1.0, 1.0, 1.0),
    "lps": (1.0, 1.0, 1.0),
    "right-anterior-superior": (-1.0, -1.0, 1.0),
    "ras": (-1.0, -1.0, 1.0),
    "left-anterior-superior": (1.0, -1.0, 1.0),
    "las": (1.0, -1.0, 1.0),
}
_MAX_VOXELS = 1 << 30  # as for DICOM
_RECONVERT = "Convert the scan again from DICOM, for example with 3D Slicer."


def read_nrrd(path: Path) -> Volume:
    """Read a CT volume whose values are HU.

    Args:
        path: A ``.nrrd`` file with an attached header.

    Returns:
        (D, H, W) HU with its grid in LPS mm.

    Raises:
        InputError: The file is damaged, detached or too large (AE-NRRD-001), not 3D (AE-NRRD-002), has no
            usable place in the patient (AE-NRRD-003), its values cannot be HU (AE-NRRD-004), or its grid
            cannot be a CT's (AE-NRRD-005).
    """
    try:
        with path.open("rb") as file:
            header = nrrd.read_header(file)
            _check_header(header)
            values = nrrd.read_data(header, file, index_order="C")  # (z, y, x)
    except InputError:
        raise
    except (
        Exception
    ) as error:  # pynrrd, zlib, bz2 and NumPy each raise their own; all mean "this file cannot be read"
        raise NRRD_DAMAGED(
            f"the NRRD file is damaged or not NRRD ({type(error).__name__}).",
            remedy="Copy the file again or convert it anew.",
        ) from error
    try:
        grid = Grid((values.shape[0], values.shape[1], values.shape[2]), _affine(header))
    except ValueError as error:
        raise NRRD_ORIENTATION_INVALID(f"the space of the image is not usable: {error}.") from error
    warnings = check_ct_grid(grid, NRRD_GRID_INVALID)
    hu, notes = as_hu(values, NRRD_VALUES_INVALID)
    return Volume(hu, grid, Source("nrrd", hashlib.sha256(hu.data).hexdigest(), (path,)), (*warnings, *notes))


def _check_header(header: dict[str, Any]) -> None:
    """Refuse before any voxel is read."""
    if "data file" in header or "datafile" in header:
        raise NRRD_DAMAGED("the header is detached from its data.")
    if int(header["dimension"]) != 3 or len(header["sizes"]) != 3:
        raise NRRD_NOT_3D(f"the image has {int(header['dimension'])} dimensions, expected 3.")
    voxels = math.prod(int(side) for side in header["sizes"])
    if not 0 < voxels <= _MAX_VOXELS:
        raise NRRD_DAMAGED(
            f"the image claims {voxels} voxels, expected 1 to {_MAX_VOXELS}.", remedy="Give a smaller volume."
        )
    space = str(header.get("space", "")).lower()
    if space not in _LPS_FROM:
        raise NRRD_ORIENTATION_INVALID("the space is not LPS, RAS or LAS, so left and right are unknown.")
    for keyword, shape in (("space directions", (3, 3)), ("space origin", (3,))):
        if (
            keyword not in header
            or np.shape(header[keyword]) != shape
            or not np.isfinite(np.asarray(header[keyword], dtype=float)).all()
        ):
            raise NRRD_ORIENTATION_INVALID(f"'{keyword}' is missing or malformed.")
    if any(unit not in ("mm", "") for unit in header.get("space units", ())):
        raise NRRD_ORIENTATION_INVALID("'space units' is not mm.")


def _affine(header: dict[str, Any]) -> FloatMatrix:
    """Our (d, h, w) -> LPS matrix; the rows of 'space directions' belong to (x, y, z)."""
    signs = np.array(_LPS_FROM[str(header["space"]).lower()])
    affine = np.eye(4)
    affine[:3, :3] = (np.asarray(header["space directions"], dtype=np.float64) * signs).T[:, ::-1]
    affine[:3, 3] = np.asarray(header["space origin"], dtype=np.float64) * signs
    return affine

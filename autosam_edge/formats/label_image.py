"""Label images of any tool: whole numbers on the grid of their scan, or an error."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.error_codes import GRIDS_DIFFER, LABEL_VALUE_INVALID
from autosam_edge.formats.nifti import read_array

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.geometry import Grid

# Tools write the same grid in slightly different ways (quaternion or matrix, both float32); a voxel is fifty
# times as large.
_GRID_TOLERANCE_MM = 0.01


def read_labels(path: Path, grid: Grid, classes: int, what: str) -> npt.NDArray[np.uint8]:
    """Read a NIfTI label image that belongs to a scan.

    Args:
        what: Names of the two images for the message, such as ``image and label of case 0001``.

    Returns:
        (D, H, W) uint8.

    Raises:
        InputError: See :func:`~autosam_edge.formats.nifti.read_array`; the image lies on another grid
            (AE-NIFTI-005) or holds a value that is no class (AE-DATA-003).
    """
    values, own = read_array(path)
    require_same_grid(grid, own, what)
    return as_labels(values, classes)


def as_labels(values: npt.NDArray[np.generic], classes: int) -> npt.NDArray[np.uint8]:
    """Label values as uint8.

    Args:
        values: (D, H, W) of any real type.

    Raises:
        InputError: A value is not a whole number from 0 to ``classes - 1`` (AE-DATA-003).
    """
    if values.dtype.kind not in "biuf":
        found = "values that are no real numbers"
    elif values.dtype.kind == "f" and not (
        np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    ):
        found = "values that are not whole numbers"
    elif (low := int(values.min())) < 0 or (high := int(values.max())) >= classes:
        found = f"the value {low if low < 0 else high}"
    else:
        return values.astype(np.uint8)
    raise LABEL_VALUE_INVALID(f"the labels hold {found}, expected whole numbers from 0 to {classes - 1}.")


def require_same_grid(first: Grid, second: Grid, what: str) -> None:
    """Refuse two images whose voxels do not lie at the same positions.

    Args:
        what: Names of the two images for the message, such as ``image and label of case 0001``.

    Raises:
        InputError: AE-NIFTI-005.
    """
    if not first.same_as(second, tolerance_mm=_GRID_TOLERANCE_MM):
        raise GRIDS_DIFFER(f"{what} lie on different grids, expected the same.")

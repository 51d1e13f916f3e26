"""Limits of a CT grid that all readers share, and the check of formats that store a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.warning_codes import THICK_SLICES

if TYPE_CHECKING:
    from autosam_edge.errors import ErrorCode
    from autosam_edge.geometry import Grid
    from autosam_edge.scan_warning import ScanWarning

MIN_SLICES = 3  # two gaps are the fewest whose evenness can be checked rather than assumed
MIN_PIXEL_MM = 0.01
MAX_SPACING_MM = 10.0
THICK_MM = 5.0
# 0.1 degree moves the last slice of a 300 mm stack by 0.5 mm, less than a pixel; the smallest gantry tilt a
# scanner sets is 0.5 degree.
MAX_TILT_DEG = 0.1
_DECIMALS = 4  # an oblique grid in float32 gives 9.9999998 or 10.0000002 mm for 10


def check_ct_grid(grid: Grid, code: ErrorCode) -> list[ScanWarning]:
    """Refuse a grid that no CT reconstruction has.

    Formats other than DICOM do not say which axis counts the slices, so all axes are checked.

    Args:
        grid: Grid (D, H, W) in LPS, mm.
        code: Error code of the format.

    Returns:
        Warnings.

    Raises:
        InputError: An axis has fewer than three voxels, a spacing is below 0.01 or above 10 mm, or an axis
            leans by more than 0.1 degree from the normal of the other two, which is what a tilted gantry
            leaves.
    """
    if min(grid.shape) < MIN_SLICES:
        raise code(
            f"the volume has {' x '.join(map(str, grid.shape))} voxels (D, H, W), "
            f"expected at least {MIN_SLICES} along each axis.",
            remedy="Give the volume of a whole series.",
        )
    spacing_mm = np.round(grid.spacing_mm, _DECIMALS)
    if not MIN_PIXEL_MM <= spacing_mm.min() <= spacing_mm.max() <= MAX_SPACING_MM:
        raise code(
            f"the voxels are {' x '.join(f'{edge:.4g}' for edge in grid.spacing_mm)} mm (D, H, W), "
            f"expected {MIN_PIXEL_MM:g} to {MAX_SPACING_MM:g} mm.",
            remedy="Convert the scan again from DICOM, with lengths in mm.",
        )
    tilt_deg = _tilt_deg(grid)
    if tilt_deg > MAX_TILT_DEG:
        raise code(
            f"the grid is sheared by {tilt_deg:.2f} degrees, as by a tilted gantry, "
            f"expected at most {MAX_TILT_DEG:g}.",
            remedy="Correct the tilt when converting from DICOM, for example with dcm2niix.",
        )
    return thick_warnings(max(grid.spacing_mm))


def thick_warnings(step_mm: float) -> list[ScanWarning]:
    """Warning about the distance between slices; none below 5 mm."""
    if round(step_mm, _DECIMALS) < THICK_MM:
        return []
    return [
        THICK_SLICES(
            f"Slices are {step_mm:.3g} mm apart; small organs are uncertain at {THICK_MM:g} mm or more."
        )
    ]


def _tilt_deg(grid: Grid) -> float:
    """The largest angle between an axis and the normal of the other two, degrees."""
    # Row k of the inverse is normal to the other two axes, and its length is 1 / cos(angle to axis k).
    normals = np.linalg.inv(grid.direction)
    return float(np.degrees(np.arccos(np.minimum(1.0, 1.0 / np.linalg.norm(normals, axis=1))).max()))

"""Limits of a CT grid that all readers share, and the check of formats that store a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.error_codes import VOLUME_GRID_INVALID
from autosam_edge.geometry import MAX_SKEW_DEG
from autosam_edge.warning_codes import SHORT_SCAN, THICK_SLICES, TILT_CORRECTED

if TYPE_CHECKING:
    from autosam_edge.errors import ErrorCode
    from autosam_edge.geometry import Grid
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Volume

MIN_SLICES = 3  # two gaps are the fewest whose evenness can be checked rather than assumed
MIN_PIXEL_MM = 0.01
MAX_VOXELS = 1 << 30  # 2 GiB in int16: 4,096 slices of 512 x 512
MAX_SPACING_MM = 10.0
THICK_MM = 5.0
SHORT_MM = 60.0  # along the body; on shorter cuts of validation scans the Dice fell
# 0.1 degree moves the last slice of a 300 mm stack by 0.5 mm, less than a pixel; the smallest gantry tilt a
# scanner sets is 0.5 degree.
LEAST_TILT_DEG = 0.1
MAX_TILT_DEG = 35.0  # scanners tilt by up to 30 degrees
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
        InputError: An axis has fewer than three voxels, a spacing is below 0.01 or above 10 mm, or see
            :func:`check_tilt`.
    """
    if min(grid.shape) < MIN_SLICES:
        raise code(
            f"the volume has {' x '.join(map(str, grid.shape))} voxels (D, H, W), "
            f"expected at least {MIN_SLICES} along each axis.",
            remedy="Give the volume of a whole series.",
        )
    return _check_lengths_and_angles(grid, code)


def _check_lengths_and_angles(grid: Grid, code: ErrorCode) -> list[ScanWarning]:
    spacing_mm = np.round(grid.spacing_mm, _DECIMALS)
    if not MIN_PIXEL_MM <= spacing_mm.min() <= spacing_mm.max() <= MAX_SPACING_MM:
        raise code(
            f"the voxels are {' x '.join(f'{edge:.4g}' for edge in grid.spacing_mm)} mm (D, H, W), "
            f"expected {MIN_PIXEL_MM:g} to {MAX_SPACING_MM:g} mm."
        )
    return check_tilt(grid, code) + thick_warnings(max(grid.spacing_mm))


def array_warnings(volume: Volume) -> list[ScanWarning]:
    """Warnings about the grid of a volume that was made in Python: no reader has checked it.

    It may have one slice: whoever makes it knows.

    Raises:
        InputError: As of :func:`check_ct_grid`, but for the number of voxels (AE-INPUT-015).
    """
    if volume.source.kind != "array":
        return []
    return _check_lengths_and_angles(volume.grid, VOLUME_GRID_INVALID)


def check_tilt(grid: Grid, code: ErrorCode) -> list[ScanWarning]:
    """Warn of a tilted gantry, which the run corrects; refuse a shear that no gantry leaves.

    A gantry turns about an axis that lies in the axial plane of the patient. So rows and columns of that
    plane stay perpendicular, and only the axis along the body leans.

    Args:
        grid: Grid (D, H, W) in LPS, mm.
        code: Error code of the format.

    Raises:
        InputError: The tilt is larger than 35 degrees, or the axial plane itself is sheared.
    """
    canonical = grid.canonical
    if canonical.skew_deg > MAX_SKEW_DEG:
        raise code(
            f"the axial plane is sheared by {canonical.skew_deg:.2f} degrees, expected at most "
            f"{MAX_SKEW_DEG:g}: no tilted gantry does that."
        )
    if round(canonical.tilt_deg, _DECIMALS) > MAX_TILT_DEG:
        raise code(
            f"the slices are tilted by {canonical.tilt_deg:.1f} degrees, expected at most {MAX_TILT_DEG:g}."
        )
    if canonical.tilt_deg <= LEAST_TILT_DEG:
        return []
    return [
        TILT_CORRECTED(
            f"The slices are tilted by {canonical.tilt_deg:.1f} degrees, as by a tilted gantry; the stack "
            "was straightened for the network, and the labels lie on the slices as they are."
        )
    ]


def thick_warnings(step_mm: float) -> list[ScanWarning]:
    """Warning about the distance between slices; none below 5 mm."""
    if round(step_mm, _DECIMALS) < THICK_MM:
        return []
    return [
        THICK_SLICES(
            f"Slices are {step_mm:.3g} mm apart; small organs are uncertain at {THICK_MM:g} mm or more."
        )
    ]


def short_warnings(grid: Grid) -> list[ScanWarning]:
    """Warning about the extent along the body; none from 60 mm on.

    Args:
        grid: Grid (D, H, W) in LPS, mm, any orientation.
    """
    canonical = grid.canonical
    extent_mm = canonical.shape[0] * canonical.spacing_mm[0]
    if extent_mm >= SHORT_MM:
        return []
    return [
        SHORT_SCAN(
            f"The scan covers {extent_mm:.0f} mm along the body, less than {SHORT_MM:g} mm; organs that "
            "it cuts are uncertain."
        )
    ]

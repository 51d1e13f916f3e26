"""Order image planes along their normal and check that they form one regular grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import MAX_SPACING_MM, MAX_TILT_DEG, MIN_PIXEL_MM, MIN_SLICES, thick_warnings
from autosam_edge.error_codes import (
    MATRICES_DIFFER,
    ORIENTATION_INVALID,
    ORIENTATIONS_DIFFER,
    POSITION_TWICE,
    SLICES_MISSING,
    SLICES_UNEVEN,
    SPACING_INVALID,
    STACK_SHEARED,
    TOO_FEW_SLICES,
)
from autosam_edge.geometry import FloatMatrix, Grid
from autosam_edge.warning_codes import COPIES_IGNORED

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.scan_warning import ScanWarning

_RELATIVE_TOLERANCE = 0.01  # highdicom's tolerance for regular spacing
_ABSOLUTE_TOLERANCE_MM = 0.02  # twice the rounding of positions written with two decimals
_SAME_POSITION_MM = 0.01
# Cosines written with three decimals are off by up to 5e-4, and 1e-3 turns the far corner of a 512-pixel row
# by half a pixel at most.
_COSINE_TOLERANCE = 1e-3
# Each plane must lie this near to its place in the grid (in voxel edges), so that a label never moves to a
# neighboring voxel.
_MAX_OFFSET = 0.25
_MAX_MISSING = 20_000  # slices; a wider gap comes from a damaged position, not from a slice that was lost
_RESCAN = "Reconstruct the series anew on the scanner as one regular stack."


def stack(
    planes: list[ImagePlane], same_pixels: Callable[[ImagePlane, ImagePlane], bool]
) -> tuple[list[ImagePlane], Grid, list[ScanWarning]]:
    """Order planes by position along their normal (PS3.3 C.7.6.2.1.1) and give the grid that they form.

    The grid's columns are, in LPS mm: the slice step, which runs along the normal (row direction x column
    direction); the step down a column; the step along a row. Neither file names nor InstanceNumber nor
    SliceThickness play a part.

    Args:
        planes: The planes of one series, in any order.
        same_pixels: Tells whether two planes at one position hold the same values, so that one is a copy.

    Returns:
        The planes in slice order, copies removed; the (D, H, W) grid; warnings.

    Raises:
        InputError: The planes do not form one regular stack (AE-DICOM-011 to -013, -015 to -020).
    """
    _check_alike(planes)
    row, column = _axes(planes[0])
    normal = np.cross(row, column)
    _check_spacing(*planes[0].spacing_mm, smallest=MIN_PIXEL_MM, what="PixelSpacing")
    # The UID and the frame number make the order, and so which copy is kept, independent of the order of the
    # files.
    ordered = sorted(
        planes,
        key=lambda f: (
            float(np.dot(f.position, normal)),
            f.header.text("SOPInstanceUID"),
            f.index,
            f.header.name,
        ),
    )
    ordered, warnings = _without_copies(ordered, normal, same_pixels)
    if len(ordered) < MIN_SLICES:
        raise TOO_FEW_SLICES(
            f"the series has {len(ordered)} slice{'s' if len(ordered) > 1 else ''} at distinct positions, "
            f"expected at least {MIN_SLICES}."
        )
    positions = np.array([plane.position for plane in ordered], dtype=np.float64)
    step_mm = float((positions[-1] - positions[0]) @ normal) / (len(ordered) - 1)
    _check_gaps(ordered, positions, normal)
    _check_spacing(step_mm, smallest=_SAME_POSITION_MM, what="the distance between slices")
    affine = np.eye(4)
    affine[:3, 0] = normal * step_mm
    affine[:3, 1] = column * ordered[0].spacing_mm[0]
    affine[:3, 2] = row * ordered[0].spacing_mm[1]
    affine[:3, 3] = positions[0]
    _check_straight(positions, normal, affine)
    return ordered, Grid((len(ordered), *ordered[0].shape), affine), warnings + thick_warnings(step_mm)


def _check_alike(planes: list[ImagePlane]) -> None:
    """Refuse a series whose planes differ, beyond rounding, in orientation, matrix or pixel spacing."""
    first = planes[0]
    for plane in planes[1:]:
        where = f"{plane.header.name} and {first.header.name}"
        if not np.allclose(plane.orientation, first.orientation, rtol=0, atol=_COSINE_TOLERANCE):
            raise ORIENTATIONS_DIFFER(
                f"{where} differ in ImageOrientationPatient, expected one orientation in a series."
            )
        if plane.shape != first.shape or not np.allclose(
            plane.spacing_mm, first.spacing_mm, rtol=1e-4, atol=0
        ):
            raise MATRICES_DIFFER(
                f"{where} differ in Rows, Columns or PixelSpacing, expected one matrix in a series."
            )


def _axes(plane: ImagePlane) -> tuple[FloatMatrix, FloatMatrix]:
    """Unit vectors along a row and down a column."""
    row, column = np.asarray(plane.orientation[:3]), np.asarray(plane.orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > _COSINE_TOLERANCE or abs(row @ column) > _COSINE_TOLERANCE:
        raise ORIENTATION_INVALID(
            f"ImageOrientationPatient of {plane.header.name} is not two unit vectors at a right angle."
        )
    row = row / lengths[0]
    column = column - (column @ row) * row
    return row, column / np.linalg.norm(column)


def _check_spacing(*values_mm: float, smallest: float, what: str) -> None:
    for value in values_mm:
        if not smallest <= value <= MAX_SPACING_MM:
            raise SPACING_INVALID(
                f"{what} is {value:.4g} mm, expected {smallest:g} to {MAX_SPACING_MM:g} mm."
            )


def _without_copies(
    ordered: list[ImagePlane], normal: FloatMatrix, same_pixels: Callable[[ImagePlane, ImagePlane], bool]
) -> tuple[list[ImagePlane], list[ScanWarning]]:
    """Drop planes that repeat position and values of another; refuse those that repeat the position only."""
    kept: list[ImagePlane] = []
    for plane in ordered:
        offset = np.subtract(plane.position, kept[-1].position) if kept else np.array([np.inf] * 3)
        if not kept or abs(offset @ normal) >= _SAME_POSITION_MM:
            kept.append(plane)
        elif np.linalg.norm(offset) >= _SAME_POSITION_MM or not same_pixels(kept[-1], plane):
            along = np.array([plane.position for plane in ordered]) @ normal
            positions = 1 + int((np.diff(along) >= _SAME_POSITION_MM).sum())
            raise POSITION_TWICE(
                f"{len(ordered)} images lie at {positions} position{'s' if positions > 1 else ''}, "
                f"and those at one position differ (such as {plane.header.name}), expected one image each."
            )
    copies = len(ordered) - len(kept)
    if not copies:
        return kept, []
    return kept, [COPIES_IGNORED(f"Ignored {copies} exact cop{'ies' if copies > 1 else 'y'} of slices.")]


def _check_gaps(ordered: list[ImagePlane], positions: FloatMatrix, normal: FloatMatrix) -> None:
    """Refuse gaps that differ from the median by more than 1 % or 0.02 mm, whichever is larger."""
    gaps = np.diff(positions @ normal)
    median = float(np.median(gaps))
    tolerance = max(_RELATIVE_TOLERANCE * median, _ABSOLUTE_TOLERANCE_MM)
    uneven = np.flatnonzero(np.abs(gaps - median) > tolerance)
    if not len(uneven):
        return
    first = ordered[int(uneven[0])].header.name
    also = (
        " The slices are also sheared, as by a tilted gantry (AE-DICOM-018)."
        if _tilt_deg(positions, normal) > MAX_TILT_DEG
        else ""
    )
    multiples = np.round(gaps[uneven] / median)
    lost = (
        (multiples >= 2)
        & (multiples <= _MAX_MISSING)
        & (np.abs(gaps[uneven] - multiples * median) <= multiples * tolerance)
    )
    if lost.all():
        missing = int((multiples - 1).sum())
        raise SLICES_MISSING(
            f"{missing} slice{'s are' if missing > 1 else ' is'} missing, the first after {first}: "
            f"a gap of {gaps[uneven[0]]:.4g} mm where {median:.4g} mm is expected.{also}"
        )
    raise SLICES_UNEVEN(
        f"the distance between slices is uneven, from {gaps.min():.4g} to {gaps.max():.4g} mm "
        f"(first after {first}), expected {median:.4g} within {tolerance:.2g} mm.{also}"
    )


def _tilt_deg(positions: FloatMatrix, normal: FloatMatrix) -> float:
    """Angle between the line from the first to the last slice and the normal of the slices."""
    line = positions[-1] - positions[0]
    along = float(line @ normal)
    return float(np.degrees(np.arctan2(np.linalg.norm(line - along * normal), along)))


def _check_straight(positions: FloatMatrix, normal: FloatMatrix, affine: FloatMatrix) -> None:
    """Refuse a sheared stack and slices that are out of line.

    The shear is measured, as tags such as GantryDetectorTilt are unreliable.
    """
    tilt_deg = _tilt_deg(positions, normal)
    if tilt_deg > MAX_TILT_DEG:
        raise STACK_SHEARED(
            f"the slices are sheared by {tilt_deg:.2f} degrees, as by a tilted gantry, "
            f"expected at most {MAX_TILT_DEG:g}."
        )
    ideal = positions[0] + np.arange(len(positions))[:, None] * affine[:3, 0]
    offset_mm = float(np.linalg.norm(positions - ideal, axis=1).max())
    limit_mm = _MAX_OFFSET * float(np.linalg.norm(affine[:3, :3], axis=0).min())
    if offset_mm > limit_mm:
        raise STACK_SHEARED(
            f"a slice lies {offset_mm:.3g} mm away from the straight, even stack of the others, "
            f"expected at most {limit_mm:.3g} mm.",
            remedy=_RESCAN,
        )

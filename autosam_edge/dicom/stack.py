"""Order image planes along their normal and fit one regular grid to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import MAX_SPACING_MM, MIN_PIXEL_MM, MIN_SLICES, check_tilt, thick_warnings
from autosam_edge.dicom.one_scan import check_one_pass
from autosam_edge.dicom.regular_grid import (
    EXACT_MM,
    ROUNDING_MM,
    fit_grid,
    fit_line,
    largest_offset_mm,
    number_slices,
)
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
from autosam_edge.warning_codes import COPIES_IGNORED, POSITIONS_ROUNDED, SLICES_FILLED

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.dicom.regular_grid import Numbers
    from autosam_edge.scan_warning import ScanWarning

_SAME_POSITION_MM = 0.01
# Cosines written with three decimals are off by up to 5e-4, and 1e-3 turns the far corner of a 512-pixel row
# by half a pixel at most.
_COSINE_TOLERANCE = 1e-3
_RESCAN = "Reconstruct the series anew on the scanner as one regular stack."


@dataclass(frozen=True, eq=False)
class Stack:
    """The planes of a series and the grid that they form.

    Args:
        planes: The planes in slice order, copies removed.
        numbers: Slice of the grid that each plane shows, increasing from 0; a gap leaves numbers out.
        grid: Grid (D, H, W), LPS mm.
        warnings: Findings on positions, gaps, tilt and thickness.
    """

    planes: list[ImagePlane]
    numbers: tuple[int, ...]
    grid: Grid
    warnings: list[ScanWarning]


def stack(
    planes: list[ImagePlane],
    same_pixels: Callable[[ImagePlane, ImagePlane], bool],
    *,
    allow_gap: bool = False,
) -> Stack:
    """Order planes by position along their normal (PS3.3 C.7.6.2.1.1) and fit the grid that they form.

    The grid's columns are, in LPS mm: the step from slice to slice; the step down a column; the step along a
    row. The step runs along the normal (row direction x column direction); after a tilted gantry it leans. It
    fits all positions. Neither file names nor InstanceNumber, SliceThickness,
    SpacingBetweenSlices nor GantryDetectorTilt play a part.

    Args:
        same_pixels: Function that tells whether two planes at one position hold the same values, so that one
            is a copy.
        allow_gap: Whether the grid also gets the slices that are missing between planes.

    Raises:
        InputError: The planes do not form one regular stack (AE-DICOM-011 to -013, -015 to -020), or are
            several passes (-024).
    """
    _check_alike(planes)
    row, column = _axes(planes[0])
    normal = np.cross(row, column)
    _check_spacing(*planes[0].spacing_mm, smallest=MIN_PIXEL_MM, what="PixelSpacing")
    # Traits, UID and frame number make the order, and so which copy is kept, independent of the names of the
    # files; the traits come first, so that all copies are kept from one set.
    ordered = sorted(
        planes,
        key=lambda f: (
            float(np.dot(f.position, normal)),
            sorted(f.traits.items()),
            f.header.text("SOPInstanceUID"),
            f.index,
            f.header.name,
        ),
    )
    ordered, warnings = _without_copies(ordered, normal, same_pixels)
    warnings += check_one_pass(ordered)
    if len(ordered) < MIN_SLICES:
        raise TOO_FEW_SLICES(
            f"the series has {len(ordered)} slice{'s' if len(ordered) > 1 else ''} at distinct positions, "
            f"expected at least {MIN_SLICES}."
        )
    positions = np.array([plane.position for plane in ordered], dtype=np.float64)
    numbers = _numbered(ordered, positions, normal)
    warnings += _check_gaps(ordered, numbers, positions @ normal, allow_gap=allow_gap)
    edges_mm = np.column_stack([column, row]) * ordered[0].spacing_mm
    grid = fit_grid(numbers, positions, normal, edges_mm, ordered[0].shape)
    _check_spacing(grid.slice_distance_mm, smallest=_SAME_POSITION_MM, what="the distance between slices")
    warnings += _check_places(grid, numbers, positions, normal)
    warnings += check_tilt(grid, STACK_SHEARED) + thick_warnings(grid.slice_distance_mm)
    return Stack(ordered, tuple(int(number) for number in numbers), grid, warnings)


def _check_alike(planes: list[ImagePlane]) -> None:
    """Refuse a series whose planes differ, beyond rounding, in orientation, matrix or pixel spacing."""
    first = planes[0]
    for plane in planes[1:]:
        if not np.allclose(plane.orientation, first.orientation, rtol=0, atol=_COSINE_TOLERANCE):
            raise ORIENTATIONS_DIFFER(
                f"{plane.name} and {first.name} differ in ImageOrientationPatient, expected one orientation "
                "in a series."
            )
        if plane.shape != first.shape or not np.allclose(
            plane.spacing_mm, first.spacing_mm, rtol=1e-4, atol=0
        ):
            raise MATRICES_DIFFER(
                f"{plane.name} and {first.name} differ in Rows, Columns or PixelSpacing, expected one matrix "
                "in a series."
            )


def _axes(plane: ImagePlane) -> tuple[FloatMatrix, FloatMatrix]:
    """Unit vectors along a row and down a column."""
    row, column = np.asarray(plane.orientation[:3]), np.asarray(plane.orientation[3:])
    lengths = np.array([np.linalg.norm(row), np.linalg.norm(column)])
    if np.abs(lengths - 1).max() > _COSINE_TOLERANCE or abs(row @ column) > _COSINE_TOLERANCE:
        raise ORIENTATION_INVALID(
            f"ImageOrientationPatient of {plane.name} is not two unit vectors at a right angle."
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
                f"and those at one position differ (such as {plane.name}), expected one image each."
            )
    copies = len(ordered) - len(kept)
    if not copies:
        return kept, []
    return kept, [COPIES_IGNORED(f"Ignored {copies} exact cop{'ies' if copies > 1 else 'y'} of slices.")]


def _numbered(ordered: list[ImagePlane], positions: FloatMatrix, normal: FloatMatrix) -> Numbers:
    """Number of each slice in the regular grid; refuse slices that no regular grid explains."""
    along_mm = positions @ normal
    rounding_mm = ROUNDING_MM * float(np.abs(normal).sum())  # each of the three coordinates is rounded
    numbers = number_slices(along_mm, rounding_mm)
    if numbers is not None:
        return numbers
    gaps = np.diff(along_mm)
    median = float(np.median(gaps))
    first = ordered[int(np.abs(gaps - median).argmax())].name
    raise SLICES_UNEVEN(
        f"the distance between slices is uneven, from {gaps.min():.4g} to {gaps.max():.4g} mm "
        f"(farthest from the median of {median:.4g} mm after {first}), and no regular grid lies within "
        f"{rounding_mm:.2g} mm of all slices."
    )


def _check_gaps(
    ordered: list[ImagePlane], numbers: Numbers, along_mm: FloatMatrix, *, allow_gap: bool
) -> list[ScanWarning]:
    """Refuse missing slices, unless a person allows them and fewer are missing than there are."""
    missing = int(numbers[-1]) + 1 - len(numbers)
    if not missing:
        return []
    gap = int((np.diff(numbers) > 1).argmax())
    _, step = fit_line(numbers, along_mm)
    where = (
        f"{missing} slice{'s are' if missing > 1 else ' is'} missing, the first after "
        f"{ordered[gap].name}: a gap of {along_mm[gap + 1] - along_mm[gap]:.4g} mm where "
        f"{step:.4g} mm is expected"
    )
    if not allow_gap:
        raise SLICES_MISSING(f"{where}.")
    if missing >= len(numbers):
        raise SLICES_MISSING(
            f"{where}; `allow_gap` fills gaps only if fewer slices are missing than there are "
            f"({len(numbers)}).",
            remedy="Copy the series again, whole.",
        )
    places = np.setdiff1d(np.arange(numbers[-1]), numbers) + 1
    return [
        SLICES_FILLED(
            f"{missing} slice{'s were' if missing > 1 else ' was'} missing and interpolated from "
            f"{'their' if missing > 1 else 'its'} neighbors: {_ranges(places)} of {int(numbers[-1]) + 1}."
        )
    ]


def _ranges(places: Numbers) -> str:
    """Numbers in increasing order as ``slice 3`` or ``slices 3 to 5, 9``; five runs are named at most."""
    runs = np.split(places, np.flatnonzero(np.diff(places) > 1) + 1)
    named = [f"{run[0]} to {run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs]
    more = [f"and {len(named) - 5} more gaps"] if len(named) > 5 else []
    return f"slice{'s' if len(places) > 1 else ''} " + ", ".join(named[:5] + more)


def _check_places(
    grid: Grid, numbers: Numbers, positions: FloatMatrix, normal: FloatMatrix
) -> list[ScanWarning]:
    """Refuse slices that lie too far from their places in the grid; warn of what is more than rounding."""
    offsets = positions - grid.affine[:3, 3] - numbers[:, None] * grid.affine[:3, 0]
    along = offsets @ normal
    limit_mm = largest_offset_mm(grid.affine)
    along_mm = float(np.abs(along).max())
    aside_mm = float(np.linalg.norm(offsets - along[:, None] * normal, axis=1).max())
    for found_mm, code, what in (
        (along_mm, SLICES_UNEVEN, "from its place in the regular grid that fits all slices best"),
        (aside_mm, STACK_SHEARED, "out of line with the other slices"),
    ):
        if found_mm > limit_mm:
            raise code(
                f"a slice lies {found_mm:.3g} mm {what}, expected at most {limit_mm:.3g} mm.", remedy=_RESCAN
            )
    off_mm = float(np.linalg.norm(offsets, axis=1).max())
    if off_mm <= EXACT_MM:
        return []
    return [
        POSITIONS_ROUNDED(
            f"Slices lie up to {off_mm:.2f} mm from the regular grid that was fitted to their positions, "
            "which are rounded or uneven by that much."
        )
    ]

"""The regular grid that fits the positions of slices best."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import LEAST_TILT_DEG
from autosam_edge.geometry import FloatMatrix, Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.intp]

ROUNDING_MM = 0.05  # of a coordinate that is written with one decimal
EXACT_MM = 0.02  # twice the rounding of positions written with two decimals
_RELATIVE_TOLERANCE = 0.01  # highdicom's tolerance for regular spacing
_MAX_SLICES = 20_000  # a wider gap comes from a damaged position, not from slices that were lost
_DECIMALS = 9  # of the fitted grid, mm: a fit to 300.0 gives 299.99999999999994
# Each plane must lie this near to its place in the grid (in voxel edges), so that a label never moves to a
# neighboring voxel.
_MAX_OFFSET = 0.25


def number_slices(along_mm: FloatMatrix, rounding_mm: float) -> Numbers | None:
    """Number slices along their normal, from 0; a gap of m steps leaves m - 1 numbers out.

    Args:
        along_mm: (slices,) positions along the normal, increasing, mm.
        rounding_mm: Rounding of these positions, mm.

    Returns:
        (slices,) numbers; None if no regular grid explains the positions.
    """
    numbers = np.arange(len(along_mm))
    if _is_even(numbers, along_mm, rounding_mm):
        return numbers
    gaps = np.diff(along_mm)
    # The median is no step where every third slice is lost; the smallest gap is none beside a near duplicate.
    for gap, most in ((np.median(gaps), _MAX_SLICES), (gaps.min(), 2 * len(gaps))):
        single = gaps[gaps < 1.5 * gap]  # their mean is exact where each of them is rounded
        steps = np.rint(gaps / single.mean())
        if steps.min() >= 1 and steps.sum() <= most:
            gapped = np.concatenate([[0], np.cumsum(steps)]).astype(np.intp)
            if _is_even(gapped, along_mm, rounding_mm):
                return gapped
    return None


def _is_even(numbers: Numbers, along_mm: FloatMatrix, rounding_mm: float) -> bool:
    """Whether a regular grid explains the positions of slices.

    Args:
        numbers: (slices,) number of each slice.
        along_mm: (slices,) positions along the normal, mm.
        rounding_mm: Rounding of these positions, mm.

    Returns:
        Whether every slice lies within the rounding of a regular grid, or every gap is the median gap within
        1 % or 0.02 mm.
    """
    start, step = fit_line(numbers, along_mm)
    if np.abs(along_mm - start - numbers * step).max() <= min(rounding_mm, _MAX_OFFSET * step) + 1e-6:
        return True
    gaps = np.diff(along_mm) / np.diff(numbers)
    median = float(np.median(gaps))
    return bool(np.abs(gaps - median).max() <= max(_RELATIVE_TOLERANCE * median, EXACT_MM))


def fit_line(numbers: Numbers, values: FloatMatrix) -> tuple[float, float]:
    """The line whose farthest value is nearest: that line is within the rounding of all values, if any is.

    A line of least squares is not: rounding to 0.1 may leave a value 0.09 away from it.

    Args:
        numbers: (slices,) whole numbers, increasing.
        values: (slices,) value of each.

    Returns:
        Value at 0, and step.
    """

    def width(step: float) -> float:  # of the strip of that slope that holds all values; it is convex
        return float(np.ptp(values - numbers * step))

    centered = numbers - numbers.mean()
    middle = float(centered @ values / (centered @ centered))
    reach = 2 * width(middle) / float(np.ptp(numbers)) + 1e-9
    low, high = middle - reach, middle + reach
    for _ in range(100):  # each leaves two thirds
        third = (high - low) / 3
        if width(low + third) <= width(high - third):
            high -= third
        else:
            low += third
    step = (low + high) / 2
    rest = values - numbers * step
    return float(rest.max() + rest.min()) / 2, step


def fit_grid(
    numbers: Numbers,
    positions: FloatMatrix,
    normal: FloatMatrix,
    edges_mm: FloatMatrix,
    shape: tuple[int, int],
) -> Grid:
    """The regular grid that fits all slices.

    The tilt is measured, as tags such as GantryDetectorTilt are unreliable. A lean that rounded numbers may
    have made is no tilt: the grid is then upright.

    Args:
        numbers: (slices,) number of each slice, from 0.
        positions: (slices, 3) center of the first pixel, LPS mm.
        normal: Unit normal of the slices.
        edges_mm: (3, 2) steps down a column and along a row, mm.
        shape: (H, W) of a slice.
    """
    along = positions @ normal
    start, step = fit_line(numbers, along)
    aside = positions - along[:, None] * normal
    centered = numbers - numbers.mean()
    lean = centered @ aside / (centered @ centered)
    affine = np.eye(4)
    affine[:3, 0] = round(step, _DECIMALS) * normal
    affine[:3, 1:3] = edges_mm
    moved_mm = float(np.linalg.norm(lean) * numbers[-1])
    tilt_deg = float(np.degrees(np.arctan2(np.linalg.norm(lean), step)))
    # The grid is centered on the slices, so an upright one is off by half of the lean at both ends.
    straight = tilt_deg <= LEAST_TILT_DEG and moved_mm / 2 <= largest_offset_mm(affine)
    if not straight and moved_mm > 2 * ROUNDING_MM:
        affine[:3, 0] = np.round(affine[:3, 0] + lean, _DECIMALS)
    middle = aside.mean(axis=0) - numbers.mean() * (affine[:3, 0] - (affine[:3, 0] @ normal) * normal)
    affine[:3, 3] = np.round(start * normal + middle, _DECIMALS)
    return Grid((int(numbers[-1]) + 1, *shape), affine)


def largest_offset_mm(affine: FloatMatrix) -> float:
    """Largest distance of a slice from its place in the grid, mm."""
    return _MAX_OFFSET * float(np.linalg.norm(affine[:3, :3], axis=0).min())

"""Slices that are missing in a series, interpolated between their neighbors."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


def fill_gaps(hu: npt.NDArray[Any], numbers: Sequence[int]) -> npt.NDArray[Any]:
    """Give every slice its place in the grid, and interpolate those that are missing linearly in HU.

    Args:
        hu: (slices, H, W) values of the slices that are there, HU.
        numbers: Slice of the grid that each one shows, increasing from 0.

    Returns:
        (D, H, W) of the same type; ``hu`` itself if no slice is missing.
    """
    depth = numbers[-1] + 1
    if depth == len(numbers):
        return hu
    filled = np.empty((depth, *hu.shape[1:]), dtype=hu.dtype)
    filled[list(numbers)] = hu
    for below, above in pairwise(numbers):
        for place in range(below + 1, above):
            share = (place - below) / (above - below)
            between = filled[below] * np.float64(1.0 - share) + filled[above] * np.float64(share)
            filled[place] = np.rint(between) if hu.dtype.kind == "i" else between
    return filled

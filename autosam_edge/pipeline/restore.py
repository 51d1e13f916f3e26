"""From class probabilities on the model's grid to labels on the input grid, slice by slice and exactly.

The definition is: interpolate every class linearly to every input voxel and take the largest. Doing that
costs classes x voxels. Two facts make it cheap without changing one label:

- Linear interpolation is a convex combination. Where the four corners of a cell have the same winner, that
  class wins in the whole cell. Only cells that an organ's border crosses need the sum over classes.
- The winner's value has a lower bound: 1 / classes for probabilities, see
  :attr:`autosam_edge.pipeline.decision.DecisionWeights.smallest_winner` for weighted ones. A class that stays
  below that in a whole slice cannot win in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Box, FloatArray
from autosam_edge.pipeline.resample import Resampler


@dataclass(frozen=True, eq=False)
class AxisMap:
    """Linear interpolation along one axis, from the model's voxels to the input's voxels.

    Input voxel ``covered.start + k`` lies between the model's voxels ``lower[k]`` and ``lower[k] + 1`` of the
    body box.

    Args:
        positions: (M,) positions of the model's voxels, in input indices.
        side: Number of input voxels N.
        start: First model voxel of the body box, which holds probabilities; outside of it is background.
        rise: Where the gantry was tilted, and along D only: input voxels by which each column of the body box
            lies farther along D, (H', W') or broadcast to it; None in an upright grid.
    """

    positions: npt.NDArray[np.float64]
    side: int
    start: int
    stop: int
    rise: npt.NDArray[np.float64] | None = None

    @cached_property
    def coordinates(self) -> npt.NDArray[np.float64]:
        """(N,) positions of the input voxels in model indices."""
        return self._in_model(np.arange(self.side))

    def _in_model(self, places: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Model indices of positions in input indices."""
        step = float(self.positions[1] - self.positions[0]) if len(self.positions) > 1 else 1.0
        return np.asarray((places - float(self.positions[0])) / step, dtype=np.float64)

    @cached_property
    def covered(self) -> slice:
        """Input voxels that the body box covers; all of a tilted axis."""
        if self.rise is not None:
            return slice(0, self.side)
        # The box ends half a model voxel beyond its outermost voxel center. Where it ends with the scan, the
        # outermost input voxels may lie farther out, and they belong to it too: hence infinity.
        lowest = -np.inf if self.start == 0 else self.start - 0.5
        highest = np.inf if self.stop == len(self.positions) else self.stop - 0.5
        inside = np.flatnonzero((self.coordinates >= lowest) & (self.coordinates <= highest))
        return slice(int(inside[0]), int(inside[-1]) + 1) if len(inside) else slice(0, 0)

    def _cells(self, coordinates: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Lower neighbors, relative to ``start``, and weights of the upper ones, at model indices."""
        # Clipping gives voxels between the last center and the end of the box the value of that center.
        inside = np.clip(coordinates, self.start, self.stop - 1) - self.start
        # The last cell has an upper neighbor too; a box of one voxel has none, and its fraction is 0.
        lower = np.minimum(np.floor(inside).astype(np.intp), max(self.stop - self.start - 2, 0))
        return lower, (inside - lower).astype(np.float32)

    @cached_property
    def _covered_cells(self) -> tuple[npt.NDArray[np.intp], FloatArray]:
        return self._cells(self.coordinates[self.covered])

    @property
    def lower(self) -> npt.NDArray[np.intp]:
        """(covered,) index of the lower neighbor, relative to ``start``."""
        return self._covered_cells[0]

    @property
    def fraction(self) -> FloatArray:
        """(covered,) weight of the upper neighbor, 0 to 1."""
        return self._covered_cells[1]

    def cell(self, index: int) -> tuple[npt.NDArray[np.intp], FloatArray]:
        """Lower neighbor and weight of the upper one, for input voxel ``covered.start + index``.

        Returns:
            Two scalars as arrays; along a tilted D axis two arrays of the shape of ``rise``.
        """
        if self.rise is None:
            return self.lower[index], self.fraction[index]
        return self._cells(self._in_model(index + self.rise))

    @property
    def rows_crossed(self) -> int:
        """Model voxels from the lowest to the highest neighbor of one input voxel."""
        if self.rise is None:
            return 2
        low, high = self._in_model(np.array([self.rise.min(), self.rise.max()]))
        return int(high - low) + 3


AxisMaps = tuple[AxisMap, AxisMap, AxisMap]
"""The maps along (D, H, W)."""


class Restorer:
    """Converts finished rows of probabilities into label slices of the canonical input grid.

    Pass rows from the first to the last with :meth:`push`; between calls, only the rows are kept that the
    next slice crosses: one, but for a tilted gantry.

    Args:
        labels: (D, H, W) uint8 canonical view of the output, all zeros; written in place.
        smallest_winner: Lower bound of the largest value of a voxel; classes that stay below it in a slice
            are not interpolated. 0 drops none.
    """

    def __init__(
        self, maps: AxisMaps, labels: npt.NDArray[np.uint8], *, smallest_winner: float = 0.0
    ) -> None:
        self._depth, self._height, self._width = maps
        self._labels = labels
        self._smallest_winner = smallest_winner
        self._kept: FloatArray | None = None
        self._first_kept = self._next_row = 0
        self._next_slice = 0

    def push(self, rows: FloatArray) -> None:
        """Take the next rows and write every slice that lies between rows known by now.

        Args:
            rows: (rows, C, H', W') float32 probabilities of the box, also times the weights of their classes.
        """
        known = rows if self._kept is None else np.concatenate([self._kept, rows])
        first = self._first_kept
        self._next_row += len(rows)
        total = self._depth.stop - self._depth.start
        covered = self._depth.covered
        while self._next_slice < covered.stop - covered.start:
            lower, weight = self._depth.cell(self._next_slice)
            upper = np.minimum(lower + 1, total - 1)
            if upper.max() >= self._next_row:
                break
            below, above = _rows_at(known, lower - first), _rows_at(known, upper - first)
            plane = below * (1 - weight) + above * weight if weight.any() else below
            target = self._labels[covered.start + self._next_slice]
            self._label_plane(plane, target[self._height.covered, self._width.covered])
            self._next_slice += 1
        else:
            return
        # The next slice needs its lowest row and all that follow.
        self._first_kept = min(int(lower.min()), self._next_row - 1)
        self._kept = known[self._first_kept - first :].copy()

    def _label_plane(self, plane: FloatArray, target: npt.NDArray[np.uint8]) -> None:
        """Label one slice.

        Args:
            plane: (C, H', W') probabilities, also times the weights of their classes.
            target: (covered H, covered W) uint8 view of the output, zeros; written in place.
        """
        # 1. Drop the classes that cannot win (the second fact above; 1e-5 allows for rounding).
        possible = np.flatnonzero(plane.max(axis=(1, 2)) >= self._smallest_winner * (1.0 - 1e-5))
        candidates = plane[possible]
        winner = possible[candidates.argmax(axis=0)].astype(np.uint8)
        # 2. Keep to the rectangle of outputs whose cell has a corner that is not background.
        organ = winner != 0
        rows = _span(organ.any(axis=1), self._height.lower)
        columns = _span(organ.any(axis=0), self._width.lower)
        if rows is None or columns is None:
            return  # four corners of background: background in every cell
        y0, x0 = self._height.lower[rows], self._width.lower[columns]
        y1, x1 = np.minimum(y0 + 1, winner.shape[0] - 1), np.minimum(x0 + 1, winner.shape[1] - 1)
        # 3. Give each cell the winner of its upper left corner (y0, x0), and find the cells whose corners
        # differ. Columns come first, on the few rows of the model; then whole lines are copied.
        left, right = winner.take(x0, axis=1), winner.take(x1, axis=1)
        even = left == right
        result = left.take(y0, axis=0)
        crossed = ~(even.take(y0, axis=0) & even.take(y1, axis=0) & (result == left.take(y1, axis=0)))
        # 4. Interpolate all possible classes in those cells alone.
        y, x = np.nonzero(crossed)
        if len(y):
            # (H' * W', C): the classes of a voxel lie side by side, so that reading a voxel is one access.
            flat = candidates.reshape(len(possible), -1).T.copy()
            top, bottom = y0[y] * winner.shape[1], y1[y] * winner.shape[1]
            v, u = self._height.fraction[rows][y][:, None], self._width.fraction[columns][x][:, None]
            upper = flat[top + x0[x]] * (1 - u) + flat[top + x1[x]] * u
            lower = flat[bottom + x0[x]] * (1 - u) + flat[bottom + x1[x]] * u
            result[y, x] = possible[(upper * (1 - v) + lower * v).argmax(axis=1)]
        target[rows, columns] = result


def _span(present: npt.NDArray[np.bool_], lower: npt.NDArray[np.intp]) -> slice | None:
    """Outputs along one axis whose cell touches a model voxel that is ``present``; None if there is none."""
    found = np.flatnonzero(present)
    if not len(found):
        return None
    start = int(np.searchsorted(lower, found[0] - 1))
    stop = int(np.searchsorted(lower, found[-1], side="right"))
    return slice(start, stop) if stop > start else None


def _rows_at(rows: FloatArray, index: npt.NDArray[np.intp]) -> FloatArray:
    """(C, H', W') of rows (rows, C, H', W'): one row, or another one for each column of the plane."""
    if index.ndim == 0:
        return rows[index]
    taken: FloatArray = np.take_along_axis(rows, index[None, None], axis=0)[0]
    return taken


def axis_maps(resampler: Resampler, box: Box) -> AxisMaps:
    """Make the three maps of a :class:`Restorer`.

    Args:
        box: Part of the model's grid that holds probabilities, along D, H and W.
    """
    rise = resampler.rise((box[1], box[2])) if any(resampler.grid.rise) else None
    d, h, w = (
        AxisMap(positions, side, part.start, part.stop, rise if axis == 0 else None)
        for axis, (positions, side, part) in enumerate(
            zip(resampler.positions, resampler.grid.shape, box, strict=True)
        )
    )
    return d, h, w

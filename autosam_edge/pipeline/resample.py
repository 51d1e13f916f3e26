"""From the input grid to the model's grid: window, antialiased linear resampling, body box; row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import MAX_SKEW_DEG, Grid, Orientation, Shape

FloatArray = npt.NDArray[np.float32]


def sample_positions(side: float, spacing_mm: float, target_mm: float) -> npt.NDArray[np.float64]:
    """Positions of the target's voxel centers along one axis, in indices of the input.

    The target has ``ceil(side * spacing / target)`` voxels and shares its center with the input, so the field
    of view is covered and nothing shifts.

    Args:
        side: Voxels of the input along the axis; a fraction where displaced slices make the stack wider.
        spacing_mm: Spacing of the input, mm.
        target_mm: Spacing of the target, mm.

    Returns:
        (target side,) float64, increasing; the outermost may lie less than half a target voxel outside the
        input.
    """
    scale = target_mm / spacing_mm
    count = max(1, int(np.ceil(side / scale - 1e-6)))
    return np.asarray((np.arange(count) - (count - 1) / 2.0) * scale + (side - 1) / 2.0, dtype=np.float64)


def resampling_matrix(positions: npt.NDArray[np.float64], side: int) -> FloatArray:
    """Weights of the antialiased linear filter along one axis.

    The kernel is a triangle whose half width is the larger of the input's and the target's voxel (the usual
    antialiased "bilinear"), cut at the border and normalized, so constants stay constants.

    Args:
        positions: (M,) positions of the outputs in input indices, evenly spaced.
        side: Number of inputs N.

    Returns:
        (M, N) float32, each row sums to 1.
    """
    step = float(positions[1] - positions[0]) if len(positions) > 1 else float(side)
    width = max(1.0, step)
    clipped = np.clip(positions, 0, side - 1)
    weights = np.maximum(0.0, 1.0 - np.abs(clipped[:, None] - np.arange(side)[None, :]) / width)
    return np.asarray(weights / weights.sum(axis=1, keepdims=True), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Taps:
    """The filter of :func:`resampling_matrix` without its zeros: each output reads a short run of inputs.

    Args:
        first: (M,) index of the first input that each output reads.
        weights: (M, T) float32 weights of the inputs ``first``, ``first + 1``, ..., ``first + T - 1``.
    """

    first: npt.NDArray[np.intp]
    weights: FloatArray

    @classmethod
    def of(cls, matrix: FloatArray) -> Taps:
        """Take the runs out of an (M, N) matrix whose rows hold one run of weights each."""
        used = matrix > 0
        first = used.argmax(axis=1)
        length = int((matrix.shape[1] - used[:, ::-1].argmax(axis=1) - first).max())
        # All runs are equally long; a shorter one has zeros at its end, or at its start where the axis ends.
        first = np.minimum(first, matrix.shape[1] - length)
        return cls(first, np.take_along_axis(matrix, first[:, None] + np.arange(length), axis=1))

    def __getitem__(self, outputs: slice) -> Taps:
        return Taps(self.first[outputs], self.weights[outputs])

    @property
    def used(self) -> slice:
        """The inputs that are read."""
        return slice(int(self.first.min()), int(self.first.max()) + self.weights.shape[1])

    def of_input(self, index: int) -> FloatArray:
        """(M,) weight of one input in each output, mostly zeros."""
        tap = index - self.first
        inside = (tap >= 0) & (tap < self.weights.shape[1])
        return np.where(inside, self.weights[np.arange(len(tap)), np.where(inside, tap, 0)], np.float32(0))

    def apply(self, lines: npt.NDArray[np.generic]) -> FloatArray:
        """Filter along the first axis.

        Taps are added in the order of the inputs, each with one rounding to float32, like the fused
        multiply-add of a processor. A matrix product of a BLAS adds in the same way, in blocks where an axis
        is long: the values are the same, up to a rounding step of a few voxels.

        Args:
            lines: (N, K), float32 values of the inputs ``used``.

        Returns:
            (M, K) float32.
        """
        # In float64 a product of two float32 is exact.
        inputs = np.ascontiguousarray(lines, dtype=np.float64)
        part = np.empty((len(self.first), inputs.shape[1]), dtype=np.float64)
        total = np.zeros(part.shape, dtype=np.float32)
        for tap, weights in enumerate(self.weights.T.astype(np.float64)):
            inputs.take(self.first - self.used.start + tap, axis=0, out=part, mode="clip")
            part *= weights[:, None]
            part += total
            total[...] = part
        return total


@dataclass(frozen=True, eq=False)
class Resampler:
    """Canonical HU to rows of the model's grid, on demand.

    HU are clipped to the window before they are averaged, as the training data were, so metal and air do not
    bleed into tissue.

    The model's grid is upright. Where a tilted gantry has displaced the slices against each other, each slice
    is resampled at its true place: slice ``d`` lies ``d * grid.slice_shift`` voxels away from the first.
    Beside a slice its outermost pixels are repeated.

    Args:
        grid: Canonical grid of the input.
        spacing_mm: Spacing of the model along (D, H, W), mm.
        window_hu: Window (low, high), HU.

    Attributes:
        positions: Positions of the model's voxels along (D, H, W), in indices of the first slice.

    Raises:
        ValueError: The rows and columns of the slices are not perpendicular.
    """

    grid: Grid
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    positions: tuple[npt.NDArray[np.float64], ...] = field(init=False)
    _depth: Taps = field(init=False)
    _plane: tuple[Taps, Taps] = field(init=False)

    def __post_init__(self) -> None:
        if self.grid.skew_deg > MAX_SKEW_DEG:
            raise ValueError(f"rows and columns miss a right angle by {self.grid.skew_deg:.3g} degrees")
        spacing_mm = (self.grid.slice_distance_mm, *self.grid.spacing_mm[1:])
        first_to_last = [(self.grid.shape[0] - 1) * shift for shift in (0.0, *self.grid.slice_shift)]
        positions = tuple(
            sample_positions(side + abs(moved), spacing, target) + min(moved, 0.0)
            for side, moved, spacing, target in zip(
                self.grid.shape, first_to_last, spacing_mm, self.spacing_mm, strict=True
            )
        )
        object.__setattr__(self, "positions", positions)
        object.__setattr__(self, "_depth", Taps.of(resampling_matrix(positions[0], self.grid.shape[0])))
        object.__setattr__(self, "_plane", self._plane_taps(0))

    def _plane_taps(self, index: int) -> tuple[Taps, Taps]:
        """The filters along H and W for one slice of the input."""
        height, width = (
            Taps.of(resampling_matrix(positions - index * shift, side))
            for positions, shift, side in zip(
                self.positions[1:], self.grid.slice_shift, self.grid.shape[1:], strict=True
            )
        )
        return height, width

    @property
    def shape(self) -> Shape:
        """Shape of the model's grid."""
        d, h, w = (len(p) for p in self.positions)
        return d, h, w

    def rows(
        self,
        hu: npt.NDArray[np.generic],
        start: int,
        stop: int,
        *,
        plane: tuple[slice, slice] = (slice(None), slice(None)),
    ) -> FloatArray:
        """Rows ``[start, stop)`` of the resampled volume.

        Args:
            hu: (D, H, W) canonical view of the input, HU.
            start: First row along D of the model's grid.
            stop: End of the rows.
            plane: The part of the model's grid along H and W to compute.

        Returns:
            (stop - start, H', W') float32, HU within the window.
        """
        depth, height, width = self._depth[start:stop], self._plane[0][plane[0]], self._plane[1][plane[1]]
        out = np.zeros((stop - start, len(height.first), len(width.first)), dtype=np.float32)
        low, high = self.window_hu
        for index in range(depth.used.start, depth.used.stop):
            weights = depth.of_input(index)
            if not weights.any():
                continue
            if any(self.grid.slice_shift):
                height, width = (
                    taps[part] for taps, part in zip(self._plane_taps(index), plane, strict=True)
                )
            pixels = hu[index, height.used, width.used].astype(np.float32)
            np.clip(pixels, low, high, out=pixels)
            small = height.apply(width.apply(pixels.T).T)
            for row in np.flatnonzero(weights):
                out[row] += weights[row] * small
        return out


@dataclass(frozen=True, eq=False)
class ModelGrid:
    """The model's grid over a scan: orientation and resampling.

    Args:
        grid: Grid of the scan, any orientation.
        spacing_mm: Spacing of the model along (D, H, W), mm.
        window_hu: Window (low, high), HU.
    """

    grid: Grid
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]

    @property
    def orientation(self) -> Orientation:
        """How the scan is turned to canonical orientation."""
        return self.grid.orientation

    @cached_property
    def resampler(self) -> Resampler:
        """From the canonical grid to the model's."""
        return Resampler(self.orientation.canonical_grid(self.grid), self.spacing_mm, self.window_hu)

    def resample(self, array: npt.NDArray[np.generic]) -> FloatArray:
        """A whole array on the model's grid.

        Args:
            array: (D, H, W) HU on the scan's grid.

        Returns:
            (D', H', W') float32 in canonical orientation, HU within the window.
        """
        return self.resampler.rows(self.orientation.to_canonical(array), 0, self.resampler.shape[0])


# Fat, the least dense tissue of a body wall, is above -200 HU; clothes, table foam and lung lie below.
_TISSUE_HU = -200.0
_BOX_STRIDE_MM = 4.0
BOX_MARGIN_MM = 12.0
# A line across the body shows at least this share of tissue; a table edge or an arm alone does not make the
# box larger than needed.
_LINE_SHARE = 0.01


def body_box(hu: npt.NDArray[np.generic], resampler: Resampler) -> tuple[slice, slice, slice]:
    """Find the part of the model's grid that holds tissue, with a margin; one voxel in 4 mm is looked at.

    Args:
        hu: (D, H, W) canonical view of the input, HU.
        resampler: Resampler of the same input.

    Returns:
        Slices of the model's grid along (D, H, W); D is always whole, and a scan without tissue gives the
        whole plane.
    """
    strides = [max(1, round(_BOX_STRIDE_MM / spacing)) for spacing in resampler.grid.spacing_mm]
    coarse = hu[:: strides[0], :: strides[1], :: strides[2]]
    places: tuple[list[float], list[float]] = (
        [],
        [],
    )  # of tissue along H and W, in indices of the first slice
    for index, plane in enumerate(coarse):  # slice by slice: no mask of the volume
        tissue = plane > _TISSUE_HU
        for axis in (0, 1):
            enough = max(1.0, _LINE_SHARE * coarse.shape[2 - axis])
            found = np.flatnonzero(tissue.sum(axis=1 - axis) >= enough)
            if len(found):
                moved = index * strides[0] * resampler.grid.slice_shift[axis]
                places[axis].extend(found[[0, -1]] * strides[1 + axis] + moved)
    box = [slice(0, resampler.shape[0])]
    for axis in (1, 2):
        side, found_here = resampler.shape[axis], places[axis - 1]
        if not found_here:
            box.append(slice(0, side))
            continue
        margin = BOX_MARGIN_MM / resampler.spacing_mm[axis]
        ends = (min(found_here), max(found_here))
        edges = np.interp(ends, resampler.positions[axis], np.arange(side))
        box.append(slice(max(0, int(edges[0] - margin)), min(side, int(np.ceil(edges[1] + margin)) + 1)))
    return box[0], box[1], box[2]

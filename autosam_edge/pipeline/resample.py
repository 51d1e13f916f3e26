"""From the input grid to the model's grid: window and antialiased linear resampling, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import MAX_SKEW_DEG, FloatArray, FloatMatrix, Grid, Shape


def sample_positions(side: float, spacing_mm: float, target_mm: float) -> npt.NDArray[np.float64]:
    """Positions of the target's voxel centers along one axis, in indices of the input.

    The target has ``ceil(side * spacing / target)`` voxels and shares its center with the input, so the field
    of view is covered and nothing shifts.

    Args:
        side: Voxels of the input along the axis; a fraction where tilted slices reach beyond each other.

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

    The model's grid is upright, and its D axis is that of the input. Where the gantry was tilted, each column
    of the model's grid is moved along D by the rise of the slices there, so that the network sees the patient
    as in an upright scan. Beyond the first and the last slice, these are repeated.

    Args:
        grid: Canonical grid of the input.
        spacing_mm: Spacing of the model along (D, H, W), mm.
        window_hu: Window (low, high), HU.

    Attributes:
        positions: Positions of the model's voxels along (D, H, W), in indices of the input; along D, in
            indices of the voxels ``[d, 0, 0]``.

    Raises:
        ValueError: The rows and columns of the slices are not perpendicular.
    """

    grid: Grid
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    positions: tuple[npt.NDArray[np.float64], ...] = field(init=False)
    _taps: tuple[Taps, ...] = field(init=False)

    def __post_init__(self) -> None:
        if self.grid.skew_deg > MAX_SKEW_DEG:
            raise ValueError(f"rows and columns miss a right angle by {self.grid.skew_deg:.3g} degrees")
        depth, height, width = (
            sample_positions(side, spacing, target)
            for side, spacing, target in zip(
                (self.grid.shape[0] + sum(abs(end) for end in self._far_ends), *self.grid.shape[1:]),
                self.grid.upright_spacing_mm,
                self.spacing_mm,
                strict=True,
            )
        )
        positions = (depth + sum(min(end, 0.0) for end in self._far_ends), height, width)
        object.__setattr__(self, "positions", positions)
        taps = tuple(
            Taps.of(resampling_matrix(p, side)) for p, side in zip(positions, self.grid.shape, strict=True)
        )
        object.__setattr__(self, "_taps", taps)

    @classmethod
    def of_scan(
        cls, grid: Grid, spacing_mm: tuple[float, float, float], window_hu: tuple[float, float]
    ) -> Resampler:
        """The resampler of a scan in any orientation; it takes the scan's canonical view.

        Args:
            grid: Grid of the scan.
            spacing_mm: Spacing of the model along (D, H, W), mm.
            window_hu: Window (low, high), HU.
        """
        return cls(grid.canonical, spacing_mm, window_hu)

    @property
    def _far_ends(self) -> tuple[float, float]:
        """Slices by which the last voxel along (H, W) lies farther along D than the first."""
        _, height, width = self.grid.shape
        return self.grid.rise[0] * (height - 1), self.grid.rise[1] * (width - 1)

    def rise(self, plane: tuple[slice, slice]) -> FloatMatrix:
        """Slices by which a column of the model's grid lies farther along D than voxel ``[d, 0, 0]``.

        Args:
            plane: Part of the model's grid along H and W.

        Returns:
            (H', W') float64, or (H', 1) where all columns of a line rise alike.
        """
        along_h = self.grid.rise[0] * self.positions[1][plane[0], None]
        if not self.grid.rise[1]:
            return np.asarray(along_h, dtype=np.float64)
        return np.asarray(along_h + self.grid.rise[1] * self.positions[2][plane[1]], dtype=np.float64)

    @property
    def shape(self) -> Shape:
        """Shape of the model's grid."""
        d, h, w = (len(p) for p in self.positions)
        return d, h, w

    def whole(self, hu: npt.NDArray[np.generic]) -> FloatArray:
        """The whole resampled volume.

        Args:
            hu: (D, H, W) canonical view of the input, HU.

        Returns:
            (D', H', W') float32 on the model's grid, HU within the window.
        """
        return self.rows(hu, 0, self.shape[0])

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
            plane: The part of the model's grid along H and W to compute.

        Returns:
            (stop - start, H', W') float32, HU within the window.
        """
        if any(self.grid.rise):
            return self._rows_of_tilted(hu, start, stop, plane)
        depth = self._taps[0][start:stop]
        out = np.zeros((stop - start, *(len(self.positions[1 + k][plane[k]]) for k in (0, 1))), np.float32)
        for index in range(depth.used.start, depth.used.stop):
            weights = depth.of_input(index)
            if not weights.any():
                continue
            small = self._slice(hu[index], plane)
            for row in np.flatnonzero(weights):
                out[row] += weights[row] * small
        return out

    def _slice(self, pixels: npt.NDArray[np.generic], plane: tuple[slice, slice]) -> FloatArray:
        """One slice (H, W) of the input, clipped and filtered along H and W."""
        height, width = self._taps[1][plane[0]], self._taps[2][plane[1]]
        clipped = pixels[height.used, width.used].astype(np.float32)
        np.clip(clipped, *self.window_hu, out=clipped)
        return height.apply(width.apply(clipped.T).T)

    def _rows_of_tilted(
        self, hu: npt.NDArray[np.generic], start: int, stop: int, plane: tuple[slice, slice]
    ) -> FloatArray:
        """:meth:`rows`, with another filter along D for each column: it is moved by the rise."""
        last = self.grid.shape[0] - 1
        step = float(self.positions[0][1] - self.positions[0][0]) if self.shape[0] > 1 else last + 1.0
        width = max(1.0, step)
        places = np.clip(self.positions[0][start:stop, None, None] - self.rise(plane), 0, last)
        sides = (len(self.positions[1 + k][plane[k]]) for k in (0, 1))
        out = np.zeros((stop - start, *sides), dtype=np.float32)
        total = np.zeros(places.shape, dtype=np.float32)
        first = max(0, int(places.min() - width))
        for index in range(first, min(last, int(places.max() + width) + 1) + 1):
            reached = np.flatnonzero((np.abs(places - index) < width).any(axis=(1, 2)))
            if not len(reached):
                continue
            rows = slice(int(reached[0]), int(reached[-1]) + 1)
            weights = np.maximum(0.0, 1.0 - np.abs(places[rows] - index) / width).astype(np.float32)
            out[rows] += weights * self._slice(hu[index], plane)
            total[rows] += weights
        out /= total
        return out

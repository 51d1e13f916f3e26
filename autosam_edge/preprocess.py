"""From the input grid to the model's grid: window, antialiased linear resampling, body box. Row by row, never the whole volume."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Grid, Shape

FloatArray = npt.NDArray[np.float32]


def sample_positions(side: int, spacing_mm: float, target_mm: float) -> npt.NDArray[np.float64]:
    """Where the target's voxel centers lie along one axis, in indices of the input.

    The target has ``ceil(side * spacing / target)`` voxels and shares its center with the input, so the field of view is covered
    and nothing shifts.

    Returns:
        (target side,) float64, increasing; the outermost may lie less than half a target voxel outside the input.
    """
    scale = target_mm / spacing_mm
    count = max(1, int(np.ceil(side / scale - 1e-6)))
    return np.asarray((np.arange(count) - (count - 1) / 2.0) * scale + (side - 1) / 2.0, dtype=np.float64)


def resampling_matrix(positions: npt.NDArray[np.float64], side: int) -> FloatArray:
    """Weights of the antialiased linear filter along one axis.

    The kernel is a triangle whose half width is the larger of the input's and the target's voxel (the usual antialiased "bilinear"),
    cut at the border and normalized, so constants stay constants.

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
class Resampler:
    """Canonical HU to rows of the model's grid, on demand.

    HU are clipped to the window before they are averaged, as the training data were, so metal and air do not bleed into tissue.

    Args:
        grid: The canonical input grid.
        spacing_mm: The model's spacing along (D, H, W) in mm.
        window_hu: (low, high), HU.
    """

    grid: Grid
    spacing_mm: tuple[float, float, float]
    window_hu: tuple[float, float]
    positions: tuple[npt.NDArray[np.float64], ...] = field(init=False)
    _matrices: tuple[FloatArray, ...] = field(init=False)

    def __post_init__(self) -> None:
        sides = list(zip(self.grid.shape, self.grid.spacing_mm, self.spacing_mm, strict=True))
        positions = tuple(sample_positions(side, spacing, target) for side, spacing, target in sides)
        object.__setattr__(self, "positions", positions)
        matrices = tuple(resampling_matrix(p, side) for p, side in zip(positions, self.grid.shape, strict=True))
        object.__setattr__(self, "_matrices", matrices)

    @property
    def shape(self) -> Shape:
        """Shape of the model's grid."""
        d, h, w = (len(p) for p in self.positions)
        return d, h, w

    def rows(
        self, hu: npt.NDArray[np.generic], start: int, stop: int, *, plane: tuple[slice, slice] = (slice(None), slice(None))
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
        depth = self._matrices[0][start:stop]
        height, used_h = _used(self._matrices[1][plane[0]])
        width, used_w = _used(self._matrices[2][plane[1]])
        out = np.zeros((stop - start, len(height), len(width)), dtype=np.float32)
        low, high = self.window_hu
        for index in np.flatnonzero(depth.any(axis=0)):
            pixels = hu[index, used_h, used_w].astype(np.float32)
            np.clip(pixels, low, high, out=pixels)
            small = height @ (pixels @ width.T)
            for row in np.flatnonzero(depth[:, index]):
                out[row] += depth[row, index] * small
        return out


def _used(matrix: FloatArray) -> tuple[FloatArray, slice]:
    """The part of a resampling matrix that has weights, and the inputs that it reads."""
    taps = np.flatnonzero(matrix.any(axis=0))
    used = slice(int(taps[0]), int(taps[-1]) + 1)
    return np.ascontiguousarray(matrix[:, used]), used


# Fat, the least dense tissue of a body wall, is above -200 HU; clothes, table foam and lung lie below.
_TISSUE_HU = -200.0
_BOX_STRIDE_MM = 4.0
BOX_MARGIN_MM = 12.0
# A line across the body shows at least this share of tissue; a table edge or an arm alone does not make the box larger than needed.
_LINE_SHARE = 0.01


def body_box(hu: npt.NDArray[np.generic], resampler: Resampler) -> tuple[slice, slice, slice]:
    """The part of the model's grid that holds tissue, with a margin, from a coarse look at every fourth millimeter.

    Args:
        hu: (D, H, W) canonical view of the input, HU.
        resampler: Of the same input.

    Returns:
        Slices of the model's grid along (D, H, W); D is always whole, and a scan without tissue gives the whole plane.
    """
    strides = [max(1, round(_BOX_STRIDE_MM / spacing)) for spacing in resampler.grid.spacing_mm]
    coarse = hu[:: strides[0], :: strides[1], :: strides[2]]
    lines = [np.zeros(coarse.shape[1], dtype=np.int64), np.zeros(coarse.shape[2], dtype=np.int64)]
    for plane in coarse:  # slice by slice: no mask of the volume
        tissue = plane > _TISSUE_HU
        lines[0] = np.maximum(lines[0], tissue.sum(axis=1))
        lines[1] = np.maximum(lines[1], tissue.sum(axis=0))
    box = [slice(0, resampler.shape[0])]
    for axis in (1, 2):
        across = coarse.shape[3 - axis]
        found = np.flatnonzero(lines[axis - 1] >= max(1.0, _LINE_SHARE * across))
        side, spacing = resampler.shape[axis], resampler.spacing_mm[axis]
        if not len(found):
            box.append(slice(0, side))
            continue
        margin = BOX_MARGIN_MM / spacing
        edges = np.interp(found[[0, -1]] * strides[axis], resampler.positions[axis], np.arange(side))
        box.append(slice(max(0, int(edges[0] - margin)), min(side, int(np.ceil(edges[1] + margin)) + 1)))
    return box[0], box[1], box[2]

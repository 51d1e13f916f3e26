"""Positions and weights of the tiles, equal to those of MONAI's ``sliding_window_inference``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Shape

Axis = tuple[int, ...]


def tile_starts(side: int, patch: int, overlap: float) -> Axis:
    """First voxel of each tile along one axis.

    Args:
        side: Number of voxels along the axis, at least ``patch``.
        patch: Side of a tile, voxels.
        overlap: Share of a tile that its neighbor covers too, 0 <= overlap < 1.

    Returns:
        Increasing starts; the last tile ends with the axis.
    """
    step = max(1, int(patch * (1.0 - overlap)))
    count = 1 + math.ceil((side - patch) / step)
    return tuple(min(index * step, side - patch) for index in range(count))


def gaussian_weights(patch: Shape) -> npt.NDArray[np.float32]:
    """Weight of each voxel of a tile, largest at its center (Isensee et al. 2021, nnU-Net).

    Returns:
        (D, H, W) float32, at least 1e-3 so that a voxel seen only by tile corners keeps a finite sum.
    """
    weights = np.ones((1, 1, 1), dtype=np.float32)
    for axis, side in enumerate(patch):
        offsets = np.arange(side, dtype=np.float32) - (side - 1) / 2.0
        line = np.exp(offsets**2 / (-2.0 * (side / 8) ** 2)).astype(np.float32)
        weights = weights * line.reshape([-1 if k == axis else 1 for k in range(3)])
    return np.maximum(weights, 1e-3)


def rows_beyond(side: int, patch: int, overlap: float, most: int) -> int:
    """How far tiles can reach beyond each end of an axis without one tile more.

    Args:
        side: Number of voxels along the axis.
        patch: Side of a tile, voxels.
        overlap: Share of a tile that its neighbor covers too, 0 <= overlap < 1.

    Returns:
        Voxels beyond each end, 0 to ``most``.
    """
    count = len(tile_starts(max(side, patch), patch, overlap))
    return max(
        rows
        for rows in range(most + 1)
        if len(tile_starts(max(side + 2 * rows, patch), patch, overlap)) == count
    )


@dataclass(frozen=True)
class TilePlan:
    """Tiles over a box, grouped in rows along D so that a rolling slab can hold one row at a time.

    Args:
        shape: Shape (D, H, W) of the box to cover, voxels.
        patch: Shape (D, H, W) of a tile, voxels.
        overlap: Share of a tile that its neighbor covers too, 0 <= overlap < 1.
        rows_beyond_ends: Largest number of rows that tiles may reach beyond each end of the box along D.
    """

    shape: Shape
    patch: Shape
    overlap: float
    rows_beyond_ends: int = 0

    @property
    def ends(self) -> int:
        """Number of rows that tiles reach beyond each end of the box along D: as many as add no tile."""
        return rows_beyond(self.shape[0], self.patch[0], self.overlap, self.rows_beyond_ends)

    @property
    def padded(self) -> Shape:
        """The box with both ends, grown to at least one tile."""
        sides = (self.shape[0] + 2 * self.ends, *self.shape[1:])
        d, h, w = (max(side, patch) for side, patch in zip(sides, self.patch, strict=True))
        return d, h, w

    @property
    def pad_before(self) -> Shape:
        """Voxels in front of the box: the box sits in the middle of what is padded."""
        d, h, w = ((padded - side) // 2 for padded, side in zip(self.padded, self.shape, strict=True))
        return d, h, w

    @property
    def source_rows(self) -> npt.NDArray[np.int64]:
        """Row of the box that each padded row shows, (D,): beyond an end the last row before it again."""
        return np.clip(np.arange(self.padded[0]) - self.pad_before[0], 0, self.shape[0] - 1)

    @property
    def starts(self) -> tuple[Axis, Axis, Axis]:
        """Tile starts along D, H and W, in the padded box."""
        d, h, w = (
            tile_starts(side, patch, self.overlap)
            for side, patch in zip(self.padded, self.patch, strict=True)
        )
        return d, h, w

    @property
    def tiles(self) -> int:
        """Number of tiles."""
        return math.prod(len(axis) for axis in self.starts)

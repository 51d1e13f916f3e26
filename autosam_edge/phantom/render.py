"""A canvas in HU: solids are painted one over the other, with partial volume at their surfaces."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Grid, Shape
from autosam_edge.phantom import shapes
from autosam_edge.phantom.shapes import Field

Material = float | Callable[[Field, Field, Field, Field], Field]

_BRICK = (12, 48, 64)  # 37,000 voxels: a dozen float32 arrays of it fit in a level-2 cache


@dataclass(frozen=True)
class Warp:
    """From the world to the coordinates of the anatomy: a scale and a slow wave along each axis.

    The shift along one axis depends on the other two only, so the whole warp is three planes of numbers.

    Args:
        scale: Size of this patient over that of the written anatomy, along (x, y, z).
        amplitude_mm: (3, 2) largest shift of two waves along each axis, mm.
        wavelength_mm: (3, 2, 2) of both waves along the two other axes, mm.
        phase: (3, 2, 2), radians.
    """

    scale: tuple[float, float, float]
    amplitude_mm: npt.NDArray[np.float64]
    wavelength_mm: npt.NDArray[np.float64]
    phase: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, *, scale: tuple[float, float, float]) -> Warp:
        """A random warp of a few millimeters."""
        amplitude = rng.uniform(1.0, 3.2, (3, 2))
        return cls(
            scale, amplitude, rng.uniform(190.0, 360.0, (3, 2, 2)), rng.uniform(0, 2 * np.pi, (3, 2, 2))
        )

    @property
    def reach_mm(self) -> float:
        """Upper bound of the shift along any axis."""
        return float(self.amplitude_mm.sum(axis=1).max())

    def plane(self, axis: int, first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]) -> Field:
        """Shift along ``axis`` for all pairs of the two other coordinates, mm."""
        total = np.zeros((len(first), len(second)))
        for wave in range(2):
            (la, lb), (pa, pb) = self.wavelength_mm[axis, wave], self.phase[axis, wave]
            rows, columns = np.sin(2 * np.pi * first / la + pa), np.sin(2 * np.pi * second / lb + pb)
            total += self.amplitude_mm[axis, wave] * np.outer(rows, columns)
        return total.astype(np.float32)


class Canvas:
    """HU and labels on a canonical, axis-aligned grid.

    Args:
        grid: Canonical grid: D superior, H posterior, W left.
        warp: Map from the world to the coordinates of the anatomy.
    """

    def __init__(self, grid: Grid, warp: Warp) -> None:
        self.hu = np.full(grid.shape, -1000.0, dtype=np.float32)
        self.labels = np.zeros(grid.shape, dtype=np.uint8)
        origin, spacing = grid.affine[:3, 3], grid.spacing_mm
        z, y, x = (origin[2 - axis] + spacing[axis] * np.arange(grid.shape[axis]) for axis in range(3))
        self._warp = warp
        self._world = (z, y, x)
        self._spacing = spacing
        # Partial volume: the width over which the surface is smeared, between the in-plane and the slice
        # spacing.
        self.edge_mm = float(np.clip(0.65 * spacing[1] + 0.35 * spacing[0], 0.8, 4.0))
        self._x = (x / warp.scale[0]).astype(np.float32)
        self._y = (y / warp.scale[1]).astype(np.float32)
        self._z = (z / warp.scale[2]).astype(np.float32)
        self._shift_x = warp.plane(0, z, y)
        self._shift_y = warp.plane(1, z, x)
        self._shift_z = warp.plane(2, y, x)

    def coordinates(self, brick: tuple[slice, slice, slice]) -> tuple[Field, Field, Field]:
        """Anatomical (x, y, z) in mm of the voxels of a brick, each (d, h, w)."""
        d, h, w = brick
        return (
            self._x[None, None, w] + self._shift_x[d, h, None],
            self._y[None, h, None] + self._shift_y[d, None, w],
            self._z[d, None, None] + self._shift_z[None, h, w],
        )

    def bricks(self, shape: shapes.Solid) -> Iterator[tuple[slice, slice, slice]]:
        """Bricks that cover the voxels a solid can touch."""
        ranges = []
        for axis in range(3):
            scale = self._warp.scale[2 - axis]
            margin = self._warp.reach_mm * scale + self.edge_mm
            world = self._world[axis]
            start = int(np.searchsorted(world, shape.low[2 - axis] * scale - margin))
            stop = int(np.searchsorted(world, shape.high[2 - axis] * scale + margin, side="right"))
            ranges.append([slice(k, min(k + _BRICK[axis], stop)) for k in range(start, stop, _BRICK[axis])])
        for d in ranges[0]:
            for h in ranges[1]:
                for w in ranges[2]:
                    yield d, h, w

    def paint(self, shape: shapes.Solid, material: Material, *, label: int | None = 0) -> None:
        """Lay a solid over what is there.

        Args:
            material: HU, or a function of (x, y, z, implicit function) that returns HU.
            label: Label of the voxels whose center lies inside; 0 makes them background, None leaves them as
                they are.
        """
        inverse = 1.0 / self.edge_mm
        for brick in self.bricks(shape):
            x, y, z = self.coordinates(brick)
            field = shape.field(x, y, z)
            if float(field.min()) > self.edge_mm:
                continue
            share = np.clip(0.5 - field * inverse, 0, 1)
            share *= share * (3 - 2 * share)
            below = self.hu[brick]
            value = material(x, y, z, field) if callable(material) else material
            below += share * (value - below)
            if label is not None:
                self.labels[brick][field < 0] = label


def smooth_noise(
    rng: np.random.Generator, shape: Shape, spacing_mm: tuple[float, float, float], *, grain_mm: float
) -> Field:
    """Smooth random field of unit variance whose grain is ``grain_mm`` wide, (D, H, W)."""
    weights = []
    for side, spacing in zip(shape, spacing_mm, strict=True):
        position = np.arange(side) * spacing / grain_mm
        knots = int(np.ceil(position[-1])) + 4
        distance = np.abs(position[:, None] + 1.5 - np.arange(knots))
        far = 0.5 * np.clip(1.5 - distance, 0, None) ** 2
        matrix = np.where(distance < 0.5, 0.75 - distance**2, far)  # quadratic B-spline
        weights.append((matrix / np.sqrt((matrix**2).sum(axis=1, keepdims=True))).astype(np.float32))
    coarse = rng.standard_normal([matrix.shape[1] for matrix in weights], dtype=np.float32)
    field = np.tensordot(coarse, weights[2], axes=(2, 1))  # (d, h, W)
    field = np.matmul(weights[1], field)  # (d, H, W)
    return np.asarray(np.tensordot(weights[0], field, axes=(1, 0)), dtype=np.float32)


def add_noise(
    hu: Field, rng: np.random.Generator, spacing_mm: tuple[float, float, float], *, sigma_hu: float
) -> None:
    """Add reconstruction noise in place: grain of about 1.5 mm in the slice, independent between slices."""
    depth, height, width = hu.shape
    steps_h, steps_w = (max(1, round(1.3 / spacing)) for spacing in spacing_mm[1:])
    for k in range(depth):
        white = rng.standard_normal((height + steps_h, width + steps_w), dtype=np.float32)
        rows = white[:height].copy()
        for j in range(1, steps_h + 1):
            rows += white[j : j + height]
        grain = rows[:, :width].copy()
        for j in range(1, steps_w + 1):
            grain += rows[:, j : j + width]
        hu[k] += grain * (sigma_hu / math.sqrt((steps_h + 1) * (steps_w + 1)))

"""Grids in patient space: positions of voxels and orientation of arrays.

Array order is (D, H, W) = (z, y, x) everywhere and index order equals array order. World axes are LPS in
millimeters, as in DICOM (PS3.3 C.7.6.2.1.1): x to the patient's left, y to posterior, z to superior.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Shape = tuple[int, int, int]
Box = tuple[slice, slice, slice]
"""A part of an array, as slices along (D, H, W)."""
FloatArray = npt.NDArray[np.float32]
FloatMatrix = npt.NDArray[np.float64]
_Scalar = TypeVar("_Scalar", bound=np.generic)

_FARTHEST_MM = 1e100  # damaged headers hold numbers whose squares overflow
_CANONICAL_WORLD_AXIS = (2, 1, 0)  # array axis D runs along world z, H along y, W along x
# A slice whose opposite edges differ by less than this, in slices, is not tilted: cosines and affines are
# rounded numbers.
_ROUNDING = 0.1
MAX_SKEW_DEG = 0.1
"""Largest deviation of the angle between rows and columns from 90 degrees, which rounding explains."""


def restore_read_only(self: object, state: dict[str, object]) -> None:
    """``__setstate__`` of values whose arrays are read-only: NumPy forgets that in a copy and a pickle."""
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.setflags(write=False)
    self.__dict__.update(state)


@dataclass(frozen=True, eq=False, repr=False)
class Grid:
    """A regular lattice of voxels in patient space.

    A slice is a plane of the H and W axes. The D axis is perpendicular to the slices, or, where the gantry of
    the scanner was tilted, leans.

    Args:
        shape: Voxels along (D, H, W), each at least 1.
        affine: 4x4 float64, mm. ``affine @ (d, h, w, 1)`` is the LPS position of the center of voxel ``[d, h,
            w]``.

    Raises:
        ValueError: The shape is empty or has fractions, or the affine is not finite and invertible.
    """

    shape: Shape
    affine: FloatMatrix

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        try:
            shape = tuple(map(operator.index, self.shape))
        except TypeError:
            shape = ()
        if len(shape) != 3 or min(shape) < 1:
            raise ValueError(
                f"the shape is {self.shape}, expected three whole numbers, each of at least one voxel"
            )
        if (
            affine.shape != (4, 4)
            or not (np.abs(affine) < _FARTHEST_MM).all()
            or not np.array_equal(affine[3], (0, 0, 0, 1))
        ):
            raise ValueError("the affine must be a finite 4x4 matrix whose last row is 0 0 0 1")
        # Against the lengths: voxels in another unit, such as meters, are small and not flat.
        lengths = np.linalg.norm(affine[:3, :3], axis=0)
        if not lengths.all() or abs(np.linalg.det(affine[:3, :3])) <= 1e-9 * lengths.prod():
            raise ValueError("the affine must have three independent axes")
        affine.setflags(write=False)
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "affine", affine)

    __setstate__ = restore_read_only

    def __repr__(self) -> str:
        return f"<Grid: {self.in_words}>"

    @property
    def in_words(self) -> str:
        """Voxels and their size: ``160 x 512 x 512 voxels of 2.5 x 0.7 x 0.7 mm``, both along (D, H, W)."""
        shape, spacing = " x ".join(map(str, self.shape)), " x ".join(f"{s:.4g}" for s in self.spacing_mm)
        return f"{shape} voxels of {spacing} mm"

    @classmethod
    def axis_aligned(
        cls,
        shape: Shape,
        spacing_mm: tuple[float, float, float],
        *,
        origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    ) -> Grid:
        """A grid in canonical orientation: D to superior, H to posterior, W to the patient's left.

        Args:
            shape: Voxels along (D, H, W), each at least 1.
            spacing_mm: Distance between voxel centers along (D, H, W), mm, positive.
            origin_mm: LPS position (x, y, z) of the center of voxel ``[0, 0, 0]``, mm.

        Raises:
            ValueError: The shape is empty or a spacing is not positive and finite.

        Example:
            >>> Grid.axis_aligned((4, 5, 6), (3.0, 1.0, 0.5)).spacing_mm
            (3.0, 1.0, 0.5)
        """
        if not min(spacing_mm) > 0:
            raise ValueError(f"the spacing is {spacing_mm} mm, expected positive numbers")
        affine = np.diag([0.0, 0.0, 0.0, 1.0])
        affine[_CANONICAL_WORLD_AXIS, (0, 1, 2)] = spacing_mm
        affine[:3, 3] = origin_mm
        return cls(shape, affine)

    @cached_property
    def orientation(self) -> Orientation:
        """How an array on this grid is turned to canonical orientation."""
        return Orientation.of(self)

    @cached_property
    def canonical(self) -> Grid:
        """The grid of an array on this grid, once it is turned to canonical orientation."""
        return self.orientation.canonical_grid(self)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centers along (D, H, W) in mm.

        Where the slices are tilted, the first is longer than :attr:`slice_distance_mm`.
        """
        d, h, w = (float(np.linalg.norm(self.affine[:3, axis])) for axis in range(3))
        return d, h, w

    @cached_property
    def slice_distance_mm(self) -> float:
        """Distance between neighboring slices along their normal, mm."""
        return abs(float(self.affine[:3, 0] @ self._slice_normal))

    @cached_property
    def slice_shift(self) -> tuple[float, float]:
        """Displacement of each slice along (H, W) against the slice before it, voxels; 0 if upright."""
        if self.rise == (0.0, 0.0):
            return 0.0, 0.0
        axes = np.column_stack([self._slice_normal, self.affine[:3, 1:3]])
        _, h, w = np.linalg.solve(axes, self.affine[:3, 0])
        return float(h), float(w)

    @cached_property
    def rise(self) -> tuple[float, float]:
        """Slices by which the next voxel along (H, W) lies farther along the D axis.

        Zero in an upright grid. A tilted gantry leaves another value: the table moves at an angle to the
        normal of the slices. Less than a tenth of a slice over a whole slice is rounding, and given as zero.
        """
        step = self.affine[:3, 0]
        h, w = (float(self.affine[:3, axis] @ step / (step @ step)) for axis in (1, 2))
        if abs(h) * (self.shape[1] - 1) + abs(w) * (self.shape[2] - 1) < _ROUNDING:
            return 0.0, 0.0
        return h, w

    @cached_property
    def upright_spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centers along D, and along (H, W) at a right angle to D, mm."""
        d, h, w = self.spacing_mm
        rise_h, rise_w = self.rise
        return d, float(np.sqrt(h * h - (rise_h * d) ** 2)), float(np.sqrt(w * w - (rise_w * d) ** 2))

    @cached_property
    def tilt_deg(self) -> float:
        """Angle between the D axis and the normal of the slices, degrees: 0 in an upright grid."""
        return float(np.degrees(np.arccos(min(1.0, self.slice_distance_mm / self.spacing_mm[0]))))

    @cached_property
    def skew_deg(self) -> float:
        """Deviation of the angle between the H and W axes from 90 degrees."""
        return float(np.degrees(np.arcsin(min(1.0, abs(float(self.direction[:, 1] @ self.direction[:, 2]))))))

    @cached_property
    def _slice_normal(self) -> FloatMatrix:
        """Unit normal of the slices, which are the planes of the H and W axes."""
        normal = np.cross(self.affine[:3, 1], self.affine[:3, 2])
        return np.asarray(normal / np.linalg.norm(normal), dtype=np.float64)

    @cached_property
    def voxel_ml(self) -> float:
        """Volume of one voxel in milliliters."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000.0

    @cached_property
    def direction(self) -> FloatMatrix:
        """3x3 matrix whose columns are the unit vectors of the (D, H, W) axes in LPS."""
        return np.asarray(self.affine[:3, :3] / np.asarray(self.spacing_mm), dtype=np.float64)

    def described(self) -> dict[str, list[float]]:
        """Shape and spacing as JSON types, for reports that do not name the scan."""
        return {"shape_dhw": list(self.shape), "spacing_dhw_mm": list(self.spacing_mm)}

    def same_as(self, other: Grid, *, tolerance_mm: float = 1e-4) -> bool:
        """Whether both grids have the same shape and place every corner within ``tolerance_mm``."""
        if self.shape != other.shape:
            return False
        corners = np.array([[d, h, w, 1] for d in (0, 1) for h in (0, 1) for w in (0, 1)], dtype=np.float64)
        corners[:, :3] *= np.asarray(self.shape) - 1
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() <= tolerance_mm)


@dataclass(frozen=True)
class Orientation:
    """The flips and the permutation that bring an array to canonical orientation, and back.

    Canonical: W to the patient's left, H to posterior, D to superior. Nothing is interpolated.

    Args:
        permutation: Array axis from which each canonical axis comes.
        flips: Whether each canonical axis runs the other way in the array.
    """

    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def of(cls, grid: Grid) -> Orientation:
        """Find the canonical orientation nearest to a rotated grid; ties always give the same one."""
        cosines = np.abs(grid.direction)
        candidates = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]
        # The permutation with the largest sum of |cosine| is the nearest one; ties fall to the first, hence
        # deterministic.
        best = max(candidates, key=lambda p: sum(cosines[_CANONICAL_WORLD_AXIS[k], p[k]] for k in range(3)))
        flips = tuple(bool(grid.direction[_CANONICAL_WORLD_AXIS[k], best[k]] < 0) for k in range(3))
        return cls(best, (flips[0], flips[1], flips[2]))

    def to_canonical(self, array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """View of a (D, H, W) array in canonical orientation: no copy."""
        return np.flip(array.transpose(self.permutation), tuple(np.flatnonzero(self.flips)))

    def from_canonical(self, array: npt.NDArray[_Scalar]) -> npt.NDArray[_Scalar]:
        """View of a canonical array in the input's orientation: no copy. Inverse of :meth:`to_canonical`."""
        flipped = np.flip(array, tuple(np.flatnonzero(self.flips)))
        return flipped.transpose(tuple(np.argsort(self.permutation)))

    def canonical_grid(self, grid: Grid) -> Grid:
        """The grid of :meth:`to_canonical`'s result."""
        corner = np.array([0.0, 0.0, 0.0, 1.0])
        for axis, flip in zip(self.permutation, self.flips, strict=True):
            corner[axis] = grid.shape[axis] - 1 if flip else 0
        affine = np.eye(4)
        affine[:3, :3] = grid.affine[:3, self.permutation] * np.where(self.flips, -1.0, 1.0)
        affine[:3, 3] = (grid.affine @ corner)[:3]
        d, h, w = (grid.shape[axis] for axis in self.permutation)
        return Grid((d, h, w), affine)

    def input_grid(self, canonical: Grid) -> Grid:
        """The grid of :meth:`from_canonical`'s result. Inverse of :meth:`canonical_grid`.

        Args:
            canonical: Grid of the canonical array.
        """
        affine = np.eye(4)
        affine[:3, 3] = canonical.affine[:3, 3]
        shape = [0, 0, 0]
        for source, (axis, flip) in enumerate(zip(self.permutation, self.flips, strict=True)):
            column = canonical.affine[:3, source]
            shape[axis] = canonical.shape[source]
            affine[:3, axis] = -column if flip else column
            if flip:  # the array begins at the other end of this axis
                affine[:3, 3] += column * (canonical.shape[source] - 1)
        return Grid((shape[0], shape[1], shape[2]), affine)

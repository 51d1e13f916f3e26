"""Implicit shapes in millimeters: negative inside, positive outside, close to the distance near the surface.

A shape is evaluated brick by brick, so that its arrays stay in the processor's cache and bricks far from it
cost nothing. Every field stays float32, as NumPy gives a number of Python the type of the array beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Rotation = npt.NDArray[np.float32]  # (3, 3)
Point = tuple[float, float, float]
FieldFunction = Callable[[Field, Field, Field], Field]

FAR_MM = 1e3


def point(values: npt.ArrayLike) -> Point:
    """Three numbers as numbers of Python; a float64 of NumPy would make float64 of a field."""
    x, y, z = np.asarray(values, dtype=np.float64).tolist()
    return x, y, z


@dataclass(frozen=True)
class Solid:
    """A solid.

    Args:
        low: Lower corner (x, y, z) of a box that holds the solid, mm.
        high: Upper corner of that box, mm.
        field: Implicit function of (x, y, z) in mm: negative inside.
    """

    low: Point
    high: Point
    field: FieldFunction

    def grown(self, margin_mm: float) -> Solid:
        """The solid with its surface moved outward by ``margin_mm``, inward if negative."""
        field, more = self.field, max(margin_mm, 0.0)
        low, high = point(np.subtract(self.low, more)), point(np.add(self.high, more))
        return Solid(low, high, lambda x, y, z: field(x, y, z) - margin_mm)

    def within(self, other: FieldFunction, *, blend_mm: float = 0.0) -> Solid:
        """The part of the solid where ``other`` is negative, its edge rounded over ``blend_mm``."""
        field = self.field
        return Solid(
            self.low, self.high, lambda x, y, z: smooth_max(field(x, y, z), other(x, y, z), blend_mm)
        )

    def without(self, other: FieldFunction, *, blend_mm: float = 0.0) -> Solid:
        """The part of the solid where ``other`` is positive, its edge rounded over ``blend_mm``."""
        return self.within(lambda x, y, z: -other(x, y, z), blend_mm=blend_mm)


def smooth_max(a: Field, b: Field, blend_mm: float) -> Field:
    """Polynomial smooth maximum; equals ``max`` where the two differ by more than ``blend_mm``."""
    if blend_mm <= 0:
        return np.maximum(a, b)
    overlap = np.maximum(blend_mm - np.abs(a - b), 0)
    return np.asarray(np.maximum(a, b) + overlap * overlap * (0.25 / blend_mm), dtype=np.float32)


def union(shapes: Sequence[Solid], *, blend_mm: float) -> Solid:
    """Smooth union of solids."""

    def field(x: Field, y: Field, z: Field) -> Field:
        total = shapes[0].field(x, y, z)
        for shape in shapes[1:]:
            total = -smooth_max(-total, -shape.field(x, y, z), blend_mm)
        return total

    low = np.min([shape.low for shape in shapes], axis=0) - blend_mm
    high = np.max([shape.high for shape in shapes], axis=0) + blend_mm
    return Solid(point(low), point(high), field)


def rotation(*, x_deg: float = 0.0, y_deg: float = 0.0, z_deg: float = 0.0) -> Rotation:
    """3x3 rotation, first about x, then y, then z."""
    angles = np.deg2rad([x_deg, y_deg, z_deg])
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, dtype=np.float32)


def ellipsoid(center: Point, radii: Point, turn: Rotation | None = None) -> Solid:
    """An ellipsoid.

    Args:
        center: (x, y, z), mm.
        radii: Half axes, mm.
        turn: 3x3 rotation whose columns are the directions of the half axes; along x, y, z if absent.
    """
    a, b, c = (np.float32(1.0 / radius) for radius in radii)
    cx, cy, cz = (np.float32(value) for value in center)
    columns = np.eye(3, dtype=np.float32) if turn is None else turn
    straight = turn is None

    def field(x: Field, y: Field, z: Field) -> Field:
        u, v, w = x - cx, y - cy, z - cz
        if not straight:
            u, v, w = (columns[0, k] * u + columns[1, k] * v + columns[2, k] * w for k in range(3))
        u, v, w = u * a, v * b, w * c
        level = np.sqrt(u * u + v * v + w * w)
        u *= a
        v *= b
        w *= c
        slope = np.sqrt(u * u + v * v + w * w) + 1e-6
        distance: Field = level * (level - 1) / slope  # first-order distance: value over length of gradient
        return distance

    reach = np.sqrt((columns.astype(np.float64) ** 2 * np.asarray(radii) ** 2).sum(axis=1))
    return Solid(point(center - reach), point(center + reach), field)


def cylinder(
    center: tuple[float, float],
    radii: tuple[float, float],
    *,
    low_mm: float,
    high_mm: float,
    square: float = 0.0,
) -> Solid:
    """A column along z whose cross-section is an ellipse or a squarer curve.

    Args:
        center: (x, y), mm.
        radii: Half axes along x and y, mm.
        square: 0 for an ellipse; 0.3 is close to a superellipse of exponent 2.3, at a tenth of the cost of a
            power.
    """
    (cx, cy), (a, b) = center, radii

    def field(x: Field, y: Field, z: Field) -> Field:
        u = np.minimum(np.abs(x - cx) * (1 / a), 2.2)  # beyond, the cross term would turn the sign
        v = np.minimum(np.abs(y - cy) * (1 / b), 2.2)
        u2, v2 = u * u, v * v
        level = u2 + v2 - square * u2 * v2
        u *= (1 - square * v2) * (1 / a)
        v *= (1 - square * u2) * (1 / b)
        root = np.sqrt(level)
        side = root * (root - 1) / (np.sqrt(u * u + v * v) + 1e-6)
        distance: Field = np.maximum(side, np.maximum(low_mm - z, z - high_mm))
        return distance

    return Solid((cx - a, cy - b, low_mm), (cx + a, cy + b, high_mm), field)


@dataclass(frozen=True)
class Tube:
    """A tube of varying radius along a curve.

    Args:
        centers: (n, 3) positions of the center line, mm.
        radii: (n,) radii, mm.
    """

    centers: npt.NDArray[np.float32]
    radii: npt.NDArray[np.float32]

    @classmethod
    def along(cls, points: Sequence[Point], radii: Sequence[float], *, steps: int = 4) -> Tube:
        """A tube along the Catmull-Rom curve through ``points``, ``steps`` segments from each to the next."""
        knots = np.column_stack([points, radii]).astype(np.float64)
        padded = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
        a, b, c, d = (padded[k : len(padded) - 3 + k, None] for k in range(4))
        t = np.linspace(0, 1, steps, endpoint=False)[:, None]
        pieces = 0.5 * (
            2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3
        )
        dense = np.concatenate([pieces.reshape(-1, 4), knots[-1:]]).astype(np.float32)
        return cls(dense[:, :3], np.maximum(dense[:, 3], 0.5))

    def solid(self, margin_mm: float = 0.0) -> Solid:
        """The tube as a solid, its radius changed by ``margin_mm``."""
        radii, more = self.radii[:, None], max(margin_mm, 0.0)
        low = (self.centers - radii).min(axis=0) - more
        high = (self.centers + radii).max(axis=0) + more
        return Solid(point(low), point(high), lambda x, y, z: self._measure(x, y, z) - margin_mm)

    def _measure(self, x: Field, y: Field, z: Field) -> Field:
        """Implicit function; segments far from the brick are left out."""
        nearest = np.full(x.shape, FAR_MM, dtype=np.float32)
        corners = np.array([[axis.min(), axis.max()] for axis in (x, y, z)])
        starts, spans = self.centers[:-1], np.diff(self.centers, axis=0)
        middle, half = corners.mean(axis=1), float(np.linalg.norm(np.ptp(corners, axis=1))) / 2
        reach = half + np.linalg.norm(spans, axis=1) / 2 + np.maximum(self.radii[:-1], self.radii[1:]) + 8.0
        close = np.linalg.norm(starts + spans / 2 - middle, axis=1) < reach
        for k in np.flatnonzero(close):
            (ax, ay, az), (bx, by, bz) = starts[k], spans[k]
            u, v, w = x - ax, y - ay, z - az
            length2 = max(float(bx * bx + by * by + bz * bz), 1e-6)
            t = np.clip((u * bx + v * by + w * bz) / length2, 0, 1)
            u -= t * bx
            v -= t * by
            w -= t * bz
            distance = np.sqrt(u * u + v * v + w * w)
            distance -= self.radii[k] + t * (self.radii[k + 1] - self.radii[k])
            np.minimum(nearest, distance, out=nearest)
        return nearest

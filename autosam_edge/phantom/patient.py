"""What differs from patient to patient, and the solids that several organs lean on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from autosam_edge.phantom.shapes import Field, Point, Solid, cylinder, ellipsoid, union

_BACK_MM = 58.0  # back of the inner space
_FIRM_MM = -40.0  # what lies behind it keeps its place in every patient
TOP_MM, BOTTOM_MM = 400.0, -400.0  # beyond any volume: columns without ends


@dataclass(frozen=True, eq=False)
class Patient:
    """One patient.

    Args:
        rng: Source of all further variation.
        cavity_mm: Half axes of the trunk's inner space along x and y.
        enhancement: Factor on the contrast enhancement of vessels and organs.
        gastric_hu: HU of the fluid in the stomach; high with oral contrast.
        enteric_hu: HU of the fluid in the small bowel.
    """

    rng: np.random.Generator
    fat_mm: float
    cavity_mm: tuple[float, float]
    enhancement: float
    gastric_hu: float
    enteric_hu: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Patient:
        """A random adult."""
        contrast = bool(rng.random() < 0.45)
        girth = float(rng.uniform(0.0, 1.0))
        return cls(
            rng=rng,
            fat_mm=float(rng.uniform(12.0, 30.0)) + 8.0 * girth,
            cavity_mm=(131.0 + 11.0 * girth, 84.0 + 19.0 * girth),
            enhancement=float(rng.uniform(0.75, 1.2)),
            gastric_hu=float(rng.uniform(170, 300)) if contrast else float(rng.uniform(5, 30)),
            enteric_hu=float(rng.uniform(150, 300)) if contrast else float(rng.uniform(10, 35)),
        )

    @property
    def middle_y_mm(self) -> float:
        """Middle of the trunk's inner space: its back stays, its front gives way."""
        return _BACK_MM - self.cavity_mm[1]

    def front(self, y: float) -> float:
        """The y of the anatomy as written, moved back where this patient's belly is flatter."""
        flat = (_BACK_MM - 2 * self.cavity_mm[1] - _FIRM_MM) / (_BACK_MM - 2 * 103.0 - _FIRM_MM)
        return y if y > _FIRM_MM else _FIRM_MM + (y - _FIRM_MM) * flat

    def near(self, center: Point, sigma_mm: float = 2.5) -> Point:
        """A point close to ``center``, moved back where this patient's belly is flatter."""
        x, y, z = np.asarray(center) + np.clip(self.rng.normal(0, sigma_mm, 3), -2 * sigma_mm, 2 * sigma_mm)
        return float(x), self.front(float(y)), float(z)

    def sized(self, radii: Point, spread: float = 0.07) -> Point:
        """Half axes close to ``radii``."""
        a, b, c = np.asarray(radii) * np.exp(np.clip(self.rng.normal(0, spread, 3), -2 * spread, 2 * spread))
        return float(a), float(b), float(c)

    def enhanced(self, plain_hu: float, venous_hu: float, spread_hu: float = 5.0) -> float:
        """HU after contrast, from the values without and with it."""
        return plain_hu + (venous_hu - plain_hu) * self.enhancement + float(self.rng.normal(0, spread_hu))

    def wall_outer(self) -> Solid:
        """Outer surface of the muscles of the trunk."""
        a, b = self.cavity_mm[0] + 13.0, self.cavity_mm[1] + 12.0
        return cylinder((0.0, self.middle_y_mm + 1.0), (a, b), low_mm=BOTTOM_MM, high_mm=TOP_MM, square=0.27)

    def skin(self) -> Solid:
        """The surface of the body; the fat is thicker at the back and flanks than over the ribs."""
        a, b = self.cavity_mm[0] + 15.0 + 0.85 * self.fat_mm, self.cavity_mm[1] + 21.0 + 0.8 * self.fat_mm
        return cylinder((0.0, self.middle_y_mm + 5.0), (a, b), low_mm=BOTTOM_MM, high_mm=TOP_MM, square=0.30)

    def cavity(self, margin_mm: float = 0.0) -> Solid:
        """Inner surface of the trunk wall, moved inward by ``margin_mm``."""
        a, b = self.cavity_mm[0] - margin_mm, self.cavity_mm[1] - margin_mm
        return cylinder((0.0, self.middle_y_mm), (a, b), low_mm=BOTTOM_MM, high_mm=TOP_MM, square=0.24)

    def domes(self, margin_mm: float = 0.0) -> Solid:
        """Space under the diaphragm, moved inward by ``margin_mm``."""
        m = margin_mm
        right = ellipsoid((-68.0, -48.0, 15.0), (85.0 - m, 102.0 - m, 124.0 - m))
        left = ellipsoid((78.0, -38.0, 10.0), (80.0 - m, 100.0 - m, 101.0 - m))
        middle = ellipsoid((0.0, -70.0, 10.0), (70.0 - m, 95.0 - m, 100.0 - m))
        return union([right, left, middle], blend_mm=14.0)


def spine_axis(z: Field) -> Field:
    """Height (y) of the centers of the vertebral bodies at z, mm: lordosis below, kyphosis above."""
    return np.asarray(0.0006 * z * z - 0.01 * z - 2.0, dtype=np.float32)


def costal_margin(_x: Field, y: Field, z: Field) -> Field:
    """Negative above the lowest reach of the lungs: low at the back, high at the front."""
    return np.asarray(51.0 - 0.42 * y - z, dtype=np.float32)


def retroperitoneum(x: Field, y: Field, _z: Field) -> Field:
    """Negative around the spine, the great vessels and the crura, where no peritoneal organ reaches."""
    u, v = x / 44.0, (y - 14.0) / 50.0
    level = np.sqrt(u * u + v * v) + 1e-6
    return np.asarray((level - 1) * 46.0, dtype=np.float32)

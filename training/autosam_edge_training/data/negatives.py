"""Synthetic scans without organs: a network that never saw one finds a liver in a bucket of water."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from autosam_edge_training.data.case import BTCV_INTENSITY, Case, Intensity

Kind = Literal["air", "water", "head", "limb"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_AIR_HU, _WATER_HU, _FAT_HU, _MUSCLE_HU, _BRAIN_HU, _BONE_HU = -1000.0, 0.0, -100.0, 55.0, 35.0, 900.0


def negative_case(
    number: int,
    *,
    spacing_mm: tuple[float, float, float],
    intensity: Intensity = BTCV_INTENSITY,
    classes: int = 14,
) -> Case:
    """Make a scan without organs, labeled as background: air, a water phantom, a head or a limb in turn.

    Args:
        spacing_mm: Voxel spacing of the model's grid, (D, H, W).
    """
    generator = np.random.default_rng([0xA1, number])
    kind = KINDS[number % len(KINDS)]
    shape = tuple(
        int(side_mm / step) for side_mm, step in zip((250.0, 300.0, 300.0), spacing_mm, strict=True)
    )
    axes = [(np.arange(side) - side / 2) * step for side, step in zip(shape, spacing_mm, strict=True)]
    depth, height, width = np.meshgrid(*axes, indexing="ij", sparse=True)
    hu = np.full(shape, _AIR_HU, dtype=np.float32)
    if kind == "water":
        radius_mm = float(generator.uniform(70.0, 140.0))
        hu[np.broadcast_to(height**2 + width**2 < radius_mm**2, shape)] = _WATER_HU + float(
            generator.uniform(-20.0, 120.0)
        )
    elif kind == "head":
        radii = generator.uniform(0.9, 1.1, 3) * np.array([110.0, 95.0, 75.0])
        distance = np.sqrt((depth / radii[0]) ** 2 + (height / radii[1]) ** 2 + (width / radii[2]) ** 2)
        for edge, value in ((1.0, _MUSCLE_HU), (0.94, _BONE_HU), (0.86, _BRAIN_HU), (0.2, _WATER_HU)):
            hu[distance < edge] = value
    elif kind == "limb":
        radii = generator.uniform(0.8, 1.2, 2) * np.array([80.0, 70.0])
        distance = np.sqrt((height / radii[0]) ** 2 + (width / radii[1]) ** 2)
        for edge, value in ((1.0, _FAT_HU), (0.85, _MUSCLE_HU), (0.25, _BONE_HU)):
            hu[np.broadcast_to(distance < edge, shape)] = value
    texture = gaussian_filter(generator.standard_normal(shape, dtype=np.float32), 2.0)
    texture *= float(generator.uniform(0.0, 12.0)) / float(texture.std())
    hu[hu > _AIR_HU] += texture[hu > _AIR_HU]
    hu += generator.standard_normal(shape, dtype=np.float32) * np.float32(generator.uniform(2.0, 25.0))
    low, high = intensity.window_hu
    image = np.rint(hu.clip(low, high)).astype(np.int16)
    return Case(f"negative-{kind}-{number}", image, np.zeros(shape, dtype=np.uint8), classes, intensity)

"""A CT-like abdomen with known anatomy, for the demonstration, for tests and for a part of the training.

No patient data went into it. Every structure is an implicit function of the position; the label of a voxel is
the sign of that function at its center, later structures over earlier ones. The same seed gives the same
phantom.

Coordinates of the anatomy: mm; x to the patient's left, y to posterior, z to superior; the origin is the
vertebral body at the level of the kidneys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Grid, Orientation, Shape
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import bowel, organs, trunk
from autosam_edge.phantom.patient import Patient
from autosam_edge.phantom.render import Canvas, Warp, add_noise, smooth_noise
from autosam_edge.volume import Source, Volume, read_only

ORGANS = tuple(label.name for label in BTCV_LABELS)
"""Names of the labels 1 to 13."""

CANONICAL = Orientation((0, 1, 2), (False, False, False))

# Each lies over those before it, in HU and in labels.
_PAINTED = (
    trunk.paint_table, trunk.paint_trunk, trunk.paint_chest, trunk.paint_muscles, trunk.paint_skeleton,
    bowel.paint_small_bowel, bowel.paint_colon, organs.paint_liver, organs.paint_spleen,
    organs.paint_kidneys, organs.paint_pancreas, organs.paint_adrenals, organs.paint_veins,
    organs.paint_portal_system, organs.paint_arteries, organs.paint_gallbladder, bowel.paint_stomach,
)  # fmt: skip
_CENTER_XY_MM = (0.0, -42.0)
_FIELD_OF_VIEW_MM = 400.0

__all__ = ["CANONICAL", "ORGANS", "Phantom", "make_phantom"]


@dataclass(frozen=True, eq=False)
class Phantom:
    """A synthetic CT scan and its true labels.

    Args:
        volume: int16 HU.
        labels: (D, H, W) uint8 on the volume's grid; 0 is the background, ``k`` is ``ORGANS[k - 1]``.
    """

    volume: Volume
    labels: npt.NDArray[np.uint8]

    def __post_init__(self) -> None:
        if self.labels.shape != self.volume.shape or self.labels.dtype != np.uint8:
            raise ValueError(
                f"labels are {self.labels.dtype} {self.labels.shape}, expected uint8 {self.volume.shape}"
            )
        object.__setattr__(self, "labels", read_only(self.labels))


def make_phantom(
    seed: int = 0,
    *,
    spacing_mm: tuple[float, float, float] = (3.0, 1.5, 1.5),
    shape: Shape | None = None,
    orientation: Orientation = CANONICAL,
) -> Phantom:
    """Make a portal-venous CT of an abdomen, from the bases of the lungs to the upper pelvis.

    Args:
        seed: Number of the patient: size, organs, bowel, contrast and noise all follow from it.
        spacing_mm: Voxel spacing along the canonical (D, H, W), mm.
        shape: Voxels along the canonical (D, H, W), around the middle of the abdomen; by default the whole
            phantom.
        orientation: Orientation of the array in memory; the positions in the world do not depend on it.

    Returns:
        The scan and its true labels.

    Raises:
        ValueError: The spacing or the shape is not positive.

    Example:
        >>> phantom = make_phantom(seed=1, spacing_mm=(6.0, 4.0, 4.0))
        >>> phantom.volume.hu.dtype
        dtype('int16')
    """
    if min(spacing_mm) <= 0:
        raise ValueError(f"the spacing must be positive, not {spacing_mm} mm")
    rng = np.random.default_rng(seed)
    height_mm = float(rng.uniform(305.0, 350.0))
    bottom_mm = float(rng.uniform(-150.0, -130.0))
    if shape is None:
        side = [
            max(1, round(extent / step))
            for extent, step in zip((height_mm, *[_FIELD_OF_VIEW_MM] * 2), spacing_mm, strict=True)
        ]
        shape = (side[0], side[1], side[2])
    middle_mm = (*_CENTER_XY_MM, bottom_mm + height_mm / 2)
    steps = zip(middle_mm, reversed(spacing_mm), reversed(shape), strict=True)  # along x, y and z
    x_mm, y_mm, z_mm = (middle - step * ((side - 1) / 2) for middle, step, side in steps)
    grid = Grid.axis_aligned(shape, spacing_mm, origin_mm=(x_mm, y_mm, z_mm))

    scale = rng.uniform(0.94, 1.04), rng.uniform(0.86, 1.06), rng.uniform(0.92, 1.08)
    canvas = Canvas(grid, Warp.draw(rng, scale=scale))
    patient = Patient.draw(rng)
    for paint in _PAINTED:
        paint(canvas, patient)
    _finish(canvas.hu, rng, spacing_mm)
    hu = np.clip(np.rint(canvas.hu), -1024, 3071).astype(np.int16)

    turned = np.ascontiguousarray(orientation.from_canonical(hu))
    volume = Volume(turned, orientation.input_grid(grid), Source("array"))
    return Phantom(
        volume, np.ascontiguousarray(orientation.from_canonical(canvas.labels)).astype(np.uint8, copy=False)
    )


def _finish(
    hu: npt.NDArray[np.float32], rng: np.random.Generator, spacing_mm: tuple[float, float, float]
) -> None:
    """Add texture to the tissue and noise to everything, in place."""
    texture = smooth_noise(rng, (hu.shape[0], hu.shape[1], hu.shape[2]), spacing_mm, grain_mm=7.0)
    texture *= rng.uniform(1.0, 3.5)
    texture *= hu > -300
    hu += texture
    add_noise(hu, rng, spacing_mm, sigma_hu=float(rng.uniform(8.0, 15.0)))

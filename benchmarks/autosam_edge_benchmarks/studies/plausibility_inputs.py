"""Usable and unusable inputs for the plausibility check, made from one scan of an abdomen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import rotate

from autosam_edge.ct_grid import MAX_SPACING_MM
from autosam_edge.geometry import Grid
from autosam_edge.volume import Label, Volume

FloatArray = npt.NDArray[np.float32]
_BODY_HU = -100.0
_AIR_HU = -1024.0
_PELVIS_MM = 150.0
# Fewer slices than this, or less than this along the body, is no scan of its own.
_LEAST_SLICES = 5
_LEAST_MM = 24.0


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan of an abdomen with the labels of a run, in canonical orientation.

    Args:
        hu: (D, H, W) float32, HU.
        labels: (D, H, W) uint8, found by the model.
    """

    hu: FloatArray
    grid: Grid
    labels: npt.NDArray[np.uint8]
    table: Sequence[Label]

    @classmethod
    def of(cls, volume: Volume, labels: npt.NDArray[np.uint8], table: Sequence[Label]) -> Scan:
        """A scan in any orientation, with labels on its own grid.

        Values at the lowest end become air: the scans of BTCV are clipped to the window, and what was made of
        them (an offset, an MR) shall look like what a scanner makes.
        """
        turn = volume.grid.orientation
        hu = np.ascontiguousarray(turn.to_canonical(volume.hu), dtype=np.float32)
        lowest = float(hu.min())
        if lowest > -500.0:
            hu[hu < lowest + 1.0] = _AIR_HU
        return cls(hu, volume.grid.canonical, turn.to_canonical(labels), table)

    def with_hu(self, hu: npt.NDArray[np.floating]) -> Volume:
        """The scan with other values."""
        return Volume(np.ascontiguousarray(hu, dtype=np.float32), self.grid)

    def part(self, *sides: slice) -> Volume:
        """A part of the scan along (D, H, W), or every n-th voxel of it."""
        affine = self.grid.affine.copy()
        affine[:3, 3] += affine[:3, :3] @ np.array([side.start or 0 for side in sides], dtype=float)
        affine[:3, :3] *= [side.step or 1 for side in sides]
        hu = np.ascontiguousarray(self.hu[sides])
        return Volume(hu, Grid(hu.shape, affine))

    def slab(self, start: int, stop: int) -> Volume | None:
        """Some of the slices; None if they are too few for a scan."""
        start, stop = max(start, 0), min(stop, len(self.hu))
        step_mm = self.grid.spacing_mm[0]
        if stop - start < _LEAST_SLICES or (stop - start) * step_mm < _LEAST_MM - step_mm:
            return None
        return self.part(slice(start, stop), slice(None), slice(None))

    def levels(self, *organs: str) -> npt.NDArray[np.intp]:
        """Slices that hold one of these organs."""
        values = [label.value for label in self.table if label.name in organs]
        return np.flatnonzero(np.isin(self.labels, values).any(axis=(1, 2)))

    def middle(self) -> tuple[int, int]:
        """Middle of the body along (H, W)."""
        body = self.hu > _BODY_HU
        lines = (np.flatnonzero(body.any(axis=(0, 2))), np.flatnonzero(body.any(axis=(0, 1))))
        return int(lines[0][[0, -1]].mean()), int(lines[1][[0, -1]].mean())


@dataclass(frozen=True)
class Transformation:
    """One way to make an input from a scan.

    Args:
        usable: Whether the model is meant for the input.
        make: Function that makes the input; its result is None where the scan does not allow it.
        quick: Whether the input is measured on every scan, not only on a few.
    """

    name: str
    usable: bool
    make: Callable[[Scan], Volume | None]
    quick: bool = False

    def of(self, scan: Scan) -> Volume | None:
        """The input; None too if its slices are thicker than those of any CT, which the run refuses."""
        made = self.make(scan)
        return None if made is None or max(made.grid.spacing_mm) > MAX_SPACING_MM else made


def _slab_around_pancreas(mm: float) -> Callable[[Scan], Volume | None]:
    def make(scan: Scan) -> Volume | None:
        found = scan.levels("pancreas")
        if not len(found):
            return None
        start = round(float(found.mean()) - mm / 2 / scan.grid.spacing_mm[0])
        return scan.slab(start, start + round(mm / scan.grid.spacing_mm[0]))

    return make


def _half(scan: Scan, *, lower: bool) -> Volume | None:
    """The abdomen cut in two, in the middle between the lowest kidney and the highest liver."""
    found = scan.levels("kidney_left", "kidney_right", "liver")
    if not len(found):
        return None
    middle = int(found[[0, -1]].mean())
    return scan.slab(0, middle) if lower else scan.slab(middle, len(scan.hu))


def _narrow(scan: Scan) -> Volume:
    """A field of view of 150 mm around the middle of the body."""
    sides = []
    for middle, spacing, side in zip(scan.middle(), scan.grid.spacing_mm[1:], scan.hu.shape[1:], strict=True):
        reach = round(75.0 / spacing)
        sides.append(slice(max(0, middle - reach), min(side, middle + reach)))
    return scan.part(slice(None), *sides)


def _left_or_right(scan: Scan, *, left: bool) -> Volume:
    middle = scan.middle()[1]
    return scan.part(slice(None), slice(None), slice(middle, None) if left else slice(0, middle))


def _pelvis(scan: Scan) -> Volume | None:
    """The lowest 150 mm, or what lies below the kidneys."""
    found = scan.levels("kidney_left", "kidney_right", "liver")
    most = round(_PELVIS_MM / scan.grid.spacing_mm[0])
    return scan.slab(0, min(most, int(found[0]))) if len(found) else None


def _chest(scan: Scan) -> Volume | None:
    """What lies above the liver, the spleen and the stomach."""
    found = scan.levels("liver", "spleen", "stomach")
    return scan.slab(int(found[-1]) + 1, len(scan.hu)) if len(found) else None


def _chest_with_tumor(scan: Scan) -> Volume | None:
    """The chest with a ball of soft tissue of 40 mm radius in a lung."""
    chest = _chest(scan)
    if chest is None:
        return None
    middle_h, middle_w = scan.middle()
    d, h, w = (np.arange(side) * mm for side, mm in zip(chest.shape, chest.grid.spacing_mm, strict=True))
    _, h_mm, w_mm = scan.grid.spacing_mm
    ball = (
        (d[:, None, None] - d.mean()) ** 2
        + (h[None, :, None] - middle_h * h_mm) ** 2
        + (w[None, None, :] - (middle_w * w_mm - 75.0)) ** 2
    ) < 40.0**2
    return Volume(np.where(ball, np.float32(40.0), chest.hu), chest.grid)


def _rotated(scan: Scan) -> Volume:
    """Turned by 10 degrees about the body's axis; beyond the edge lies air."""
    return scan.with_hu(rotate(scan.hu, 10.0, axes=(1, 2), reshape=False, order=1, cval=_AIR_HU))


def noisy(scan: Scan, sd_hu: float, *, seed: int) -> Volume:
    """The scan with independent noise in each voxel."""
    return scan.with_hu(scan.hu + np.random.default_rng(seed).normal(0, sd_hu, scan.hu.shape))


def _shifted(scan: Scan, by_hu: float) -> Volume:
    """HU shifted, but for air, which a scanner pads."""
    return scan.with_hu(np.where(scan.hu <= _AIR_HU, scan.hu, scan.hu + np.float32(by_hu)))


def _offset(scan: Scan, *, corner: bool) -> Volume:
    """HU + 1024, as without a rescale intercept."""
    hu = scan.hu + np.float32(1024.0)
    if corner:
        hu[0, :2, :2] = -1.0
    return scan.with_hu(hu)


def _scaled(scan: Scan, factor: float) -> Volume:
    affine = scan.grid.affine.copy()
    affine[:3, :3] *= factor
    return Volume(scan.hu, Grid(scan.grid.shape, affine))


# Signal of tissues by their HU. Lines of T1: fat is bright, fluid dark; of T2: fluid is bright, liver dark.
_TISSUE_HU = (-1024.0, -200.0, -100.0, -60.0, 0.0, 40.0, 80.0, 150.0, 275.0)
_T1 = (0.0, 0.0, 380.0, 300.0, 120.0, 180.0, 220.0, 260.0, 10.0)
_T2 = (0.0, 0.0, 350.0, 300.0, 700.0, 140.0, 120.0, 100.0, 5.0)


def _mr(scan: Scan, signal: Sequence[float]) -> Volume:
    """An image with the contrast of an MR: noise as of a magnitude, a bias field, one negative value."""
    rng = np.random.default_rng(0)
    image = np.interp(scan.hu, _TISSUE_HU, signal)
    image *= np.linspace(0.8, 1.2, scan.hu.shape[1])[None, :, None]
    image = np.hypot(image + rng.normal(0, 12, image.shape), rng.normal(0, 12, image.shape))
    image[0, 0, 0] = -1.0
    return scan.with_hu(image)


TRANSFORMATIONS: tuple[Transformation, ...] = (
    Transformation("slab of 24 mm", True, _slab_around_pancreas(24.0), quick=True),
    Transformation("slab of 60 mm", True, _slab_around_pancreas(60.0), quick=True),
    Transformation("upper half", True, lambda scan: _half(scan, lower=False), quick=True),
    Transformation("lower half", True, lambda scan: _half(scan, lower=True), quick=True),
    Transformation("field of view of 150 mm", True, _narrow, quick=True),
    Transformation("left half", True, lambda scan: _left_or_right(scan, left=True), quick=True),
    Transformation("right half", True, lambda scan: _left_or_right(scan, left=False)),
    Transformation(
        "every second slice", True, lambda scan: scan.part(slice(None, None, 2), slice(None), slice(None))
    ),
    Transformation("turned by 10 degrees", True, _rotated),
    Transformation("noise of 30 HU", True, lambda scan: noisy(scan, 30.0, seed=0)),
    Transformation("HU + 100", True, lambda scan: _shifted(scan, 100.0)),
    Transformation("HU - 100", True, lambda scan: _shifted(scan, -100.0)),
    Transformation("pelvis only", False, _pelvis, quick=True),
    Transformation("chest only", False, _chest, quick=True),
    Transformation("lung with a tumor", False, _chest_with_tumor, quick=True),
    Transformation("mirrored", False, lambda scan: scan.with_hu(scan.hu[:, :, ::-1]), quick=True),
    Transformation("upside down", False, lambda scan: scan.with_hu(scan.hu[::-1]), quick=True),
    Transformation("front to back", False, lambda scan: scan.with_hu(scan.hu[:, ::-1])),
    Transformation("turned by 180 degrees", False, lambda scan: scan.with_hu(scan.hu[:, ::-1, ::-1])),
    Transformation("spacing x 0.5", False, lambda scan: _scaled(scan, 0.5), quick=True),
    Transformation("spacing x 2", False, lambda scan: _scaled(scan, 2.0)),
    Transformation("HU + 1024", False, lambda scan: _offset(scan, corner=False)),
    Transformation("HU + 1024, one corner -1", False, lambda scan: _offset(scan, corner=True)),
    Transformation("z-scored", False, lambda scan: scan.with_hu((scan.hu - scan.hu.mean()) / scan.hu.std())),
    Transformation("inverted", False, lambda scan: scan.with_hu(-scan.hu)),
    Transformation(
        "gray values of 8 bits",
        False,
        lambda scan: scan.with_hu((np.clip(scan.hu, -125.0, 275.0) + 125.0) * (255.0 / 400.0)),
    ),
    Transformation("like an MR, T1", False, lambda scan: _mr(scan, _T1)),
    Transformation("like an MR, T2", False, lambda scan: _mr(scan, _T2)),
)
"""Every input that is made from a scan; the scan as it is comes first and is not among them."""


def synthetic_inputs() -> Iterator[tuple[str, Volume]]:
    """Unusable inputs that need no scan: water, and a head."""
    shape, spacing_mm = (80, 160, 160), (3.0, 2.0, 2.0)
    grid = Grid.axis_aligned(shape, spacing_mm)
    d, h, w = ((np.arange(side) - (side - 1) / 2) * mm for side, mm in zip(shape, spacing_mm, strict=True))
    depth, height, width = d[:, None, None], h[None, :, None], w[None, None, :]
    in_cylinder = (height**2 + width**2 < 100.0**2) & np.ones_like(depth, dtype=bool)
    yield "cylinder of water", Volume(np.where(in_cylinder, 0.0, -1000.0).astype(np.float32), grid)
    yield "water without an edge", Volume(np.zeros(shape, dtype=np.float32), grid)
    radius = np.sqrt((depth / 95.0) ** 2 + (height / 95.0) ** 2 + (width / 78.0) ** 2)
    head = np.select([radius < 0.88, radius < 0.96, radius < 1.0], [35.0, 1000.0, 40.0], -1000.0)
    head += np.random.default_rng(0).normal(0, 5, shape)
    yield "head of ellipsoids", Volume(head.astype(np.float32), grid)
    brain = np.where(radius < 0.88, head, -1000.0)
    yield "brain without its skull", Volume(brain.astype(np.float32), grid)

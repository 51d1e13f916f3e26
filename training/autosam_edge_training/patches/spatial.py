"""Where a training patch lies in its scan, and how the scan is bent before the patch is taken.

A patch is taken from a *field of view*: the whole scan, or a part of it that plays a shorter or narrower
scan. Beyond the field of view the network sees what the runtime shows it there: above and below the last
slice, repeated; at the sides air.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge.geometry import Box
from autosam_edge_training.data import Case, SoftLabels
from autosam_edge_training.data.case import ROWS_BEYOND_ENDS

Size = tuple[int, int, int]

# A thin slab or a narrow field of view, mm. Shorter than a kidney is long; as long as two thirds of an
# abdomen.
_SLAB_MM = (24.0, 160.0)
_NARROW_MM = (120.0, 280.0)
_ORGAN_POINTS = 400


class Shares(Protocol):
    """Shares of the organs in the voxels of a scan: its labels, or a teacher's probabilities."""

    @property
    def organ_boxes(self) -> Mapping[int, Box]:
        """The box of every organ that occurs, by class."""

    def share_in(self, value: int, where: Box) -> npt.NDArray[np.float32]:
        """The share of an organ in a part of its box, (d, h, w)."""


class OrganIndex:
    """Some voxels of each organ of a case, so that a patch can be centered on one without a search.

    Args:
        per_organ: Largest number of voxels that are kept for an organ.
    """

    def __init__(self, case: Case, *, per_organ: int = _ORGAN_POINTS) -> None:
        generator = np.random.default_rng(0)
        labels = case.labels
        self.points: list[npt.NDArray[np.int64]] = []
        for organ in range(1, case.classes):
            found = np.argwhere(labels == organ)
            if len(found):
                self.points.append(
                    found[generator.choice(len(found), min(per_organ, len(found)), replace=False)]
                )

    def draw(self, generator: np.random.Generator, view: Box) -> npt.NDArray[np.int64] | None:
        """Draw a voxel of an organ within ``view``, each organ equally likely; None if there is no organ."""
        low, high = np.array([side.start for side in view]), np.array([side.stop for side in view])
        inside = [points[((points >= low) & (points < high)).all(axis=1)] for points in self.points]
        inside = [points for points in inside if len(points)]
        if not inside:
            return None
        points = inside[generator.integers(len(inside))]
        return np.asarray(points[generator.integers(len(points))])


class ForegroundIndex:
    """All voxels of any organ of a case: the paper's sampling (MONAI's ``RandCropByPosNegLabel``)."""

    def __init__(self, case: Case) -> None:
        labels = case.labels
        self._shape = case.shape
        self._flat = np.flatnonzero((labels > 0) & (labels < case.classes)).astype(np.int32)

    def draw(self, generator: np.random.Generator) -> npt.NDArray[np.int64] | None:
        """Draw a voxel of any organ, each voxel equally likely; None if there is none."""
        if not len(self._flat):
            return None
        return np.array(np.unravel_index(int(self._flat[generator.integers(len(self._flat))]), self._shape))


# An organ that comes so near to the end of a scan goes on there, slices; fewer slices show no chest.
_GOES_ON, _LEAST_ROWS = 2, 5


def draw_view(
    case: Case, spacing_mm: tuple[float, float, float], index: OrganIndex, generator: np.random.Generator
) -> Box:
    """A thin slab (3 of 4) or a field of view that is narrow in the plane (1 of 2), at a random place.

    One view in five is the part of the scan above or below the organs, such as a chest.
    """
    if generator.random() < 0.2 and (parts := _beyond_organs(case)):
        return parts[int(generator.integers(len(parts)))], *case.whole[1:]
    center = index.draw(generator, case.whole) if generator.random() < 0.75 else None
    if center is None:
        center = generator.integers(0, np.array(case.shape))
    lengths_mm = [float(generator.uniform(*_SLAB_MM)) if generator.random() < 0.75 else np.inf]
    lengths_mm += [float(generator.uniform(*_NARROW_MM)) if generator.random() < 0.5 else np.inf] * 2
    sides = []
    for axis, side in enumerate(case.shape):
        length = int(min(side, max(1.0, lengths_mm[axis] / spacing_mm[axis])))
        start = int(center[axis]) - int(generator.integers(0, length))
        start = min(max(start, 0), side - length)
        sides.append(slice(start, start + length))
    return sides[0], sides[1], sides[2]


def _beyond_organs(case: Case) -> list[slice]:
    """Slices below and above all organs but those that go on beyond that end of the scan, as an aorta."""
    depth = case.shape[0]
    ends = [(rows.start, rows.stop) for rows, _, _ in case.organ_boxes.values()]
    below = min((start for start, _ in ends if start > _GOES_ON), default=0)
    above = max((stop for _, stop in ends if stop < depth - _GOES_ON), default=depth)
    return [rows for rows in (slice(0, below), slice(above, depth)) if rows.stop - rows.start >= _LEAST_ROWS]


def place_near_organ(
    index: OrganIndex, view: Box, patch: Size, generator: np.random.Generator, *, foreground: float
) -> tuple[int, int, int]:
    """Draw the first voxel of a patch around an organ or anywhere in the field of view.

    The organ lies anywhere in the middle half of the patch, not always at its center.
    """
    center = index.draw(generator, view) if generator.random() < foreground else None
    if center is None:
        center = generator.integers([side.start for side in view], [side.stop for side in view])
    else:
        reach = np.array(patch) // 4
        center = center + generator.integers(-reach, reach + 1)
    return _start(center, view, patch, generator, beyond=ROWS_BEYOND_ENDS)


def place_by_sign(
    case: Case, index: ForegroundIndex, patch: Size, generator: np.random.Generator, *, foreground: float
) -> tuple[int, int, int]:
    """Draw the first voxel of a patch centered on any organ, or on background that is not air.

    Source: the paper's sampling, MONAI's ``RandCropByPosNegLabel`` with ``image_threshold=0`` for an image in
    [0, 1].
    """
    center = index.draw(generator) if generator.random() < foreground else None
    if center is None:
        for _ in range(1000):  # most of a scan is body without organ: a few draws are enough
            center = generator.integers(0, np.array(case.shape))
            depth, height, width = (slice(index, index + 1) for index in center)
            image, shares = case.patch((depth, height, width))
            if shares[0].item() >= 0.5 and image.item() > case.intensity.low:
                break
    assert center is not None
    return _start(center, case.whole, patch, generator, beyond=0)


def _start(
    center: npt.NDArray[np.int64], view: Box, patch: Size, generator: np.random.Generator, *, beyond: int
) -> tuple[int, int, int]:
    """First voxel of a patch around ``center``, moved into the field of view or around a smaller one.

    Args:
        center: Voxel of the case, (D, H, W).
        patch: (D, H, W) voxels.
        beyond: Slices that the patch may reach beyond the first and the last of the view.
    """
    starts = []
    for middle, side, length, more in zip(center, view, patch, (beyond, 0, 0), strict=True):
        low, high = side.start - more, side.stop + more - length
        inside = int(np.clip(middle - length // 2, low, high))
        starts.append(inside if low <= high else int(generator.integers(high, low + 1)))
    return starts[0], starts[1], starts[2]


@dataclass(frozen=True)
class Deformation:
    """A smooth deformation: output voxel ``o`` (from the center) is the scan at ``matrix @ o + elastic(o)``.

    Args:
        matrix: (3, 3) float64 over (D, H, W).
        elastic: (3, d, h, w) float32 displacements in voxels on a coarse grid over the patch, or None.
    """

    matrix: npt.NDArray[np.float64]
    elastic: npt.NDArray[np.float32] | None = None


def draw_deformation(generator: np.random.Generator, spacing_mm: tuple[float, float, float]) -> Deformation:
    """Draw a rotation, a scale of 0.7 to 1.4 and, half of the time, an elastic part.

    The rotation is of up to 30 degrees in the axial plane and 15 out of it, since the body lies on its back.
    Source: modeled on nnU-Net's default augmentation (Isensee et al. 2021), which has no elastic part.
    """
    angles = np.deg2rad(generator.uniform(-30.0, 30.0, 3) * np.array([1.0, 0.5, 0.5]))
    common = np.exp(generator.uniform(np.log(0.7), np.log(1.4)))
    stretch = common * np.exp(generator.uniform(-0.1, 0.1, 3))
    matrix = np.diag(1.0 / np.clip(stretch, 0.7, 1.4))
    for (i, j), angle in zip(((1, 2), (0, 2), (0, 1)), angles, strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    if generator.random() < 0.5:
        return Deformation(matrix)
    nodes, amplitude_mm = int(generator.integers(4, 8)), float(generator.uniform(6.0, 21.0))
    coarse = generator.standard_normal((3, nodes, nodes, nodes), dtype=np.float32) * np.float32(
        amplitude_mm / 2.0
    )
    return Deformation(matrix, coarse / np.array(spacing_mm, dtype=np.float32)[:, None, None, None])


def cut(
    case: Case, view: Box, start: Size, patch: Size, *, teacher: SoftLabels | None = None
) -> tuple[Tensor, list[Tensor]]:
    """A patch as it lies in the scan.

    Args:
        start: First voxel of the patch; it may lie outside the field of view.
        patch: (D, H, W) voxels.
        teacher: Teacher probabilities of the case, or None.

    Returns:
        Image (1, 1, D, H, W), normalized, and maps (1, C, D, H, W): the occupancy, and teacher probabilities
        if there are some.
    """
    rows = np.clip(np.arange(start[0], start[0] + patch[0]), view[0].start, view[0].stop - 1)
    inner = [
        slice(max(s, v.start), min(s + p, v.stop))
        for s, p, v in zip(start[1:], patch[1:], view[1:], strict=True)
    ]
    box = (slice(int(rows[0]), int(rows[-1]) + 1), inner[0], inner[1])
    pad = [
        v
        for s, p, i in zip(start[:0:-1], patch[:0:-1], inner[::-1], strict=True)
        for v in (i.start - s, s + p - i.stop)
    ]
    image, occupancy = case.patch(box)
    arrays = [occupancy] if teacher is None else [occupancy, _probabilities(teacher, case.classes, box)]
    repeat = torch.from_numpy(rows - rows[0])
    whole_image = F.pad(torch.from_numpy(image)[repeat], pad, value=case.intensity.low)[None, None]
    return whole_image, [
        _with_background(F.pad(torch.from_numpy(one)[:, repeat], pad), pad)[None] for one in arrays
    ]


def _with_background(maps: Tensor, pad: list[int]) -> Tensor:
    """Class 0 where :func:`cut` padded in the plane: there is nothing, and that is known."""
    left, right, above, below = pad
    height, width = maps.shape[2:]
    for side in (
        (slice(0, above), slice(None)),
        (slice(height - below, height), slice(None)),
        (slice(None), slice(0, left)),
        (slice(None), slice(width - right, width)),
    ):
        maps[(0, slice(None), *side)] = 1.0
    return maps


def bend(
    case: Case,
    view: Box,
    start: Size,
    patch: Size,
    deformation: Deformation,
    *,
    teacher: SoftLabels | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """A patch of the deformed scan; arguments and result as in :func:`cut`.

    Classes are sampled one by one, each from its own box and only where the patch looks into that box, so
    that the cost follows the size of the organs.
    """
    at = _coordinates(start, patch, deformation)
    at[0].clamp_(view[0].start, view[0].stop - 1)
    box = _reached(at, view)
    air = case.intensity.low
    image = _sample(case.image_in(box)[None] - np.float32(air), at, box)[None] + air
    sources: list[Shares] = [case] if teacher is None else [case, teacher]
    return image, [_bent_shares(source, case.classes, at, box) for source in sources]


def _bent_shares(source: Shares, classes: int, at: Tensor, box: Box) -> Tensor:
    """The shares of all classes at coordinates (3, D, H, W), as (1, C, D, H, W)."""
    # The last plane is "not known", which a scan that is labeled in part has.
    shares = torch.zeros(classes + 1, *at.shape[1:])
    ranges = _plane_ranges(at)
    for value, organ in source.organ_boxes.items():
        part = _overlap(organ, box)
        inside = None if part is None else _looking_into(part, ranges)
        if part is None or inside is None:
            continue
        share = source.share_in(value, part)
        if share.any():  # a teacher's stray voxels make the box of an organ large, and most of it is empty
            shares[(value, *inside)] = _sample(share[None], at[(slice(None), *inside)], part)[0]
    total = shares[1:].sum(dim=0)
    shares[1:] /= total.clamp_min(1.0)  # each share was rounded
    shares[0] = (1.0 - total).clamp_min_(0.0)
    return shares[None, :classes]


def _probabilities(teacher: SoftLabels, classes: int, box: Box) -> npt.NDArray[np.float32]:
    """Teacher probabilities in a part of a case, which sum to 1 over the classes, (C, d, h, w)."""
    found = np.zeros((classes, *(side.stop - side.start for side in box)), dtype=np.float32)
    for value, organ in teacher.organ_boxes.items():
        part = _overlap(organ, box)
        if part is not None:
            depth, height, width = (
                slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True)
            )
            found[value, depth, height, width] = teacher.share_in(value, part)
    total = found.sum(axis=0)
    found /= np.maximum(total, 1.0)
    found[0] = np.maximum(1.0 - total, 0.0)
    return found


def _coordinates(start: Size, patch: Size, deformation: Deformation) -> Tensor:
    """(3, D, H, W) where in the scan each voxel of the patch looks, in voxels along (D, H, W)."""
    offsets = [torch.arange(side, dtype=torch.float32) - (side - 1) / 2 for side in patch]
    shaped = [
        offset.reshape([-1 if axis == i else 1 for i in range(3)]) for axis, offset in enumerate(offsets)
    ]
    rows = []
    for axis in range(3):
        weights = [float(weight) for weight in deformation.matrix[axis]]
        center = start[axis] + (patch[axis] - 1) / 2
        rows.append((shaped[0] * weights[0] + center) + shaped[1] * weights[1] + shaped[2] * weights[2])
    at = torch.stack(rows)
    if deformation.elastic is not None:
        at += F.interpolate(
            torch.from_numpy(deformation.elastic)[None], size=patch, mode="trilinear", align_corners=True
        )[0]
    return at


def _reached(at: Tensor, view: Box) -> Box:
    """The part of the field of view that the coordinates reach, at least one voxel along each axis."""
    sides = []
    for row, side in zip(at, view, strict=True):
        first = min(max(int(row.min().floor()), side.start), side.stop - 1)
        sides.append(slice(first, max(min(int(row.max().ceil()) + 1, side.stop), first + 1)))
    return sides[0], sides[1], sides[2]


def _plane_ranges(at: Tensor) -> list[tuple[Tensor, Tensor]]:
    """The smallest and largest coordinates in each plane of a patch.

    Args:
        at: (3, D, H, W) coordinates.

    Returns:
        For each axis of the patch, the lowest and the highest coordinates, (3, planes) each.
    """
    lows = [at.amin(dim=3), at.amin(dim=1)]  # (3, D, H), (3, H, W)
    highs = [at.amax(dim=3), at.amax(dim=1)]
    return [
        (lows[0].amin(dim=2), highs[0].amax(dim=2)),
        (lows[1].amin(dim=2), highs[1].amax(dim=2)),
        (lows[1].amin(dim=1), highs[1].amax(dim=1)),
    ]


def _looking_into(box: Box, ranges: list[tuple[Tensor, Tensor]]) -> Box | None:
    """The part of a patch outside of which no voxel looks into a box of the scan; None where no voxel does.

    Args:
        ranges: Result of :func:`_plane_ranges`.
    """
    # Interpolation reaches one voxel beyond the box, and rounding a little further.
    first = torch.tensor([[side.start - 2.0] for side in box])
    last = torch.tensor([[side.stop + 1.0] for side in box])
    sides = []
    for low, high in ranges:
        planes = ((high > first) & (low < last)).all(dim=0).nonzero()
        if not len(planes):
            return None
        sides.append(slice(int(planes[0]), int(planes[-1]) + 1))
    return sides[0], sides[1], sides[2]


def _overlap(a: Box, b: Box) -> Box | None:
    sides = [slice(max(x.start, y.start), min(x.stop, y.stop)) for x, y in zip(a, b, strict=True)]
    if any(side.stop <= side.start for side in sides):
        return None
    return sides[0], sides[1], sides[2]


def _sample(values: npt.NDArray[np.float32], at: Tensor, box: Box) -> Tensor:
    """Interpolate (C, d, h, w), placed at ``box``, at coordinates (3, D, H, W); zero outside."""
    sides = values.shape[1:]
    # grid_sample wants (x, y, z) = (W, H, D), -1 and 1 being the outer edges of the first and the last voxel.
    grid = torch.stack(
        [((at[axis] - box[axis].start) * 2 + 1) / sides[axis] - 1 for axis in (2, 1, 0)], dim=-1
    )
    return F.grid_sample(
        torch.from_numpy(values)[None], grid[None], mode="bilinear", padding_mode="zeros", align_corners=False
    )[0]

"""Random crops and changes of a training patch: arrays in, tensors out, one generator for all chance.

``maps`` are what belongs to the image voxel by voxel, classes first: the occupancy, and a teacher's probabilities where they were kept.
Each sums to 1 over its classes and is turned and warped with the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from torch import Tensor

    from autosam_edge_training.data import Case

Size = tuple[int, int, int]
Box = tuple[slice, slice, slice]


class OrganIndex:
    """Where each organ lies in a case, so that a crop can be centered on any of them without a search."""

    def __init__(self, case: Case, *, per_organ: int = 400, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        labels = case.labels
        self.points: list[npt.NDArray[np.int64]] = []
        for organ in range(1, case.classes):
            found = np.argwhere(labels == organ)
            if len(found):
                self.points.append(found[generator.choice(len(found), min(per_organ, len(found)), replace=False)])

    def draw(self, generator: np.random.Generator) -> npt.NDArray[np.int64]:
        """A voxel of an organ; every organ of the case is equally likely, so small ones are seen as often as the liver."""
        points = self.points[generator.integers(len(self.points))]
        return np.asarray(points[generator.integers(len(points))])


def place_near_organ(case: Case, index: OrganIndex, patch: Size, generator: np.random.Generator, *, foreground: float) -> Box:
    """A patch around an organ (probability ``foreground``) or anywhere.

    Returns:
        Slices within the case; shorter than the patch where the case is.
    """
    if index.points and generator.random() < foreground:
        # The organ lies anywhere in the middle half of the patch, not always at its center.
        reach = np.array(patch) // 4
        center = index.draw(generator) + generator.integers(-reach, reach + 1)
    else:
        center = generator.integers(0, np.array(case.shape))
    return _box_around(center, case.shape, patch)


def place_by_sign(
    case: Case, foreground_voxels: npt.NDArray[np.int32], patch: Size, generator: np.random.Generator, *, foreground: float
) -> Box:
    """A patch centered on a voxel of any organ (probability ``foreground``) or on background that is not air.

    The paper's sampling (MONAI's ``RandCropByPosNegLabel`` with ``image_threshold=0`` for an image in [0, 1]).

    Args:
        case: The scan.
        foreground_voxels: Flat indices of the voxels that are organ.
        patch: (D, H, W) voxels.
        generator: Of all chance.
        foreground: Probability; 0.5 is the paper's 1:1.
    """
    if len(foreground_voxels) and generator.random() < foreground:
        flat = int(foreground_voxels[generator.integers(len(foreground_voxels))])
        return _box_around(np.array(np.unravel_index(flat, case.shape)), case.shape, patch)
    for _ in range(1000):  # most of a scan is body without organ: a few draws are enough
        center = generator.integers(0, np.array(case.shape))
        where = _box_around(center, case.shape, (1, 1, 1))
        image, shares = case.patch(where)
        if shares[0].item() >= 0.5 and image.item() > case.intensity.low:
            break
    return _box_around(center, case.shape, patch)


def _box_around(center: npt.NDArray[np.int64], shape: Size, patch: Size) -> Box:
    slack = np.maximum(np.array(shape) - patch, 0)
    start = np.clip(center - np.array(patch) // 2, 0, slack)
    depth, height, width = (slice(int(s), int(min(s + p, side))) for s, p, side in zip(start, patch, shape, strict=True))
    return depth, height, width


def pad_to(
    patch: Size, image: Tensor, maps: Sequence[Tensor], generator: np.random.Generator, *, air: float
) -> tuple[Tensor, list[Tensor]]:
    """Fill up with air and background at random sides what is smaller than the patch.

    Args:
        patch: (D, H, W) voxels to reach.
        image: (1, 1, d, h, w).
        maps: Each (1, C, d, h, w).
        generator: Of all chance.
        air: Normalized value of air.
    """
    missing = [p - s for p, s in zip(patch, image.shape[2:], strict=True)]
    if not any(missing):
        return image, list(maps)
    before = [int(generator.integers(0, m + 1)) for m in missing]
    pad = [v for m, b in zip(reversed(missing), reversed(before), strict=True) for v in (b, m - b)]
    return F.pad(image, pad, value=air), [torch.cat([F.pad(one[:, :1], pad, value=1.0), F.pad(one[:, 1:], pad)], dim=1) for one in maps]


def random_turn(
    image: Tensor, maps: Sequence[Tensor], generator: np.random.Generator, *, flip: float, rotate: float
) -> tuple[Tensor, list[Tensor]]:
    """Mirror each axis (probability ``flip``) and rotate in the axial plane by quarter turns (probability ``rotate``): teacher.md 5.4.

    Mirroring makes a left kidney of a right one and keeps its label, as the paper does.
    """
    together = [image, *maps]
    for axis in (2, 3, 4):
        if generator.random() < flip:
            together = [one.flip(axis) for one in together]
    if generator.random() < rotate:
        quarters = int(generator.integers(1, 4))
        if image.shape[3] == image.shape[4] or quarters == 2:
            together = [torch.rot90(one, quarters, (3, 4)) for one in together]
    return together[0].contiguous(), [one.contiguous() for one in together[1:]]


def random_warp(
    image: Tensor, maps: Sequence[Tensor], generator: np.random.Generator, *, air: float, degrees: float = 12.0, scale: float = 0.15
) -> tuple[Tensor, list[Tensor]]:
    """Rotate about all axes and stretch each axis; what comes from outside the patch is air and background."""
    angles = np.deg2rad(generator.uniform(-degrees, degrees, 3) * np.array([1.0, 0.5, 0.5]))
    matrix = np.diag(1.0 + generator.uniform(-scale, scale, 3))
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    theta = torch.from_numpy(np.concatenate([matrix, np.zeros((3, 1))], axis=1)).float()[None]
    both = torch.cat([image - air, *(one[:, 1:] for one in maps)], dim=1)
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    warped = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    first, *organs = warped.split([1, *(one.shape[1] - 1 for one in maps)], dim=1)
    return first + air, [torch.cat([(1.0 - one.sum(dim=1, keepdim=True)).clamp_min(0.0), one], dim=1) for one in organs]


def random_scale(image: Tensor, generator: np.random.Generator, *, factor: float = 0.1) -> Tensor:
    """Multiply by 1 - ``factor`` to 1 + ``factor`` (teacher.md 5.4)."""
    return image * float(1.0 + generator.uniform(-factor, factor))


def random_intensity(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Contrast, brightness, gamma, noise and blur of an image in [0, 1]."""
    if generator.random() < 0.5:
        image = image * float(generator.uniform(0.85, 1.2)) + float(generator.uniform(-0.1, 0.1))
    if generator.random() < 0.2:
        image = image.clamp(0, 1) ** float(generator.uniform(0.75, 1.35))
    if generator.random() < 0.25:
        noise = torch.from_numpy(generator.standard_normal(image.shape, dtype=np.float32))
        image = image + noise * float(generator.uniform(0.0, 0.08))
    if generator.random() < 0.15:
        image = F.avg_pool3d(F.pad(image, (1,) * 6, mode="replicate"), 3, stride=1) * 0.6 + image * 0.4
    return image.clamp(0.0, 1.0)


def random_masses(image: Tensor, occupancy: Tensor, generator: np.random.Generator) -> Tensor:
    """Put masses and free fluid of soft-tissue density where no organ is; the labels stay as they are.

    BTCV shows no large tumor and no ascites, and a network that learned on it calls both a liver. One to three smooth, irregular bodies
    of 15 to 120 mm radius replace what is background inside the body and not bone; half of them replace fat only, as fluid does.

    Args:
        image: (1, 1, D, H, W) in [0, 1] at 3 mm.
        occupancy: (1, 14, D, H, W).
        generator: Of all chance.

    Returns:
        The changed image.
    """
    shape = image.shape[2:]
    body = F.avg_pool3d(image, 5, stride=1, padding=2) > 0.03  # fat is about 0.06, lung and air 0
    room = occupancy[:, :1] * (body & (image < 0.75))  # above 175 HU: bone, contrast
    axes = [torch.arange(side, dtype=torch.float32) for side in shape]
    for _ in range(int(generator.integers(1, 4))):
        center, radius = generator.uniform(0, 1, 3) * np.array(shape), np.exp(generator.uniform(np.log(5), np.log(40)))
        radii = radius * generator.uniform(0.7, 1.4, 3)
        d, h, w = (((axis - float(c)) / float(r)) ** 2 for axis, c, r in zip(axes, center, radii, strict=True))
        distance = (d[:, None, None] + h[None, :, None] + w[None, None, :]).sqrt()[None, None]
        lumps = torch.from_numpy(generator.standard_normal((1, 1, 6, 6, 6), dtype=np.float32))
        distance = distance + 0.25 * F.interpolate(lumps, size=shape, mode="trilinear", align_corners=False)
        share = torch.sigmoid((1.0 - distance) * float(radius)) * room
        low, high = (0.3, 0.36) if (fluid := generator.random() < 0.5) else (0.32, 0.5)  # -5 to 19 HU, 3 to 75 HU
        if fluid:
            share = share * (image < 0.2)
        noise = torch.from_numpy(generator.standard_normal(tuple(image.shape), dtype=np.float32)) * float(generator.uniform(0.01, 0.04))
        image = image * (1.0 - share) + (float(generator.uniform(low, high)) + noise) * share
    return image.clamp(0.0, 1.0)

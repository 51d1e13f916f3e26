"""Random crops and changes of a training case: arrays in, tensors out, one generator for all chance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from torch import Tensor

    from autosam_edge_training.data import Case


class OrganIndex:
    """Where each organ lies in a case, so that a crop can be centered on any of them without a search."""

    def __init__(self, case: Case, *, per_organ: int = 400, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        labels = case.labels
        self.points: list[np.ndarray] = []
        for organ in range(1, case.occupancy.shape[0]):
            found = np.argwhere(labels == organ)
            if len(found):
                self.points.append(found[generator.choice(len(found), min(per_organ, len(found)), replace=False)])

    def draw(self, generator: np.random.Generator) -> np.ndarray:
        """A voxel of an organ; every organ of the case is equally likely, so small ones are seen as often as the liver."""
        points = self.points[generator.integers(len(self.points))]
        return np.asarray(points[generator.integers(len(points))])


def random_crop(
    case: Case, index: OrganIndex, patch: tuple[int, int, int], generator: np.random.Generator, *, foreground: float
) -> tuple[Tensor, Tensor]:
    """A patch around an organ (probability ``foreground``) or anywhere, padded with air.

    Returns:
        Image (1, 1, D, H, W) float32 in [0, 1] and occupancy (1, 14, D, H, W) float32 in [0, 1].
    """
    shape = np.array(case.image.shape)
    if index.points and generator.random() < foreground:
        # The organ lies anywhere in the middle half of the patch, not always at its center.
        center = index.draw(generator) + generator.integers(-np.array(patch) // 4, np.array(patch) // 4 + 1)
    else:
        center = generator.integers(0, shape)
    slack = np.maximum(shape - patch, 0)
    start = np.clip(center - np.array(patch) // 2, 0, slack)
    inside = tuple(slice(int(s), int(s + p)) for s, p in zip(start, patch, strict=True))
    image = torch.from_numpy(case.image[inside].astype(np.float32) / 255.0)[None, None]
    occupancy = torch.from_numpy(case.occupancy[(slice(None), *inside)].astype(np.float32) / 255.0)[None]
    missing = [p - s for p, s in zip(patch, image.shape[2:], strict=True)]
    if any(missing):
        before = [int(generator.integers(0, m + 1)) for m in missing]
        pad = [v for m, b in zip(reversed(missing), reversed(before), strict=True) for v in (b, m - b)]
        image = F.pad(image, pad)
        occupancy = F.pad(occupancy, pad)
        occupancy[:, 0] += (occupancy.sum(1) < 0.5).float()
    return image, occupancy


def random_warp(
    image: Tensor, occupancy: Tensor, generator: np.random.Generator, *, degrees: float = 12.0, scale: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Rotate about all axes and stretch each axis; what comes from outside the patch is air and background."""
    angles = np.deg2rad(generator.uniform(-degrees, degrees, 3) * np.array([1.0, 0.5, 0.5]))
    matrix = np.diag(1.0 + generator.uniform(-scale, scale, 3))
    for (i, j), angle in zip(((0, 1), (0, 2), (1, 2)), angles, strict=True):
        turn = np.eye(3)
        turn[i, i] = turn[j, j] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        matrix = matrix @ turn
    theta = torch.from_numpy(np.concatenate([matrix, np.zeros((3, 1))], axis=1)).float()[None]
    both = torch.cat([image, occupancy[:, 1:]], dim=1)
    grid = F.affine_grid(theta, list(both.shape), align_corners=False)
    warped = F.grid_sample(both, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    organs = warped[:, 1:]
    background = (1.0 - organs.sum(dim=1, keepdim=True)).clamp_min(0.0)
    return warped[:, :1], torch.cat([background, organs], dim=1)


def random_intensity(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Contrast, brightness, gamma, noise and blur, within the window."""
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

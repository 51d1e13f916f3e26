"""Random changes of a training patch: tensors in, tensors out, one generator for all randomness.

``maps`` are what belongs to the image voxel by voxel, classes first: the occupancy, and teacher probabilities
where they were cached. They turn with the image. Where the patch lies and how the scan is bent is decided in
:mod:`autosam_edge_training.patches.spatial`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F


def random_turn(
    image: Tensor, maps: Sequence[Tensor], generator: np.random.Generator, *, flip: float, rotate: float
) -> tuple[Tensor, list[Tensor]]:
    """Mirror each axis and rotate in the axial plane by quarter turns, as the paper does.

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


def random_scale(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Multiply by 0.9 to 1.1."""
    return image * float(1.0 + generator.uniform(-0.1, 0.1))


def random_low_resolution(
    image: Tensor, generator: np.random.Generator, *, spacing_mm: tuple[float, float, float]
) -> Tensor:
    """Average over thick slices of 4 to 8 mm along one axis, mostly the depth, and interpolate back.

    Args:
        image: (1, 1, D, H, W).
    """
    axis = 0 if generator.random() < 0.75 else int(generator.integers(1, 3))
    thickness_mm = float(generator.uniform(4.0, 8.0))
    if thickness_mm <= spacing_mm[axis]:
        return image
    coarse = list(image.shape[2:])
    coarse[axis] = max(1, round(coarse[axis] * spacing_mm[axis] / thickness_mm))
    thick = F.interpolate(image, size=coarse, mode="area")
    return F.interpolate(thick, size=image.shape[2:], mode="trilinear", align_corners=False)


def random_intensity(image: Tensor, generator: np.random.Generator) -> Tensor:
    """Change contrast, brightness, HU offset, gamma, noise and blur of an image in [0, 1] (BTCV's window).

    Contrast is multiplied by 0.75 to 1.25, brightness by 0.8 to 1.25, and up to 0.075 is added or taken away;
    gamma is 0.7 to 1.5, the blur has a sigma of 0.5 to 1 voxel, the noise a standard deviation of up to 0.1.
    Source: modeled on nnU-Net's default augmentation (Isensee et al. 2021); ranges and chances are our own.
    """
    if generator.random() < 0.3:
        mean = float(image.mean())
        image = (image - mean) * float(generator.uniform(0.75, 1.25)) + mean
    if generator.random() < 0.3:
        image = image * float(generator.uniform(0.8, 1.25))
    if generator.random() < 0.3:
        image = image + float(generator.uniform(-0.075, 0.075))
    if generator.random() < 0.3:
        gamma = float(np.exp(generator.uniform(np.log(0.7), np.log(1.5))))
        image = image.clamp(0, 1)
        image = 1.0 - (1.0 - image) ** gamma if generator.random() < 0.3 else image**gamma
    if generator.random() < 0.2:
        image = _blur(image, float(generator.uniform(0.5, 1.0)))
    if generator.random() < 0.25:
        noise = torch.from_numpy(generator.standard_normal(image.shape, dtype=np.float32))
        image = image + noise * float(generator.uniform(0.0, 0.1))
    return image.clamp(0.0, 1.0)


def _blur(image: Tensor, sigma: float) -> Tensor:
    """A Gaussian of ``sigma`` voxels along each axis, cut off after two voxels; the border is repeated."""
    weights = torch.exp(-0.5 * (torch.arange(-2, 3, dtype=torch.float32) / sigma) ** 2)
    weights /= weights.sum()
    for axis in range(3):
        shape = [1, 1, 1, 1, 1]
        shape[2 + axis] = 5
        pad = [0] * 6
        pad[2 * (2 - axis)] = pad[2 * (2 - axis) + 1] = 2
        image = F.conv3d(F.pad(image, pad, mode="replicate"), weights.reshape(shape))
    return image


def random_masses(
    image: Tensor,
    occupancy: Tensor,
    generator: np.random.Generator,
    *,
    spacing_mm: tuple[float, float, float],
) -> Tensor:
    """Put masses and free fluid of soft-tissue density where no organ is; the labels stay as they are.

    BTCV shows no large tumor and no ascites, and a network that learned on it calls both a liver. One to
    three smooth, irregular bodies of 15 to 120 mm radius replace what is background inside the body and not
    bone; half of them replace fat only, as fluid does. A patch that shows a lung gets one more body of 10 to
    50 mm radius there, four times in five: a network that has seen thin slabs takes a tumor in a lung for the
    dome of a liver.

    Args:
        image: (1, 1, D, H, W) in [0, 1].
        occupancy: (1, 14, D, H, W).
    """
    enclosed = _enclosed(image)
    body = F.avg_pool3d(image, 5, stride=1, padding=2) > 0.03  # fat is about 0.06, lung and air 0
    room = occupancy[:, :1] * (body & (image < 0.75))  # above 175 HU: bone, contrast
    for _ in range(int(generator.integers(1, 4))):
        center = generator.uniform(0, 1, 3) * np.array(image.shape[2:])
        share = room * _lump(image, center, (15.0, 120.0), generator, spacing_mm)
        fluid = generator.random() < 0.5
        if fluid:
            share = share * (image < 0.2)
        # -5 to 19 HU, 3 to 75 HU
        image = _filled(image, share, (0.3, 0.36) if fluid else (0.32, 0.5), generator)
    lung = torch.nonzero((enclosed & ~body)[0, 0])
    if len(lung) > _LEAST_LUNG and generator.random() < 0.8:
        center = lung[int(generator.integers(len(lung)))].numpy()
        share = enclosed * occupancy[:, :1] * (image < 0.2)
        share = share * _lump(image, center, (10.0, 50.0), generator, spacing_mm)
        image = _filled(image, share, (0.3, 0.5), generator)
    return image.clamp(0.0, 1.0)


# Voxels without tissue in a patch from which on they count as lung and not as gas in the bowel.
_LEAST_LUNG = 5000


def _enclosed(image: Tensor) -> Tensor:
    """The patient and what the patient encloses: voxels with tissue on all four sides in the axial plane.

    The table is not a part of the patient: only the largest connected tissue counts.
    """
    parts, _ = ndimage.label(image[0, 0].numpy() > 0.03)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    tissue = (parts > 0) & (parts == sizes.argmax())
    enclosed = np.ones_like(tissue)
    for axis in (1, 2):
        enclosed &= np.logical_or.accumulate(tissue, axis)
        enclosed &= np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis), axis)
    return torch.from_numpy(enclosed)[None, None]


def _lump(
    image: Tensor,
    center: NDArray[np.float64],
    radius_mm: tuple[float, float],
    generator: np.random.Generator,
    spacing_mm: tuple[float, float, float],
) -> Tensor:
    """Share (1, 1, D, H, W) of each voxel that a smooth, irregular body fills.

    Args:
        center: Voxels (D, H, W).
        radius_mm: Smallest and largest radius, mm.
    """
    shape = image.shape[2:]
    radius = np.exp(generator.uniform(*np.log(radius_mm)))
    radii = radius / np.array(spacing_mm) * generator.uniform(0.7, 1.4, 3)
    d, h, w = (
        ((torch.arange(side, dtype=torch.float32) - float(c)) / float(r)) ** 2
        for side, c, r in zip(shape, center, radii, strict=True)
    )
    distance = (d[:, None, None] + h[None, :, None] + w[None, None, :]).sqrt()[None, None]
    lumps = torch.from_numpy(generator.standard_normal((1, 1, 6, 6, 6), dtype=np.float32))
    distance = distance + 0.25 * F.interpolate(lumps, size=shape, mode="trilinear", align_corners=False)
    return torch.sigmoid((1.0 - distance) * float(radii.min()))


def _filled(
    image: Tensor, share: Tensor, values: tuple[float, float], generator: np.random.Generator
) -> Tensor:
    """The image with a uniform, noisy tissue in a share of each voxel; ``values`` bound its mean."""
    noise = torch.from_numpy(generator.standard_normal(tuple(image.shape), dtype=np.float32)) * float(
        generator.uniform(0.01, 0.04)
    )
    return image * (1.0 - share) + (float(generator.uniform(*values)) + noise) * share

"""What a step of a run sees: patches drawn from prepared cases, each from its own number.

All chance of patch ``n`` comes from the seed and ``n``. A run that is killed and goes on, and one that is
shared by several processes, see the patches that an uninterrupted run of one process sees.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from autosam_edge_training.data import BTCV_INTENSITY, Case, SoftLabels
from autosam_edge_training.patches.augment import (
    random_intensity,
    random_low_resolution,
    random_masses,
    random_scale,
    random_turn,
)
from autosam_edge_training.patches.spatial import (
    ForegroundIndex,
    OrganIndex,
    bend,
    cut,
    draw_deformation,
    draw_view,
    place_by_sign,
    place_near_organ,
)
from autosam_edge_training.strict import STRICT, checked_dataclass


@checked_dataclass(config=STRICT)
class Sampling:
    """How patches are drawn and changed. The defaults are the paper's (docs/adr/0016-recipes.md).

    Args:
        patch: (D, H, W) voxels.
        crops: ``sign``: organ against background, MONAI's positive and negative crops. ``organs``: each organ
            equally often.
        foreground: Probability that a crop is placed on an organ.
        rotate: Probability of quarter turns in the axial plane.
        scale: Probability of a change of the image by up to 10 %.
        warp: Probability of a rotation, scaling and elastic deformation.
        slabs: Probability that the scan is first cut to a thin slab, to a narrow field of view, or to what
            lies above or below the organs.
        low_resolution: Probability of thick slices, interpolated back.
        intensity: Contrast, brightness, HU offset, gamma, noise and blur.
        masses: Probability of masses and free fluid outside of the organs, also in lungs.
        negatives: Number of synthetic scans without any organ (water, air, a head) that join the cases.
        phantom_share: Share of the patches that come from phantoms and synthetic scans without organs.
    """

    patch: tuple[int, int, int] = (128, 128, 128)
    crops: Literal["sign", "organs"] = "sign"
    foreground: float = 0.5
    flip: float = 0.1
    rotate: float = 0.1
    scale: float = 0.2
    warp: float = 0.0
    slabs: float = 0.0
    low_resolution: float = 0.0
    intensity: bool = False
    masses: float = 0.0
    phantoms: int = 0
    negatives: int = 0
    phantom_share: float = 0.0

    def __post_init__(self) -> None:
        keys = (
            "foreground",
            "flip",
            "rotate",
            "scale",
            "warp",
            "slabs",
            "low_resolution",
            "masses",
            "phantom_share",
        )
        if outside := [key for key in keys if not 0.0 <= getattr(self, key) <= 1.0]:
            raise ValueError(f"{', '.join(outside)} must lie in [0, 1]")
        if min(self.patch) < 1 or min(self.phantoms, self.negatives) < 0:
            raise ValueError("patch must be positive, phantoms and negatives must not be below 0")
        if (self.phantom_share > 0) != (self.phantoms + self.negatives > 0):
            raise ValueError("phantom_share needs phantoms or negatives, and these need phantom_share")
        if self.slabs and self.crops != "organs":
            raise ValueError("slabs needs crops: organs")


@dataclass(frozen=True)
class Patches:
    """A batch.

    Args:
        image: (B, 1, D, H, W) normalized.
        occupancy: (B, C, D, H, W); what is missing to a sum of 1 over C is not known.
        possible: (B, C) float, 1 for the classes that a voxel that is not known may be.
        teacher: (B, C, D, H, W) cached teacher probabilities, or None.
    """

    image: Tensor
    occupancy: Tensor
    possible: Tensor
    teacher: Tensor | None


class Sampler:
    """Draws patches.

    Args:
        cases: Scans to draw from; one round goes through all of them in a random order.
        sampling: Patch size, crop placement and augmentation.
        teacher: Teacher probabilities of every case by its name. Phantoms, whose labels are perfect, are
            taught by these.

    Raises:
        ValueError: There is no case, masses or intensity changes are asked for images that are not in [0, 1],
            or a case lacks cached probabilities.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sampling: Sampling,
        *,
        spacing_mm: tuple[float, float, float],
        seed: int,
        phantoms: Sequence[Case] = (),
        teacher: Mapping[str, SoftLabels] | None = None,
    ) -> None:
        if not cases:
            raise ValueError("there is no case to draw from")
        if (sampling.masses or sampling.intensity) and cases[0].intensity != BTCV_INTENSITY:
            raise ValueError("masses and intensity are made for images in [0, 1], the window of BTCV")
        if teacher is not None and {case.name for case in cases} - teacher.keys():
            raise ValueError("the cached probabilities do not cover all cases")
        self._cases, self._phantoms, self._teacher = cases, phantoms, teacher
        self._sampling, self._seed, self._spacing_mm = sampling, seed, spacing_mm
        make = OrganIndex if sampling.crops == "organs" else ForegroundIndex
        self._indexes = [make(case) for case in (*cases, *phantoms)]
        for case in (*cases, *phantoms):
            case.organ_boxes  # noqa: B018  found once here, not once in each worker

    def batch(self, step: int, *, size: int, rank: int = 0, world: int = 1) -> Patches:
        """The patches of a step, or one process's share of them.

        Args:
            step: Number of the step, from 0.
            size: Patches of the step over all processes, a multiple of ``world``.
        """
        drawn = [self.patch(step * size + i) for i in range(rank, size, world)]
        teacher = [one.teacher for one in drawn if one.teacher is not None]
        return Patches(
            torch.cat([one.image for one in drawn]),
            torch.cat([one.occupancy for one in drawn]),
            torch.cat([one.possible for one in drawn]),
            torch.cat(teacher) if teacher else None,
        )

    def batches(
        self, steps: range, *, size: int, rank: int = 0, world: int = 1, workers: int = 0
    ) -> Iterator[Patches]:
        """The patches of several steps, prepared ahead by worker processes.

        Args:
            steps: Numbers of the steps, from 0.
            size: Patches of a step over all processes, a multiple of ``world``.
            workers: Number of worker processes; 0 prepares each batch when it is asked for. The patches are
                the same.
        """
        batches = _Steps(self, size, rank, world)
        if not workers:
            return map(batches.__getitem__, steps)
        return iter(
            DataLoader(
                batches,
                batch_size=None,
                sampler=steps,
                num_workers=workers,
                prefetch_factor=2,
                # Memory maps and indexes are shared with a fork; another way would copy them.
                multiprocessing_context="fork",
                worker_init_fn=_start_worker,
            )
        )

    def patch(self, number: int) -> Patches:
        """Patch ``number`` of the run, as a batch of one."""
        s, generator = self._sampling, np.random.default_rng([self._seed, 1, number])
        chosen = self._choose(number, generator)
        case, index = (*self._cases, *self._phantoms)[chosen], self._indexes[chosen]
        view = case.whole
        if isinstance(index, OrganIndex):
            if generator.random() < s.slabs:
                view = draw_view(case, self._spacing_mm, index, generator)
            start = place_near_organ(index, view, s.patch, generator, foreground=s.foreground)
        else:
            start = place_by_sign(case, index, s.patch, generator, foreground=s.foreground)
        teacher = None if self._teacher is None else self._teacher.get(case.name)
        if generator.random() < s.warp:
            image, maps = bend(
                case, view, start, s.patch, draw_deformation(generator, self._spacing_mm), teacher=teacher
            )
        else:
            image, maps = cut(case, view, start, s.patch, teacher=teacher)
        image, maps = random_turn(image, maps, generator, flip=s.flip, rotate=s.rotate)
        if generator.random() < s.masses:
            image = random_masses(image, maps[0], generator, spacing_mm=self._spacing_mm)
        if generator.random() < s.low_resolution:
            image = random_low_resolution(image, generator, spacing_mm=self._spacing_mm)
        if s.intensity:
            image = random_intensity(image, generator)
        if generator.random() < s.scale:
            image = random_scale(image, generator)
        possible = torch.from_numpy(case.possible).float()[None]
        return Patches(image, maps[0], possible, None if self._teacher is None else maps[-1])

    def _choose(self, number: int, generator: np.random.Generator) -> int:
        """Index into the cases and, after them, the phantoms."""
        if self._phantoms and generator.random() < self._sampling.phantom_share:
            return len(self._cases) + int(generator.integers(len(self._phantoms)))
        turn, place = divmod(number, len(self._cases))
        return int(np.random.default_rng([self._seed, 2, turn]).permutation(len(self._cases))[place])


class _Steps(Dataset[Patches]):
    """The batches of a run by the number of the step."""

    def __init__(self, sampler: Sampler, size: int, rank: int, world: int) -> None:
        self._sampler, self._share = sampler, {"size": size, "rank": rank, "world": world}

    def __getitem__(self, step: int) -> Patches:
        return self._sampler.batch(step, **self._share)


def _start_worker(worker: int) -> None:
    """A worker computes as the main process does; torch gives it one thread."""
    del worker
    torch.set_flush_denormal(True)

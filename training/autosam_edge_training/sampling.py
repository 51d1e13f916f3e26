"""What a step of a run sees: patches drawn from prepared cases, each from its own number.

All chance of patch ``n`` comes from the seed and ``n``. A run that is killed and goes on, and one that is shared by several processes, see
the patches that an uninterrupted run of one process sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from autosam_edge_training.config import STRICT, checked_dataclass
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.transforms import (
    OrganIndex,
    pad_to,
    place_by_sign,
    place_near_organ,
    random_intensity,
    random_masses,
    random_scale,
    random_turn,
    random_warp,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt
    from torch import Tensor

    from autosam_edge_training.data import Case
    from autosam_edge_training.transforms import Box


@checked_dataclass(config=STRICT)
class Sampling:
    """How patches are drawn and changed. The defaults are the paper's (teacher.md 5.4).

    Args:
        patch: (D, H, W) voxels.
        crops: ``sign``: organ against background, MONAI's positive and negative crops. ``organs``: each organ equally often.
        foreground: Probability that a crop is placed on an organ.
        flip: Probability of mirroring, for each axis.
        rotate: Probability of quarter turns in the axial plane.
        scale: Probability of a change of the image by up to 10 %.
        warp: Probability of a random rotation and stretch.
        intensity: Contrast, brightness, gamma, noise and blur.
        masses: Probability of masses and free fluid outside of the organs.
        phantoms: How many phantoms join the cases; ``phantom_share`` of the patches are of one.
    """

    patch: tuple[int, int, int] = (128, 128, 128)
    crops: Literal["sign", "organs"] = "sign"
    foreground: float = 0.5
    flip: float = 0.1
    rotate: float = 0.1
    scale: float = 0.2
    warp: float = 0.0
    intensity: bool = False
    masses: float = 0.0
    phantoms: int = 0
    phantom_share: float = 0.0

    def __post_init__(self) -> None:
        shares = {key: getattr(self, key) for key in ("foreground", "flip", "rotate", "scale", "warp", "masses", "phantom_share")}
        if outside := [key for key, share in shares.items() if not 0.0 <= share <= 1.0]:
            raise ValueError(f"{', '.join(outside)} must lie in [0, 1]")
        if min(self.patch) < 1 or self.phantoms < 0:
            raise ValueError("patch must be positive and phantoms not negative")
        if self.phantom_share > 0 and not self.phantoms:
            raise ValueError("phantom_share needs phantoms")


@dataclass(frozen=True)
class Patches:
    """A batch.

    Args:
        image: (B, 1, D, H, W) normalized.
        occupancy: (B, C, D, H, W), sums to 1 over C.
        teacher: (B, C, D, H, W) probabilities that were kept, or None.
    """

    image: Tensor
    occupancy: Tensor
    teacher: Tensor | None


class Sampler:
    """Draws patches.

    Args:
        cases: Scans to draw from; one round goes through all of them in a random order.
        phantoms: Synthetic ones.
        sampling: How.
        seed: Of all chance.
        teacher: A teacher's probabilities (C, D, H, W) uint8, 255 = sure, of every case by its name; phantoms then have none.

    Raises:
        ValueError: There is no case, masses or intensity changes are asked for images that are not in [0, 1], or phantoms are mixed with
            kept probabilities.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sampling: Sampling,
        *,
        seed: int,
        phantoms: Sequence[Case] = (),
        teacher: Mapping[str, npt.NDArray[np.uint8]] | None = None,
    ) -> None:
        if not cases:
            raise ValueError("there is no case to draw from")
        if (sampling.masses or sampling.intensity) and cases[0].intensity != BTCV_INTENSITY:
            raise ValueError("masses and intensity are made for images in [0, 1], the window of BTCV")
        if phantoms and teacher is not None:
            raise ValueError("a teacher's kept probabilities do not cover phantoms")
        self._cases, self._phantoms, self._sampling, self._seed, self._teacher = cases, phantoms, sampling, seed, teacher
        make = OrganIndex if sampling.crops == "organs" else _foreground_voxels
        self._indexes = [make(case) for case in (*cases, *phantoms)]

    def batch(self, step: int, *, size: int, rank: int = 0, world: int = 1) -> Patches:
        """The patches of a step, or one process's share of them.

        Args:
            step: From 0.
            size: Patches of the step over all processes, a multiple of ``world``.
            rank: This process.
            world: Number of processes.
        """
        drawn = [self.patch(step * size + i) for i in range(rank, size, world)]
        teacher = [one.teacher for one in drawn if one.teacher is not None]
        return Patches(
            torch.cat([one.image for one in drawn]), torch.cat([one.occupancy for one in drawn]), torch.cat(teacher) if teacher else None
        )

    def patch(self, number: int) -> Patches:
        """Patch ``number`` of the run, as a batch of one."""
        s, generator = self._sampling, np.random.default_rng([self._seed, 1, number])
        chosen = self._choose(number, generator)
        case = (*self._cases, *self._phantoms)[chosen]
        place = place_near_organ if s.crops == "organs" else place_by_sign
        where = place(case, self._indexes[chosen], s.patch, generator, foreground=s.foreground)
        image, maps = self._cut(case, where)
        air = case.intensity.low
        image, maps = pad_to(s.patch, image, maps, generator, air=air)
        image, maps = random_turn(image, maps, generator, flip=s.flip, rotate=s.rotate)
        if generator.random() < s.warp:
            image, maps = random_warp(image, maps, generator, air=air)
        if generator.random() < s.masses:
            image = random_masses(image, maps[0], generator)
        if s.intensity:
            image = random_intensity(image, generator)
        if generator.random() < s.scale:
            image = random_scale(image, generator)
        return Patches(image, maps[0], maps[1] if len(maps) == 2 else None)

    def _choose(self, number: int, generator: np.random.Generator) -> int:
        """Index into the cases and, after them, the phantoms."""
        if self._phantoms and generator.random() < self._sampling.phantom_share:
            return len(self._cases) + int(generator.integers(len(self._phantoms)))
        turn, place = divmod(number, len(self._cases))
        return int(np.random.default_rng([self._seed, 2, turn]).permutation(len(self._cases))[place])

    def _cut(self, case: Case, where: Box) -> tuple[Tensor, list[Tensor]]:
        image, occupancy = case.patch(where)
        maps = [torch.from_numpy(occupancy)[None]]
        if self._teacher is not None:
            kept = self._teacher[case.name][(slice(None), *where)].astype(np.float32)
            maps.append(torch.from_numpy(kept / kept.sum(axis=0))[None])
        return torch.from_numpy(image)[None, None], maps


def _foreground_voxels(case: Case) -> npt.NDArray[np.int32]:
    return np.flatnonzero(case.labels).astype(np.int32)

"""The teacher of a student: a network that runs at every step, or its cached probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from autosam_edge_training.error_codes import RECIPE_INVALID
from autosam_edge_training.networks.checkpoint import (
    network_name,
    open_network,
    read_metadata,
    require_same_input,
)
from autosam_edge_training.networks.checkpoint_metadata import TeacherRecord
from autosam_edge_training.networks.teacher_cache import Parts, load_cached_probabilities, teacher_digest
from autosam_edge_training.patches.sampler import Patches


class Teacher:
    """Gives the probabilities of one or more teachers for the patches of a step.

    Args:
        teachers: Weights files, AutoSAM teachers or other students; or the one folder of a foreign teacher.
            Of several teachers, and of a folder, the probabilities were cached.
        weight: Lambda of equation 2, for the record.
        sam: SAM's published checkpoint, if the teacher was trained on one.
        cache: Folder of the cached probabilities; None runs the teacher at every step.

    Raises:
        TrainingError: Without a cache, there is a folder or an ensemble (AE-TRAIN-001); a file holds no
            network (-007), one for another grid, window or label table (-008), or the cache does not belong
            to it (-009).
    """

    def __init__(
        self,
        teachers: Sequence[Path],
        parts: Parts,
        fabric: Fabric,
        *,
        weight: float,
        sam: Path | None,
        cache: Path | None,
    ) -> None:
        first, ensemble = teachers[0], len(teachers) > 1
        if cache is None and (ensemble or first.is_dir()):
            what = "an ensemble of several networks" if ensemble else f"{first.name}, a folder,"
            raise RECIPE_INVALID(
                f"the teacher is {what} which cannot be run at every step.",
                remedy="Give `cache` too, a folder for its probabilities.",
            )
        self._fabric = fabric
        source: Literal["online", "cached"] = "cached" if cache else "online"
        names, self.datasets = [], set[str]()
        for teacher in teachers:
            if teacher.is_dir():  # the cache was made of it and holds its identity
                names.append(f"folder {teacher.name}")
                continue
            metadata = read_metadata(teacher)
            for prepared, _ in parts:
                require_same_input(metadata, prepared, "the teacher", any_spacing=cache is not None)
            names.append(network_name(metadata))
            self.datasets |= set(metadata.datasets)
        self.record = TeacherRecord(" + ".join(names), teacher_digest(teachers, parts), source, weight)
        self.cached = load_cached_probabilities(cache, teachers, parts) if cache else None
        self.network = None if cache else open_network(first, sam=sam)[0].to(fabric.device)

    @property
    def identity(self) -> dict[str, str]:
        """What the record of a run holds; a run resumes with this teacher only."""
        record = self.record
        return {"teacher_network": record.network, "teacher_sha256": record.sha256, "teacher": record.source}

    def probability(self, image: Tensor, patches: Patches) -> Tensor:
        """The teacher's probabilities (B, C, D, H, W), without a gradient.

        Args:
            image: Input of the student, (B, 1, D, H, W), normalized, on the device.
        """
        if self.network is None:
            cached: Tensor = self._fabric.to_device(patches.teacher)
            return cached
        with torch.no_grad(), self._fabric.autocast():
            probability: Tensor = self.network(image).float().softmax(dim=1)
        return probability

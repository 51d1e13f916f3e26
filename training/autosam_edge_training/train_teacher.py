"""Train the AutoSAM teacher: one recipe, read from top to bottom.

``autosam-edge train teacher --config RECIPE.yaml --data PREPARED --sam sam_vit_b_01ec64.pth -o RUN``.
With ``torchrun --nproc-per-node N -m autosam_edge`` instead of ``autosam-edge``, N processes share a batch.
At the end the folder holds ``teacher.safetensors``: the trained parameters, and the hash of the SAM file that
the frozen ones come from.
"""

from __future__ import annotations

import warnings
from dataclasses import field, replace
from pathlib import Path

import torch

from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.autosam.autosam import AutoSAM
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.checkpoint import save_teacher
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import RandomWeightsWarning, load_sam
from autosam_edge_training.networks.checkpoint_metadata import AUTOSAM
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.fabric import flushing_subnormals, start_fabric
from autosam_edge_training.recipe_parts.run_folder import TEACHER_FILE, RunFolder, held_folder
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.recipe_parts.setup import (
    Recipe,
    checkpoint_metadata,
    segmentation_loss,
    train_network,
    training_parts,
)
from autosam_edge_training.strict import STRICT, as_dict, checked_dataclass


@checked_dataclass(config=STRICT, kw_only=True)
class Config(Recipe):
    """Everything that decides a run; see :class:`~autosam_edge_training.recipe_parts.setup.Recipe` too.

    The paper's 200 epochs are 4,800 steps on BTCV. The patch of the sampling is the network's.
    """

    network: TeacherConfig = field(default_factory=TeacherConfig)
    report_every: int = 24
    validate_every: int = 240

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sampling.patch != self.network.patch:
            raise ValueError(
                f"sampling.patch {self.sampling.patch} is not network.patch {self.network.patch}"
            )

    @classmethod
    def smoke_run(cls) -> Config:
        """A few steps of a tiny teacher: shows in seconds that everything works."""
        network = TeacherConfig(vit="tiny")
        return cls(
            schedule=Schedule(steps=4, lr=1e-3, warmup=0.25),
            network=network,
            sampling=Sampling(patch=network.patch),
            report_every=1,
            validate_every=4,
            precision="fp32",
            smoke=True,
        )


@flushing_subnormals()
def train(config: Config, data: Path, out: Path, *, sam: Path | None = None, workers: int = 0) -> Path:
    """Train the teacher; a run that was stopped resumes from the last checkpoint in ``out``.

    Args:
        sam: SAM's published checkpoint; None leaves the encoder random, with a warning if it is frozen.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: See :class:`RunFolder` and :func:`load_sam`; the gradient is not finite (AE-TRAIN-006).
    """
    fabric = start_fabric(config.precision, batch=config.schedule.batch)
    prepared = Prepared.read(data)
    network = replace(config.network, classes=prepared.classes)
    torch.manual_seed(config.seed)
    module = build_autosam(network)
    sam_sha256 = start_weights(module, network, sam, smoke=config.smoke)
    identity = {"sam_sha256": sam_sha256}
    with held_folder(out, fabric):
        run = RunFolder(out, "teacher", config, prepared=prepared, fabric=fabric, identity=identity)

        parts = training_parts(config, prepared)
        cases = [case for part, split in parts for case in part.cases(split)]
        average = train_network(
            "teacher",
            config,
            module,
            prepared,
            cases,
            run,
            fabric,
            segmentation=segmentation_loss(config, cases, fabric.device),
            workers=workers,
        )
        if run.writes(TEACHER_FILE):
            metadata = checkpoint_metadata(
                AUTOSAM, as_dict(network), prepared, config, parts, sam_sha256=sam_sha256 or ""
            )
            assert isinstance(average, AutoSAM)
            save_teacher(out / TEACHER_FILE, average, metadata)
        fabric.barrier()
    return out / TEACHER_FILE


def start_weights(module: AutoSAM, network: TeacherConfig, sam: Path | None, *, smoke: bool) -> str | None:
    """Load SAM's weights into the encoder and return the SHA-256 of their file, or None without a file."""
    if sam is None and network.trains == "all":
        return None
    with warnings.catch_warnings():
        if smoke:
            warnings.simplefilter("ignore", RandomWeightsWarning)  # the figures of a smoke run mean nothing
        return load_sam(module, sam)

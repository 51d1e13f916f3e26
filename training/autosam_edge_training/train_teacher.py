"""Train the AutoSAM teacher: one recipe, read from top to bottom.

``autosam-edge train teacher --config RECIPE.yaml --data PREPARED --sam sam_vit_b_01ec64.pth -o RUN``.
With ``torchrun --nproc-per-node N -m autosam_edge`` instead of ``autosam-edge``, N processes share a batch.
At the end the folder holds ``teacher.safetensors``: the trained parameters, and the hash of the SAM file that
the frozen ones come from.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import field, replace
from pathlib import Path

import torch
from torch import nn

from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.autosam import (
    AutoSAM,
    RandomWeightsWarning,
    TeacherConfig,
    build_autosam,
    load_sam,
    save_teacher,
    trainable_parameters,
)
from autosam_edge_training.networks.checkpoint_metadata import AUTOSAM
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.fabric import Precision, flushing_subnormals, start_fabric
from autosam_edge_training.recipe_parts.losses import supervised
from autosam_edge_training.recipe_parts.run_folder import RunFolder
from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer, optimize
from autosam_edge_training.recipe_parts.setup import (
    TEACHER_WEIGHTS,
    Loss,
    check_pace,
    checkpoint_metadata,
    report_step,
    segmentation_loss,
    start_sampler,
    training_steps,
)
from autosam_edge_training.strict import STRICT, as_dict, checked_dataclass


@checked_dataclass(config=STRICT)
class Config:
    """Everything that decides a run.

    Args:
        schedule: Steps and learning rate; the paper's 200 epochs are 4,800 steps on BTCV.
        sampling: Patch size, crop placement and augmentation; the patch is the network's.
        loss: Segmentation loss, see :class:`autosam_edge_training.train_student.Config`.
        ema: Decay of the average of the weights that is validated and saved; 0 (the paper) keeps the last
            weights.
        report_every: Number of steps from one line of metrics and checkpoint to the next.
        validate_every: Number of steps from one validation on the validation split to the next.
        seed: Random seed of weights, patches and augmentation.
        precision: Precision of the forward pass, ``bf16`` (autocast) or ``fp32``.
        smoke: True for a run that only shows that everything works.
    """

    schedule: Schedule
    network: TeacherConfig = field(default_factory=TeacherConfig)
    sampling: Sampling = field(default_factory=Sampling)
    loss: Loss = "paper"
    ema: float = 0.0
    report_every: int = 24
    validate_every: int = 240
    seed: int = 0
    precision: Precision = "bf16"
    smoke: bool = False

    def __post_init__(self) -> None:
        if self.sampling.patch != self.network.patch:
            raise ValueError(
                f"sampling.patch {self.sampling.patch} is not network.patch {self.network.patch}"
            )
        check_pace(
            ema=self.ema, report_every=self.report_every, validate_every=self.validate_every, seed=self.seed
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
        data: Folder that ``data prepare`` wrote; its classes are the network's.
        sam: SAM's published checkpoint; None leaves the encoder random, with a warning if it is frozen.
        workers: Number of processes that prepare patches while the network trains; the result does not depend
            on it.

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
    run = RunFolder(out, "teacher", config, prepared=prepared, fabric=fabric, identity=identity)

    cases = prepared.cases("training")
    held_out = prepared.cases("validation") if prepared.split["validation"] else []
    sampler = start_sampler(cases, config.sampling, prepared, seed=config.seed)
    segmentation = segmentation_loss(config.loss, cases, fabric.device)

    average = copy.deepcopy(module) if config.ema else module
    fabric.to_device(average)
    optimizer = build_optimizer(module, config.schedule)
    teacher, optimizer = fabric.setup(module, optimizer)
    if run.checkpoint:
        restore(module, run.checkpoint["teacher"])
        restore(average, run.checkpoint["average"])
        optimizer.load_state_dict(run.checkpoint["optimizer"])
    teacher.train()

    for step, patches in training_steps(run, sampler, fabric, config.schedule, workers=workers):
        image, occupancy, possible = fabric.to_device((patches.image, patches.occupancy, patches.possible))
        loss, _ = supervised(teacher(image), occupancy, possible, segmentation)
        optimize(fabric, teacher, optimizer, loss, config.schedule, step)
        if average is not module:
            average_into(average, module, decay=config.ema, step=step + 1)

        if report_step(run, fabric, config, step, {"loss": loss}, average, held_out):
            learned = {"teacher": trainable_parameters(module), "average": trainable_parameters(average)}
            run.save(step + 1, {**learned, "optimizer": optimizer.state_dict()})

    if fabric.is_global_zero:
        metadata = checkpoint_metadata(
            AUTOSAM, as_dict(network), prepared, config, cases, sam_sha256=sam_sha256 or ""
        )
        save_teacher(out / TEACHER_WEIGHTS, average, metadata)
    fabric.barrier()
    return out / TEACHER_WEIGHTS


def start_weights(module: AutoSAM, network: TeacherConfig, sam: Path | None, *, smoke: bool) -> str | None:
    """Load SAM's weights into the encoder and return the SHA-256 of their file, or None without a file."""
    if sam is None and network.trains == "all":
        return None
    with warnings.catch_warnings():
        if smoke:
            warnings.simplefilter("ignore", RandomWeightsWarning)  # the figures of a smoke run mean nothing
        return load_sam(module, sam)


def restore(module: nn.Module, trained: dict[str, torch.Tensor]) -> None:
    """Copy the trained parameters of a checkpoint back into the network."""
    with torch.no_grad():
        for name, parameter in trainable_parameters(module).items():
            parameter.copy_(trained[name])

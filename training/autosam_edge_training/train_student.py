"""Train a student on the labels alone, or on the labels and a teacher: one recipe, read from top to bottom.

``autosam-edge train student --config RECIPE.yaml --data PREPARED -o RUN`` trains on the labels;
``autosam-edge distill`` takes a ``--teacher`` too and minimizes the paper's equation 2. With ``torchrun
--nproc-per-node N -m autosam_edge`` in place of ``autosam-edge``, N processes share the batch. For the folder
of a run see :mod:`autosam_edge_training.recipe_parts.run_folder`; at the end it also holds
``student.safetensors``, the averaged weights of the last step.

On a CPU, set MALLOC_MMAP_THRESHOLD_=4294967296 and MALLOC_TRIM_THRESHOLD_=17179869184 in the environment.
Otherwise half of the time is spent by the kernel on clearing pages.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import field
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import nn

from autosam_edge_training.choices import Reduction
from autosam_edge_training.data import Case, Prepared
from autosam_edge_training.networks.students import save_student
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.fabric import Precision, flushing_subnormals, start_fabric
from autosam_edge_training.recipe_parts.losses import distillation, supervised
from autosam_edge_training.recipe_parts.run_folder import RunFolder
from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer, optimize
from autosam_edge_training.recipe_parts.setup import (
    STUDENT_WEIGHTS,
    Loss,
    check_pace,
    checkpoint_metadata,
    extra_cases,
    report_step,
    segmentation_loss,
    start_sampler,
    start_student,
    training_steps,
)
from autosam_edge_training.recipe_parts.teacher import Teacher, open_teacher
from autosam_edge_training.strict import STRICT, JsonObject, checked_dataclass


@checked_dataclass(config=STRICT)
class Config:
    """Everything that decides a run.

    Args:
        student: Name of the student, or ``monai:NAME``.
        sampling: Patch size, crop placement and augmentation.
        loss: Segmentation loss. ``paper``: equation 1. ``present``: Dice over the classes that a patch holds,
            and cross entropy with larger weights for rarer classes.
        weight: Lambda of equation 2, the weight of the labels, 0 to 1. Below 1 the run needs a teacher.
        reduction: Reduction of the distillation loss over the classes, see
            :func:`~autosam_edge_training.recipe_parts.losses.distillation`.
        ema: Decay of the average of the weights that is validated and saved; 0 keeps the last weights.
        report_every: Number of steps from one line of metrics and checkpoint to the next.
        validate_every: Number of steps from one validation of the averaged weights to the next, a multiple of
            ``report_every`` as a rule.
        seed: Random seed of weights, patches and augmentation.
        precision: Precision of the forward pass, ``bf16`` (autocast) or ``fp32``. On CPUs, torch 2.13 now and
            then returns infinite gradients for SwinUNETR-Tiny under bf16 autocast; its recipe says ``fp32``.
        smoke: True for a run that only shows that everything works.
    """

    schedule: Schedule
    student: str = "swinunetr-tiny"
    arguments: JsonObject = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    loss: Loss = "paper"
    weight: float = 1.0
    reduction: Reduction = "voxel"
    ema: float = 0.0
    report_every: int = 100
    validate_every: int = 1000
    seed: int = 0
    precision: Precision = "bf16"
    smoke: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError("weight must lie in [0, 1]")
        check_pace(
            ema=self.ema, report_every=self.report_every, validate_every=self.validate_every, seed=self.seed
        )

    @classmethod
    def smoke_run(cls) -> Config:
        """A few steps of a tiny network on a small patch: shows in seconds that everything works."""
        return cls(
            schedule=Schedule(steps=4, lr=1e-3, warmup=0.25),
            student="monai:UNet",
            arguments={"channels": [8, 16, 32], "strides": [2, 2], "norm": "instance"},
            sampling=Sampling(patch=(32, 32, 32)),
            report_every=1,
            validate_every=4,
            precision="fp32",
            smoke=True,
        )


@flushing_subnormals()
def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    teacher: Path | None = None,
    sam: Path | None = None,
    cache: Path | None = None,
    extra: Sequence[Path] = (),
    init: Path | None = None,
    workers: int = 0,
) -> Path:
    """Train a student; a run that was stopped resumes from the last checkpoint in ``out``.

    Args:
        data: Folder that ``data prepare`` wrote.
        teacher: Weights file of the teacher, an AutoSAM teacher or another student; None trains on the labels
            alone.
        cache: Folder of the teacher's cached probabilities; None runs the teacher at every step, on the patch
            that the student sees, intensity augmentation included.
        init: Weights to start from (``student.safetensors`` of another run); None starts at random.
        workers: Number of processes that prepare patches while the network trains; the result does not depend
            on it.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: See :class:`RunFolder`; the recipe needs a teacher (AE-TRAIN-001); the student is not
            known (-005); the gradient is not finite (-006); the teacher cannot be used (-007, -008), nor its
            cached probabilities (-009).
    """
    fabric = start_fabric(config.precision, batch=config.schedule.batch)
    prepared = Prepared.read(data)
    taught_by = open_teacher(config.weight, teacher, prepared, fabric, sam=sam, cache=cache)
    more, digests = extra_cases(extra, prepared)
    identity = {"extra_data_sha256": digests, **(taught_by.identity if taught_by else {})}
    kind = "distill" if taught_by else "student"
    run = RunFolder(out, kind, config, prepared=prepared, fabric=fabric, identity=identity)

    cases = prepared.cases("training") + more
    average = fit(config, prepared, cases, run, fabric, taught_by, init=init, workers=workers)
    if fabric.is_global_zero:
        record = taught_by.record if taught_by else None
        metadata = checkpoint_metadata(
            config.student, config.arguments, prepared, config, cases, teacher=record
        )
        save_student(out / STUDENT_WEIGHTS, average, metadata)
    fabric.barrier()
    return out / STUDENT_WEIGHTS


def fit(
    config: Config,
    prepared: Prepared,
    cases: list[Case],
    run: RunFolder,
    fabric: Fabric,
    taught_by: Teacher | None,
    *,
    init: Path | None,
    workers: int,
) -> nn.Module:
    """Take the steps that are left and return the student with the averaged weights; see :func:`train`."""
    held_out = prepared.cases("validation") if prepared.split["validation"] else []
    cached = taught_by.cached if taught_by else None
    sampler = start_sampler(cases, config.sampling, prepared, seed=config.seed, teacher=cached)
    segmentation = segmentation_loss(config.loss, cases, fabric.device)

    torch.manual_seed(config.seed)
    module = start_student(config.student, config.arguments, prepared.classes, init)
    average = fabric.to_device(copy.deepcopy(module)) if config.ema else module
    optimizer = build_optimizer(module, config.schedule)
    student, optimizer = fabric.setup(module, optimizer)
    states = {"student": module, "average": average, "optimizer": optimizer}
    if run.checkpoint:
        for name, part in states.items():
            part.load_state_dict(run.checkpoint[name])
    student.train()

    for step, patches in training_steps(run, sampler, fabric, config.schedule, workers=workers):
        image, occupancy, possible = fabric.to_device((patches.image, patches.occupancy, patches.possible))
        teacher_probability = taught_by.probability(image, patches) if taught_by else None
        torch.manual_seed(config.seed + step)  # of dropout, where a network has it
        loss, logits = supervised(student(image), occupancy, possible, segmentation)
        losses = {"loss": loss}
        if teacher_probability is not None:  # equation 2 of the paper
            distillation_loss = distillation(logits, teacher_probability, reduction=config.reduction)
            total = config.weight * loss + (1.0 - config.weight) * distillation_loss
            losses = {"loss": total, "loss_truth": loss, "loss_teacher": distillation_loss}
        optimize(fabric, student, optimizer, losses["loss"], config.schedule, step)
        if average is not module:
            average_into(average, module, decay=config.ema, step=step + 1)

        if report_step(run, fabric, config, step, losses, average, held_out):
            run.save(step + 1, {name: part.state_dict() for name, part in states.items()})
    return average

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

from collections.abc import Sequence
from dataclasses import field
from functools import partial
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor

from autosam_edge.bundle import STUDENT_FILE
from autosam_edge_training.choices import Distance, Reduction, RunKind
from autosam_edge_training.data import Prepared
from autosam_edge_training.error_codes import RECIPE_INVALID
from autosam_edge_training.networks.checkpoint import network_sha256, read_metadata
from autosam_edge_training.networks.students import save_student
from autosam_edge_training.networks.teacher_cache import Parts
from autosam_edge_training.patches.sampler import Patches, Sampling
from autosam_edge_training.recipe_parts import losses
from autosam_edge_training.recipe_parts.fabric import flushing_subnormals, start_fabric
from autosam_edge_training.recipe_parts.run_folder import RunFolder, held_folder
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.recipe_parts.setup import (
    Recipe,
    checkpoint_metadata,
    segmentation_loss,
    start_student,
    train_network,
    training_parts,
)
from autosam_edge_training.recipe_parts.teacher import Teacher
from autosam_edge_training.strict import STRICT, JsonObject, checked_dataclass


@checked_dataclass(config=STRICT, kw_only=True)
class Config(Recipe):
    """Everything that decides a run; see :class:`~autosam_edge_training.recipe_parts.setup.Recipe` too.

    Args:
        student: Name of the student, or ``monai:NAME``.
        arguments: Arguments of a network of MONAI.
        weight: Lambda of equation 2, the weight of the labels, 0 to 1. Below 1 the run needs a teacher.
        distance: Loss between student and teacher. ``squared``: the paper's. ``divergence``:
            Kullback-Leibler. ``labels``: the segmentation loss, with the teacher's probabilities as targets.
        reduction: Reduction of the squared distance over the classes, see
            :func:`~autosam_edge_training.recipe_parts.losses.distillation`.
        temperature: Divisor of the logits of student and teacher in the divergence.
    """

    student: str = "swinunetr-tiny"
    arguments: JsonObject = field(default_factory=dict)
    weight: float = 1.0
    distance: Distance = "squared"
    reduction: Reduction = "voxel"
    temperature: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.weight <= 1.0:
            raise ValueError("weight must lie in [0, 1]")
        if self.reduction != "voxel" and self.distance != "squared":
            raise ValueError("reduction must be voxel unless distance is squared")
        if not self.temperature > 0 or (self.temperature != 1.0 and self.distance != "divergence"):
            raise ValueError("temperature must be above 0, and 1 unless distance is divergence")

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
    teachers: Sequence[Path] = (),
    sam: Path | None = None,
    cache: Path | None = None,
    extra: Sequence[Path] = (),
    init: Path | None = None,
    workers: int = 0,
) -> Path:
    """Train a student; a run that was stopped resumes from the last checkpoint in ``out``.

    Args:
        teachers: Weights files of the teachers, AutoSAM teachers or other students, or the one folder of
            another tool; none trains on the labels alone.
        cache: Folder of the cached probabilities, of several teachers their mean; None runs the one teacher
            at every step, on the patch that the student sees, intensity augmentation included.
        extra: Folders of further prepared data sets, whose training cases are added.
        init: Weights to start from (``student.safetensors`` of another run); None starts at random.
        workers: Number of processes that prepare patches; the result does not depend on it.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: See :class:`RunFolder`; the recipe needs a teacher (AE-TRAIN-001); the student is not
            known (-005); the gradient is not finite (-006); the teacher cannot be used (-007, -008), nor its
            cached probabilities (-009).
    """
    fabric = start_fabric(config.precision, batch=config.schedule.batch)
    parts = training_parts(config, prepared := Prepared.read(data), extra)
    if not teachers and (config.weight < 1.0 or cache is not None):
        raise RECIPE_INVALID(
            f"the recipe learns from a teacher (weight {config.weight:g}), and no teacher is given.",
            remedy="Give `teachers`, or set weight to 1.",
        )
    taught_by = None
    if teachers:
        taught_by = Teacher(teachers, parts, fabric, weight=config.weight, sam=sam, cache=cache)
    kind: RunKind = "distill" if taught_by else "student"
    identity = _identity(prepared, parts, init, taught_by)
    with held_folder(out, fabric):
        run = RunFolder(out, kind, config, prepared=prepared, fabric=fabric, identity=identity)
        cases = [case for part, split in parts for case in part.cases(split)]
        segmentation = segmentation_loss(config, cases, fabric.device)
        torch.manual_seed(config.seed)
        module = start_student(config.student, config.arguments, prepared, config.sampling.patch, init)
        started_from = read_metadata(init) if init else None
        average = train_network(
            "student",
            config,
            module,
            prepared,
            cases,
            run,
            fabric,
            segmentation=segmentation,
            teach=partial(_teach, config, taught_by, segmentation, fabric) if taught_by else None,
            cached=taught_by.cached if taught_by else None,
            workers=workers,
        )
        if run.writes(STUDENT_FILE):
            metadata = checkpoint_metadata(
                config.student,
                config.arguments,
                prepared,
                config,
                parts,
                init=started_from,
                teacher=taught_by,
            )
            save_student(out / STUDENT_FILE, average, metadata)
        fabric.barrier()
    return out / STUDENT_FILE


def _identity(prepared: Prepared, parts: Parts, init: Path | None, taught_by: Teacher | None) -> JsonObject:
    """What a run that is resumed must have in common with the run that was stopped, beside its recipe."""
    return {
        "extra_data_sha256": [other.sha256 for other, _ in parts if other is not prepared],
        "init_sha256": network_sha256(init) if init else None,
        **(taught_by.identity if taught_by else {}),
    }


def _teach(
    config: Config,
    taught_by: Teacher,
    segmentation: losses.Segmentation,
    fabric: Fabric,
    loss: Tensor,
    logits: Tensor,
    image: Tensor,
    patches: Patches,
) -> dict[str, Tensor]:
    """The loss of a step by equation 2 of the paper, and its terms.

    Args:
        loss: Segmentation loss of the labels.
        logits: (B, C, D, H, W) logits of the student.
        image: (B, 1, D, H, W) patches that the student saw.
    """
    probability = taught_by.probability(image, patches)
    trust = losses.trust_in(probability, fabric.to_device(patches.occupancy))
    distance = _distance(config, segmentation, logits, probability, trust)
    total = config.weight * loss + (1.0 - config.weight) * distance
    return {"loss": total, "loss_truth": loss, "loss_teacher": distance}


def _distance(
    config: Config, segmentation: losses.Segmentation, logits: Tensor, probability: Tensor, trust: Tensor
) -> Tensor:
    """The loss between student and teacher that the recipe names.

    Args:
        segmentation: Segmentation loss of the recipe.
        logits: (B, C, D, H, W) logits of the student.
        probability: (B, C, D, H, W) probabilities of the teacher.
        trust: (B, 1, D, H, W) weight of each voxel, 0 to 1.
    """
    if config.distance == "labels":
        told = probability * trust  # the rest is not known
        anything = torch.ones_like(probability[:, :, 0, 0, 0])
        return segmentation(logits, losses.complete(logits, told, anything), told)
    if config.distance == "divergence":
        return losses.divergence(logits, probability, temperature=config.temperature, trust=trust)
    return losses.distillation(logits, probability, reduction=config.reduction, trust=trust)

"""Parts that the recipes share: start of a run, losses by name, validation, metadata of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from lightning_fabric import Fabric
from torch import nn

from autosam_edge_training.data import Case, Prepared, negative_case, phantom_case
from autosam_edge_training.data.layouts import BTCV_NAMES
from autosam_edge_training.error_codes import NETWORK_INPUT_DIFFERS, SAMPLING_UNSUITABLE, STUDENT_INVALID
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata, TeacherRecord
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import build_student, load_student
from autosam_edge_training.patches.sampler import Patches, Sampler, Sampling
from autosam_edge_training.recipe_parts.fabric import mean_over_processes
from autosam_edge_training.recipe_parts.losses import (
    Segmentation,
    class_weights,
    dice_cross_entropy,
    equation_1,
)
from autosam_edge_training.recipe_parts.run_folder import RunFolder, commit
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.recipe_parts.validation import validate
from autosam_edge_training.strict import JsonObject, as_dict

Loss = Literal["paper", "present"]
STUDENT_WEIGHTS = "student.safetensors"
TEACHER_WEIGHTS = "teacher.safetensors"
_FIRST_PHANTOM = 1000  # seeds from here on; the demonstration's and the tests' phantoms are others


def check_pace(*, ema: float, report_every: int, validate_every: int, seed: int) -> None:
    """What every recipe's config must hold beside its own.

    Raises:
        ValueError: A value lies outside of its range.
    """
    if not 0.0 <= ema < 1.0 or min(report_every, validate_every) < 1 or seed < 0:
        raise ValueError(
            "ema must lie in [0, 1), report_every and validate_every be at least 1, seed not be negative"
        )


def start_student(name: str, arguments: JsonObject, classes: int, init: Path | None) -> nn.Module:
    """A student with random weights or another run's.

    Raises:
        TrainingError: There is no such student, or the weights are another's (AE-TRAIN-005).
    """
    try:
        if init is None:
            return build_student(name, classes=classes, arguments=arguments)
        module, metadata = load_student(init)
        if metadata.student != name:
            raise ValueError(f"{init.name} holds {metadata.student}")
    except ValueError as error:
        raise STUDENT_INVALID(f"cannot build student {name}: {error}.") from error
    return module


def start_sampler(
    cases: list[Case],
    sampling: Sampling,
    prepared: Prepared,
    *,
    seed: int,
    teacher: Mapping[str, npt.NDArray[np.uint8]] | None = None,
) -> Sampler:
    """The sampler of a run, with the phantoms that join the cases, on their grid.

    Raises:
        TrainingError: The recipe asks for changes or phantoms that these data cannot have (AE-TRAIN-027).
    """
    seeds = range(_FIRST_PHANTOM, _FIRST_PHANTOM + sampling.phantoms)
    try:
        if seeds and tuple(prepared.labels) != BTCV_NAMES:
            raise ValueError("phantoms have the organs of BTCV")
        spacing_mm, intensity = prepared.spacing_mm, prepared.intensity
        phantoms = [
            phantom_case(one, spacing_mm=spacing_mm, intensity=intensity, targets=prepared.targets)
            for one in seeds
        ]
        phantoms += [
            negative_case(one, classes=prepared.classes, spacing_mm=spacing_mm, intensity=intensity)
            for one in range(sampling.negatives)
        ]
        return Sampler(
            cases, sampling, spacing_mm=prepared.spacing_mm, seed=seed, phantoms=phantoms, teacher=teacher
        )
    except ValueError as error:
        raise SAMPLING_UNSUITABLE(f"the recipe's sampling does not fit the data: {error}.") from error


def extra_cases(extra: Sequence[Path], prepared: Prepared) -> tuple[list[Case], list[str]]:
    """The training cases of further data sets, and the SHA-256 of each data set.

    Raises:
        TrainingError: One was prepared in another way (AE-TRAIN-008).
        InputError: One cannot be used (AE-DATA-*).
    """
    cases, digests = [], []
    for folder in extra:
        other = Prepared.read(folder)
        if differences := NetworkInput.of(other).differs_in(NetworkInput.of(prepared)):
            raise NETWORK_INPUT_DIFFERS(
                f"the extra data in {folder.name} were prepared with other {', '.join(differences)}.",
                remedy="Prepare all data sets of a run in the same way.",
            )
        cases += other.cases("training")
        digests.append(other.sha256)
    return cases, digests


def segmentation_loss(kind: Loss, cases: list[Case], device: torch.device) -> Segmentation:
    """The loss by its name in a recipe; ``present`` weighs classes by their share of the cases' voxels."""
    if kind == "paper":
        return equation_1
    whole = slice(None), slice(None), slice(None)
    labeled = [case for case in cases if case.known is None]
    shares = np.mean(
        [case.patch(whole)[1].mean(axis=(1, 2, 3), dtype=np.float64) for case in labeled], axis=0
    )
    return partial(
        dice_cross_entropy, class_weight=class_weights(torch.from_numpy(shares).float()).to(device)
    )


def training_steps(
    run: RunFolder, sampler: Sampler, fabric: Fabric, schedule: Schedule, *, workers: int
) -> Iterator[tuple[int, Patches]]:
    """Number and patches of each step that is left, this process's share of them; begins the run."""
    batches = sampler.batches(
        range(run.first_step, schedule.steps),
        size=schedule.batch,
        rank=fabric.global_rank,
        world=fabric.world_size,
        workers=workers,
    )
    return zip(run.steps(schedule.steps), batches, strict=False)


class Pace(Protocol):
    """The part of a recipe that says when a run reports."""

    @property
    def schedule(self) -> Schedule:
        """Steps and learning rate."""

    @property
    def sampling(self) -> Sampling:
        """Patches; validation uses windows of the same size."""

    @property
    def report_every(self) -> int:
        """Number of steps from one report to the next."""

    @property
    def validate_every(self) -> int:
        """Number of steps from one validation to the next."""


def report_step(
    run: RunFolder,
    fabric: Fabric,
    config: Pace,
    step: int,
    losses: Mapping[str, torch.Tensor],
    average: nn.Module,
    held_out: list[Case],
) -> bool:
    """Report the losses of a step, and validate the averaged weights, if the recipe says so.

    Args:
        step: Number of the step, from 0.

    Returns:
        True if the step was reported, which is when a checkpoint is due.
    """
    done = step + 1
    validates = done % config.validate_every == 0 or done == config.schedule.steps
    if not validates and done % config.report_every:
        return False
    values: dict[str, object] = {name: mean_over_processes(fabric, loss) for name, loss in losses.items()}
    values["lr"] = config.schedule.rate(step)
    if validates and held_out and fabric.is_global_zero:
        dice = validate(average, held_out, config.sampling.patch, device=fabric.device)
        found = [score for score in dice if score is not None]
        values |= {"dice": dice, **({"mean_dice": float(np.mean(found))} if found else {})}
    run.report(done, values)
    return True


def checkpoint_metadata(
    student: str,
    arguments: JsonObject,
    prepared: Prepared,
    config: object,
    cases: Sequence[Case],
    *,
    teacher: TeacherRecord | None = None,
    sam_sha256: str = "",
) -> CheckpointMetadata:
    """Metadata of the network that a run has trained.

    Args:
        sam_sha256: SHA-256 of a teacher's SAM file.
    """
    recipe = as_dict(config)
    return CheckpointMetadata(
        student,
        arguments,
        NetworkInput.of(prepared),
        recipe,
        recipe["schedule"]["steps"],
        tuple(case.name for case in cases),
        prepared.sha256,
        commit() or "",
        teacher=teacher,
        sam_sha256=sam_sha256,
    )

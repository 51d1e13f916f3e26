"""What recipes are made of beside the networks: how a run begins, what it minimizes, what it looks at on the way."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from autosam_edge_training.data import Case, Prepared, negative_case, phantom_case
from autosam_edge_training.data.layouts import BTCV_NAMES
from autosam_edge_training.error_codes import (
    GRADIENT_NOT_FINITE,
    NETWORK_INPUT_DIFFERS,
    SAMPLING_UNSUITABLE,
    STUDENT_INVALID,
)
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import build_student, load_student
from autosam_edge_training.patches.sampler import Sampler
from autosam_edge_training.recipe_parts.losses import class_weights, dice_cross_entropy, equation_1
from autosam_edge_training.recipe_parts.run_folder import commit
from autosam_edge_training.recipe_parts.validation import validate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from lightning_fabric import Fabric
    from torch import nn

    from autosam_edge_training.patches.sampler import Sampling
    from autosam_edge_training.recipe_parts.losses import Segmentation
    from autosam_edge_training.recipe_parts.schedule import Schedule

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


def start_student(name: str, arguments: dict[str, Any], classes: int, init: Path | None) -> nn.Module:
    """A student with random weights or another run's.

    Raises:
        TrainingError: There is no such student, or the weights are another's (AE-TRAIN-005).
    """
    try:
        if init is None:
            return build_student(name, classes=classes, arguments=arguments)
        module, facts = load_student(init)
        if facts["student"] != name:
            raise ValueError(f"{init.name} holds {facts['student']}")
    except ValueError as error:
        raise STUDENT_INVALID(f"the student {name} cannot be had: {error}.") from error
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
        grid = {"spacing_mm": prepared.spacing_mm, "intensity": prepared.intensity}
        phantoms = [phantom_case(one, **grid, targets=prepared.targets) for one in seeds]
        phantoms += [
            negative_case(one, classes=prepared.classes, **grid) for one in range(sampling.negatives)
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


def trained_on(cases: list[Case]) -> dict[str, str]:
    """What a network's file says of the cases that it has seen."""
    return {"cases": ",".join(case.name for case in cases)}


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


def optimize(
    fabric: Fabric,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    schedule: Schedule,
    step: int,
) -> None:
    """One step down the gradient, at the schedule's rate and with the gradient's norm clipped.

    Raises:
        TrainingError: The gradient is no number (AE-TRAIN-006); the weights were not touched.
    """
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    norm = fabric.clip_gradients(network, optimizer, max_norm=schedule.clip, error_if_nonfinite=False)
    if norm is None or not torch.isfinite(norm):
        raise GRADIENT_NOT_FINITE(f"the gradient of step {step} is not finite.")
    optimizer.step()


def validation_scores(
    network: nn.Module, held_out: list[Case], patch: tuple[int, int, int], device: torch.device
) -> dict[str, Any]:
    """Dice of each organ and their mean on the cases held out; nothing if there is none."""
    if not held_out:
        return {}
    dice = validate(network, held_out, patch, device=device)
    found = [score for score in dice if score is not None]
    return {"dice": dice, **({"mean_dice": float(np.mean(found))} if found else {})}


def input_facts(prepared: Prepared) -> dict[str, str]:
    """What the file of any network must say so that it can be run, and where it comes from."""
    return {**NetworkInput.of(prepared).facts(), "data_sha256": prepared.sha256, "commit": commit() or ""}


def student_facts(name: str, arguments: dict[str, Any], prepared: Prepared) -> dict[str, str]:
    """What a student's file must say: the network, and :func:`input_facts`."""
    network = {
        "student": name,
        "arguments": json.dumps(arguments),
        "classes": str(prepared.classes),
        "merging": "v2",
    }
    return {**network, **input_facts(prepared)}

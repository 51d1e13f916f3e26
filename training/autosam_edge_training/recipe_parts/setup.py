"""What the recipes share: their keys, the start of a run, its steps, and the metadata of the weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from safetensors import SafetensorError
from torch import Tensor, nn

from autosam_edge_training.data import SPLITS, Case, Prepared, SoftLabels, Split, negative_case, phantom_case
from autosam_edge_training.data.layouts import BTCV_NAMES
from autosam_edge_training.data.manifest import Cases
from autosam_edge_training.error_codes import NETWORK_INPUT_DIFFERS, SAMPLING_UNSUITABLE, STUDENT_INVALID
from autosam_edge_training.networks.checkpoint import require_same_input
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata, join_datasets
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import build_student, load_student, load_weights
from autosam_edge_training.networks.teacher_cache import Parts
from autosam_edge_training.patches.sampler import Patches, Sampler, Sampling
from autosam_edge_training.recipe_parts import losses
from autosam_edge_training.recipe_parts.fabric import Precision, fast_precision, mean_over_processes
from autosam_edge_training.recipe_parts.run_folder import RunFolder, commit
from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer, optimize
from autosam_edge_training.recipe_parts.teacher import Teacher
from autosam_edge_training.recipe_parts.validation import validate
from autosam_edge_training.strict import STRICT, JsonObject, as_dict, checked_dataclass

_FIRST_PHANTOM = 1000  # seeds from here on; the demonstration's and the tests' phantoms are others

Teach = Callable[[Tensor, Tensor, Tensor, Patches], dict[str, Tensor]]
"""(segmentation loss, logits, image, patches) to the losses of a step; ``loss`` is the one to minimize."""


@checked_dataclass(config=STRICT, kw_only=True)
class Recipe:
    """The keys of every recipe.

    Args:
        loss: Segmentation loss. ``paper``: equation 1. ``present``: Dice over the classes that a patch holds,
            and cross entropy with larger weights for rarer classes.
        ema: Decay of the average of the weights that is validated and saved; 0 (the paper) keeps the last
            weights.
        report_every: Number of steps from one line of metrics and checkpoint to the next.
        validate_every: Number of steps from one validation of the averaged weights to the next, a multiple of
            ``report_every`` as a rule.
        fold: ``development`` holds the validation cases out. ``all``, for a final model made after the
            last choice, trains on them too and validates nothing.
        seed: Random seed of weights, patches and augmentation.
        precision: Precision of the forward pass, ``bf16`` (autocast) or ``fp32``; by default the faster one
            on this machine. On CPUs, torch 2.13 now and then returns infinite gradients for SwinUNETR-Tiny
            under bf16 autocast; its recipe says ``fp32``.
        smoke: True for a run that only shows that everything works.
    """

    schedule: Schedule
    sampling: Sampling = field(default_factory=Sampling)
    loss: Literal["paper", "present"] = "paper"
    ema: float = 0.0
    report_every: int = 100
    validate_every: int = 1000
    fold: Literal["development", "all"] = "development"
    seed: int = 0
    precision: Precision = field(default_factory=fast_precision)
    smoke: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.ema < 1.0 or min(self.report_every, self.validate_every) < 1 or self.seed < 0:
            raise ValueError(
                "ema must lie in [0, 1), report_every and validate_every be at least 1, seed not be negative"
            )


def start_student(
    name: str, arguments: JsonObject, prepared: Prepared, patch: tuple[int, int, int], init: Path | None
) -> nn.Module:
    """A student with random weights or another run's.

    Args:
        patch: (D, H, W) voxels that it must take.

    Raises:
        TrainingError: There is no such student, it does not take the patch, or the weights are another's
            (AE-TRAIN-005), or were trained on other labels or another window (-008).
    """
    try:
        module = build_student(name, classes=prepared.classes, arguments=arguments)
        if init is not None:
            other, metadata = load_student(init)
            if metadata.student != name:
                raise ValueError(f"{init.name} holds {metadata.student}")
            require_same_input(metadata, prepared, f"the network of {init.name}", any_spacing=True)
            load_weights(module, other.state_dict(), name)
        _require_patch(module, prepared.classes, patch)
    except (OSError, SafetensorError, ValueError) as error:
        raise STUDENT_INVALID(f"cannot build student {name}: {error}.") from error
    return module


def _require_patch(module: nn.Module, classes: int, patch: tuple[int, int, int]) -> None:
    """Refuse a patch that the network does not take, or for which it answers with another shape.

    Raises:
        ValueError: It is such a patch.
    """
    sides = " x ".join(map(str, patch))
    try:
        with torch.no_grad():
            logits = module.eval()(torch.zeros(1, 1, *patch))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise ValueError(f"it takes no patch of {sides}: {' '.join(str(error).split())}") from error
    finally:
        module.train()
    shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if shape != (1, classes, *patch):
        raise ValueError(f"it answers a patch of {sides} with {shape}, expected {(1, classes, *patch)}")


def _start_sampler(
    cases: list[Case], recipe: Recipe, prepared: Prepared, cached: Mapping[str, SoftLabels] | None
) -> Sampler:
    """The sampler of a run, with the phantoms that join the cases, on their grid."""
    sampling, spacing_mm, intensity = recipe.sampling, prepared.spacing_mm, prepared.intensity
    seeds = range(_FIRST_PHANTOM, _FIRST_PHANTOM + sampling.phantoms)
    try:
        if seeds and tuple(prepared.labels) != BTCV_NAMES:
            raise ValueError("phantoms have the organs of BTCV")
        phantoms = [
            phantom_case(one, spacing_mm=spacing_mm, intensity=intensity, targets=prepared.targets)
            for one in seeds
        ]
        phantoms += [
            negative_case(one, classes=prepared.classes, spacing_mm=spacing_mm, intensity=intensity)
            for one in range(sampling.negatives)
        ]
        return Sampler(
            cases, sampling, spacing_mm=spacing_mm, seed=recipe.seed, phantoms=phantoms, teacher=cached
        )
    except ValueError as error:
        raise SAMPLING_UNSUITABLE(f"the recipe's sampling does not fit the data: {error}.") from error


def training_parts(recipe: Recipe, prepared: Prepared, extra: Sequence[Path] = ()) -> Parts:
    """The parts of data sets that a run trains on: those of its own data set first, then the further ones.

    Raises:
        TrainingError: A further data set was prepared in another way (AE-TRAIN-008).
        InputError: One cannot be used (AE-DATA-*), or a case is there twice or is held out (AE-DATA-004).
    """
    parts: list[tuple[Prepared, Split]] = [(prepared, "training")]
    if recipe.fold == "all" and prepared.split["validation"]:
        parts.append((prepared, "validation"))
    for folder in extra:
        other = Prepared.read(folder)
        if differences := NetworkInput.of(other).differs_in(NetworkInput.of(prepared)):
            raise NETWORK_INPUT_DIFFERS(
                f"the extra data in {folder.name} were prepared with other {', '.join(differences)}.",
                remedy="Prepare all data sets of a run in the same way. The layout `partial` has BTCV's "
                "organs, or those of a dataset.json in its folder.",
            )
        parts.append((other, "training"))
    own: Parts = [(prepared, split) for split in SPLITS]
    cases = Cases("Leave the case out of the extra data, or rename it if it is another scan.")
    for data, split in [*own, *(part for part in parts if part[0] is not prepared)]:
        for name in data.split[split]:
            where = f"case {name} of {split} in {data.folder.name}"
            cases.add(name, data.arrays[name].image_sha256, where)
    return parts


def segmentation_loss(recipe: Recipe, cases: list[Case], device: torch.device) -> losses.Segmentation:
    """The loss by its name in a recipe; ``present`` weighs classes by their share of the cases' voxels."""
    if recipe.loss == "paper":
        return losses.equation_1
    labeled = [case for case in cases if case.known is None]
    if not labeled:  # a teacher alone: nobody knows the shares
        return losses.dice_cross_entropy
    shares = [case.patch(case.whole)[1].mean(axis=(1, 2, 3), dtype=np.float64) for case in labeled]
    weights = losses.class_weights(torch.from_numpy(np.mean(shares, axis=0)).float())
    return partial(losses.dice_cross_entropy, class_weight=weights.to(device))


def _trained_state(module: nn.Module) -> dict[str, Tensor]:
    """State of a network without the parameters that are frozen."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _restore(module: nn.Module, state: dict[str, Tensor]) -> None:
    assert state.keys() == _trained_state(module).keys()
    module.load_state_dict(state, strict=False)


def train_network(
    kind: Literal["student", "teacher"],
    recipe: Recipe,
    module: nn.Module,
    prepared: Prepared,
    cases: list[Case],
    run: RunFolder,
    fabric: Fabric,
    *,
    segmentation: losses.Segmentation,
    teach: Teach | None = None,
    cached: Mapping[str, SoftLabels] | None = None,
    workers: int,
) -> nn.Module:
    """Take the steps of a run that are left, and return the network with the averaged weights.

    Args:
        teach: Gives the losses of a step; None where the loss of the labels is the only one.
    """
    validates = prepared.split["validation"] and recipe.fold == "development"
    held_out = prepared.cases("validation") if validates else []
    schedule = recipe.schedule
    sampler = _start_sampler(cases, recipe, prepared, cached)

    average = copy.deepcopy(module) if recipe.ema else module
    fabric.to_device(average)
    optimizer = build_optimizer(module, schedule)
    network, optimizer = fabric.setup(module, optimizer)
    if run.checkpoint:
        with run.using_checkpoint():
            _restore(module, run.checkpoint[kind])
            _restore(average, run.checkpoint["average"])
            optimizer.load_state_dict(run.checkpoint["optimizer"])
    network.train()

    left, rank, world = range(run.first_step, schedule.steps), fabric.global_rank, fabric.world_size
    batches = sampler.batches(left, size=schedule.batch, rank=rank, world=world, workers=workers)
    for step, patches in zip(run.steps(schedule.steps), batches, strict=False):
        image, occupancy, possible = fabric.to_device((patches.image, patches.occupancy, patches.possible))
        torch.manual_seed(recipe.seed + step)  # of dropout, where a network has it
        loss, logits = losses.supervised(network(image), occupancy, possible, segmentation)
        found = teach(loss, logits, image, patches) if teach else {"loss": loss}
        optimize(fabric, network, optimizer, found["loss"], schedule, step)
        if average is not module:
            average_into(average, module, decay=recipe.ema, step=step + 1)

        if _report_step(run, fabric, recipe, step, found, average, held_out):
            states = {kind: _trained_state(module), "average": _trained_state(average)}
            run.save(step + 1, {**states, "optimizer": optimizer.state_dict()})
    return average


def _report_step(
    run: RunFolder,
    fabric: Fabric,
    recipe: Recipe,
    step: int,
    found: Mapping[str, Tensor],
    average: nn.Module,
    held_out: list[Case],
) -> bool:
    """Report the losses of a step, and validate, if the recipe says so; True if a checkpoint is due."""
    done = step + 1
    validates = done % recipe.validate_every == 0 or done == recipe.schedule.steps
    if not validates and done % recipe.report_every:
        return False
    values: dict[str, object] = {name: mean_over_processes(fabric, loss) for name, loss in found.items()}
    values["lr"] = recipe.schedule.rate(step)
    if validates and held_out and fabric.is_global_zero:
        with run.not_counted():
            dice = validate(average, held_out, recipe.sampling.patch, device=fabric.device)
        known = [score for score in dice if score is not None]
        values |= {"dice": dice, **({"mean_dice": float(np.mean(known))} if known else {})}
    run.report(done, values)
    return True


def checkpoint_metadata(
    network: str,
    arguments: JsonObject,
    prepared: Prepared,
    recipe: Recipe,
    parts: Parts,
    *,
    init: CheckpointMetadata | None = None,
    teacher: Teacher | None = None,
    sam_sha256: str = "",
) -> CheckpointMetadata:
    """Metadata of the network that a run has trained.

    Args:
        init: Metadata of the weights that the run started from.
    """
    datasets = join_datasets(
        [
            *({part.dataset: part.split[split]} for part, split in parts),
            init.datasets if init else {},
            dict.fromkeys(teacher.datasets, ()) if teacher else {},
        ]
    )
    return CheckpointMetadata(
        network,
        arguments,
        NetworkInput.of(prepared),
        as_dict(recipe),
        recipe.schedule.steps,
        datasets,
        prepared.sha256,
        commit() or "",
        teacher=teacher.record if teacher else None,
        sam_sha256=sam_sha256,
    )

"""Train a student without a teacher: one recipe, read from top to bottom.

``autosam-edge train student --config RECIPE.yaml --data PREPARED -o RUN``, or ``torchrun --nproc-per-node N
-m autosam_edge_training.train_student`` with the same options. What a run's folder holds:
:mod:`autosam_edge_training.recipe_parts.run_folder`; at the end
``student.safetensors``, the averaged weights of the last step.

On a CPU start it with MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184, otherwise half
the time goes to the kernel clearing pages.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from autosam_edge.memory import peak_mb
from autosam_edge_training.config import STRICT, as_dict, checked_dataclass, read_config, with_changes
from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.students import save_student
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.fabric import (
    Precision,
    flushing_subnormals,
    mean_over_processes,
    start_fabric,
)
from autosam_edge_training.recipe_parts.losses import supervised
from autosam_edge_training.recipe_parts.run_folder import RunFolder
from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer
from autosam_edge_training.recipe_parts.setup import (
    STUDENT_WEIGHTS,
    Loss,
    check_pace,
    extra_cases,
    optimize,
    segmentation_loss,
    start_sampler,
    start_student,
    student_facts,
    trained_on,
    validation_scores,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@checked_dataclass(config=STRICT)
class Config:
    """Everything that decides a run.

    Args:
        student: Name of the student, or ``monai:NAME``.
        arguments: Of a network of MONAI.
        schedule: Steps and learning rate.
        sampling: Patches.
        loss: ``paper``: equation 1. ``present``: Dice over the classes that a patch holds, cross entropy
            weighted by how rare they are.
        ema: Decay of the average of the weights that is validated and saved; 0 keeps the last weights.
        report_every: Steps from one line of metrics to the next; each line comes with a checkpoint.
        validate_every: Steps from one validation of the averaged weights to the next, a multiple of
            ``report_every`` as a rule.
        seed: Of weights, patches and changes.
        precision: Of the forward pass, ``bf16`` (autocast) or ``fp32``. On CPUs, torch 2.13 now and then
            returns infinite gradients for SwinUNETR-Tiny under bf16 autocast, so its recipe says ``fp32``.
        fold: ``development`` holds the validation cases out; ``all`` trains on them too and validates
            nothing.
        smoke: The run only shows that everything works.
    """

    schedule: Schedule
    student: str = "swinunetr-tiny"
    arguments: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    loss: Loss = "paper"
    ema: float = 0.0
    report_every: int = 100
    validate_every: int = 1000
    seed: int = 0
    precision: Precision = "bf16"
    fold: Literal["development", "all"] = "development"
    smoke: bool = False

    def __post_init__(self) -> None:
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
    extra: Sequence[Path] = (),
    init: Path | None = None,
    workers: int = 0,
) -> Path:
    """Run the recipe; goes on from the last checkpoint in ``out``.

    Args:
        config: The recipe.
        data: Folder that ``data prepare`` wrote.
        out: Folder of the run.
        extra: Further prepared folders, whose training cases join.
        init: Weights to start from (``student.safetensors`` of another run); None starts at random.
        workers: Number of processes that prepare patches while the network trains; the result does not depend
            on it.

    Returns:
        Path of the weights.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: See :class:`RunFolder`; the student cannot be built (AE-TRAIN-005); the gradient is not
            finite (AE-TRAIN-006).
    """
    fabric = start_fabric(config.precision, batch=config.schedule.batch)
    prepared = Prepared.read(data)
    more, digests = extra_cases(extra, prepared)
    facts = {"extra_data_sha256": digests} if digests else {}
    run = RunFolder(out, "student", config, prepared=prepared, fabric=fabric, facts=facts)

    cases = prepared.cases("training") + (prepared.cases("validation") if config.fold == "all" else []) + more
    held_out = (
        prepared.cases("validation") if config.fold == "development" and prepared.split["validation"] else []
    )
    sampler = start_sampler(cases, config.sampling, prepared, seed=config.seed)
    segmentation = segmentation_loss(config.loss, cases, fabric.device)

    torch.manual_seed(config.seed)
    module = start_student(config.student, config.arguments, prepared.classes, init)
    average = fabric.to_device(copy.deepcopy(module)) if config.ema else module
    optimizer = build_optimizer(module, config.schedule)
    student, optimizer = fabric.setup(module, optimizer)
    if run.checkpoint:
        module.load_state_dict(run.checkpoint["student"])
        average.load_state_dict(run.checkpoint["average"])
        optimizer.load_state_dict(run.checkpoint["optimizer"])
    student.train()

    began = time.perf_counter()
    left = range(run.first_step, config.schedule.steps)
    share = {"size": config.schedule.batch, "rank": fabric.global_rank, "world": fabric.world_size}
    for step, patches in zip(
        run.steps(config.schedule.steps), sampler.batches(left, **share, workers=workers), strict=False
    ):
        image, occupancy, possible = fabric.to_device((patches.image, patches.occupancy, patches.possible))
        torch.manual_seed(config.seed + step)  # of dropout, where a network has it
        loss, _ = supervised(student(image), occupancy, possible, segmentation)
        optimize(fabric, student, optimizer, loss, config.schedule, step)
        if average is not module:
            average_into(average, module, decay=config.ema, step=step + 1)

        done = step + 1
        due = done % config.validate_every == 0 or done == config.schedule.steps
        if due or done % config.report_every == 0:
            measured = {"loss": mean_over_processes(fabric, loss), "lr": config.schedule.rate(step)}
            seconds = (time.perf_counter() - began) / (done - run.first_step)
            scores = (
                validation_scores(average, held_out, config.sampling.patch, fabric.device)
                if due and fabric.is_global_zero
                else {}
            )
            run.report(done, {**measured, "seconds_per_step": seconds, "peak_memory_mb": peak_mb(), **scores})
            state = {
                "student": module.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            run.save(done, state)

    if fabric.is_global_zero:
        facts = {
            "steps": str(config.schedule.steps),
            "config": json.dumps(as_dict(config)),
            **trained_on(cases),
        }
        save_student(
            out / STUDENT_WEIGHTS,
            average,
            {**student_facts(config.student, config.arguments, prepared), **facts},
        )
    fabric.barrier()
    return out / STUDENT_WEIGHTS


def main() -> None:
    """Command line for ``torchrun``."""
    parser = argparse.ArgumentParser(description="Train a student without a teacher.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--seed", type=int)
    arguments = parser.parse_args()
    config = read_config(Config, arguments.config)
    if arguments.seed is not None:
        config = with_changes(config, seed=arguments.seed)
    print(train(config, arguments.data, arguments.out, init=arguments.init))


if __name__ == "__main__":
    main()

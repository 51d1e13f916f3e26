"""Distil a teacher into a student (equation 2): one recipe, read from top to bottom.

``autosam-edge distill --config RECIPE.yaml --data PREPARED --teacher teacher.safetensors -o RUN``, or
``torchrun --nproc-per-node N -m autosam_edge_training.distill`` with the same options. The loss is ``weight *
L_seg(student, truth) + (1 - weight) * L_mse(student,
teacher)``; with weight 1 it is a student without a teacher, step for step.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from autosam_edge.memory import peak_mb
from autosam_edge_training.config import STRICT, as_dict, checked_dataclass, read_config, with_changes
from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.checkpoint import (
    network_name,
    network_sha256,
    open_network,
    require_same_input,
)
from autosam_edge_training.networks.students import save_student
from autosam_edge_training.networks.teacher_cache import kept_probabilities
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.fabric import (
    Precision,
    flushing_subnormals,
    mean_over_processes,
    start_fabric,
)
from autosam_edge_training.recipe_parts.losses import Reduction, distillation, supervised
from autosam_edge_training.recipe_parts.run_folder import RunFolder
from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer
from autosam_edge_training.recipe_parts.setup import (
    STUDENT_WEIGHTS,
    Loss,
    check_pace,
    optimize,
    segmentation_loss,
    start_sampler,
    start_student,
    student_facts,
    trained_on,
    validation_scores,
)

if TYPE_CHECKING:
    from torch import nn


@checked_dataclass(config=STRICT)
class Config:
    """Everything that decides a run.

    Args:
        schedule: Steps and learning rate.
        weight: Lambda of equation 2: 1 is the truth alone, 0 the teacher alone.
        reduction: Of the distillation loss over classes, see
            :func:`~autosam_edge_training.recipe_parts.losses.distillation`.
        mse_weight: Factor of the distillation loss.
        student, arguments, sampling, loss, ema, report_every, validate_every, seed, precision, smoke: As a
            student's.
    """

    schedule: Schedule
    weight: float = 0.5
    reduction: Reduction = "voxel"
    mse_weight: float = 1.0
    student: str = "swinunetr-tiny"
    arguments: dict[str, Any] = field(default_factory=dict)
    sampling: Sampling = field(default_factory=Sampling)
    loss: Loss = "paper"
    ema: float = 0.0
    report_every: int = 100
    validate_every: int = 1000
    seed: int = 0
    precision: Precision = "bf16"
    smoke: bool = False

    def __post_init__(self) -> None:
        if not 0.0 <= self.weight <= 1.0 or not self.mse_weight > 0.0:
            raise ValueError("weight must lie in [0, 1] and mse_weight be positive")
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
    teacher: Path,
    sam: Path | None = None,
    kept: Path | None = None,
    workers: int = 0,
) -> Path:
    """Run the recipe; goes on from the last checkpoint in ``out``.

    Args:
        config: The recipe.
        data: Folder that ``data prepare`` wrote.
        out: Folder of the run.
        teacher: Its file: an AutoSAM teacher, or another student.
        sam: The SAM file, where the teacher was trained on one.
        kept: Folder of the teacher's kept probabilities; None asks the teacher at every step, which then sees
            the patch that the student sees, changes of intensity included.
        workers: Number of processes that prepare patches while the network trains; the result does not depend
            on it.

    Returns:
        Path of the student's weights.

    Raises:
        InputError: The data cannot be used (AE-DATA-*).
        TrainingError: As for a student; the teacher cannot be used (AE-TRAIN-007, -008) or its kept
            probabilities cannot (-009).
    """
    fabric = start_fabric(config.precision, batch=config.schedule.batch)
    prepared = Prepared.read(data)
    facts = {
        "teacher_network": network_name(teacher),
        "teacher_sha256": network_sha256(teacher),
        "teacher": "kept" if kept else "online",
    }
    run = RunFolder(out, "distill", config, prepared=prepared, fabric=fabric, facts=facts)

    cases = prepared.cases("training")
    held_out = prepared.cases("validation") if prepared.split["validation"] else []
    answers = kept_probabilities(kept, teacher, prepared) if kept else None
    guide = None if kept else open_guide(teacher, sam, prepared, fabric.device)
    sampler = start_sampler(cases, config.sampling, prepared, seed=config.seed, teacher=answers)
    segmentation = segmentation_loss(config.loss, cases, fabric.device)

    torch.manual_seed(config.seed)
    module = start_student(config.student, config.arguments, prepared.classes, None)
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
        if guide is None:
            assert patches.teacher is not None
            answer = fabric.to_device(patches.teacher)
        else:
            with torch.no_grad(), fabric.autocast():
                answer = guide(image).float().softmax(dim=1)
        torch.manual_seed(config.seed + step)  # of dropout, where a network has it
        truth, logits = supervised(student(image), occupancy, possible, segmentation)
        told = distillation(logits, answer, reduction=config.reduction)
        loss = config.weight * truth + (1.0 - config.weight) * config.mse_weight * told
        optimize(fabric, student, optimizer, loss, config.schedule, step)
        if average is not module:
            average_into(average, module, decay=config.ema, step=step + 1)

        done = step + 1
        due = done % config.validate_every == 0 or done == config.schedule.steps
        if due or done % config.report_every == 0:
            losses = {"loss": loss, "loss_truth": truth, "loss_teacher": told}
            measured = {key: mean_over_processes(fabric, value) for key, value in losses.items()}
            seconds = (time.perf_counter() - began) / (done - run.first_step)
            scores = (
                validation_scores(average, held_out, config.sampling.patch, fabric.device)
                if due and fabric.is_global_zero
                else {}
            )
            run.report(
                done,
                {
                    **measured,
                    "lr": config.schedule.rate(step),
                    "seconds_per_step": seconds,
                    "peak_memory_mb": peak_mb(),
                    **scores,
                },
            )
            state = {
                "student": module.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            run.save(done, state)

    if fabric.is_global_zero:
        told_of = {
            **facts,
            "lambda": str(config.weight),
            "steps": str(config.schedule.steps),
            "config": json.dumps(as_dict(config)),
            **trained_on(cases),
        }
        save_student(
            out / STUDENT_WEIGHTS,
            average,
            {**student_facts(config.student, config.arguments, prepared), **told_of},
        )
    fabric.barrier()
    return out / STUDENT_WEIGHTS


def open_guide(path: Path, sam: Path | None, prepared: Prepared, device: torch.device) -> nn.Module:
    """The teacher, ready to be asked at every step."""
    network, facts = open_network(path, sam=sam)
    require_same_input(facts, prepared, "the teacher")
    return network.to(device)


def main() -> None:
    """Command line for ``torchrun``."""
    parser = argparse.ArgumentParser(description="Distil a teacher into a student.")
    for name in ("--config", "--data", "--teacher"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--sam", type=Path)
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--lambda", dest="weight", type=float)
    arguments = parser.parse_args()
    config = read_config(Config, arguments.config)
    if arguments.weight is not None:
        config = with_changes(config, weight=arguments.weight)
    print(
        train(
            config,
            arguments.data,
            arguments.out,
            teacher=arguments.teacher,
            sam=arguments.sam,
            kept=arguments.kept,
        )
    )


if __name__ == "__main__":
    main()

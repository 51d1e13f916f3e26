"""Train the AutoSAM teacher: one recipe, read from top to bottom.

``autosam-edge train teacher --config RECIPE.yaml --data PREPARED --sam sam_vit_b_01ec64.pth -o RUN``, or
``torchrun --nproc-per-node N -m autosam_edge_training.train_teacher`` with the same options. At the end the
folder holds ``teacher.safetensors``: what trained, and the hash of the SAM file that the rest comes from.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from dataclasses import field, replace
from pathlib import Path

import torch
from torch import nn

from autosam_edge.memory import peak_mb
from autosam_edge_training.config import STRICT, as_dict, checked_dataclass, read_config
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
    TEACHER_WEIGHTS,
    Loss,
    check_pace,
    input_facts,
    optimize,
    segmentation_loss,
    start_sampler,
    trained_on,
    validation_scores,
)


@checked_dataclass(config=STRICT)
class Config:
    """Everything that decides a run.

    Args:
        schedule: Steps and learning rate; the paper's 200 epochs are 4,800 steps on BTCV.
        network: The teacher.
        sampling: Patches; its patch is the network's.
        loss: As a student's.
        ema: Decay of the average of the weights that is validated and saved; 0 (the paper) keeps the last
            weights.
        report_every, validate_every: Steps; validation is on the validation split, and is a checkpoint too.
        seed: Of weights, patches and changes.
        precision: Of the forward pass, ``bf16`` (autocast) or ``fp32``.
        smoke: The run only shows that everything works.
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
    """Run the recipe; goes on from the last checkpoint in ``out``.

    Args:
        config: The recipe.
        data: Folder that ``data prepare`` wrote; its classes are the network's.
        out: Folder of the run.
        sam: SAM's published checkpoint; None leaves the encoder random, with a warning where it will not
            learn.
        workers: Number of processes that prepare patches while the network trains; the result does not depend
            on it.

    Returns:
        Path of the weights.

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
    run = RunFolder(
        out, "teacher", config, prepared=prepared, fabric=fabric, facts={"sam_sha256": sam_sha256}
    )

    cases = prepared.cases("training")
    held_out = prepared.cases("validation") if prepared.split["validation"] else []
    sampler = start_sampler(cases, config.sampling, prepared, seed=config.seed)
    segmentation = segmentation_loss(config.loss, cases, fabric.device)

    average: AutoSAM = fabric.to_device(copy.deepcopy(module)) if config.ema else module
    optimizer = build_optimizer(module, config.schedule)
    teacher, optimizer = fabric.setup(module, optimizer)
    if run.checkpoint:
        restore(module, run.checkpoint["teacher"])
        restore(average, run.checkpoint["average"])
        optimizer.load_state_dict(run.checkpoint["optimizer"])
    teacher.train()

    began = time.perf_counter()
    left = range(run.first_step, config.schedule.steps)
    share = {"size": config.schedule.batch, "rank": fabric.global_rank, "world": fabric.world_size}
    for step, patches in zip(
        run.steps(config.schedule.steps), sampler.batches(left, **share, workers=workers), strict=False
    ):
        image, occupancy, possible = fabric.to_device((patches.image, patches.occupancy, patches.possible))

        loss, _ = supervised(teacher(image), occupancy, possible, segmentation)
        optimize(fabric, teacher, optimizer, loss, config.schedule, step)
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
            learned = {"teacher": trainable_parameters(module), "average": trainable_parameters(average)}
            run.save(done, {**learned, "optimizer": optimizer.state_dict()})

    if fabric.is_global_zero:
        facts = {
            "steps": str(config.schedule.steps),
            "recipe": json.dumps(as_dict(config)),
            **trained_on(cases),
        }
        save_teacher(
            out / TEACHER_WEIGHTS,
            average,
            network,
            sam_sha256=sam_sha256,
            metadata={**input_facts(prepared), **facts},
        )
    fabric.barrier()
    return out / TEACHER_WEIGHTS


def start_weights(module: AutoSAM, network: TeacherConfig, sam: Path | None, *, smoke: bool) -> str | None:
    """SAM's weights into the encoder; the SHA-256 of their file, or None where there is none."""
    if sam is None and network.trains == "all":
        return None
    with warnings.catch_warnings():
        if smoke:
            warnings.simplefilter("ignore", RandomWeightsWarning)  # nobody takes its figures for a teacher's
        return load_sam(module, sam)


def restore(module: nn.Module, kept: dict[str, torch.Tensor]) -> None:
    """What trained, back into the network."""
    with torch.no_grad():
        for name, parameter in trainable_parameters(module).items():
            parameter.copy_(kept[name])


def main() -> None:
    """Command line for ``torchrun``."""
    parser = argparse.ArgumentParser(description="Train the AutoSAM teacher.")
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", "-o", type=Path, required=True)
    parser.add_argument("--sam", type=Path)
    arguments = parser.parse_args()
    print(train(read_config(Config, arguments.config), arguments.data, arguments.out, sam=arguments.sam))


if __name__ == "__main__":
    main()

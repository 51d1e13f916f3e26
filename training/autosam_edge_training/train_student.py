"""Train a student from scratch on prepared cases: one recipe, read from top to bottom.

``python -m autosam_edge_training.train_student CONFIG.yaml --data PREPARED --out RUN`` writes ``RUN/checkpoint.pt`` (resume),
``RUN/metrics.jsonl``, ``RUN/config.json`` and at the end ``RUN/student.safetensors`` (the averaged weights of the last step).

On a CPU start it with MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=17179869184, otherwise half the time goes to the
kernel clearing pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import yaml
from torch.nn import functional as F

from autosam_edge.metrics import dice
from autosam_edge_training.data import CLASSES, Case, load_cases, phantom_case
from autosam_edge_training.losses import class_weights, dice_cross_entropy
from autosam_edge_training.students import Student, build_student, load_student, parameter_count, save_student
from autosam_edge_training.transforms import OrganIndex, random_crop, random_intensity, random_masses, random_warp


@dataclass(frozen=True)
class Config:
    """Everything that decides a run.

    Args:
        student: Name of the student.
        minutes: Wall-clock budget; the schedule is drawn over it, so a slow machine makes fewer steps but always ends cooled down.
        steps: Most steps, or 0 for as many as the time allows; the schedule follows whichever ends first.
        lr, weight_decay, warmup: AdamW; warm-up is a share of the budget.
        patch: (D, H, W) voxels.
        foreground: Probability that a crop is placed on an organ.
        warp: Probability of a random rotation and stretch.
        masses: Probability of masses and free fluid outside of the organs.
        phantoms: How many phantoms join the cases; ``phantom_share`` of the steps use one.
        ema: Decay of the weight average that is validated and saved.
        validate_every: Steps.
        seed: Of weights, crops and changes.
        precision: Of the forward pass, ``bf16`` (autocast) or ``fp32``. On CPUs, torch 2.13 now and then returns infinite gradients
            for SwinUNETR-Tiny under bf16 autocast, so its recipe says ``fp32``.
        fold: ``development`` holds the validation cases out; ``all`` trains on all 24.
    """

    student: Student
    minutes: float
    lr: float
    steps: int = 0
    weight_decay: float = 1e-5
    warmup: float = 0.02
    patch: tuple[int, int, int] = (96, 96, 96)
    foreground: float = 0.8
    warp: float = 0.25
    masses: float = 0.0
    phantoms: int = 0
    phantom_share: float = 0.0
    ema: float = 0.998
    validate_every: int = 1000
    seed: int = 0
    fold: str = "development"
    precision: str = "bf16"

    @classmethod
    def read(cls, path: Path) -> Config:
        """Read YAML; an unknown key is an error."""
        values = yaml.safe_load(path.read_text())
        values["patch"] = tuple(values.get("patch", cls.patch))
        return cls(**values)


def learning_rate(config: Config, progress: float) -> float:
    """Linear warm-up, then a cosine to 1 % of the peak; ``progress`` in [0, 1]."""
    if progress < config.warmup:
        return config.lr * max(progress / config.warmup, 0.01)
    angle = math.pi * min(1.0, (progress - config.warmup) / (1.0 - config.warmup))
    return config.lr * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(angle)))


@torch.no_grad()
def validate(student: torch.nn.Module, cases: list[Case], patch: tuple[int, int, int]) -> list[float]:
    """Mean Dice per organ on the model's grid, against the organ that fills most of each voxel."""
    from monai.inferers import sliding_window_inference

    student.eval()
    scores = np.full((len(cases), CLASSES - 1), np.nan)
    for row, case in enumerate(cases):
        image = torch.from_numpy(case.image.astype(np.float32) / 255.0)[None, None]
        logits = sliding_window_inference(image, patch, 1, student, overlap=0.25, mode="gaussian")
        predicted, truth = logits.argmax(1)[0].numpy(), case.labels
        for organ in range(1, CLASSES):
            if (truth == organ).any():
                scores[row, organ - 1] = dice(predicted == organ, truth == organ)
    seen = ~np.isnan(scores).all(axis=0)
    means = np.full(CLASSES - 1, np.nan)
    means[seen] = np.nanmean(scores[:, seen], axis=0)
    return [float(v) for v in means]


def train(config: Config, data: Path, out: Path, *, init: Path | None = None) -> Path:
    """Run the recipe; resumes from ``out/checkpoint.pt`` when it is there.

    Args:
        config: The recipe.
        data: Folder that ``prepare_btcv`` wrote.
        out: Folder of the run.
        init: Weights to start from (``student.safetensors`` of another run); None starts at random.

    Returns:
        Path of the weights.
    """
    # Probabilities far from an organ underflow, and arithmetic on subnormal numbers is slow on most CPUs.
    torch.set_flush_denormal(True)
    out.mkdir(parents=True, exist_ok=True)
    split = json.loads((data / "prepared.json").read_text())
    names = split["training"] + (split["validation"] if config.fold == "all" else [])
    spacing_mm = tuple(split["spacing_mm"])
    (out / "config.json").write_text(
        json.dumps(
            {
                **dataclasses.asdict(config),
                "cases": names,
                "sha256": split["sha256"],
                "machine": platform.processor(),
                "torch": torch.__version__,
            }
        )
    )
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)

    cases = load_cases(data, names)
    held_out = load_cases(data, split["validation"]) if config.fold == "development" else []
    phantoms = [phantom_case(seed, spacing_mm=spacing_mm) for seed in range(1000, 1000 + config.phantoms)]
    indexes = {case.name: OrganIndex(case) for case in cases + phantoms}
    fractions = torch.from_numpy(np.mean([case.occupancy.mean(axis=(1, 2, 3), dtype=np.float64) for case in cases], axis=0) / 255.0).float()
    weight = class_weights(fractions)

    student = build_student(config.student, classes=CLASSES) if init is None else load_student(init)[0]
    average = build_student(config.student, classes=CLASSES)
    average.load_state_dict(student.state_dict())
    decayed = [p for p in student.parameters() if p.ndim > 1]
    plain = [p for p in student.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.999))
    step, spent_s = 0, 0.0
    if (out / "checkpoint.pt").exists():
        saved = torch.load(out / "checkpoint.pt", weights_only=True)
        student.load_state_dict(saved["student"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, spent_s = saved["step"], saved["spent_s"]
        generator = np.random.default_rng([config.seed, step])
    print(f"{config.student}: {parameter_count(student):,} parameters, {len(cases)} cases, {len(phantoms)} phantoms", flush=True)

    budget_s, running, last = config.minutes * 60.0, 0.0, time.perf_counter()
    while (progress := max(spent_s / budget_s, step / config.steps if config.steps else 0.0)) < 1.0:
        student.train()
        use_phantom = phantoms and generator.random() < config.phantom_share
        case = (phantoms if use_phantom else cases)[generator.integers(len(phantoms if use_phantom else cases))]
        image, occupancy = random_crop(case, indexes[case.name], config.patch, generator, foreground=config.foreground)
        if generator.random() < config.warp:
            image, occupancy = random_warp(image, occupancy, generator)
        if generator.random() < config.masses:
            image = random_masses(image, occupancy, generator)
        image = random_intensity(image, generator)

        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, progress)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=config.precision == "bf16"):
            output = student(image)
        logits, coarse = output if isinstance(output, tuple) else (output, None)
        loss = dice_cross_entropy(logits, occupancy, class_weight=weight)
        if coarse is not None:  # deep supervision of the next decoder level
            small = F.avg_pool3d(occupancy, occupancy.shape[-1] // coarse.shape[-1])
            loss = loss + 0.5 * dice_cross_entropy(coarse, small, class_weight=weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        if not torch.isfinite(norm):
            raise FloatingPointError(f"step {step}: the gradient is not finite; train with precision fp32 or a smaller lr")
        optimizer.step()

        step += 1
        decay = min(config.ema, (1.0 + step) / (10.0 + step))
        with torch.no_grad():
            for kept, new in zip(average.parameters(), student.parameters(), strict=True):
                kept.lerp_(new, 1.0 - decay)
        running += (loss.item() - running) / min(step, 100)
        now = time.perf_counter()
        spent_s, last = spent_s + now - last, now
        if step % 100 == 0:
            print(f"step {step} {spent_s / 60:.1f} min loss {running:.4f} lr {optimizer.param_groups[0]['lr']:.2e}", flush=True)
        if step % config.validate_every == 0 or spent_s >= budget_s or step == config.steps:
            dice = validate(average, held_out, config.patch) if held_out else []
            entry = {
                "step": step,
                "minutes": spent_s / 60,
                "loss": running,
                "dice": dice,
                "mean_dice": float(np.nanmean(dice)) if dice else None,
            }
            with (out / "metrics.jsonl").open("a") as file:
                file.write(json.dumps(entry) + "\n")
            print(f"step {step} mean Dice {entry['mean_dice']} " + " ".join(f"{d:.2f}" for d in dice), flush=True)
            state = {"student": student.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step, "spent_s": spent_s}, out / "checkpoint.partial")
            (out / "checkpoint.partial").replace(out / "checkpoint.pt")
            last = time.perf_counter()  # validation does not count against the budget

    path = out / "student.safetensors"
    facts = {"student": config.student, "classes": str(CLASSES), "merging": "v2", "steps": str(step), "cases": ",".join(names)}
    save_student(path, average, {**facts, "config": json.dumps(dataclasses.asdict(config))})
    return path


def main() -> None:
    """Command line of the recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--init", type=Path)
    arguments = parser.parse_args()
    print(train(Config.read(arguments.config), arguments.data, arguments.out, init=arguments.init))


if __name__ == "__main__":
    main()

"""AdamW and how its learning rate goes: the paper's exponential decay, the cosine of our own students (teacher.md 5.3)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import nn

from autosam_edge_training.config import STRICT, checked_dataclass


@checked_dataclass(config=STRICT)
class Schedule:
    """What every step of a run does to the weights.

    Args:
        steps: Optimizer steps of the whole run. Schedules are drawn over steps, so a busy machine changes the
            hours and not the result.
        lr: Peak of the learning rate.
        decay: After the warm-up: ``exponential`` by a constant factor a step, ``cosine``, or ``poly`` (1 -
            progress)^0.9.
        end: Last learning rate as a share of the peak (``poly`` ends at 0).
        warmup: Share of the steps in which the rate rises linearly; the paper's 5 epochs of 200 are 0.025.
        weight_decay: Of AdamW, on matrices and kernels, not on biases and norms.
        clip: Largest norm of the gradient.
        batch: Patches per step over all processes together.
    """

    steps: int
    lr: float = 5e-4
    decay: Literal["exponential", "cosine", "poly"] = "exponential"
    end: float = 0.01
    warmup: float = 0.025
    weight_decay: float = 1e-5
    clip: float = 1.0
    batch: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.batch < 1:
            raise ValueError("steps and batch must be at least 1")
        if not (
            self.lr > 0
            and 0 <= self.warmup < 1
            and 0 < self.end <= 1
            and self.clip > 0
            and self.weight_decay >= 0
        ):
            raise ValueError("expected lr > 0, 0 <= warmup < 1, 0 < end <= 1, clip > 0, weight_decay >= 0")

    def rate(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        rising = round(self.warmup * self.steps)
        if step < rising:
            return self.lr * (step + 1) / rising
        progress = (step - rising) / max(1, self.steps - 1 - rising)
        if self.decay == "exponential":
            return self.lr * self.end**progress
        if self.decay == "cosine":
            return self.lr * (self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress)))
        return float(self.lr * (1.0 - progress) ** 0.9)


def build_optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW over what may learn; the frozen parameters of a teacher are not in it."""
    learning = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in learning if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in learning if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.999))


def average_into(kept: nn.Module, new: nn.Module, *, decay: float, step: int) -> None:
    """Exponential average of the weights; early steps count for more, so that the random start is soon forgotten.

    What a network counts instead of learning it, such as the running statistics of a batch norm, is taken as
    it is.

    Args:
        kept: Changed in place.
        new: The weights after the step.
        decay: In the long run.
        step: Steps done, from 1.
    """
    decay = min(decay, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for average, now in zip(kept.parameters(), new.parameters(), strict=True):
            average.lerp_(now, 1.0 - decay)
        for average, now in zip(kept.buffers(), new.buffers(), strict=True):
            average.copy_(now)

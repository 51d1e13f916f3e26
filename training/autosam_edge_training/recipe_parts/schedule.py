"""AdamW and its learning rate: the paper's exponential decay, and the cosine of our own students."""

from __future__ import annotations

import math
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import nn

from autosam_edge_training.error_codes import GRADIENT_NOT_FINITE
from autosam_edge_training.strict import STRICT, checked_dataclass


@checked_dataclass(config=STRICT)
class Schedule:
    """Settings of the optimizer for the whole run.

    Args:
        steps: Number of optimizer steps of the whole run. The schedule depends on steps and not on time, so a
            busy machine changes the hours and not the result.
        decay: Course of the rate after the warm-up: ``exponential``, by a constant factor per step, or
            ``cosine``.
        end: Last learning rate as a share of the peak.
        warmup: Share of the steps in which the rate rises linearly; the paper's 5 epochs of 200 are 0.025.
        weight_decay: Weight decay of AdamW, on matrices and kernels, not on biases and norms.
        batch: Number of patches per step over all processes together.
    """

    steps: int
    lr: float = 5e-4
    decay: Literal["exponential", "cosine"] = "exponential"
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
            return float(self.lr * self.end**progress)
        return self.lr * (self.end + (1.0 - self.end) * 0.5 * (1.0 + math.cos(math.pi * progress)))


def build_optimizer(module: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; the frozen ones of a teacher are left out."""
    trainable = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.999))


def optimize(
    fabric: Fabric,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: torch.Tensor,
    schedule: Schedule,
    step: int,
) -> None:
    """Take one optimizer step, at the schedule's rate and with the norm of the gradient clipped.

    Raises:
        TrainingError: The gradient is not finite (AE-TRAIN-006); the weights were not changed.
    """
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    optimizer.zero_grad(set_to_none=True)
    fabric.backward(loss)
    norm = fabric.clip_gradients(network, optimizer, max_norm=schedule.clip, error_if_nonfinite=False)
    if norm is None or not torch.isfinite(norm):
        raise GRADIENT_NOT_FINITE(f"the gradient of step {step} is not finite.")
    optimizer.step()


def average_into(average: nn.Module, module: nn.Module, *, decay: float, step: int) -> None:
    """Update an exponential average of the weights.

    Early steps have a larger share, so that the random start is soon forgotten. Buffers, such as the running
    statistics of a batch norm, are copied.

    Args:
        average: Network that holds the average, changed in place.
        decay: Decay of the average in the long run, 0 to below 1.
        step: Number of steps done, from 1.
    """
    decay = min(decay, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        for mean, value in zip(average.parameters(), module.parameters(), strict=True):
            mean.lerp_(value, 1.0 - decay)
        for mean_buffer, buffer in zip(average.buffers(), module.buffers(), strict=True):
            mean_buffer.copy_(buffer)

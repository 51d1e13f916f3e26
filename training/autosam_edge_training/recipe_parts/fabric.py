"""Lightning Fabric: one process or ``torchrun``'s many, a CPU or GPUs, with the same lines of a recipe."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from autosam_edge_training.error_codes import BATCH_NOT_DIVISIBLE

Precision = Literal["fp32", "bf16"]
_SUBNORMAL = 1e-40


@contextmanager
def flushing_subnormals() -> Iterator[None]:
    """Numbers below 1e-38 count as zero while a network trains; also to be used as a decorator.

    Probabilities far from an organ underflow, and arithmetic on subnormal numbers is slow on most CPUs. The
    mode that was there comes back with the end of the block, since others depend on it: SciPy's k-d tree
    steps to the next number after 0 and never ends where that is 0 again. It is the mode of this thread and
    of those that it starts; torch's workers keep the one that they began with.
    """
    before = bool(torch.tensor(_SUBNORMAL) * 1.0 == 0.0)  # torch sets the mode and does not tell it
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)


def fast_precision() -> Precision:
    """``bf16`` where the GPU or the processor has it; elsewhere, where it is imitated slowly, ``fp32``."""
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    if not hasattr(torch.cpu, "get_capabilities"):  # an older torch does not tell
        return "fp32"
    processor = torch.cpu.get_capabilities()
    return "bf16" if any(processor.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16")) else "fp32"


def start_fabric(precision: Precision, *, batch: int) -> Fabric:
    """Join the processes that ``torchrun`` started, or be the only one.

    Args:
        precision: ``bf16`` computes the forward pass under autocast.

    Raises:
        TrainingError: The batch does not divide among the processes (AE-TRAIN-004).
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if batch % world:
        raise BATCH_NOT_DIVISIBLE(f"{world} processes cannot share a batch of {batch}.")
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    fabric = Fabric(
        devices=local,
        num_nodes=world // local,
        strategy="ddp" if world > 1 else "auto",
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )
    fabric.launch()
    return fabric


def mean_over_processes(fabric: Fabric, value: Tensor) -> float:
    """A scalar of this process, averaged with those of the others."""
    mean = fabric.all_reduce(value.detach(), reduce_op="mean")
    assert isinstance(mean, Tensor)
    return float(mean)

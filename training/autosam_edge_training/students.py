"""The students by name; sizes live here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import torch

from autosam_edge_training.convnet import PocketNet

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor, nn

Student = Literal["swinunetr-tiny", "swinunetr-small", "pocketnet"]
STUDENTS: tuple[Student, ...] = get_args(Student)
_FEATURE_SIZE = {"swinunetr-tiny": 12, "swinunetr-small": 24}


def build_student(name: Student, *, classes: int = 14) -> nn.Module:
    """A student with random weights.

    ``swinunetr-tiny`` (4.08 M parameters) and ``swinunetr-small`` (15.70 M) are MONAI's SwinUNETR with feature sizes 12 and 24, as in
    the paper; ``pocketnet`` (3.5 M) is convolutional.

    Returns:
        Module that maps (B, 1, D, H, W) in [0, 1] to logits (B, classes, D, H, W); sides are multiples of 32.
    """
    if name == "pocketnet":
        return PocketNet(classes=classes, widths=(32, 64, 112, 128))
    from monai.networks.nets import SwinUNETR

    return SwinUNETR(in_channels=1, out_channels=classes, feature_size=_FEATURE_SIZE[name], use_flash_attention=True)


def save_student(path: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights as safetensors with string metadata (student, classes, training facts)."""
    from safetensors.torch import save_file

    save_file({key: value.detach().contiguous().cpu() for key, value in state.items()}, path, metadata=dict(metadata))


def load_student(path: Path) -> tuple[nn.Module, dict[str, str]]:
    """Read a checkpoint of :func:`save_student` into a fresh student in eval mode.

    Raises:
        ValueError: The file does not say which student it holds, or the weights do not fit it exactly.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        metadata = dict(file.metadata() or {})
        state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  safe_open has no __iter__
    name = metadata.get("student")
    if name not in STUDENTS:
        raise ValueError(f"the checkpoint's metadata names the student {name!r}, expected one of {', '.join(STUDENTS)}")
    student = build_student(name, classes=int(metadata.get("classes", "14")))
    try:
        student.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise ValueError(f"the weights do not fit {name}: {str(error).splitlines()[0]}") from error
    return student.eval(), metadata


def parameter_count(module: nn.Module) -> int:
    """Number of parameters."""
    with torch.no_grad():
        return sum(p.numel() for p in module.parameters())

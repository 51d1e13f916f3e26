"""The students by name; their sizes are defined here and nowhere else.

``monai:NAME`` is any network of ``monai.networks.nets``, such as the baselines of the paper's
table 1.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file
from torch import nn

from autosam_edge_training.choices import Student
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata, write_network
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.strict import JsonObject

STUDENTS: tuple[Student, ...] = get_args(Student)
MONAI = "monai:"
_WIDTHS = {"pocketnet": (32, 64, 112, 128), "pocketnet-wide": (48, 96, 176, 224)}
_FEATURE_SIZE = {"swinunetr-tiny": 12, "swinunetr-small": 24}
# How far a probe may lie from the one in the checkpoint: float32 on another machine differs by 1e-5, another
# patch merging by 0.1.
_PROBE_TOLERANCE = 5e-3


def build_student(name: str, *, classes: int = 14, arguments: Mapping[str, Any] | None = None) -> nn.Module:
    """Build a student with random weights.

    ``swinunetr-tiny`` (4.08 M parameters) and ``swinunetr-small`` (15.70 M) are MONAI's SwinUNETR with
    feature sizes 12 and 24, as in the paper; ``pocketnet`` (3.7 M) and ``pocketnet-wide`` (9.5 M) are
    convolutional; ``monai:UNETR`` is MONAI's class of that name.

    Args:
        name: Name of the student, or ``monai:NAME``.
        arguments: Arguments of a network of MONAI, such as ``{"img_size": [96, 96, 96]}``; channels and
            dimensions are added.

    Returns:
        Module that maps (B, 1, D, H, W) to logits (B, classes, D, H, W); sides are multiples of 32.

    Raises:
        ValueError: There is no such student, or it does not take the arguments.
    """
    if name.startswith(MONAI):
        return _build_monai(name.removeprefix(MONAI), classes, arguments or {})
    if name not in STUDENTS:
        raise ValueError(
            f"there is no student {name!r}, expected one of {', '.join(STUDENTS)}, or {MONAI}NAME"
        )
    if arguments:
        raise ValueError(f"{name} takes no arguments")
    if name in _WIDTHS:
        return PocketNet(classes=classes, widths=_WIDTHS[name])
    from monai.networks.nets.swin_unetr import SwinUNETR

    return SwinUNETR(1, classes, feature_size=_FEATURE_SIZE[name], use_flash_attention=True)


def monai_arguments(name: str, classes: int, arguments: Mapping[str, Any]) -> JsonObject:
    """All arguments of a network of MONAI: those of a recipe, and channels and dimensions for CT.

    Raises:
        ValueError: MONAI has no such network, or an argument is given twice.
    """
    given: JsonObject = {"in_channels": 1, "out_channels": classes}
    if "spatial_dims" in inspect.signature(_monai_class(name)).parameters:
        given["spatial_dims"] = 3
    if twice := given.keys() & arguments.keys():
        raise ValueError(f"{', '.join(sorted(twice))} of {name} follow from the data")
    return {**given, **arguments}


def _monai_class(name: str) -> type[nn.Module]:
    from monai.networks import nets

    kind = getattr(nets, name, None)
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ValueError(f"monai.networks.nets has no network {name!r}")
    return kind


def _build_monai(name: str, classes: int, arguments: Mapping[str, Any]) -> nn.Module:
    given, kind = monai_arguments(name, classes, arguments), _monai_class(name)
    try:
        return kind(**given)
    except (TypeError, ValueError, AssertionError, ArithmeticError) as error:
        # MONAI checks little: 0 heads are a division by zero.
        raise ValueError(
            f"monai's {name} does not take these arguments: {' '.join(str(error).split())}"
        ) from error


def save_student(path: Path, student: nn.Module, metadata: CheckpointMetadata) -> None:
    """Write weights as safetensors, with metadata and a probe.

    The probe is a few logits for a fixed input. It shows when the weights are loaded into a network that
    computes something else, such as SwinUNETR with another patch merging.

    Args:
        path: File to write; it appears whole or not at all.
    """
    # Copies, as safetensors refuses tensors in shared memory: MONAI's DynUNet names each of its layers twice.
    state = {
        key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
        for key, value in student.state_dict().items()
    }
    # A network of MONAI may take only its own patch size.
    probe = tuple(_probe(student)) if metadata.student in STUDENTS else ()
    write_network(path, state, dataclasses.replace(metadata, probe=probe))


def load_student(path: Path) -> tuple[nn.Module, CheckpointMetadata]:
    """Read a file of :func:`save_student`.

    Raises:
        ValueError: The metadata are not those of a student, the weights do not fit it exactly, or it does not
            compute what it did when it was saved.
    """
    metadata, state = CheckpointMetadata.read(path), load_file(path)
    name = metadata.student
    student = build_student(name, classes=metadata.classes, arguments=metadata.arguments)
    load_weights(student, state, name)
    student.eval()
    if metadata.probe:
        expected = torch.tensor(metadata.probe)
        distance = (torch.tensor(_probe(student)) - expected).abs().max().item()
        if not distance <= _PROBE_TOLERANCE * max(1.0, expected.abs().max().item()):
            raise ValueError(
                f"{name} with these weights does not compute what it did when they were saved "
                f"(a logit differs by {distance:.1e}): the patch merging or the version of MONAI differs"
            )
    return student, metadata


def load_weights(student: nn.Module, state: Mapping[str, torch.Tensor], name: str) -> None:
    """Put weights into a student.

    Raises:
        ValueError: They do not fit it exactly.
    """
    try:
        student.load_state_dict(state, strict=True)
    except RuntimeError as error:
        # The first line only says that there was an error.
        reason = " ".join(str(error).splitlines()[1:2]).strip().rstrip(".")
        raise ValueError(f"the weights do not fit {name}: {reason}") from error


def _probe(student: nn.Module) -> list[float]:
    """The first classes' mean and spread of the logits for a pattern of waves, (1, 1, 64, 64, 32)."""
    axes = [torch.linspace(0.0, 6.0, side) for side in (64, 64, 32)]
    depth, height, width = (torch.sin(axis * (index + 1)) for index, axis in enumerate(axes))
    waves = depth[:, None, None] + height[:, None] + width
    was_training = student.training
    with torch.no_grad():
        logits = student.eval()((waves * 0.16 + 0.5)[None, None])[0, :4].float()
    student.train(was_training)
    return [
        round(v, 5)
        for v in (
            *logits.mean(dim=(1, 2, 3)).tolist(),
            *logits.std(dim=(1, 2, 3)).tolist(),
            *logits[:, 31, 31, 15].tolist(),
        )
    ]


def parameter_count(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())

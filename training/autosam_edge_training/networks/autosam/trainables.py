"""What trains and what stays SAM's."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from torch import nn

Trains = Literal["adapters", "all"]

# The paper trains convolutions, adapters, norms, and all that SAM does not have (docs/adr/0015-teacher.md).
_ADAPTED = re.compile(
    r"image_encoder\.(patch_embed\.depth_(weight|bias)|positions\.depth_embed"
    r"|blocks\.\d+\.(adapter\.|norm[12]\.))"
    r"|necks\.|prompt_generator\.|mask_decoder\."
)
# The first that matches a parameter's name is its part.
_PARTS = (
    ("patch embedding", re.compile(r"image_encoder\.patch_embed\.")),
    ("positions", re.compile(r"image_encoder\.positions\.")),
    ("adapters", re.compile(r"image_encoder\.blocks\.\d+\.adapter\.")),
    ("norms", re.compile(r"image_encoder\.blocks\.\d+\.norm[12]\.")),
    ("attention and MLP", re.compile(r"image_encoder\.blocks\.")),
    ("necks", re.compile(r"necks\.")),
    ("prompt generator", re.compile(r"prompt_generator\.")),
    ("mask decoder", re.compile(r"mask_decoder\.")),
)


class PartCount(NamedTuple):
    """Parameters of a part of the teacher."""

    part: str
    trainable: int
    frozen: int


def freeze(model: nn.Module, trains: Trains) -> None:
    """Let only what trains have gradients.

    Args:
        model: A teacher; changed in place.
        trains: ``adapters``: the parts that SAM does not have and the norms of its blocks; ``all``: every
            parameter.
    """
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trains == "all" or _ADAPTED.match(name) is not None)


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What the optimizer gets, by name."""
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def parameters_by_part(model: nn.Module) -> tuple[PartCount, ...]:
    """Trainable and frozen parameters of each part that the teacher has, in the order of the data's way.

    Example:
        >>> parameters_by_part(build_autosam(TeacherConfig()))[2]
        PartCount(part='adapters', trainable=7202304, frozen=0)
    """
    counts = {part: [0, 0] for part, _ in _PARTS}
    for name, parameter in model.named_parameters():
        part = next(part for part, pattern in _PARTS if pattern.match(name))
        counts[part][0 if parameter.requires_grad else 1] += parameter.numel()
    return tuple(PartCount(part, *count) for part, count in counts.items() if any(count))

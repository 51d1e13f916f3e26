"""Put the edge form's modules in the place of the student's own."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal

from torch import nn

from autosam_edge_export.edge.layers import Conv3dAs2d, FlatInstanceNorm, PointwiseAndShuffle
from autosam_edge_export.edge.swin import Attention, EdgeStage


@dataclass(frozen=True)
class EdgeOptions:
    """What a target chooses.

    Args:
        attention: ``matmul`` where the target has no fused operator, ``fused`` where it has.
        windows_at_once: Most windows whose scores exist together: memory against the number of operators.
        convolution: ``3d`` as it is; ``2d-sum`` or ``2d-concat`` over the depth taps.
        transposed: ``native`` as it is; ``shuffle`` as a pointwise product and a shuffle.
    """

    attention: Attention = "matmul"
    windows_at_once: int = 49
    convolution: Literal["3d", "2d-sum", "2d-concat"] = "3d"
    transposed: Literal["native", "shuffle"] = "native"


def edge_form(student: nn.Module, options: EdgeOptions) -> nn.Module:
    """The same function for batch 1, with the same parameters.

    Args:
        student: A student in eval mode; left as it is.
        options: See :class:`EdgeOptions`.

    Returns:
        A module in eval mode that shares nothing with the student.
    """
    form = copy.deepcopy(student)
    _replace(form, options)
    return form.eval().requires_grad_(False)


def _replace(parent: nn.Module, options: EdgeOptions) -> None:
    from monai.networks.nets.swin_unetr import BasicLayer

    for name, child in parent.named_children():
        new: nn.Module | None = None
        if isinstance(child, BasicLayer):
            new = EdgeStage(child, options.attention, options.windows_at_once)
        elif isinstance(child, nn.InstanceNorm3d):
            new = FlatInstanceNorm(child)
        elif isinstance(child, nn.Conv3d) and options.convolution != "3d":
            new = Conv3dAs2d(child, "sum" if options.convolution == "2d-sum" else "concat")
        elif isinstance(child, nn.ConvTranspose3d) and options.transposed == "shuffle":
            new = PointwiseAndShuffle(child)
        if new is None:
            _replace(child, options)
        else:
            setattr(parent, name, new)

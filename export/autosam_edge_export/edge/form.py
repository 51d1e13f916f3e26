"""Replace the modules of a student by those of the edge form."""

from __future__ import annotations

import copy

from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformer
from torch import Tensor, nn

from autosam_edge_export.edge.layers import (
    FlatInstanceNorm,
    MeansInstanceNorm,
    MeansLayerNorm,
    PlaneConvolution,
    PlaneUpsampling,
    ShuffledUpsampling,
    folding_convolution,
    one_item,
)
from autosam_edge_export.edge.options import EdgeOptions
from autosam_edge_export.edge.swin import EdgeStage, PlaneTransformer
from autosam_edge_training.networks.pocketnet import Fold


def edge_form(student: nn.Module, options: EdgeOptions) -> nn.Module:
    """The same function for batch 1, with the same parameters.

    Returns:
        A module in eval mode that shares nothing with the student.
    """
    form = copy.deepcopy(student)
    _replace(form, options)
    return (OnPlanes(form) if options.planes else form).eval().requires_grad_(False)


class OnPlanes(nn.Module):
    """A network for planes as one for (1, C, D, H, W).

    Args:
        network: Module that maps (D, C, H, W) to (D, O, H, W).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> (1, O, D, H, W)."""
        one_item(x)
        logits = self.network(x.reshape(x.shape[1:]).transpose(0, 1)).transpose(0, 1)
        return logits.reshape(1, *logits.shape)


def _replace(parent: nn.Module, options: EdgeOptions) -> None:
    for name, child in parent.named_children():
        new = _in_planes(child, options) if options.planes else _in_volumes(child, options)
        if new is not None:
            setattr(parent, name, new)
        _replace(new or child, options)


def _in_volumes(module: nn.Module, options: EdgeOptions) -> nn.Module | None:
    if isinstance(module, BasicLayer):
        return EdgeStage(module, options)
    if isinstance(module, nn.InstanceNorm3d) and options.norm == "flat":
        return FlatInstanceNorm(module, planes=False)
    return None


def _in_planes(module: nn.Module, options: EdgeOptions) -> nn.Module | None:
    written_out, taps = options.norm == "means", options.convolution.removeprefix("2d-")
    if isinstance(module, BasicLayer):
        return EdgeStage(module, options)
    if isinstance(module, nn.InstanceNorm3d):
        return MeansInstanceNorm(module) if written_out else FlatInstanceNorm(module, planes=True)
    if isinstance(module, nn.LayerNorm) and written_out:
        return MeansLayerNorm(module)
    if isinstance(module, SwinTransformer) and written_out:
        return PlaneTransformer(module)
    if isinstance(module, nn.Conv3d):
        return PlaneConvolution(module, taps)
    if isinstance(module, nn.ConvTranspose3d):
        return ShuffledUpsampling(module) if options.upsampling == "shuffle" else PlaneUpsampling(module)
    if isinstance(module, Fold):
        return PlaneConvolution(folding_convolution(1), taps)
    return None

"""The convolution that prompt generator and mask decoder are made of."""

from __future__ import annotations

from torch import nn


def conv_norm_relu(channels_in: int, channels_out: int) -> nn.Sequential:
    """3x3x3 convolution without bias, instance norm without weights, ReLU: (B, C, ...) -> (B, C', ...)."""
    return nn.Sequential(
        nn.Conv3d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.InstanceNorm3d(channels_out),
        nn.ReLU(),
    )

"""Convolutions and instance norm without 3D kernels; exact, on the parameters of the module they replace."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Taps = Literal["sum", "concat"]


def one_item(x: Tensor) -> None:
    """The edge form spends the batch axis on other things.

    Raises:
        ValueError: The batch is not 1.
    """
    if x.shape[0] != 1:
        raise ValueError(f"the edge form runs one tile at a time, not a batch of {x.shape[0]}")


class Conv3dAs2d(nn.Module):
    """A 3D convolution as 2D convolutions over the depth taps, with depth as the batch.

    Args:
        conv: The convolution replaced: batch 1, no dilation, no groups, zero padding.
        taps: ``sum`` adds one 2D convolution per depth tap; ``concat`` runs one on the taps laid side by side as channels.
    """

    def __init__(self, conv: nn.Conv3d, taps: Taps) -> None:
        super().__init__()
        if conv.groups != 1 or set(conv.dilation) != {1} or conv.padding_mode != "zeros" or isinstance(conv.padding, str):
            raise ValueError("only plain convolutions have a 2D form here")
        self.weight, self.bias = conv.weight, conv.bias
        self.stride, self.padding, self.taps = conv.stride, conv.padding, taps

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> (1, O, D', H', W')."""
        one_item(x)
        outputs, channels, kernel, height, width = self.weight.shape
        stride, padding = self.stride[0], self.padding[0]
        planes = x[0].permute(1, 0, 2, 3)
        if padding:
            planes = F.pad(planes, (0, 0, 0, 0, 0, 0, padding, padding))
        depth = (planes.shape[0] - kernel) // stride + 1
        parts = [planes[tap : tap + stride * (depth - 1) + 1 : stride] for tap in range(kernel)]
        plane = {"stride": self.stride[1:], "padding": self.padding[1:]}
        if self.taps == "concat":
            weight = self.weight.permute(0, 2, 1, 3, 4).reshape(outputs, kernel * channels, height, width)
            y = F.conv2d(torch.cat(parts, dim=1), weight, self.bias, **plane)
        else:
            y = F.conv2d(parts[0], self.weight[:, :, 0], self.bias, **plane)
            for tap in range(1, kernel):
                y = y + F.conv2d(parts[tap], self.weight[:, :, tap], None, **plane)
        return y.permute(1, 0, 2, 3)[None]


class PointwiseAndShuffle(nn.Module):
    """A transposed convolution whose kernel equals its stride: every input voxel gives a block of outputs of its own.

    Args:
        conv: The convolution replaced: batch 1, kernel = stride, no padding.
    """

    def __init__(self, conv: nn.ConvTranspose3d) -> None:
        super().__init__()
        plain = conv.groups == 1 and set(conv.dilation) == {1} and not any(conv.padding) and not any(conv.output_padding)
        if conv.kernel_size != conv.stride or not plain:
            raise ValueError("only a transposed convolution with kernel = stride is a shuffle")
        self.weight, self.bias = conv.weight, conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> (1, O, a D, b H, c W) for a kernel of (a, b, c); no step is of a rank over 5."""
        one_item(x)
        channels, outputs, a, b, c = self.weight.shape
        depth, height, width = x.shape[2:]
        y = torch.matmul(self.weight.reshape(channels, -1).t(), x.reshape(channels, -1))
        y = y.reshape(outputs * a * b, c, depth * height, width).permute(0, 2, 3, 1)
        y = y.reshape(outputs * a, b, depth, height, width * c).permute(0, 2, 3, 1, 4)
        y = y.reshape(outputs, a, depth, height * b * width * c).permute(0, 2, 1, 3)
        y = y.reshape(1, outputs, depth * a, height * b, width * c)
        return y if self.bias is None else y + self.bias.reshape(1, outputs, 1, 1, 1)


class FlatInstanceNorm(nn.Module):
    """Instance norm at rank 3, (1, C, D H W), which every target knows.

    Args:
        norm: The norm replaced; it keeps no running statistics.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        if norm.track_running_stats:
            raise ValueError("an instance norm with running statistics is a batch norm at inference")
        self.weight, self.bias, self.eps = norm.weight, norm.bias, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> the same."""
        one_item(x)
        flat = F.instance_norm(x.reshape(1, x.shape[1], -1), weight=self.weight, bias=self.bias, eps=self.eps)
        return flat.reshape(x.shape)

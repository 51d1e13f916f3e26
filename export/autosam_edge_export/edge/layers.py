"""Convolutions and norms without 3D kernels; exact, with the parameters of the modules that they replace.

There are two layouts: (1, C, D, H, W) of the student, and *planes*, (D, C, H, W), where the depth takes the
place of the batch. On planes every layer is a 2D layer on four axes, and tensors are reordered only at the
beginning and the end of a network.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def one_item(x: Tensor) -> None:
    """Refuse a batch, as the edge form uses the batch axis for the depth.

    Raises:
        ValueError: The batch is not 1.
    """
    if x.shape[0] != 1:
        raise ValueError(f"the edge form runs one tile at a time, not a batch of {x.shape[0]}")


class PlaneConvolution(nn.Module):
    """A 3D convolution on planes, as 2D convolutions over the depth taps.

    Args:
        conv: Convolution to replace, without dilation and groups, with zero padding.
        taps: Form of the sum over the depth taps: ``sum`` adds one 2D convolution per tap, ``concat`` runs
            one on the concatenated taps. Taps that do not overlap need one convolution in both.
    """

    def __init__(self, conv: nn.Conv3d, taps: str) -> None:
        super().__init__()
        if (
            conv.groups != 1
            or set(conv.dilation) != {1}
            or conv.padding_mode != "zeros"
            or isinstance(conv.padding, str)
        ):
            raise ValueError("only plain convolutions have a 2D form here")
        self.kernel, self.stride, self.padding = conv.kernel_size[0], conv.stride[0], conv.padding[0]
        self.plane_stride, self.plane_padding = conv.stride[1:], conv.padding[1:]
        self.side_by_side = self.kernel == self.stride and not self.padding
        self.bias = conv.bias
        weight = conv.weight.detach()
        joined = weight.transpose(1, 2).flatten(1, 2)
        parts = [joined] if self.side_by_side or taps == "concat" else list(weight.unbind(2))
        self.weights = nn.ParameterList(
            [nn.Parameter(part.contiguous(), requires_grad=False) for part in parts]
        )

    def forward(self, x: Tensor) -> Tensor:
        """(D, C, H, W) -> (D', O, H', W')."""
        planes = (x.shape[0] + 2 * self.padding - self.kernel) // self.stride + 1
        if self.side_by_side:
            taps = [x[: planes * self.kernel].reshape(planes, -1, *x.shape[2:])]
        elif len(self.weights) > 1 and planes == x.shape[0] and 2 * self.padding + 1 == self.kernel:
            return self._sum_around_the_middle(x)
        else:
            x = F.pad(x, (0, 0, 0, 0, 0, 0, self.padding, self.padding)) if self.padding else x
            taps = [x[tap : tap + self.stride * (planes - 1) + 1 : self.stride] for tap in range(self.kernel)]
        if len(self.weights) < len(taps):
            taps = [torch.cat(taps, dim=1)]
        y = self._in_plane(taps[0], self.weights[0], self.bias)
        for tap, weight in zip(taps[1:], list(self.weights)[1:], strict=True):
            y = y + self._in_plane(tap, weight)
        return y

    def _in_plane(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, stride=self.plane_stride, padding=self.plane_padding)

    def _sum_around_the_middle(self, x: Tensor) -> Tensor:
        """Sum of the taps without a padded copy of the input.

        The middle tap reads every plane; each other tap skips the planes where it would read padding.
        """
        planes = x.shape[0]
        y = self._in_plane(x, self.weights[self.padding], self.bias)
        for tap, weight in enumerate(self.weights):
            step = tap - self.padding
            if step and abs(step) < planes:
                part = self._in_plane(x[max(0, step) : planes + min(0, step)], weight)
                y = y + F.pad(part, (0, 0, 0, 0, 0, 0, max(0, -step), max(0, step)))
        return y


class PlaneUpsampling(nn.Module):
    """A transposed 3D convolution on planes whose kernel equals its stride, so that blocks do not overlap.

    Args:
        conv: Convolution to replace, with kernel = stride and without padding.
    """

    def __init__(self, conv: nn.ConvTranspose3d) -> None:
        super().__init__()
        plain = (
            conv.groups == 1
            and set(conv.dilation) == {1}
            and not any(conv.padding)
            and not any(conv.output_padding)
        )
        if conv.kernel_size != conv.stride or not plain:
            raise ValueError("only a transposed convolution with kernel = stride is taken apart by planes")
        self.kernel, self.outputs = conv.kernel_size, conv.out_channels
        # (C, a, O, b, c): the planes of a block come one after the other.
        weight = conv.weight.detach().transpose(1, 2)
        self.weight = nn.Parameter(weight.flatten(1, 2).contiguous(), requires_grad=False)
        bias = None if conv.bias is None else conv.bias.detach().repeat(self.kernel[0])
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(D, C, H, W) -> (a D, O, b H, c W) for a kernel of (a, b, c)."""
        a, b, c = self.kernel
        depth, _, height, width = x.shape
        y = F.conv_transpose2d(x, self.weight, self.bias, stride=(b, c))
        return y.reshape(depth * a, self.outputs, height * b, width * c)


class ShuffledUpsampling(PlaneUpsampling):
    """The same function as a pointwise convolution, whose channels become the pixels of each block.

    Args:
        conv: Convolution to replace, as for the base; its kernel has one side within planes.

    Raises:
        ValueError: The blocks are not square within planes.
    """

    def __init__(self, conv: nn.ConvTranspose3d) -> None:
        super().__init__(conv)
        _, b, c = self.kernel
        if b != c:
            raise ValueError(f"blocks of {b} x {c} pixels are not square, as a shuffle of pixels needs them")
        weight = self.weight.permute(1, 2, 3, 0).reshape(-1, self.weight.shape[0], 1, 1)  # (a O b c, C, 1, 1)
        self.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.repeat_interleave(b * c), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """(D, C, H, W) -> (a D, O, b H, b W) for a kernel of (a, b, b)."""
        a, b, _ = self.kernel
        depth, _, height, width = x.shape
        y = F.pixel_shuffle(F.conv2d(x, self.weight, self.bias), b)
        return y.reshape(depth * a, self.outputs, height * b, width * b)


class FlatInstanceNorm(nn.Module):
    """Instance norm at rank 3, (1, C, D H W), which most targets know.

    Args:
        norm: Norm to replace, without running statistics.
        planes: True for inputs (D, C, H, W), False for (1, C, D, H, W).
    """

    def __init__(self, norm: nn.InstanceNorm3d, *, planes: bool) -> None:
        super().__init__()
        _no_running_statistics(norm)
        self.weight, self.bias, self.eps, self.planes = norm.weight, norm.bias, norm.eps, planes

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) or (D, C, H, W) -> the same."""
        if self.planes:
            x = x.transpose(0, 1)
            return self._normalized(x.reshape(1, x.shape[0], -1)).reshape(x.shape).transpose(0, 1)
        one_item(x)
        return self._normalized(x.reshape(1, x.shape[1], -1)).reshape(x.shape)

    def _normalized(self, flat: Tensor) -> Tensor:
        return F.instance_norm(flat, weight=self.weight, bias=self.bias, eps=self.eps)


class MeansInstanceNorm(nn.Module):
    """Instance norm on planes, written out with means over two axes, for targets without the operator.

    Args:
        norm: Norm to replace, without running statistics.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        _no_running_statistics(norm)
        self.eps = norm.eps
        self.weight, self.bias = _by_channel(norm.weight), _by_channel(norm.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(D, C, H, W) -> the same."""
        centered = x - _mean_of_channels(x)
        scale = torch.rsqrt(_mean_of_channels(centered * centered) + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        y = centered * scale
        return y if self.bias is None else y + self.bias


def _by_channel(values: Tensor | None) -> nn.Parameter | None:
    """(C,) -> (1, C, 1, 1)."""
    return None if values is None else nn.Parameter(values.detach().reshape(1, -1, 1, 1), requires_grad=False)


def _mean_of_channels(x: Tensor) -> Tensor:
    """(D, C, H, W) -> (1, C, 1, 1)."""
    by_plane = x.mean(dim=(2, 3), keepdim=True)
    return by_plane.permute(2, 1, 0, 3).mean(dim=(2, 3), keepdim=True)


def _no_running_statistics(norm: nn.InstanceNorm3d) -> None:
    if norm.track_running_stats:
        raise ValueError("an instance norm with running statistics is a batch norm at inference")


class MeansLayerNorm(nn.Module):
    """Layer norm over the last axis, written out with products, for targets without the operator."""

    average: Tensor

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        (channels,) = norm.normalized_shape
        self.eps, self.weight, self.bias = norm.eps, norm.weight, norm.bias
        self.register_buffer("average", torch.full((1, channels), 1.0 / channels))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same."""
        centered = x - F.linear(x, self.average)
        y = centered * torch.rsqrt(F.linear(centered * centered, self.average) + self.eps)
        if self.weight is not None:
            y = y * self.weight
        return y if self.bias is None else y + self.bias


def folding_convolution(channels: int) -> nn.Conv3d:
    """Space to depth by two as a convolution with ones, exact for finite numbers.

    (B, C, D, H, W) -> (B, 8 C, D/2, H/2, W/2).
    """
    conv = nn.Conv3d(channels, 8 * channels, 2, stride=2, bias=False)
    corners = torch.eye(8).reshape(8, 1, 1, 2, 2, 2)
    conv.weight.data = (corners * torch.eye(channels).reshape(1, channels, channels, 1, 1, 1)).flatten(0, 1)
    return conv

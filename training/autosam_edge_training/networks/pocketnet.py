"""PocketNet: the small convolutional student.

A residual U-Net that never runs a wide layer at full resolution. The input is folded 2x2x2 into channels
(space to depth), the U-Net works on the half grid, and the head unfolds its channels back to the full grid
(depth to space, Shi et al. 2016, arXiv 1609.05158). At 96^3 the full-resolution stages of SwinUNETR-Tiny cost
64 % of its work; here they cost none, and every layer has at least 32 channels, which fill a SIMD register.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Fold(nn.Module):
    """Space to depth: (B, C, D, H, W) -> (B, 8 C, D/2, H/2, W/2)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, :, i::2, j::2, k::2] for i in (0, 1) for j in (0, 1) for k in (0, 1)], dim=1)


class Unfold(nn.Module):
    """Pointwise projection and depth to space: (B, C, D, H, W) -> (B, out, 2 D, 2 H, 2 W).

    A transposed convolution whose kernel equals its stride is exactly this.
    """

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.project = nn.ConvTranspose3d(channels, out, kernel_size=2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.project(x)


class Residual(nn.Module):
    """Two 3x3x3 convolutions with instance norm and leaky ReLU around a shortcut."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels_in, channels_out, 3, padding=1, bias=False)
        self.norm1 = nn.InstanceNorm3d(channels_out, affine=True)
        self.conv2 = nn.Conv3d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.InstanceNorm3d(channels_out, affine=True)
        self.shortcut = (
            nn.Identity()
            if channels_in == channels_out
            else nn.Conv3d(channels_in, channels_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm1(self.conv1(x)), 0.01)
        y = self.norm2(self.conv2(y))
        return F.leaky_relu(y + self.shortcut(x), 0.01)


class PocketNet(nn.Module):
    """Encoder and decoder on the folded grid.

    Args:
        classes: Number of output channels, background included.
        widths: Channels per level; level i works on the grid divided by 2^(i + 1).

    Input (B, 1, D, H, W), sides multiples of 2^len(widths); output logits (B, classes, D, H, W). In training
    mode a second, coarse output (B, classes, D/4, H/4, W/4) of the next decoder level is returned for deep
    supervision.
    """

    def __init__(self, *, classes: int = 14, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.widths = widths
        self.fold = Fold()
        self.down = nn.ModuleList()
        self.encoder = nn.ModuleList([Residual(8, widths[0])])
        for narrow, wide in itertools.pairwise(widths):
            self.down.append(nn.Conv3d(narrow, wide, 2, stride=2))
            self.encoder.append(Residual(wide, wide))
        self.up = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for narrow, wide in reversed(list(itertools.pairwise(widths))):
            self.up.append(nn.ConvTranspose3d(wide, narrow, 2, stride=2))
            self.decoder.append(Residual(2 * narrow, narrow))
        self.head = Unfold(widths[0] + 8, classes)
        self.coarse_head = nn.Conv3d(widths[1], classes, 1)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        folded = self.fold(x)
        skips = [self.encoder[0](folded)]
        for down, stage in zip(self.down, list(self.encoder)[1:], strict=True):
            skips.append(stage(down(skips[-1])))
        y = skips.pop()
        coarse = None
        for level, (up, stage) in enumerate(zip(self.up, self.decoder, strict=True)):
            y = stage(torch.cat([up(y), skips.pop()], dim=1))
            if self.training and level == len(self.up) - 2:
                coarse = self.coarse_head(y)
        logits = self.head(torch.cat([y, folded], dim=1))
        return (logits, coarse) if coarse is not None else logits

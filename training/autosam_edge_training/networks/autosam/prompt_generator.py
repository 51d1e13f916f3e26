"""The auto prompt generator: a small U-Net whose output replaces the clicks of a person."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.convolution import conv_norm_relu


class PromptGenerator(nn.Module):
    """Turns the last feature map of the encoder into a prompt, which replaces it.

    Args:
        widths: Channels of the U-Net's levels, finest first; one pooling less than widths.
    """

    def __init__(self, channels: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(channels, widths[0], 3, padding=1, bias=False), conv_norm_relu(widths[0], widths[0])
        )
        levels = list(itertools.pairwise(widths))
        self.down = nn.ModuleList(
            [nn.Sequential(conv_norm_relu(a, b), conv_norm_relu(b, b)) for a, b in levels]
        )
        self.up = nn.ModuleList(
            [nn.Sequential(conv_norm_relu(a + b, a), conv_norm_relu(a, a)) for a, b in reversed(levels)]
        )
        self.out = nn.Conv3d(widths[0], channels, 1)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Feature maps, (B, channels, D', H', W') each, with the prompt in place of the last one."""
        return [*features[:-1], self.prompt(features[-1])]

    def prompt(self, features: Tensor) -> Tensor:
        """The U-Net itself: (B, channels, D', H', W') to the same."""
        skips = [self.stem(features)]
        for stage in self.down:
            skips.append(stage(F.max_pool3d(skips[-1], 2)))
        wide = skips.pop()
        for stage in self.up:
            skip = skips.pop()
            wide = F.interpolate(wide, size=skip.shape[2:], mode="trilinear", align_corners=False)
            wide = stage(torch.cat([wide, skip], dim=1))
        return self.out(wide)


def fits_grid(widths: Sequence[int], grid: Sequence[int]) -> bool:
    """Whether the lowest level still has more than one voxel, which instance norm needs.

    Args:
        grid: (D', H', W') of the feature maps.
    """
    return math.prod(side // 2 ** (len(widths) - 1) for side in grid) > 1

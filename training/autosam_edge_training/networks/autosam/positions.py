"""Absolute positions: SAM's frozen table in the plane plus a learned one along depth."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Positions(nn.Module):
    """Adds ``plane[h, w] + depth[d]`` to the tokens.

    ``pos_embed`` (1, grid, grid, C) is SAM's; ``depth_embed`` (1, depth, C) starts at zero, so that at first
    every slice is where SAM would put it. Tables are resized to the token grid.
    """

    def __init__(self, dim: int, *, grid: int = 64, depth: int = 32) -> None:
        super().__init__()
        self.pos_embed = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, grid, grid, dim), std=0.02))
        self.depth_embed = nn.Parameter(torch.zeros(1, depth, dim))

    def table(self, grid: tuple[int, int, int]) -> Tensor:
        """Positions of a token grid (D', H', W') as (1, D', H', W', C)."""
        depth, height, width = grid
        plane = resize_plane(self.pos_embed.permute(0, 3, 1, 2), (height, width)).permute(0, 2, 3, 1)
        line: Tensor = self.depth_embed
        if line.shape[1] != depth:
            line = F.interpolate(
                line.transpose(1, 2), size=depth, mode="linear", align_corners=False
            ).transpose(1, 2)
        return plane[:, None] + line[:, :, None, None]

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D', H', W', C) to the same."""
        return tokens + self.table((tokens.shape[1], tokens.shape[2], tokens.shape[3]))


def resize_plane(table: Tensor, size: tuple[int, int]) -> Tensor:
    """A table (1, C, H, W) on another grid: means where it shrinks, bilinear where it grows."""
    smaller = (min(table.shape[2], size[0]), min(table.shape[3], size[1]))
    if smaller != tuple(table.shape[2:]):
        table = F.adaptive_avg_pool2d(table, smaller)
    if size != smaller:
        table = F.interpolate(table, size=size, mode="bilinear", align_corners=False)
    return table

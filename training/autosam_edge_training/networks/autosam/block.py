"""One transformer block: adapter, attention in windows, MLP."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.adapter import SpatialAdapter
from autosam_edge_training.networks.autosam.attention import WindowAttention
from autosam_edge_training.networks.autosam.windows import (
    Size,
    merge_windows,
    shift_that_applies,
    split_windows,
    window_regions,
)


class Mlp(nn.Module):
    """SAM's MLP: two linear layers with GELU between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.lin1 = nn.Linear(dim, 4 * dim)
        self.lin2 = nn.Linear(4 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.lin2(F.gelu(self.lin1(tokens)))


class Block(nn.Module):
    """SAM's block on a three-dimensional grid, with a spatial adapter.

    Args:
        adapter: Adapter, which runs before everything else.
        window: (d, h, w) tokens; None: one window over the whole grid.
        shift: Tokens by which the windows are shifted, as in Swin; sides that one window covers are not.
    """

    def __init__(
        self,
        dim: int,
        *,
        attention: WindowAttention,
        adapter: SpatialAdapter,
        window: Size | None = (8, 8, 8),
        shift: Size = (0, 0, 0),
    ) -> None:
        super().__init__()
        self.adapter = adapter
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim)
        self.window = window
        self.shift = shift

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D', H', W', C) to the same."""
        tokens = self.adapter(tokens)
        tokens = tokens + self._attend(self.norm1(tokens))
        return tokens + self.mlp(self.norm2(tokens))

    def _attend(self, tokens: Tensor) -> Tensor:
        grid = (tokens.shape[1], tokens.shape[2], tokens.shape[3])
        window = self.window or grid
        shift = shift_that_applies(grid, window, self.shift)
        regions = window_regions(grid, window, shift, device=tokens.device) if any(shift) else None
        mixed = self.attn(split_windows(tokens, window, shift), regions)
        return merge_windows(mixed, grid, shift)

"""The image encoder: SAM's vision transformer over the tokens of a volume."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from autosam_edge_training.networks.autosam.block import Block
from autosam_edge_training.networks.autosam.patch_embed import PatchEmbed
from autosam_edge_training.networks.autosam.positions import Positions


class ImageEncoder(nn.Module):
    """Embeds, adds positions, runs the blocks, and hands out the tokens after some of them.

    Args:
        positions: Table of positions that is added to the tokens.
        blocks: Transformer blocks in order.
        taps: Blocks, counted from 0 and rising, after which the tokens are handed out.
        recompute: Keep only each block's input for the backward pass and run the block again there: less
            memory, a third more work.
    """

    def __init__(
        self,
        patch_embed: PatchEmbed,
        positions: Positions,
        blocks: Sequence[Block],
        *,
        taps: Sequence[int],
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.patch_embed = patch_embed
        self.positions = positions
        self.blocks = nn.ModuleList(blocks)
        self.taps = tuple(taps)
        self.recompute = recompute

    def forward(self, image: Tensor) -> list[Tensor]:
        """Tokens after each tap.

        Args:
            image: (B, 1, D, H, W).
        """
        tokens = self.positions(self.patch_embed(image))
        tapped = []
        for index, block in enumerate(self.blocks):
            if self.recompute and torch.is_grad_enabled():
                # No block draws random numbers, so their state need not be kept.
                tokens = checkpoint(block, tokens, use_reentrant=False, preserve_rng_state=False)
            else:
                tokens = block(tokens)
            if index in self.taps:
                tapped.append(tokens)
        return tapped

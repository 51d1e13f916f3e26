"""The two patch mergings that SwinUNETR was trained with.

MONAI up to 1.4 lays eight slices side by side of which two repeat others; from 1.5 on they are the eight
corners of the 2 x 2 x 2 block. The parameters have the same shapes, so a checkpoint of one loads into the
other without a word and gives another network: a checkpoint therefore says which it is.
"""

from __future__ import annotations

from typing import Literal

import torch
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2
from torch import Tensor, nn
from torch.nn import functional as F

Merging = Literal["legacy", "v2"]
# Which neighbor (d, h, w) each eighth of the channels is.
MERGING_ORDERS: dict[Merging, tuple[tuple[int, int, int], ...]] = {
    "legacy": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1)),
    "v2": ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (1, 0, 1), (0, 1, 1), (1, 1, 1)),
}


class LegacyPatchMerging(PatchMergingV2):
    """Patch merging as MONAI up to 1.4 has it: (B, D, H, W, C) -> (B, D/2, H/2, W/2, 2 C)."""

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        depth, height, width = x.shape[1:4]
        x = F.pad(x, (0, 0, 0, width % 2, 0, height % 2, 0, depth % 2))
        return self.reduction(
            self.norm(torch.cat([x[:, i::2, j::2, k::2] for i, j, k in MERGING_ORDERS["legacy"]], dim=-1))
        )


def merging_of(module: nn.Module) -> Merging:
    """Which merging a module does.

    Raises:
        ValueError: Neither.
    """
    if isinstance(module, LegacyPatchMerging):
        return "legacy"
    if type(module) is PatchMerging:
        return "v2"
    raise ValueError(f"{type(module).__name__} is no patch merging that a student is trained with")

"""The mask decoder: feature maps and image to a logit per class and voxel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.convolution import conv_norm_relu

DecoderScale = Literal["full", "half"]


class MaskDecoder(nn.Module):
    """Fuses the feature maps and the image, and classifies each voxel. Trained from scratch.

    Args:
        mid: Channels of a head and of the fused features.
        scale: Decoder's grid: the image's (``full``, paper), or ``half`` of it with the logits enlarged at
            the end (an eighth of the work).
    """

    def __init__(
        self, maps: int, channels: int, *, mid: int, classes: int, scale: DecoderScale = "full"
    ) -> None:
        super().__init__()
        self.scale = scale
        self.heads = nn.ModuleList(
            [nn.Sequential(conv_norm_relu(channels, mid), conv_norm_relu(mid, mid)) for _ in range(maps)]
        )
        self.fuse = conv_norm_relu(maps * mid + 1, mid)
        self.classify = nn.Conv3d(mid, classes, 3, padding=1, bias=False)

    def forward(self, features: Sequence[Tensor], image: Tensor) -> Tensor:
        """Logits.

        Args:
            features: Maps (B, channels, D', H', W').
            image: (B, 1, D, H, W); sides are even where ``scale`` is ``half``.

        Returns:
            (B, classes, D, H, W).
        """
        beside = image if self.scale == "full" else F.avg_pool3d(image, 2)
        raised = [
            F.interpolate(head(map_), size=beside.shape[2:], mode="trilinear", align_corners=False)
            for head, map_ in zip(self.heads, features, strict=True)
        ]
        logits = self.classify(self.fuse(torch.cat([*raised, beside.to(raised[0].dtype)], dim=1)))
        if self.scale == "half":
            logits = F.interpolate(logits, size=image.shape[2:], mode="trilinear", align_corners=False)
        return logits

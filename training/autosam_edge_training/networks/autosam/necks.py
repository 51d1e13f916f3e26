"""The bottleneck: from a block's tokens to a feature map for the decoder."""

from __future__ import annotations

from torch import Tensor, nn


class LayerNorm3d(nn.LayerNorm):
    """Layer norm over the channels of (B, C, D, H, W), eps 1e-6: SAM's LayerNorm2d with one axis more."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)


class Neck(nn.Module):
    """SAM's neck in 3D: pointwise convolution, norm, 3x3x3 convolution, norm. Trained from scratch."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__()
        self.project = nn.Conv3d(dim, out, 1, bias=False)
        self.norm1 = LayerNorm3d(out)
        self.conv = nn.Conv3d(out, out, 3, padding=1, bias=False)
        self.norm2 = LayerNorm3d(out)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D', H', W', C) -> (B, out, D', H', W')."""
        features = self.norm1(self.project(tokens.permute(0, 4, 1, 2, 3)))
        return self.norm2(self.conv(features))

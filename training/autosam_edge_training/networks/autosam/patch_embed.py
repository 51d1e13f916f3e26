"""Voxels to tokens: SAM's 2D patch embedding, made 3D and folded into one convolution."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchEmbed(nn.Module):
    """Upsample, convolve each axial slice with SAM's frozen kernel, and convolve along depth, in one step.

    The paper enlarges the volume ``upsample`` times, runs SAM's ``patch x patch`` convolution on every slice
    (the image repeated in its three channels) and a depthwise convolution over ``patch`` slices. All three
    are linear, so they are one convolution of the native voxels whose kernel is an outer product; the
    enlarged volume, 64 times the voxels, is never made. The kernel is folded anew in every forward pass, so
    that the gradient reaches the depth weights.

    Args:
        upsample: Trilinear enlargement before the embedding; divides ``patch``.
    """

    interpolation: Tensor

    def __init__(self, dim: int, *, patch: int = 16, upsample: int = 4) -> None:
        super().__init__()
        self.stride = patch // upsample
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.depth_weight = nn.Parameter(torch.full((dim, patch), 1.0 / patch))
        self.depth_bias = nn.Parameter(torch.zeros(dim))
        self.register_buffer("interpolation", linear_interpolation(patch, upsample), persistent=False)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The one kernel (C, 1, taps, taps, taps) and its bias (C,)."""
        # bfloat16 would round the factors before they are multiplied.
        with torch.autocast(self.proj.weight.device.type, enabled=False):
            weight = self.proj.weight.sum(dim=1)  # the gray image in all three channels
            assert self.proj.bias is not None
            in_plane = torch.einsum("chw,hy,wx->cyx", weight, self.interpolation, self.interpolation)
            along_depth = self.depth_weight @ self.interpolation
            kernel = torch.einsum("cz,cyx->czyx", along_depth, in_plane)[:, None]
            return kernel, self.proj.bias * self.depth_weight.sum(dim=1) + self.depth_bias

    def forward(self, image: Tensor) -> Tensor:
        """Tokens of an image.

        Args:
            image: (B, 1, D, H, W), sides that are multiples of ``stride``.

        Returns:
            (B, D', H', W', C), sides divided by ``stride``.

        Raises:
            ValueError: The image has another number of axes or channels, or a side does not divide.
        """
        if image.ndim != 5 or image.shape[1] != 1 or any(side % self.stride for side in image.shape[2:]):
            raise ValueError(
                f"image of shape {tuple(image.shape)}: expected (B, 1, D, H, W), multiples of {self.stride}"
            )
        kernel, bias = self.folded()
        # An enlarged voxel at the rim of a patch looks one native voxel beyond it.
        margin = (kernel.shape[-1] - self.stride) // 2
        if margin:
            image = F.pad(image, (margin,) * 6, mode="replicate")
        tokens = F.conv3d(image, kernel, bias, stride=self.stride)
        return tokens.permute(0, 2, 3, 4, 1).contiguous()  # (B, C, D', H', W') -> (B, D', H', W', C)


def linear_interpolation(patch: int, upsample: int) -> Tensor:
    """Weights of native samples in the enlarged ones, as in ``F.interpolate(align_corners=False)``.

    Returns:
        (patch, patch / upsample + 2) for native samples -1 ... patch / upsample, or the identity for an
        enlargement of 1.
    """
    if upsample == 1:
        return torch.eye(patch)
    position = (torch.arange(patch) + 0.5) / upsample - 0.5
    native = torch.arange(-1, patch // upsample + 1)
    return (1.0 - (position[:, None] - native).abs()).clamp_min(0.0)

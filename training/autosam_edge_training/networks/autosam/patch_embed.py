"""Voxels to tokens: SAM's 2D patch embedding, made 3D and folded into one convolution."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

DepthInit = Literal["mean", "delta"]
InputNorm = Literal["none", "sam"]

# Of segment_anything.modeling.Sam, on images from 0 to 255.
_SAM_MEAN = (123.675, 116.28, 103.53)
_SAM_STD = (58.395, 57.12, 57.375)


class PatchEmbed(nn.Module):
    """Upsample, convolve each axial slice with SAM's frozen kernel, and convolve along depth, in one step.

    The paper enlarges the volume ``upsample`` times, runs SAM's ``patch x patch`` convolution on every slice
    (the image repeated in its three channels) and a depthwise convolution over ``patch`` slices. All three
    are linear, so they are one convolution of the native voxels whose kernel is an outer product; the
    enlarged volume, 64 times the voxels, is never made. The kernel is folded anew in every forward pass, so
    that the gradient reaches the depth weights.

    Args:
        dim: C, channels of a token.
        patch: Side of SAM's patch in enlarged voxels.
        upsample: Trilinear enlargement before the embedding; divides ``patch``.
        depth_init: Depth weights at the start: ``mean`` of the slices of a patch, or ``delta``, the slice in
            its middle.
        input_norm: ``sam`` applies SAM's pixel statistics to the [0, 1] image; ``none`` leaves it as it is.
    """

    gain: Tensor
    offset: Tensor
    interpolation: Tensor

    def __init__(
        self,
        dim: int,
        *,
        patch: int = 16,
        upsample: int = 4,
        depth_init: DepthInit = "mean",
        input_norm: InputNorm = "none",
    ) -> None:
        super().__init__()
        self.stride = patch // upsample
        self.proj = nn.Conv2d(3, dim, patch, stride=patch)
        self.depth_weight = nn.Parameter(torch.full((dim, patch), 1.0 / patch))
        if depth_init == "delta":
            with torch.no_grad():
                self.depth_weight.copy_(F.one_hot(torch.tensor(patch // 2), patch).float())
        self.depth_bias = nn.Parameter(torch.zeros(dim))
        gain, offset = torch.ones(3), torch.zeros(3)
        if input_norm == "sam":
            mean, std = torch.tensor(_SAM_MEAN), torch.tensor(_SAM_STD)
            gain, offset = 255.0 / std, mean / std
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("offset", offset, persistent=False)
        self.register_buffer("interpolation", linear_interpolation(patch, upsample), persistent=False)

    def folded(self) -> tuple[Tensor, Tensor]:
        """The one kernel (C, 1, taps, taps, taps) and its bias (C,)."""
        # bfloat16 would round the factors before they are multiplied.
        with torch.autocast(self.proj.weight.device.type, enabled=False):
            channels = self.proj.weight
            weight = torch.einsum("cihw,i->chw", channels, self.gain)
            assert self.proj.bias is not None
            bias = self.proj.bias - torch.einsum("cihw,i->c", channels, self.offset)
            in_plane = torch.einsum("chw,hy,wx->cyx", weight, self.interpolation, self.interpolation)
            along_depth = self.depth_weight @ self.interpolation
            kernel = torch.einsum("cz,cyx->czyx", along_depth, in_plane)[:, None]
            return kernel, bias * self.depth_weight.sum(dim=1) + self.depth_bias

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
        margin = (
            kernel.shape[-1] - self.stride
        ) // 2  # an enlarged voxel at the rim of a patch looks one native voxel beyond it
        if margin:
            image = F.pad(image, (margin,) * 6, mode="replicate")
        tokens = F.conv3d(image, kernel, bias, stride=self.stride)
        return tokens.permute(0, 2, 3, 4, 1).contiguous()  # (B, C, D', H', W') -> (B, D', H', W', C)


def linear_interpolation(patch: int, upsample: int) -> Tensor:
    """Weights of native samples in the enlarged ones, as in ``F.interpolate(align_corners=False)``.

    Args:
        patch: Enlarged samples per patch.
        upsample: Enlargement.

    Returns:
        (patch, patch / upsample + 2) for native samples -1 ... patch / upsample, or the identity for an
        enlargement of 1.
    """
    if upsample == 1:
        return torch.eye(patch)
    position = (torch.arange(patch) + 0.5) / upsample - 0.5
    native = torch.arange(-1, patch // upsample + 1)
    return (1.0 - (position[:, None] - native).abs()).clamp_min(0.0)

"""The folded patch embedding is SAM's, slice by slice."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.patch_embed import PatchEmbed, linear_interpolation


def random_embed(**options):
    torch.manual_seed(0)
    embed = PatchEmbed(24, **options)
    torch.nn.init.normal_(embed.depth_weight, std=0.3)
    torch.nn.init.normal_(embed.depth_bias)
    return embed


def step_by_step(embed, image, *, upsample, patch=16):
    """Enlarge, run the 2D convolution on every slice, run the depthwise convolution along depth."""
    large = F.interpolate(image, scale_factor=upsample, mode="trilinear", align_corners=False)
    slices = large.transpose(1, 2).flatten(0, 1)  # (B * D, 1, H, W)
    planes = embed.proj(slices.repeat(1, 3, 1, 1))
    planes = planes.unflatten(0, (image.shape[0], -1)).transpose(1, 2)  # (B, C, D, H', W')
    channels = planes.shape[1]
    kernel = embed.depth_weight[:, None, :, None, None]
    return F.conv3d(planes, kernel, embed.depth_bias, stride=(patch, 1, 1), groups=channels).permute(
        0, 2, 3, 4, 1
    )


@pytest.mark.teacher
@pytest.mark.parametrize("upsample", [4, 1])
def test_folding_is_exact(upsample):
    """One convolution of native voxels == enlarge, 2D convolution, depth convolution; borders included."""
    embed = random_embed(upsample=upsample)
    side = 16 // upsample
    image = torch.rand(2, 1, 2 * side, 3 * side, 4 * side)
    with torch.no_grad():
        tokens, expected = embed(image), step_by_step(embed, image, upsample=upsample)
    assert tokens.shape == (2, 2, 3, 4, 24)
    assert (tokens - expected).abs().max() < 5e-6 * expected.abs().max()


@pytest.mark.teacher
def test_a_volume_that_does_not_change_with_depth_is_embedded_as_sam_does(teacher_of, small_sam):
    """With the mean over depth every token is SAM's embedding of the enlarged slice."""
    embed = teacher_of(patch=(32, 40, 40), window=(7, 7, 7)).image_encoder.patch_embed
    slice_ = torch.rand(1, 1, 40, 40)
    with torch.no_grad():
        expected = small_sam.patch_embed(
            F.interpolate(slice_, scale_factor=4, mode="bilinear").repeat(1, 3, 1, 1)
        )
        tokens = embed(slice_[:, :, None].expand(-1, -1, 32, -1, -1))
    assert tokens.shape == (1, 8, 10, 10, 48)
    assert (tokens - expected[:, None]).abs().max() < 1e-5 * expected.abs().max()


def test_the_gradient_reaches_the_depth_weights():
    """The kernel is folded anew in each pass; its derivative is that of the long way."""
    image = torch.rand(1, 1, 8, 8, 8)
    gradients = []
    for forward in (lambda e: e(image), lambda e: step_by_step(e, image, upsample=4)):
        embed = random_embed()
        forward(embed).square().sum().backward()
        gradients.append((embed.depth_weight.grad, embed.depth_bias.grad))
    for folded, long in zip(*gradients, strict=True):
        assert (folded - long).abs().max() < 1e-5 * long.abs().max()
        assert folded.abs().min() > 0


def test_interpolation_is_torchs():
    """The matrix of the linear enlargement: rows sum to 1, and within a line it is F.interpolate."""
    matrix = linear_interpolation(16, 4)
    assert matrix.shape == (16, 6)
    assert torch.equal(matrix.sum(dim=1), torch.ones(16))
    line = torch.rand(12)
    enlarged = F.interpolate(line[None, None], scale_factor=4, mode="linear")[0, 0]
    assert torch.allclose(matrix @ line[3:9], enlarged[16:32])


@pytest.mark.parametrize("shape", [(1, 1, 8, 8, 9), (1, 3, 8, 8, 8), (1, 8, 8, 8)])
def test_what_is_not_whole_tokens_is_refused(shape):
    """No cropping or padding behind one's back."""
    with pytest.raises(ValueError, match="multiples of 4"):
        PatchEmbed(8)(torch.zeros(shape))

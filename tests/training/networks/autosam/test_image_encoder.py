"""Before training, the 3D encoder is SAM's 2D encoder on every slice."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig

pytestmark = pytest.mark.teacher


def deviation(found, expected):
    """Largest difference over the largest value."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def test_one_token_deep_it_is_sam(teacher_of, small_sam, sam_taps):
    """Windows of 1 x 7 x 7 on 10 x 10 tokens (padded) and global blocks: the trunk is ImageEncoderViT's."""
    encoder = teacher_of(
        patch=(16, 160, 160), upsample=1, window=(1, 7, 7), global_blocks="full"
    ).image_encoder
    for block in encoder.blocks:
        block.shift = (0, 0, 0)  # SAM's windows are not shifted
    slice_ = torch.rand(1, 1, 160, 160)
    with torch.no_grad():
        found = encoder(slice_[:, :, None].expand(-1, -1, 16, -1, -1))
        expected = sam_taps(small_sam, slice_.repeat(1, 3, 1, 1))
    assert expected[-1].abs().max() > 5  # far from zero, so that the comparison means something
    for ours, theirs in zip(found, expected, strict=True):
        assert deviation(ours[:, 0], theirs) < 1e-5


def test_a_volume_that_does_not_change_with_depth_is_sam_at_every_depth(teacher_of, small_sam, sam_taps):
    """Windows of 4 x 7 x 7, shifted in depth, and full attention: a bias of depth does not matter."""
    encoder = teacher_of(
        patch=(128, 160, 160), upsample=1, window=(4, 7, 7), global_blocks="full"
    ).image_encoder
    torch.manual_seed(1)
    for block in encoder.blocks:
        torch.nn.init.normal_(block.attn.rel_pos_d)
        block.shift = (2, 0, 0)
    slice_ = torch.rand(1, 1, 160, 160)
    with torch.no_grad():
        found = encoder(slice_[:, :, None].expand(-1, -1, 128, -1, -1))
        expected = sam_taps(small_sam, slice_.repeat(1, 3, 1, 1))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == (1, 8, 10, 10, 48)
        assert deviation(ours, theirs[:, None].expand_as(ours)) < 1e-5


def test_the_depth_bias_counts_where_depth_changes(teacher_of):
    """On a volume that is not constant the bias of depth changes the features."""
    encoder = teacher_of(patch=(128, 160, 160), upsample=1, window=(4, 7, 7)).image_encoder
    image = torch.rand(1, 1, 128, 160, 160)
    with torch.no_grad():
        before = encoder(image)[-1]
        for block in encoder.blocks:
            torch.nn.init.normal_(block.attn.rel_pos_d)
        assert deviation(encoder(image)[-1], before) > 1e-2


def test_recomputed_is_plain():
    """Checkpointing runs each block twice and changes neither logits nor gradients, bit for bit."""
    image = torch.rand(1, 1, 32, 32, 32)
    results = []
    for checkpoint in ("none", "blocks"):
        torch.manual_seed(0)
        model = build_autosam(TeacherConfig(vit="tiny", classes=3, checkpoint=checkpoint))
        runs = []
        for block in model.image_encoder.blocks:
            torch.nn.init.normal_(block.adapter.up.weight, std=0.1)
            block.norm1.register_forward_hook(lambda module, inputs, output, runs=runs: runs.append(module))
        logits = model(image)
        logits.square().sum().backward()
        assert len(runs) == (8 if checkpoint == "blocks" else 4)
        results.append([logits.detach(), *(p.grad for p in model.parameters() if p.requires_grad)])
    assert all(torch.equal(plain, recomputed) for plain, recomputed in zip(*results, strict=True))

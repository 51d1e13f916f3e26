"""The 3D neck is SAM's neck with one axis more."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.necks import LayerNorm3d, Neck


def test_shape_and_size():
    """Channels last to channels first; 1,967,104 parameters in ViT-B."""
    assert Neck(8, 5)(torch.randn(2, 3, 4, 6, 8)).shape == (2, 5, 3, 4, 6)
    with torch.device("meta"):
        assert sum(p.numel() for p in Neck(768, 256).parameters()) == 1_967_104


@pytest.mark.teacher
def test_the_norm_is_sams(segment_anything):
    """LayerNorm3d of a volume is LayerNorm2d of each of its slices."""
    theirs = segment_anything.modeling.common.LayerNorm2d(6)
    torch.nn.init.normal_(theirs.weight)
    torch.nn.init.normal_(theirs.bias)
    ours = LayerNorm3d(6)
    ours.load_state_dict(theirs.state_dict())
    volume = torch.randn(2, 6, 3, 4, 5)
    with torch.no_grad():
        for z in range(3):
            assert torch.allclose(ours(volume)[:, :, z], theirs(volume[:, :, z]), atol=1e-6)


@pytest.mark.teacher
def test_a_neck_with_sams_weights_is_sams_neck(small_sam):
    """One token deep, with SAM's 3 x 3 kernel in the middle of the 3 x 3 x 3 one."""
    neck, theirs = Neck(48, 16), small_sam.neck
    with torch.no_grad():
        neck.project.weight.copy_(theirs[0].weight[..., None])
        neck.norm1.load_state_dict(theirs[1].state_dict())
        neck.conv.weight.zero_()[:, :, 1] = theirs[2].weight
        neck.norm2.load_state_dict(theirs[3].state_dict())
        tokens = torch.randn(1, 1, 10, 10, 48)
        expected = theirs(tokens[:, 0].permute(0, 3, 1, 2))
        assert torch.allclose(neck(tokens)[:, :, 0], expected, atol=1e-5)

"""The decoder gives a logit per class and voxel of the image."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.mask_decoder import MaskDecoder


@pytest.mark.parametrize(("classes", "parameters"), [(14, 7_129_728), (16, 7_136_640)])
@pytest.mark.parametrize("scale", ["full", "half"])
def test_its_size(classes, parameters, scale):
    """The scale changes the work and not the weights."""
    with torch.device("meta"):
        decoder = MaskDecoder(4, 256, mid=128, classes=classes, scale=scale)
    assert sum(p.numel() for p in decoder.parameters()) == parameters


@pytest.mark.parametrize("scale", ["full", "half"])
def test_every_input_counts(scale):
    """Each map and the image reach the logits, on the image's grid."""
    torch.manual_seed(0)
    decoder = MaskDecoder(3, 4, mid=5, classes=2, scale=scale)
    features = [torch.randn(1, 4, 2, 3, 4, requires_grad=True) for _ in range(3)]
    image = torch.rand(1, 1, 8, 12, 16, requires_grad=True)
    logits = decoder(features, image)
    assert logits.shape == (1, 2, 8, 12, 16)
    logits.square().sum().backward()
    assert all(x.grad.abs().sum() > 0 for x in [*features, image])


@pytest.mark.parametrize(("scale", "grid"), [("full", (4, 4, 4)), ("half", (2, 2, 2))])
def test_the_grid_it_fuses_on(scale, grid):
    """All of the image's voxels, or an eighth of them."""
    decoder = MaskDecoder(1, 2, mid=3, classes=2, scale=scale)
    seen = []
    decoder.fuse.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].shape))
    decoder([torch.randn(1, 2, 2, 2, 2)], torch.rand(1, 1, 4, 4, 4))
    assert seen == [(1, 4, *grid)]

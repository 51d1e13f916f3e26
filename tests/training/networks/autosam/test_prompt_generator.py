"""The prompt generator takes one feature map's place and leaves the others alone."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.prompt_generator import PromptGenerator, fits_grid


def test_its_size():
    """4,255,232 parameters at the paper's sizes."""
    with torch.device("meta"):
        assert sum(p.numel() for p in PromptGenerator(256, (16, 32, 64, 128, 160)).parameters()) == 4_255_232


def test_the_prompt_replaces_the_last_map():
    """The other maps stay, and the list that was given is not changed."""
    torch.manual_seed(0)
    generator = PromptGenerator(4, (2, 3))
    features = [torch.randn(1, 4, 4, 6, 5) for _ in range(4)]
    given = list(features)
    with torch.no_grad():
        output = generator(features)
        prompt = generator.prompt(features[3])
    assert all(a is b for a, b in zip(features, given, strict=True))
    assert all(output[i] is features[i] for i in range(3))
    assert torch.equal(output[3], prompt)
    assert prompt.shape == features[3].shape


def test_it_sees_the_whole_map():
    """Each voxel of the prompt depends on voxels at the far end: the lowest level is two voxels wide."""
    torch.manual_seed(0)
    generator = PromptGenerator(2, (4, 6, 8))
    features = torch.randn(1, 2, 8, 8, 8, requires_grad=True)
    generator.prompt(features)[0, 0, 0, 0, 0].backward()
    assert features.grad[0, :, -1, -1, -1].abs().sum() > 0


@pytest.mark.parametrize(
    ("levels", "grid", "fits"),
    [
        (5, (32, 32, 32), True),
        (5, (16, 16, 16), False),
        (4, (16, 16, 16), True),
        (4, (24, 24, 24), True),
        (5, (24, 24, 24), False),
    ],
)
def test_more_than_one_voxel_is_left(levels, grid, fits):
    """32 tokens stand four poolings, 24 and 16 three."""
    assert fits_grid((8,) * levels, grid) is fits
    generator = PromptGenerator(1, (1,) * levels)
    if fits:
        assert generator.prompt(torch.randn(1, 1, *grid)).shape == (1, 1, *grid)
    else:
        with pytest.raises(ValueError, match="more than 1 spatial element"):
            generator.prompt(torch.randn(1, 1, *grid))

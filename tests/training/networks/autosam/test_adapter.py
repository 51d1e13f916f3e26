"""The adapter is the formula, and nothing at the start."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.adapter import SpatialAdapter
from autosam_edge_training.networks.autosam.attention import WindowAttention
from autosam_edge_training.networks.autosam.block import Block


def test_it_starts_as_the_identity():
    """W_up is zero, and yet it learns from the first step: no activation stands behind it."""
    adapter = SpatialAdapter(16, 8)
    tokens = torch.randn(2, 3, 4, 5, 16)
    output = adapter(tokens)
    assert torch.equal(output, tokens)
    output.sum().backward()
    assert adapter.up.weight.grad.abs().sum() > 0


def test_it_is_the_formula():
    """X + ReLU(DWConv(X W_down)) W_up, no biases anywhere."""
    adapter = SpatialAdapter(6, 2)
    torch.nn.init.normal_(adapter.up.weight)
    tokens = torch.randn(1, 3, 3, 3, 6)
    hidden = torch.einsum("bdhwc,kc->bkdhw", tokens, adapter.down.weight)
    hidden = F.relu(F.conv3d(hidden, adapter.conv.weight, padding=1, groups=2))
    expected = tokens + torch.einsum("bkdhw,ck->bdhwc", hidden, adapter.up.weight)
    assert torch.allclose(adapter(tokens), expected, atol=1e-6)
    assert {name for name, _ in adapter.named_parameters()} == {"down.weight", "conv.weight", "up.weight"}


def test_its_size():
    """600,192 parameters in ViT-B."""
    with torch.device("meta"):
        assert sum(p.numel() for p in SpatialAdapter(768, 384).parameters()) == 600_192


def test_it_comes_before_the_block():
    """The block sees the adapted tokens."""
    torch.manual_seed(0)
    block = Block(16, attention=WindowAttention(16, 2), adapter=SpatialAdapter(16, 8), window=(2, 2, 2))
    torch.nn.init.ones_(block.adapter.up.weight)
    tokens = torch.randn(1, 2, 2, 2, 16)
    with torch.no_grad():
        found, inner = block(tokens), block.adapter(tokens)
        block.adapter = torch.nn.Identity()
        torch.testing.assert_close(found, block(inner))
    assert not torch.equal(inner, tokens)

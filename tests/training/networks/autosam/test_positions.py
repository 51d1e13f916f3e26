"""Positions are SAM's in the plane, and zero along depth until they are learned."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.positions import Positions, resize_plane


@pytest.mark.teacher
def test_the_native_grid_has_sams_table(teacher_of, small_sam):
    """At SAM's own grid every depth gets SAM's table, exactly."""
    positions = teacher_of(patch=(32, 40, 40), window=(7, 7, 7)).image_encoder.positions
    with torch.no_grad():
        assert torch.equal(
            positions.table((5, 10, 10)), small_sam.pos_embed[:, None].expand(-1, 5, -1, -1, -1)
        )


@pytest.mark.teacher
def test_half_the_grid_has_the_means():
    """64 -> 32 is the mean over 2 x 2."""
    positions = Positions(6)
    with torch.no_grad():
        expected = positions.pos_embed.reshape(1, 32, 2, 32, 2, 6).mean(dim=(2, 4))
        assert torch.allclose(positions.table((32, 32, 32))[:, 7], expected, rtol=0, atol=1e-8)


def test_a_finer_grid_is_interpolated_and_a_mixed_one_both():
    """One side shrinks, the other grows: a table linear in (h, w) stays itself at the new centers."""
    h, w = torch.meshgrid((torch.arange(8) + 0.5) / 8, (torch.arange(8) + 0.5) / 8, indexing="ij")
    resized = resize_plane(torch.stack([h, w])[None], (4, 16))[0]
    assert torch.allclose(resized[0], ((torch.arange(4) + 0.5) / 4)[:, None].expand(4, 16))
    assert torch.allclose(resized[1, :, 1:-1], ((torch.arange(16) + 0.5) / 16)[1:-1].expand(4, 14))


def test_depth_adds_its_own_row():
    """pos(d, h, w) = plane(h, w) + depth(d), the depth table resized linearly where it has another length."""
    positions = Positions(2, grid=4, depth=4)
    assert not positions.depth_embed.any()
    with torch.no_grad():
        positions.depth_embed.copy_(torch.arange(4.0)[None, :, None])
        plane = positions.pos_embed
        assert torch.allclose(positions.table((4, 4, 4))[:, 3], plane + 3.0)
        assert torch.allclose(positions.table((2, 4, 4))[:, 1], plane + 2.5)
        assert torch.equal(positions(torch.zeros(2, 4, 4, 4, 2))[1], positions.table((4, 4, 4))[0])

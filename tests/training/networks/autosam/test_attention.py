"""Attention is SAM's, in one dimension more and without its matrix of logits."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.attention import WindowAttention, relative_rows
from autosam_edge_training.networks.autosam.windows import split_windows, window_regions


class NaiveAttention(WindowAttention):
    """The same attention in SAM's own order of work, with all N x N logits."""

    @staticmethod
    def _attend(query, key, value, biases, regions):
        by_depth, by_row, by_column = biases
        position = by_depth[..., :, None, None] + by_row[..., None, :, None] + by_column[..., None, None, :]
        logits = query @ key.transpose(-2, -1) + position.flatten(-3)
        if regions is not None:
            logits = logits.masked_fill(regions[..., :, None] != regions[..., None, :], -torch.inf)
        return logits.softmax(dim=-1) @ value


def random_attention(*, kind=WindowAttention, rel_pos="crop", seed=0):
    torch.manual_seed(seed)
    attention = kind(32, 2, table_window=6, rel_pos=rel_pos)
    for table in (attention.rel_pos_d, attention.rel_pos_h, attention.rel_pos_w):
        torch.nn.init.normal_(table, std=0.5)
    return attention


@pytest.mark.teacher
@pytest.mark.parametrize("shift", [(0, 0, 0), (1, 2, 2)])
@pytest.mark.parametrize("rel_pos", ["crop", "interp"])
def test_fused_is_naive(shift, rel_pos):
    """The same output and gradients, shifted or not, windows with unequal sides, two volumes in the batch."""
    grid, window = (6, 8, 5), (3, 4, 5)
    tokens = torch.randn(2, *grid, 32)
    regions = window_regions(grid, window, shift) if any(shift) else None
    results = []
    for kind in (WindowAttention, NaiveAttention):
        attention = random_attention(kind=kind, rel_pos=rel_pos)
        output = attention(split_windows(tokens, window, shift), regions)
        output.square().sum().backward()
        results.append([output.detach(), *(p.grad for p in attention.parameters())])
    for fused, naive in zip(*results, strict=True):
        assert (fused - naive).abs().max() < 2e-6 * naive.abs().max()


def test_regions_do_not_see_each_other():
    """What happens in one region changes nothing in another, in the same window."""
    for kind in (WindowAttention, NaiveAttention):
        attention = random_attention(kind=kind)
        regions = torch.tensor([[0, 0, 0, 0, 4, 4, 4, 4]])
        windows = torch.randn(1, 2, 2, 2, 32)
        changed = windows.clone()
        changed[:, 1] += 1.0
        with torch.no_grad():
            before, after = attention(windows, regions), attention(changed, regions)
        assert torch.equal(before[:, 0], after[:, 0])
        assert not torch.allclose(before[:, 1], after[:, 1])


@pytest.mark.teacher
def test_a_plane_is_attended_to_as_sam_does(segment_anything):
    """One token deep, naive and fused are segment-anything's Attention, relative positions included."""
    for kind in (WindowAttention, NaiveAttention):
        attention = random_attention(kind=kind)
        theirs = segment_anything.modeling.image_encoder.Attention(32, 2, use_rel_pos=True, input_size=(6, 6))
        theirs.load_state_dict({k: v for k, v in attention.state_dict().items() if k != "rel_pos_d"})
        plane = torch.randn(3, 6, 6, 32)
        with torch.no_grad():
            assert torch.allclose(attention(plane[:, None])[:, 0], theirs(plane), atol=2e-6)


@pytest.mark.teacher
@pytest.mark.parametrize("side", [4, 6, 9])
def test_interpolated_tables_are_sams(segment_anything, side):
    """``interp`` is segment-anything's get_rel_pos, longer and shorter than the table."""
    table = torch.randn(11, 5)
    assert torch.allclose(
        relative_rows(table, side, "interp"),
        segment_anything.modeling.image_encoder.get_rel_pos(side, side, table),
        atol=1e-6,
    )


def test_cropped_tables_keep_the_meaning_of_an_offset():
    """Row q, key k holds the table's entry of offset q - k, whatever the window."""
    table = torch.arange(-13.0, 14.0)[:, None]  # its own offset
    rows = relative_rows(table, 8, "crop")[..., 0]
    assert torch.equal(rows, torch.arange(8.0)[:, None] - torch.arange(8.0))


def test_the_depth_table_is_the_mean():
    """Of SAM's two."""
    attention = random_attention()
    attention.derive_depth_table()
    assert torch.equal(attention.rel_pos_d, (attention.rel_pos_h + attention.rel_pos_w) / 2)

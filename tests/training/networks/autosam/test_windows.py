"""Windows come back together as they were cut."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge_training.networks.autosam.windows import (
    merge_windows,
    padded_grid,
    shift_that_applies,
    split_windows,
    window_regions,
)


@st.composite
def cuts(draw):
    """A grid, a window and a shift that is less than the window."""
    grid = tuple(draw(st.integers(1, 7)) for _ in range(3))
    window = tuple(draw(st.integers(1, 5)) for _ in range(3))
    return grid, window, tuple(draw(st.integers(0, size - 1)) for size in window)


@given(cuts(), st.integers(1, 2))
def test_merging_undoes_splitting(cut, batch):
    """Every token returns to its place through padding and shift; windows hold each token once."""
    grid, window, shift = cut
    tokens = torch.arange(1.0, 1 + batch * grid[0] * grid[1] * grid[2]).reshape(batch, *grid, 1)
    windows = split_windows(tokens, window, shift)
    assert windows.shape[1:4] == window
    assert torch.equal(windows[windows > 0].sort().values, tokens.flatten())
    assert torch.equal(merge_windows(windows, grid, shift), tokens)


@given(cuts())
def test_regions_part_what_came_around_the_end(cut):
    """Tokens of a window have different regions if and only if they are a window or more apart."""
    grid, window, asked = cut
    shift = shift_that_applies(grid, window, asked)
    padded = padded_grid(grid, window)
    places = torch.stack(torch.meshgrid(*(torch.arange(side) for side in padded), indexing="ij"), dim=-1)[
        None
    ]
    cut_places = split_windows(places, window, shift).flatten(1, 3)  # (windows, T, 3): where each token was
    regions = window_regions(grid, window, shift)
    apart = ((cut_places[:, :, None] - cut_places[:, None]).abs() >= torch.tensor(window)).any(dim=-1)
    assert torch.equal(regions[:, :, None] != regions[:, None], apart)


def test_a_side_that_one_window_covers_is_not_shifted():
    """There is nothing beyond it to look at."""
    assert shift_that_applies((4, 8, 9), (8, 8, 8), (4, 4, 4)) == (0, 0, 4)


def test_padding_is_at_the_end():
    """As SAM pads: zeros after the last row and column."""
    windows = split_windows(torch.ones(1, 1, 3, 3, 1), (1, 2, 2))
    assert windows[..., 0].reshape(4, 4).tolist() == [[1, 1, 1, 1], [1, 0, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]]

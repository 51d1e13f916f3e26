"""Tiles cover everything once or more, and lie where MONAI puts them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.pipeline.tiles import TilePlan, gaussian_weights, rows_beyond, tile_starts


@given(st.integers(1, 400), st.sampled_from([16, 32, 96]), st.floats(0, 0.9))
def test_tiles_cover_the_axis_and_end_with_it(extra, patch, overlap):
    """No gap, no tile beyond the end, no tile twice."""
    side = patch + extra - 1
    starts = tile_starts(side, patch, overlap)
    assert starts[0] == 0
    assert starts[-1] == side - patch
    assert all(0 < b - a <= patch for a, b in itertools.pairwise(starts))


@given(st.integers(96, 400), st.sampled_from([0.0, 0.25, 0.5, 0.7]))
def test_starts_are_those_of_monai(side, overlap):
    """The same positions as ``dense_patch_slices``."""
    utils = pytest.importorskip("monai.data.utils")
    inferers = pytest.importorskip("monai.inferers.utils")
    interval = inferers._get_scan_interval((side,) * 3, (96,) * 3, 3, [overlap] * 3)
    slices = utils.dense_patch_slices((side,) * 3, (96,) * 3, interval, return_slice=True)
    assert tile_starts(side, 96, overlap) == tuple(sorted({s[0].start for s in slices}))


def test_weights_are_those_of_monai():
    """The same Gaussian, the same floor."""
    utils = pytest.importorskip("monai.data.utils")
    expected = utils.compute_importance_map((32, 48, 16), mode="gaussian", sigma_scale=0.125).numpy()
    expected = np.maximum(expected, max(float(expected[expected != 0].min()), 1e-3))
    np.testing.assert_allclose(gaussian_weights((32, 48, 16)), expected, rtol=1e-5)


def test_a_small_box_sits_in_the_middle_of_one_tile():
    """A box smaller than a tile is padded evenly."""
    plan = TilePlan((10, 40, 16), (16, 16, 16), 0.5)
    assert plan.padded == (16, 40, 16)
    assert plan.pad_before == (3, 0, 0)
    assert plan.starts == ((0,), (0, 8, 16, 24), (0,))
    assert plan.tiles == 4


@pytest.mark.parametrize(
    ("side", "expected"), [(60, 8), (80, 8), (90, 3), (96, 0), (97, 8), (160, 4), (168, 0), (169, 8)]
)
def test_tiles_reach_beyond_the_ends_where_that_costs_no_tile(side, expected):
    """Tiles of 96 every 72 voxels hold 96, 168, 240 ... voxels; both ends share the rest, at most 8 each."""
    assert rows_beyond(side, 96, 0.25, 8) == expected
    plan = TilePlan((side, 96, 96), (96, 96, 96), 0.25, 8)
    assert len(plan.starts[0]) == len(tile_starts(max(side, 96), 96, 0.25))
    assert plan.padded[0] == max(96, side + 2 * expected)
    assert plan.pad_before[0] == (plan.padded[0] - side) // 2 >= expected

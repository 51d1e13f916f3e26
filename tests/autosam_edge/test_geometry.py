"""Grids and orientations: every voxel keeps its place in the world."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.geometry import Grid, Orientation

ORIENTATIONS = [
    Orientation((p[0], p[1], p[2]), (f[0], f[1], f[2]))
    for p in itertools.permutations(range(3))
    for f in itertools.product((False, True), repeat=3)
]


def canonical_affine(spacing=(3.0, 1.0, 0.5), origin=(-100.0, 20.0, 5.0)):
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    affine[:3, 3] = origin
    return affine


def test_spacing_and_voxel_volume_are_the_lengths_and_the_determinant():
    """3 x 1 x 0.5 mm makes 0.0015 ml."""
    grid = Grid((4, 5, 6), canonical_affine())
    assert grid.spacing_mm == (3.0, 1.0, 0.5)
    assert grid.voxel_ml == pytest.approx(0.0015)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_turned_grid_comes_back_to_canonical(orientation):
    """Turn a canonical array every way there is; the orientation found undoes it, voxel for voxel and in the world."""
    grid = Grid((4, 5, 6), canonical_affine())
    values = np.arange(120).reshape(4, 5, 6)
    turned_values = orientation.from_canonical(values)
    columns, corner = [None] * 3, grid.affine[:3, 3].copy()
    for canonical_axis, (array_axis, flip) in enumerate(zip(orientation.permutation, orientation.flips, strict=True)):
        step = grid.affine[:3, canonical_axis]
        columns[array_axis] = -step if flip else step
        if flip:
            corner += step * (grid.shape[canonical_axis] - 1)
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = np.stack(columns, axis=1), corner
    turned = Grid(turned_values.shape, affine)

    found = Orientation.of(turned)
    assert found == orientation
    np.testing.assert_array_equal(found.to_canonical(turned_values), values)
    np.testing.assert_array_equal(found.from_canonical(found.to_canonical(turned_values)), turned_values)
    assert found.canonical_grid(turned).same_as(grid, tolerance_mm=1e-9)


@given(st.tuples(*[st.floats(-40, 40)] * 3))
def test_a_tilt_below_45_degrees_does_not_swap_axes(angles):
    """An oblique scan is read along its nearest axes, without flips."""
    rotation = np.eye(3)
    a = np.deg2rad(angles[0])
    rotation[1:, 1:] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    affine = canonical_affine()
    affine[:3, :3] = rotation @ affine[:3, :3]
    assert Orientation.of(Grid((4, 4, 4), affine)) == Orientation((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("affine", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.diag([1.0, 1.0, 0.0, 1.0])])
def test_an_affine_that_is_not_one_is_refused(affine):
    """No grid without three independent axes."""
    with pytest.raises(ValueError, match="affine"):
        Grid((2, 2, 2), affine)


def test_same_as_compares_the_corners():
    """A spacing error of 1e-3 mm shows at the far corner of 100 voxels, not of 2."""
    near = Grid((100, 4, 4), canonical_affine((3.0, 1.0, 1.0)))
    far = Grid((100, 4, 4), canonical_affine((3.001, 1.0, 1.0)))
    assert not near.same_as(far, tolerance_mm=0.05)
    assert near.same_as(far, tolerance_mm=0.1)

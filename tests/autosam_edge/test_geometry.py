"""Grids and orientations: every voxel keeps its place in the world."""

from __future__ import annotations

import numpy as np
import pytest
from autosam_edge_test_support import ORIENTATIONS
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.geometry import Grid, Orientation

GRID = Grid.axis_aligned((4, 5, 6), (3.0, 1.0, 0.5), origin_mm=(-100.0, 20.0, 5.0))


def test_an_axis_aligned_grid_places_its_voxels():
    """D runs to superior, H to posterior, W to the left, from the origin on."""
    np.testing.assert_allclose(GRID.affine @ (2, 3, 4, 1), (-100 + 4 * 0.5, 20 + 3 * 1.0, 5 + 2 * 3.0, 1))
    assert GRID.shape == (4, 5, 6)
    assert GRID.orientation == Orientation((0, 1, 2), (False, False, False))


@pytest.mark.parametrize("spacing_mm", [(3.0, 0.0, 1.0), (3.0, -1.0, 1.0), (float("nan"), 1.0, 1.0)])
def test_an_axis_aligned_grid_has_positive_spacings(spacing_mm):
    """Nothing is turned by a negative spacing."""
    with pytest.raises(ValueError, match="spacing"):
        Grid.axis_aligned((2, 2, 2), spacing_mm)


def test_spacing_and_voxel_volume_are_the_lengths_and_the_determinant():
    """3 x 1 x 0.5 mm makes 0.0015 ml."""
    assert GRID.spacing_mm == (3.0, 1.0, 0.5)
    assert GRID.voxel_ml == pytest.approx(0.0015)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_turned_grid_comes_back_to_canonical(orientation):
    """Turn a canonical array every way there is.

    The orientation found undoes it, voxel for voxel and in the world.
    """
    values = np.arange(120).reshape(4, 5, 6)
    turned_values, turned = orientation.from_canonical(values), orientation.input_grid(GRID)
    assert turned.shape == turned_values.shape
    for value in (0, 37, 119):  # the same patient position, in either array
        here, there = (np.argwhere(array == value)[0] for array in (values, turned_values))
        np.testing.assert_allclose(turned.affine @ (*there, 1), GRID.affine @ (*here, 1))

    found = Orientation.of(turned)
    assert found == orientation
    np.testing.assert_array_equal(found.to_canonical(turned_values), values)
    np.testing.assert_array_equal(found.from_canonical(found.to_canonical(turned_values)), turned_values)
    assert found.canonical_grid(turned).same_as(GRID, tolerance_mm=1e-9)


@given(st.tuples(*[st.floats(-40, 40)] * 3))
def test_a_tilt_below_45_degrees_does_not_swap_axes(angles):
    """An oblique scan is read along its nearest axes, without flips."""
    rotation = np.eye(3)
    a = np.deg2rad(angles[0])
    rotation[1:, 1:] = [[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]]
    affine = GRID.affine.copy()
    affine[:3, :3] = rotation @ affine[:3, :3]
    assert Orientation.of(Grid((4, 4, 4), affine)) == Orientation((0, 1, 2), (False, False, False))


@pytest.mark.parametrize(
    "affine",
    [
        np.zeros((4, 4)),
        np.full((4, 4), np.nan),
        np.diag([1.0, 1.0, 0.0, 1.0]),
        np.diag([1.0, 1.0, 1e-304, 1.0]),  # the square of the length is 0
    ],
)
def test_an_affine_that_is_not_one_is_refused(affine):
    """No grid without three independent axes."""
    with pytest.raises(ValueError, match="affine"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 1.0, 1e3])
def test_three_axes_are_independent_in_any_unit(factor):
    """Voxels of 0.5 mm in meters are small, not flat; a flat one is flat in millimeters, too."""
    affine = np.diag([0.5 * factor, 0.5 * factor, 0.5 * factor, 1.0])
    assert Grid((2, 2, 2), affine).spacing_mm == pytest.approx((0.5 * factor,) * 3)
    affine[:, 2] = affine[:, 1]
    with pytest.raises(ValueError, match="three independent axes"):
        Grid((2, 2, 2), affine)


@pytest.mark.parametrize("shape", [(2.9, 2, 2), (2.0, 2, 2), ("2", 2, 2), (2, 2), (0, 2, 2), 8, None])
def test_a_shape_is_three_whole_numbers(shape):
    """A fraction is not cut off."""
    assert Grid(np.array([2, 3, 4]), np.eye(4)).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="the shape is .*, expected three whole numbers"):
        Grid(shape, np.eye(4))


def test_same_as_compares_the_corners():
    """A spacing error of 1e-3 mm shows at the far corner of 100 voxels, not of 2."""
    near = Grid.axis_aligned((100, 4, 4), (3.0, 1.0, 1.0))
    far = Grid.axis_aligned((100, 4, 4), (3.001, 1.0, 1.0))
    assert not near.same_as(far, tolerance_mm=0.05)
    assert near.same_as(far, tolerance_mm=0.1)


def tilted(tilt_deg, *, shape=(30, 40, 50), turned_deg=0.0):
    """Slices 3 mm apart along z, pixels of 0.5 x 0.9 mm, turned about x; then all turned about z."""
    tilt, turn = np.radians(tilt_deg), np.radians(turned_deg)
    about_z = np.array([[np.cos(turn), -np.sin(turn), 0], [np.sin(turn), np.cos(turn), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ [[0, 0, 0.9], [0, 0.5 * np.cos(tilt), 0], [3, 0.5 * np.sin(tilt), 0]]
    return Grid(shape, affine)


@pytest.mark.parametrize("tilt_deg", [-20.0, 12.0, 35.0])
@pytest.mark.parametrize("turned_deg", [0.0, 17.0])
def test_a_tilted_grid_has_its_angle_distance_and_volume(tilt_deg, turned_deg):
    """The table moves 3 mm; the planes are cos(tilt) times as far apart, and so much smaller is a voxel."""
    grid, tilt = tilted(tilt_deg, turned_deg=turned_deg), np.radians(tilt_deg)
    assert grid.tilt_deg == pytest.approx(abs(tilt_deg))
    assert grid.skew_deg == pytest.approx(0, abs=1e-5)
    assert grid.spacing_mm == pytest.approx((3.0, 0.5, 0.9))
    assert grid.slice_distance_mm == pytest.approx(3 * np.cos(tilt))
    assert grid.slice_shift == pytest.approx((3 * np.sin(tilt) / 0.5, 0))
    assert grid.rise == pytest.approx((0.5 * np.sin(tilt) / 3, 0))
    assert grid.upright_spacing_mm == pytest.approx((3.0, 0.5 * np.cos(tilt), 0.9))
    assert grid.voxel_ml == pytest.approx(3 * 0.5 * 0.9 * np.cos(tilt) / 1000)
    assert grid.voxel_ml == pytest.approx(np.prod(grid.upright_spacing_mm) / 1000)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_tilted_array_comes_back_to_canonical_however_it_is_stored(orientation):
    """The tilt of the canonical grid is that of the patient, whichever axis of the array leans."""
    stored = orientation.input_grid(tilted(-20.0))
    assert stored.orientation == orientation
    canonical = stored.orientation.canonical_grid(stored)
    assert canonical.same_as(tilted(-20.0), tolerance_mm=1e-9)
    assert canonical.tilt_deg == pytest.approx(20.0)


def test_rounded_cosines_are_no_tilt():
    """An affine in float32 or with four decimals is upright, and its spacing is not touched."""
    affine = np.array(tilted(0.0, turned_deg=17.0).affine)
    for rounded in (affine.astype(np.float32).astype(np.float64), np.round(affine, 4)):
        grid = Grid((100, 512, 512), rounded)
        assert grid.rise == grid.slice_shift == (0.0, 0.0)
        assert grid.upright_spacing_mm == grid.spacing_mm

"""Resampling keeps constants, places and averages."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam_edge.geometry import Grid, Orientation
from autosam_edge.pipeline.body_box import body_box
from autosam_edge.pipeline.resample import Resampler, Taps, resampling_matrix, sample_positions


@given(st.integers(1, 300), st.floats(0.3, 10), st.floats(0.5, 6))
def test_positions_cover_the_field_of_view_and_share_its_center(side, spacing, target):
    """No shift, no part of the scan left out, less than one voxel too many."""
    positions = sample_positions(side, spacing, target)
    assert positions.mean() == pytest.approx((side - 1) / 2)
    assert len(positions) * target >= side * spacing * (1 - 1e-5)
    assert (len(positions) - 1) * target < side * spacing


@given(st.integers(1, 60), st.floats(0.3, 10), st.floats(0.5, 6))
def test_rows_of_the_matrix_sum_to_one(side, spacing, target):
    """A constant scan stays constant up to its border."""
    matrix = resampling_matrix(sample_positions(side, spacing, target), side)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0, atol=1e-5)
    assert (matrix >= 0).all()


def test_a_ramp_stays_the_same_ramp():
    """A symmetric kernel keeps a linear function away from the border, to 2 % of a target voxel."""
    positions = sample_positions(200, 0.7, 3.0)
    values = resampling_matrix(positions, 200) @ np.arange(200, dtype=np.float32)
    np.testing.assert_allclose(values[2:-2], positions[2:-2], atol=0.02 * 3.0 / 0.7)


def test_downsampling_averages_noise():
    """The antialiased kernel at 4x has a noise gain of about sqrt(2/3/4) = 0.41.

    Point sampling would keep 1.
    """
    noise = np.random.default_rng(0).standard_normal(40_000).astype(np.float32)
    positions = sample_positions(4000, 0.75, 3.0)
    out = resampling_matrix(positions, 4000) @ noise.reshape(4000, 10)
    assert out.std() == pytest.approx(np.sqrt(2 / 3 / 4), rel=0.05)


@given(st.integers(1, 60), st.floats(0.3, 10), st.floats(0.5, 6), st.integers(0, 2**31))
def test_taps_are_the_matrix_without_its_zeros(side, spacing, target, seed):
    """The same sums as the product with the whole matrix, for any part of the outputs.

    Each run of inputs lies in the scan.
    """
    matrix = resampling_matrix(sample_positions(side, spacing, target), side)
    lines = np.random.default_rng(seed).uniform(-125, 275, (side, 3)).astype(np.float32)
    taps = Taps.of(matrix)
    assert 0 <= taps.used.start < taps.used.stop <= side
    np.testing.assert_allclose(
        taps.apply(lines[taps.used]), matrix.astype(np.float64) @ lines, rtol=1e-5, atol=1e-3
    )
    np.testing.assert_array_equal(np.stack([taps.of_input(index) for index in range(side)], axis=1), matrix)
    part = taps[len(matrix) // 2 :]
    np.testing.assert_array_equal(
        part.apply(lines[part.used]), taps.apply(lines[taps.used])[len(matrix) // 2 :]
    )


def test_a_sum_of_taps_rounds_as_a_fused_multiply_add():
    """Each product enters its sum unrounded.

    1 - (1 - 2^-24) (1 + 2^-23) is -2^-24 + 2^-47, and 0 if the product is rounded first.
    """
    weights = np.array([[1.0, -(1.0 - 2.0**-24)]], dtype=np.float32)
    lines = np.array([[1.0], [1.0 + 2.0**-23]], dtype=np.float32)
    exact = 1.0 - (1.0 - 2.0**-24) * (1.0 + 2.0**-23)
    assert Taps(np.array([0]), weights).apply(lines)[0, 0] == np.float32(exact) != 0


@settings(max_examples=20)
@given(st.integers(0, 10), st.integers(1, 10), st.integers(0, 2**31))
def test_rows_on_demand_equal_the_whole_volume(start, count, seed):
    """Any block of rows and any part of the plane is the same part of the whole."""
    hu = np.random.default_rng(seed).integers(-1000, 1000, (30, 21, 17)).astype(np.int16)
    resampler = Resampler(Grid.axis_aligned(hu.shape, (2.0, 1.1, 0.9)), (3.0, 2.0, 2.5), (-125.0, 275.0))
    whole = resampler.rows(hu, 0, resampler.shape[0])
    stop = min(start + count, resampler.shape[0])
    part = resampler.rows(hu, start, stop, plane=(slice(2, 7), slice(1, 4)))
    np.testing.assert_allclose(part, whole[start:stop, 2:7, 1:4], rtol=1e-4, atol=1e-3)


def test_hu_are_clipped_before_they_are_averaged():
    """A metal voxel of 3000 HU beside fat counts as 275, not as 3000."""
    hu = np.full((3, 8, 8), -100, dtype=np.int16)
    hu[:, 4, 4] = 3000
    resampler = Resampler(Grid.axis_aligned(hu.shape, (3.0, 1.0, 1.0)), (3.0, 8.0, 8.0), (-125.0, 275.0))
    assert resampler.rows(hu, 0, 3).max() < 0


def test_body_box_holds_the_body_with_a_margin():
    """A block of tissue of 60 x 90 mm in air: the box is that and a margin, never less."""
    hu = np.full((6, 100, 120), -1000, dtype=np.int16)
    hu[:, 20:50, 30:75] = 40
    resampler = Resampler(Grid.axis_aligned(hu.shape, (3.0, 2.0, 2.0)), (3.0, 3.0, 3.0), (-125.0, 275.0))
    d, h, w = body_box(hu, resampler)
    assert (d.start, d.stop) == (0, resampler.shape[0])
    for box, axis, first, last in ((h, 1, 20, 49), (w, 2, 30, 74)):
        assert resampler.positions[axis][box.start] <= first - 3.0 / 2
        assert resampler.positions[axis][box.stop - 1] >= last + 3.0 / 2
        assert resampler.positions[axis][box.start] >= first - 12
        assert resampler.positions[axis][box.stop - 1] <= last + 12


def test_a_scan_of_air_has_the_whole_plane_as_its_box():
    """Nothing is guessed where nothing is seen."""
    hu = np.full((4, 30, 30), -1000, dtype=np.int16)
    resampler = Resampler(Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)), (3.0, 3.0, 3.0), (-125.0, 275.0))
    assert body_box(hu, resampler) == tuple(slice(0, side) for side in resampler.shape)


def tilted_grid(shape, tilt_deg, *, swivel_deg=0.0):
    """Slices 3 mm apart along z, pixels of 1.5 x 1.2 mm, turned about x and then about y."""
    tilt, swivel = np.radians(tilt_deg), np.radians(swivel_deg)
    about_y = np.array([[np.cos(swivel), 0, np.sin(swivel)], [0, 1, 0], [-np.sin(swivel), 0, np.cos(swivel)]])
    affine = np.eye(4)
    affine[:3, 0] = (0, 0, 3)
    affine[:3, 1:3] = about_y @ [[0, 1.2], [1.5 * np.cos(tilt), 0], [1.5 * np.sin(tilt), 0]]
    affine[:3, 3] = (-20.0, 7.0, 100.0)
    return Grid(shape, affine)


@pytest.mark.parametrize(("tilt_deg", "swivel_deg"), [(12.0, 0.0), (-20.0, 0.0), (35.0, 0.0), (-12.0, 9.0)])
def test_a_tilted_scan_is_straightened(tilt_deg, swivel_deg):
    """A linear function of the place in the patient stays that function; D runs along z, H at a right angle.

    Rows on demand are the same, and every voxel of the model lies in the field of view or repeats its end.
    """
    grid = tilted_grid((30, 40, 50), tilt_deg, swivel_deg=swivel_deg)
    index = np.indices(grid.shape).reshape(3, -1)
    x, y, z = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    hu = (0.8 * x - 0.5 * y + 1.1 * (z - 150)).reshape(grid.shape).astype(np.float32)
    # Finer than the scan, where the filter is plain linear interpolation.
    resampler = Resampler(grid, (2.5, 1.1, 1.1), (-1000.0, 1000.0))
    rows = resampler.rows(hu, 0, resampler.shape[0])

    d, h, w = np.meshgrid(*resampler.positions, indexing="ij")
    d = d - grid.rise[0] * h - grid.rise[1] * w  # the slice at the place of each voxel of the model
    x, y, z = (grid.affine[:3, :3] @ np.stack([d, h, w]).reshape(3, -1)) + grid.affine[:3, 3:]
    expected = (0.8 * x - 0.5 * y + 1.1 * (z - 150)).reshape(d.shape)
    inside = (d >= 1) & (d <= 28) & (h >= 1) & (h <= 38) & (w >= 1) & (w <= 48)
    assert inside.mean() > 0.4
    np.testing.assert_allclose(rows[inside], expected[inside], atol=2e-3)
    along = (x.reshape(d.shape), y.reshape(d.shape), z.reshape(d.shape))
    np.testing.assert_allclose([np.ptp(axis[:, 5, 5]) for axis in along[:2]], 0, atol=1e-9)
    np.testing.assert_allclose(np.diff(along[2][:, 5, 5]), 2.5)

    plane = (slice(2, 20), slice(3, 30))
    part = resampler.rows(hu, 7, 15, plane=plane)
    np.testing.assert_allclose(part, rows[7:15, 2:20, 3:30], rtol=1e-4, atol=1e-3)


def test_the_box_of_a_tilted_scan_has_the_rows_that_its_slices_reach():
    """Beside the body the slices reach farther along D, and nothing there is computed."""
    grid = tilted_grid((30, 100, 50), 20.0)
    hu = np.full(grid.shape, -1000, dtype=np.int16)
    hu[:, 40:60, 20:30] = 40
    resampler = Resampler(grid, (3.0, 3.0, 3.0), (-125.0, 275.0))
    depth, height, width = body_box(hu, resampler)
    rise = resampler.rise((height, width))
    reached = np.stack([rise.min() + np.zeros(1), rise.max() + np.full(1, 29.0)])
    assert resampler.positions[0][depth.start] <= reached[0] <= resampler.positions[0][depth.start] + 1
    assert resampler.positions[0][depth.stop - 1] >= reached[1] >= resampler.positions[0][depth.stop - 1] - 1
    assert depth.stop - depth.start < resampler.shape[0]


def test_a_grid_that_is_sheared_within_its_slices_is_refused():
    """No tilt explains it."""
    affine = np.diag([1.0, 1.0, 3.0, 1.0])[[2, 1, 0, 3]]
    affine[0, 1] = 0.1
    with pytest.raises(ValueError, match="miss a right angle"):
        Resampler(Grid((5, 6, 7), affine), (3.0, 3.0, 3.0), (-125.0, 275.0))


@pytest.mark.parametrize(
    "orientation", [Orientation((2, 0, 1), (True, False, True)), Orientation((0, 1, 2), (False, True, True))]
)
def test_the_model_grid_does_not_depend_on_how_the_scan_is_stored(orientation):
    """A turned array on its turned grid gives the same values as the canonical one."""
    hu = np.random.default_rng(0).integers(-200, 300, (9, 12, 15)).astype(np.int16)
    grid = Grid.axis_aligned(hu.shape, (2.0, 1.5, 1.0))
    turned = orientation.input_grid(grid)
    assert turned.orientation == orientation
    straight, back = (Resampler.of_scan(g, (3.0, 3.0, 3.0), (-125.0, 275.0)) for g in (grid, turned))
    canonical = turned.orientation.to_canonical(orientation.from_canonical(hu))
    np.testing.assert_array_equal(back.whole(canonical), straight.whole(hu))

"""A prepared case is what the runtime would see, with the share of every organ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("scipy")

from autosam_edge.errors import InputError
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.pipeline.resample import Resampler
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case, Intensity, prepare_case


def cube_case(side=20, **options):
    hu = np.full((side, 2 * side, 2 * side), -1000, dtype=np.int16)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    hu[5:15, 10:30, 10:30] = 75
    labels[5:15, 10:30, 10:30] = 6
    return prepare_case(
        "c", hu, labels, Grid.axis_aligned(hu.shape, (3.0, 1.5, 1.5)), spacing_mm=(3.0, 3.0, 3.0), **options
    )


def test_occupancy_keeps_the_volume():
    """A cube of 10 x 20 x 20 voxels of 3 x 1.5 x 1.5 mm fills 1000 voxels of 3 mm, wherever its border is."""
    case = cube_case()
    assert case.target[6].sum() / 255 == pytest.approx(1000, rel=0.02)
    assert np.abs(case.target.sum(axis=0, dtype=int) - 255).max() <= 1


def test_the_image_is_hu_within_the_window():
    """Air is clipped to the lower end, the inside of the cube keeps its value."""
    case = cube_case()
    assert case.image.dtype == np.int16
    assert (case.image.min(), case.image.max()) == (-125, 75)
    assert cube_case(intensity=AMOS_INTENSITY).image.min() == -991


@pytest.mark.parametrize(
    ("intensity", "air", "soft_tissue"),
    [(BTCV_INTENSITY, 0.0, 0.5), (AMOS_INTENSITY, (-991 - 50) / 141, (75 - 50) / 141)],
)
def test_a_patch_is_normalized_as_the_paper_does(intensity, air, soft_tissue):
    """BTCV to [0, 1], AMOS to (x - 50) / 141; air is what patches are padded with."""
    case = cube_case(intensity=intensity)
    image, _ = case.patch(case.whole)
    assert image.dtype == np.float32
    assert image.min() == pytest.approx(air) == pytest.approx(intensity.low)
    assert image.max() == pytest.approx(soft_tissue)
    assert intensity.high > image.max()


@pytest.mark.parametrize("targets", ["occupancy", "labels"])
def test_a_patch_has_the_slices_asked_for_and_sums_to_one(targets):
    """Image and occupancy of the same box, both new arrays."""
    case = cube_case(targets=targets)
    image, occupancy = case.patch((slice(3, 9), slice(4, 12), slice(5, 6)))
    assert image.shape == (6, 8, 1)
    assert occupancy.shape == (14, 6, 8, 1)
    assert np.abs(occupancy.sum(axis=0) - 1).max() < 1e-6
    assert not np.shares_memory(image, case.image)
    _, everywhere = case.patch(case.whole)
    assert np.array_equal(occupancy, everywhere[:, 3:9, 4:12, 5:6])


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    step=st.sampled_from([0.7, 1.5, 2.3, 4.0, 50.0]),
    lean_mm=st.sampled_from([0.0, -0.6]),
)
def test_only_the_organs_boxes_are_filtered_and_nothing_is_lost(seed, step, lean_mm):
    """The share of each class is the runtime's resampling of its mask, up to rounding, on all grids."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((7, 9, 8), np.uint8)
    for organ in (1, 2, 5):
        corner = rng.integers(0, 6, 3)
        labels[tuple(slice(c, c + rng.integers(1, 5)) for c in corner)] = organ
    affine = np.array(Grid.axis_aligned(labels.shape, (3.0, 1.5, 1.5)).affine)
    affine[2, 1] = lean_mm  # a tilted gantry
    where = Grid(labels.shape, affine)
    empty, spacing_mm = np.zeros(labels.shape, np.int16), (step, step, step)
    case, hard = (
        prepare_case("c", empty, labels, where, spacing_mm=spacing_mm, classes=6, targets=targets)
        for targets in ("occupancy", "labels")
    )
    sampler = Resampler(where, spacing_mm, (0.0, 1.0))
    for organ in range(6):
        expected = sampler.rows(labels == organ, 0, sampler.shape[0]) * 255
        assert np.abs(case.target[organ] - expected).max() <= 0.5 + 1e-3
    assert np.array_equal(hard.labels, case.labels)


def test_the_array_may_be_turned_in_memory():
    """The same patient stored upside down gives the same case."""
    rng = np.random.default_rng(0)
    hu = rng.integers(-100, 200, (6, 9, 8)).astype(np.int16)
    labels = rng.integers(0, 4, (6, 9, 8)).astype(np.uint8)
    upright = Grid.axis_aligned(hu.shape, (3.0, 1.5, 2.0))
    upside_down = Orientation((0, 1, 2), (True, False, False)).input_grid(upright)
    first = prepare_case("c", hu, labels, upright, spacing_mm=(2.0, 2.0, 2.0), classes=4)
    second = prepare_case("c", hu[::-1], labels[::-1], upside_down, spacing_mm=(2.0, 2.0, 2.0), classes=4)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.target, second.target)


@pytest.mark.parametrize("window", [(275.0, -125.0), (0.0, 0.0), (-40000.0, 0.0), (float("nan"), 1.0)])
def test_an_impossible_window_is_refused(window):
    """Empty, upside down, beyond int16."""
    with pytest.raises(ValueError, match="window|finite number"):
        Intensity(window, 0.0, 1.0)


def test_a_scale_is_positive():
    """Zero would make every voxel infinite."""
    with pytest.raises(ValueError, match="scale"):
        Intensity((0.0, 1.0), 0.0, 0.0)


def test_arrays_that_do_not_fit_are_no_case():
    """Another shape, another type."""
    case = cube_case()
    with pytest.raises(ValueError, match="target"):
        dataclasses.replace(case, target=case.target[:3])
    with pytest.raises(ValueError, match="int16"):
        Case("c", case.image.astype(np.float32), case.labels, 14, BTCV_INTENSITY)


def test_a_value_beyond_the_classes_is_not_taken_for_unknown():
    """In a scan that is labeled in part, 255 alone means that nobody knows."""
    hu = np.zeros((4, 4, 4), np.int16)
    labels = np.full(hu.shape, 255, np.uint8)
    given = {"spacing_mm": (3.0, 3.0, 3.0), "classes": 6, "known": frozenset({1})}
    prepare_case("c", hu, labels, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)), **given)
    labels[0] = 6
    with pytest.raises(InputError, match="AE-DATA-003.*value 6"):
        prepare_case("c", hu, labels, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)), **given)

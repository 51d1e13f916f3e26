"""Organ statistics against what is known in closed form."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import dice, organ_statistics
from autosam_edge.volume import Segmentation, Volume

LIVER, SPLEEN, AORTA = 6, 1, 8


def measure(hu: np.ndarray, labels: np.ndarray, affine: np.ndarray | None = None) -> dict[int, object]:
    """Statistics by label value; 1 mm grid unless told."""
    grid = Grid(labels.shape, np.eye(4) if affine is None else affine)
    organs = organ_statistics(Volume(hu, grid), Segmentation(labels, grid, BTCV_LABELS))
    return {organ.label: organ for organ in organs}


def test_sphere_has_its_volume() -> None:
    """A sphere of 20 mm radius holds 4/3 pi r^3 = 33.5 ml, on anisotropic voxels as well."""
    spacing = np.array([2.0, 0.8, 0.8])
    shape = (30, 70, 70)
    place = [(np.arange(side) - (side - 1) / 2) * mm for side, mm in zip(shape, spacing, strict=True)]
    inside = (place[0][:, None, None] ** 2 + place[1][:, None] ** 2 + place[2] ** 2) <= 20.0**2
    liver = measure(np.zeros(shape, np.int16), inside.astype(np.uint8) * LIVER, np.diag([*spacing, 1.0]))[
        LIVER
    ]
    assert liver.ml == pytest.approx(4 / 3 * np.pi * 20**3 / 1000, rel=0.01)
    assert liver.voxels == inside.sum()
    assert not liver.touches_border


def test_sheared_grid_counts_the_determinant() -> None:
    """The volume of a voxel is the determinant of the affine, not the product of the spacings."""
    affine = np.array([[0, 0, 1.0, 0], [1.0, 2.0, 0, 0], [3.0, 0, 0, 0], [0, 0, 0, 1]])
    labels = np.full((2, 2, 2), LIVER, np.uint8)
    assert measure(np.zeros((2, 2, 2), np.int16), labels, affine)[LIVER].ml == pytest.approx(8 * 6.0 / 1000)


def test_mean_and_sd_of_known_values() -> None:
    """HU of 10, 20, 30, 40 spread over two slices have mean 25 and population SD sqrt(125)."""
    hu = np.array([[[10, 20, 999]], [[30, 40, 999]]], np.int16)
    labels = np.array([[[1, 1, 0]], [[1, 1, 0]]], np.uint8)
    spleen = measure(hu, labels)[SPLEEN]
    assert (spleen.mean_hu, spleen.sd_hu) == (pytest.approx(25.0), pytest.approx(np.sqrt(125.0)))


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32])
def test_agrees_with_numpy_for_every_type(dtype: type) -> None:
    """Streaming gives what NumPy gives on the gathered voxels."""
    generator = np.random.default_rng(3)
    hu = (generator.normal(60, 30, (9, 21, 17)) * 4).astype(dtype)
    labels = generator.integers(0, 14, hu.shape).astype(np.uint8)
    for value, organ in measure(hu, labels).items():
        inside = hu[labels == value].astype(np.float64)
        assert organ.mean_hu == pytest.approx(inside.mean(), rel=1e-12)
        assert organ.sd_hu == pytest.approx(inside.std(), rel=1e-12)


def test_small_spread_on_a_large_offset_does_not_cancel() -> None:
    """Values 1e6 and 1e6 + 1 have an SD of exactly one half: E[x^2] - E[x]^2 would lose digits here."""
    hu = np.full((4, 10, 10), 1_000_000, np.int32)
    hu[::2] += 1
    assert measure(hu, np.full(hu.shape, AORTA, np.uint8))[AORTA].sd_hu == pytest.approx(0.5, rel=1e-9)


def test_absent_organ_is_listed_without_hu() -> None:
    """An organ of the table that is not there has no voxels, 0 ml, and no mean rather than a zero."""
    organs = measure(np.zeros((2, 3, 4), np.int16), np.zeros((2, 3, 4), np.uint8))
    assert len(organs) == 13
    assert all(
        (organ.voxels, organ.ml, organ.mean_hu, organ.sd_hu, organ.touches_border)
        == (0, 0.0, None, None, False)
        for organ in organs.values()
    )


@pytest.mark.parametrize("voxel", [(0, 2, 2), (4, 2, 2), (2, 0, 2), (2, 4, 2), (2, 2, 0), (2, 2, 4)])
def test_border_is_seen_on_each_face(voxel: tuple[int, int, int]) -> None:
    """One voxel on any of the six faces marks its organ, and only that one."""
    labels = np.zeros((5, 5, 5), np.uint8)
    labels[2, 2, 2] = SPLEEN
    labels[voxel] = LIVER
    organs = measure(np.zeros(labels.shape, np.int16), labels)
    assert organs[LIVER].touches_border
    assert not organs[SPLEEN].touches_border


def test_views_are_measured_without_being_contiguous() -> None:
    """Flipped and transposed arrays give the same numbers."""
    generator = np.random.default_rng(5)
    hu = generator.integers(-100, 200, (6, 7, 8)).astype(np.int16)
    labels = generator.integers(0, 14, hu.shape).astype(np.uint8)
    straight, turned = (
        measure(hu, labels),
        measure(hu[::-1].transpose(2, 0, 1), labels[::-1].transpose(2, 0, 1)),
    )
    assert all(straight[value].mean_hu == pytest.approx(turned[value].mean_hu) for value in straight)


@pytest.mark.parametrize(
    ("side", "corner", "differs"),
    [
        (3, (0, 0, 0, 0), "the shape"),
        (2, (0, 0, 0.5, 0), "the place, direction or size .* give the volume"),
        (2, (0, 0, 0, 0.5), "the place, direction or size .* give the volume"),
    ],
)
def test_labels_of_another_scan_are_not_measured(side: int, corner: tuple[float, ...], differs: str) -> None:
    """Another shape, spacing or place; labels of another scan mostly have its shape."""
    affine = np.eye(4)
    affine[0] += corner
    volume = Volume(np.zeros((2, 2, 2), np.int16), Grid((2, 2, 2), np.eye(4)))
    grid = Grid((2, 2, side), affine)
    labels = Segmentation(np.zeros(grid.shape, np.uint8), grid, BTCV_LABELS)
    with pytest.raises(ValueError, match=differs):
        organ_statistics(volume, labels)


def test_swapped_and_other_arguments_are_named() -> None:
    """Not an attribute that one of them does not have."""
    grid = Grid((2, 2, 2), np.eye(4))
    volume = Volume(np.zeros((2, 2, 2), np.int16), grid)
    labels = Segmentation(np.zeros((2, 2, 2), np.uint8), grid, BTCV_LABELS)
    with pytest.raises(TypeError, match="the scan is a Segmentation, expected a Volume"):
        organ_statistics(labels, volume)
    with pytest.raises(TypeError, match="the labels are a ndarray, expected a Segmentation"):
        organ_statistics(volume, labels.labels)


def test_dice_in_closed_form():
    """Half overlap is one half, equal is one, apart is zero, nothing and nothing is no number."""
    a, b = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    assert np.isnan(dice(a, b))
    a[0, :2] = True
    assert dice(a, b) == 0.0
    b[0, 1:3] = True
    assert dice(a, b) == 0.5
    assert dice(a, a) == 1.0

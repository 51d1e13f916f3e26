"""Patches lie where they shall, and a bent scan takes its labels along."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
ndimage = pytest.importorskip("scipy.ndimage")
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case, SoftLabels
from autosam_edge_training.data.case import ROWS_BEYOND_ENDS
from autosam_edge_training.patches.spatial import (
    Deformation,
    ForegroundIndex,
    OrganIndex,
    bend,
    cut,
    draw_deformation,
    draw_view,
    place_by_sign,
    place_near_organ,
)

BOTH = pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
VOXEL = (1, 1, 1)
MM3 = (3.0, 3.0, 3.0)
STILL = Deformation(np.eye(3))


def generator(seed=0):
    return np.random.default_rng(seed)


def body_case(intensity=BTCV_INTENSITY, *, organs=True):
    """Air around a body; in it a large organ of 512 voxels and a small one of a single voxel."""
    hu = np.full((16, 20, 24), intensity.window_hu[0], np.int16)
    labels = np.zeros(hu.shape, np.uint8)
    hu[3:13, 4:16, 4:20] = -90
    if organs:
        labels[4:12, 5:13, 5:13] = 1
        labels[8, 10, 17] = 2
    hu[labels > 0] = 75
    return Case("body", hu, labels, 3, intensity)


def shares_case(seed=0, shape=(10, 12, 14), classes=4):
    """Random HU and random shares of every class."""
    rng = np.random.default_rng(seed)
    target = np.rint(np.moveaxis(rng.dirichlet(np.full(classes, 0.3), shape), -1, 0) * 255).astype(np.uint8)
    return Case("shares", rng.integers(-100, 250, shape).astype(np.int16), target, classes, BTCV_INTENSITY)


def label_at(case, start):
    """Label of the voxel that a patch of one voxel shows; beyond the ends that is the last slice."""
    depth = min(max(start[0], 0), case.shape[0] - 1)
    return int(case.labels[depth, start[1], start[2]])


@BOTH
def test_crops_by_sign_are_centered_on_organs_or_on_tissue_that_is_none(intensity):
    """Probability 1: always an organ; 0: never one, and never air."""
    case, chance = body_case(intensity), generator()
    index = ForegroundIndex(case)
    for _ in range(300):
        assert label_at(case, place_by_sign(case, index, VOXEL, chance, foreground=1.0)) > 0
        start = place_by_sign(case, index, VOXEL, chance, foreground=0.0)
        assert (label_at(case, start), int(case.image[start])) == (0, -90)


def test_half_of_the_crops_are_centered_on_organs():
    """1:1, as in MONAI; every organ voxel is equally likely, so a small organ is rarely chosen."""
    case, chance = body_case(), generator()
    index = ForegroundIndex(case)
    labels = [label_at(case, place_by_sign(case, index, VOXEL, chance, foreground=0.5)) for _ in range(1000)]
    assert 450 < sum(label > 0 for label in labels) < 550
    assert labels.count(2) < 10


def test_a_scan_of_nothing_but_air_ends_too():
    """There is no tissue to look for."""
    air = Case("air", np.full((4, 4, 4), -125, np.int16), np.zeros((4, 4, 4), np.uint8), 3, BTCV_INTENSITY)
    start = place_by_sign(air, ForegroundIndex(air), VOXEL, generator(), foreground=0.5)
    assert all(0 <= s < 4 for s in start[1:])
    assert OrganIndex(air).draw(generator(), air.whole) is None


def test_every_organ_is_equally_likely_to_be_near():
    """One voxel of an organ counts as much as another's 512."""
    case, chance = body_case(), generator()
    index = OrganIndex(case)
    labels = [
        label_at(case, place_near_organ(index, case.whole, VOXEL, chance, foreground=1.0))
        for _ in range(1000)
    ]
    assert 450 < labels.count(1) < 550
    assert labels.count(0) == 0


def test_the_organ_lies_in_the_middle_half_of_the_crop():
    """Every place from a quarter to three quarters of the patch is taken, none beyond."""
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[12, 12, 12] = 1
    case, chance = Case("one", np.zeros(labels.shape, np.int16), labels, 2, BTCV_INTENSITY), generator()
    index = OrganIndex(case)
    places = np.array(
        [
            12 - np.array(place_near_organ(index, case.whole, (8, 8, 8), chance, foreground=1.0))
            for _ in range(200)
        ]
    )
    assert [set(axis) for axis in places.T.tolist()] == [{2, 3, 4, 5, 6}] * 3


def test_an_index_holds_some_voxels_of_each_organ_that_is_there():
    """At most as many as asked for, all of the organ; class 3 of 4 is absent."""
    case = body_case()
    index = OrganIndex(Case("c", case.image, case.target, 4, case.intensity), per_organ=7)
    assert [len(points) for points in index.points] == [7, 1]
    assert [set(case.labels[tuple(points.T)].tolist()) for points in index.points] == [{1}, {2}]


def test_an_index_looks_only_within_the_field_of_view():
    """Where the view holds the small organ alone, it is drawn always; where it holds none, nothing is."""
    case, chance = body_case(), generator()
    index = OrganIndex(case)
    right = (slice(0, 16), slice(0, 20), slice(14, 24))
    assert {tuple(index.draw(chance, right).tolist()) for _ in range(20)} == {(8, 10, 17)}
    assert index.draw(chance, (slice(0, 3), slice(0, 20), slice(0, 24))) is None


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(1, 30)] * 3),
    patch=st.tuples(*[st.integers(1, 24)] * 3),
    seed=st.integers(0, 99),
)
def test_a_patch_stays_in_its_field_of_view(shape, patch, seed):
    """In the plane within the view, or around a smaller one; along the depth up to eight slices beyond."""
    chance = generator(seed)
    labels = chance.integers(0, 3, shape).astype(np.uint8)
    case = Case("c", np.zeros(shape, np.int16), labels, 3, BTCV_INTENSITY)
    index = OrganIndex(case)
    view = draw_view(case, MM3, index, chance)
    assert all(0 <= side.start < side.stop <= length for side, length in zip(view, shape, strict=True))
    start = place_near_organ(index, view, patch, chance, foreground=0.5)
    for axis, (first, length, side) in enumerate(zip(start, patch, view, strict=True)):
        beyond = ROWS_BEYOND_ENDS if axis == 0 else 0
        low, high = side.start - beyond, side.stop + beyond - length
        assert min(low, high) <= first <= max(low, high)
    image, (occupancy,) = cut(case, view, start, patch)
    assert image.shape == (1, 1, *patch)
    assert torch.equal(occupancy.sum(dim=1), torch.ones(1, *patch))


def test_a_view_is_thin_or_narrow_in_its_share_of_the_draws():
    """Three in four are thinner than 160 mm along the depth, half narrower than 280 mm in the plane."""
    labels = np.zeros((300, 200, 200), np.uint8)
    labels[:, 100, 100] = 1
    case = Case("c", np.zeros(labels.shape, np.int16), labels, 2, BTCV_INTENSITY)
    index, chance = OrganIndex(case), generator()
    views = [draw_view(case, MM3, index, chance) for _ in range(400)]
    lengths = np.array([[(side.stop - side.start) * 3.0 for side in view] for view in views])
    thin, narrow = lengths[:, 0] < 900, lengths[:, 1:] < 600
    assert 0.68 < thin.mean() < 0.82
    assert ((narrow.mean(axis=0) > 0.42) & (narrow.mean(axis=0) < 0.58)).all()
    assert 21 <= lengths[thin, 0].min() < 30
    assert 150 < lengths[thin, 0].max() <= 160


def test_one_view_in_five_shows_what_lies_above_or_below_the_organs():
    """An aorta that goes on beyond the end of the scan does not count; three slices show no chest."""
    labels = np.zeros((100, 40, 40), np.uint8)
    labels[1:, 20, 20] = 1  # goes on at both ends
    labels[30:80, 10, 10] = 2
    labels[60:97, 30, 30] = 3
    chance = generator()

    def share_of_views(*organs):
        shown = np.where(np.isin(labels, organs), labels, 0).astype(np.uint8)
        case = Case("c", np.zeros(labels.shape, np.int16), shown, 4, BTCV_INTENSITY)
        index = OrganIndex(case)
        views = [draw_view(case, MM3, index, chance) for _ in range(300)]
        return [sum(view == (rows, *case.whole[1:]) for view in views) / 300 for rows in (below, above)]

    below, above = slice(0, 30), slice(80, 100)
    assert all(0.05 < share < 0.15 for share in share_of_views(1, 2))
    assert max(share_of_views(1)) < 0.03  # a slab that was drawn like the others
    above = slice(97, 100)
    only_below, too_thin = share_of_views(1, 2, 3)
    assert 0.13 < only_below < 0.27
    assert too_thin < 0.03


def test_beyond_the_ends_of_a_scan_lies_its_last_slice():
    """Image and labels are repeated; a scan that is cut to a view of two slices repeats those two."""
    case = body_case()
    image, (occupancy,) = cut(case, case.whole, (-3, 0, 0), (22, 20, 24))
    for beyond, slice_of_case in ((0, 0), (2, 0), (3, 0), (18, 15), (21, 15)):
        assert np.array_equal(
            image[0, 0, beyond].numpy(),
            case.image_in((slice(slice_of_case, slice_of_case + 1), *case.whole[1:]))[0],
        )
    view = (slice(8, 10), *case.whole[1:])
    image, (occupancy,) = cut(case, view, (0, 0, 0), (18, 20, 24))
    assert torch.equal(image[0, 0, :9], image[0, 0, 8].expand(9, -1, -1))
    assert torch.equal(image[0, 0, 9:], image[0, 0, 9].expand(9, -1, -1))
    assert float(occupancy[0, 2].sum()) == 9  # the organ of one voxel, in slice 8


@BOTH
def test_beside_a_narrow_scan_lies_air(intensity):
    """Air and background, although the scan itself goes on there."""
    case = body_case(intensity)
    view = (slice(0, 16), slice(6, 12), slice(5, 10))
    image, (occupancy,) = cut(case, view, (4, 4, 3), (8, 10, 9))
    inside = torch.zeros(10, 9, dtype=torch.bool)
    inside[2:8, 2:7] = True
    assert image[0, 0][:, ~inside].unique().tolist() == pytest.approx([intensity.low])
    assert (occupancy[0, 0][:, ~inside] == 1).all()
    assert (occupancy[0, 1][:, inside] == 1).all()


def test_a_scan_that_is_not_bent_is_a_plain_patch():
    """The identity samples every voxel at its center; random shares, inside and beyond the ends."""
    case = shares_case()
    for start in ((1, 2, 3), (-4, 0, 0)):
        plain, bent = (
            f(case, case.whole, start, (8, 8, 8), *more) for f, more in ((cut, ()), (bend, (STILL,)))
        )
        torch.testing.assert_close(bent[0], plain[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(
            bent[1][0], plain[1][0], atol=6e-3, rtol=0.0
        )  # shares are rounded to 1 / 255


def test_a_stretch_is_that_of_its_axis():
    """Half as large along the depth: a box of 8 slices becomes one of 4; height and width stay."""
    labels = np.zeros((32, 16, 16), np.uint8)
    labels[12:20, 4:12, 4:12] = 1
    case = Case("box", (labels * 100).astype(np.int16), labels, 2, BTCV_INTENSITY)
    _, (occupancy,) = bend(case, case.whole, (8, 0, 0), (16, 16, 16), Deformation(np.diag([2.0, 1.0, 1.0])))
    assert float(occupancy[0, 1].sum()) == pytest.approx(4 * 8 * 8, rel=1e-5)
    assert float(occupancy[0, 1, :, 8, 8].sum()) == pytest.approx(4)
    assert float(occupancy[0, 1, 8, :, 8].sum()) == pytest.approx(8)


def test_a_quarter_turn_moves_a_voxel_where_the_matrix_says():
    """Output offset (h, w) shows offset (-w, h) of the scan."""
    labels = np.zeros((3, 9, 9), np.uint8)
    labels[1, 2, 4] = 1  # offset (-2, 0) from the center
    case = Case("dot", (labels * 100).astype(np.int16), labels, 2, BTCV_INTENSITY)
    turn = Deformation(np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]]))
    _, (occupancy,) = bend(case, case.whole, (0, 0, 0), (3, 9, 9), turn)
    assert occupancy[0, 1].round().nonzero().tolist() == [[1, 4, 6]]


@BOTH
@pytest.mark.parametrize("seed", range(6))
def test_image_and_organ_bend_together(intensity, seed):
    """After a random deformation the organ lies where the image is bright, and every map sums to 1."""
    case = body_case(intensity)
    probability = SoftLabels.of(np.stack([case.labels == c for c in range(3)]).astype(np.float32), MM3)
    deformation = draw_deformation(generator(seed), MM3)
    image, (occupancy, teacher) = bend(
        case, case.whole, (0, 0, 0), case.shape, deformation, teacher=probability
    )
    bright_hu = (0 - intensity.offset) / intensity.scale  # between fat and organ
    bright, organ = image[0, 0] > bright_hu, occupancy[0, 1:].sum(dim=0) > 0.5
    assert organ.sum() > 100
    assert float((bright == organ).float().mean()) > 0.97
    torch.testing.assert_close(occupancy.sum(dim=1), torch.ones(1, *case.shape))
    assert float(occupancy.min()) >= 0
    torch.testing.assert_close(teacher, occupancy, atol=1e-5, rtol=0.0)


@pytest.mark.parametrize("seed", range(6))
def test_every_voxel_of_an_organ_is_sampled(seed):
    """Each class equals its whole share, interpolated everywhere by SciPy; some organs are cut off."""
    rng = generator(seed)
    labels = np.zeros((24, 28, 30), np.uint8)
    for value in (1, 2, 3):
        corner = rng.integers(0, np.array(labels.shape) - 6)
        labels[tuple(slice(c, c + int(rng.integers(1, 7))) for c in corner)] = value
    case = Case("boxes", (labels * 40).astype(np.int16), labels, 4, BTCV_INTENSITY)
    matrix, patch, start = draw_deformation(rng, MM3).matrix, (16, 18, 20), (4, 5, 6)
    _, (occupancy,) = bend(case, case.whole, start, patch, Deformation(matrix))
    middle = [(side - 1) / 2 for side in patch]
    offsets = np.indices(patch) - np.reshape(middle, (3, 1, 1, 1))
    at = np.tensordot(matrix, offsets, 1) + np.reshape(np.add(start, middle), (3, 1, 1, 1))
    at[0] = at[0].clip(0, labels.shape[0] - 1)  # the ends of a scan are repeated
    for value in (1, 2, 3):
        share = (labels == value).astype(np.float64)
        expected = ndimage.map_coordinates(share, at, order=1, mode="grid-constant")
        np.testing.assert_allclose(occupancy[0, value].numpy(), expected, atol=1e-4)


def test_deformations_keep_their_range():
    """Scale between 0.7 and 1.4, determinant without mirroring, elastic in half of the draws."""
    drawn = [draw_deformation(generator(seed), MM3) for seed in range(300)]
    scales = np.array([np.linalg.svd(one.matrix, compute_uv=False) for one in drawn])
    assert 1 / 1.4 - 1e-9 <= scales.min() < 0.75
    assert 1.35 < scales.max() <= 1 / 0.7 + 1e-9
    assert all(np.linalg.det(one.matrix) > 0 for one in drawn)
    assert 0.4 < np.mean([one.elastic is not None for one in drawn]) < 0.6

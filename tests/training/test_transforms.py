"""Crops lie where they shall, and whatever happens to an image happens to its maps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case
from autosam_edge_training.transforms import (
    OrganIndex,
    pad_to,
    place_by_sign,
    place_near_organ,
    random_intensity,
    random_masses,
    random_scale,
    random_turn,
    random_warp,
)

BOTH = pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
VOXEL = (1, 1, 1)
WHOLE = (slice(None), slice(None), slice(None))


def generator(seed=0):
    return np.random.default_rng(seed)


class Scripted:
    """Chance that always falls the same way."""

    def __init__(self, *, quarters=0, uniform=()):
        self._quarters, self._uniform = quarters, list(uniform)

    def random(self):
        return 0.5

    def integers(self, low, high):
        assert low <= self._quarters < high
        return self._quarters

    def uniform(self, low, high, size):
        values = np.broadcast_to(self._uniform.pop(0), size)
        assert (values >= low).all()
        assert (values <= high).all()
        return values


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


def organ_voxels(case):
    return np.flatnonzero(case.labels).astype(np.int32)


def start_of(box):
    return tuple(side.start for side in box)


def label_at(case, box):
    """Of a box of one voxel."""
    return int(case.labels[box].item())


@BOTH
def test_crops_by_sign_are_centered_on_organs_or_on_tissue_that_is_none(intensity):
    """Probability 1: always an organ; 0: never one, and never air."""
    case, chance = body_case(intensity), generator()
    for _ in range(300):
        assert label_at(case, place_by_sign(case, organ_voxels(case), VOXEL, chance, foreground=1.0)) > 0
        box = place_by_sign(case, organ_voxels(case), VOXEL, chance, foreground=0.0)
        assert (label_at(case, box), int(case.image[box].item())) == (0, -90)


def test_half_of_the_crops_are_centered_on_organs():
    """1:1, as MONAI's positive and negative crops; every organ voxel is as likely, so the small organ is hardly seen."""
    case, chance = body_case(), generator()
    labels = [label_at(case, place_by_sign(case, organ_voxels(case), VOXEL, chance, foreground=0.5)) for _ in range(1000)]
    assert 450 < sum(label > 0 for label in labels) < 550
    assert labels.count(2) < 10


def test_the_center_of_a_crop_is_its_middle_voxel():
    """With room on all sides a crop reaches half of the patch to each."""
    case = body_case()
    only = np.array([np.ravel_multi_index((8, 10, 17), case.shape)], np.int32)
    box = place_by_sign(case, only, (5, 6, 7), generator(), foreground=1.0)
    assert box == (slice(6, 11), slice(7, 13), slice(14, 21))


def test_a_scan_without_organs_is_cropped_anywhere_in_the_body():
    """Whatever the probability; and one of nothing but air ends too."""
    case = body_case(organs=False)
    for place in (place_by_sign(case, organ_voxels(case), VOXEL, generator(), foreground=1.0) for _ in range(20)):
        assert case.image[place].item() == -90
    air = Case("air", np.full((4, 4, 4), -125, np.int16), np.zeros((4, 4, 4), np.uint8), 3, BTCV_INTENSITY)
    box = place_by_sign(air, organ_voxels(air), VOXEL, generator(), foreground=0.5)
    assert air.image[box].shape == VOXEL
    assert place_near_organ(air, OrganIndex(air), (8, 8, 8), generator(), foreground=1.0) == (slice(0, 4),) * 3


def test_every_organ_is_equally_likely_to_be_near():
    """One voxel of an organ counts as much as another's 512."""
    case, chance = body_case(), generator()
    index = OrganIndex(case)
    labels = [label_at(case, place_near_organ(case, index, VOXEL, chance, foreground=1.0)) for _ in range(1000)]
    assert 450 < labels.count(1) < 550
    assert labels.count(0) == 0


def test_the_organ_lies_in_the_middle_half_of_the_crop():
    """Every place from a quarter to three quarters of the patch is taken, none beyond."""
    labels = np.zeros((24, 24, 24), np.uint8)
    labels[12, 12, 12] = 1
    case, chance = Case("one", np.zeros(labels.shape, np.int16), labels, 2, BTCV_INTENSITY), generator()
    index = OrganIndex(case)
    places = np.array([12 - np.array(start_of(place_near_organ(case, index, (8, 8, 8), chance, foreground=1.0))) for _ in range(200)])
    assert [set(axis) for axis in places.T.tolist()] == [{2, 3, 4, 5, 6}] * 3


def test_crops_that_seek_no_organ_lie_anywhere():
    """Probability 0: air is as likely as its share of the scan."""
    case, chance = body_case(), generator()
    index = OrganIndex(case)
    boxes = [place_near_organ(case, index, VOXEL, chance, foreground=0.0) for _ in range(1000)]
    air = sum(case.image[box].item() == -125 for box in boxes) / 1000
    assert air == pytest.approx((case.image == -125).mean(), abs=0.05)


def test_an_index_holds_some_voxels_of_each_organ_that_is_there():
    """At most as many as asked for, all of the organ; class 3 of 4 is absent."""
    case = body_case()
    index = OrganIndex(Case("c", case.image, case.target, 4, case.intensity), per_organ=7)
    assert [len(points) for points in index.points] == [7, 1]
    assert [set(case.labels[tuple(points.T)].tolist()) for points in index.points] == [{1}, {2}]


@settings(max_examples=40)
@given(shape=st.tuples(*[st.integers(1, 9)] * 3), patch=st.tuples(*[st.integers(1, 12)] * 3), seed=st.integers(0, 99))
def test_a_crop_is_a_whole_patch_or_all_that_there_is(shape, patch, seed):
    """Within the case along each axis, and as long as the shorter of both."""
    labels = generator(seed).integers(0, 3, shape).astype(np.uint8)
    case = Case("c", np.zeros(shape, np.int16), labels, 3, BTCV_INTENSITY)
    for box in (
        place_by_sign(case, organ_voxels(case), patch, generator(seed), foreground=0.5),
        place_near_organ(case, OrganIndex(case), patch, generator(seed), foreground=0.5),
    ):
        assert all(0 <= side.start < side.stop <= length for side, length in zip(box, shape, strict=True))
        assert tuple(side.stop - side.start for side in box) == tuple(np.minimum(shape, patch))


def numbered(shape, *, classes=3):
    """An image in which every voxel has a value of its own, and maps of it that sum to 1."""
    image = torch.arange(1.0, 1.0 + float(np.prod(shape))).reshape(1, 1, *shape)
    return image, maps_of(image, classes)


def maps_of(image, classes=3):
    """Voxel by voxel, so that they can be made again of the image that comes out."""
    return torch.cat([image * (c + 1) + c for c in range(classes)], dim=1).sin().softmax(dim=1)


@BOTH
def test_what_is_missing_of_a_patch_is_air_and_background(intensity):
    """The crop comes out unchanged; around it lie air in the image and class 0 in every map."""
    image, occupancy = numbered((3, 4, 5))
    teacher = occupancy.flip(1)
    padded, maps = pad_to((6, 4, 9), image, [occupancy, teacher], generator(), air=intensity.low)
    assert padded.shape == (1, 1, 6, 4, 9)
    inside = padded > 0.5
    assert torch.equal(padded[inside], image.flatten())
    assert padded[~inside].unique().tolist() == pytest.approx([intensity.low])
    for one, before in zip(maps, (occupancy, teacher), strict=True):
        assert one.shape == (1, 3, 6, 4, 9)
        assert torch.equal(one[inside.expand_as(one)], before.flatten())
        outside = one.permute(1, 0, 2, 3, 4)[:, ~inside[0]]
        assert torch.equal(outside, torch.tensor([1.0, 0.0, 0.0])[:, None].expand_as(outside))


def test_a_crop_lies_anywhere_in_its_padding():
    """Every place is taken, along each axis on its own."""
    chance, places = generator(), []
    for _ in range(200):
        padded, _ = pad_to((6, 4, 9), torch.ones(1, 1, 3, 4, 5), [], chance, air=0.0)
        places.append(tuple(int(axis.min()) for axis in padded[0, 0].nonzero(as_tuple=True)))
    assert [set(axis) for axis in zip(*places, strict=True)] == [{0, 1, 2, 3}, {0}, {0, 1, 2, 3, 4}]
    assert len(set(places)) == 20


def test_a_whole_patch_is_not_padded():
    """Nothing is added, and nothing is drawn."""
    image, maps = numbered((3, 4, 5))
    chance = generator()
    padded, out = pad_to((3, 4, 5), image, [maps], chance, air=0.0)
    assert torch.equal(padded, image)
    assert torch.equal(out[0], maps)
    assert chance.random() == generator().random()


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 5, 6)])
def test_maps_turn_with_the_image(shape):
    """What a map says of a voxel it says of the same voxel afterwards; no voxel is lost."""
    image, maps = numbered(shape)
    for seed in range(30):
        turned, (found, second) = random_turn(image, [maps, maps[:, :2]], generator(seed), flip=0.5, rotate=0.5)
        assert turned.shape == image.shape
        assert torch.equal(turned.flatten().sort().values, image.flatten())
        torch.testing.assert_close(found, maps_of(turned))  # SIMD rounds by place
        assert torch.equal(second, found[:, :2])


def test_mirroring_turns_every_axis_over():
    """Probability 1 mirrors all three, probability 0 none."""
    image, maps = numbered((2, 3, 4))
    mirrored, _ = random_turn(image, [maps], generator(), flip=1.0, rotate=0.0)
    assert torch.equal(mirrored, image.flip(2, 3, 4))
    same, _ = random_turn(image, [maps], generator(), flip=0.0, rotate=0.0)
    assert torch.equal(same, image)


@pytest.mark.parametrize(("quarters", "place"), [(1, (1, 0, 2)), (2, (1, 3, 0)), (3, (1, 5, 3))])
def test_quarter_turns_stay_in_the_axial_plane(quarters, place):
    """The voxel (1, 2, 5) of a plane of 6 x 6: a quarter brings (h, w) to (5 - w, h)."""
    image = torch.zeros(1, 1, 4, 6, 6)
    image[0, 0, 1, 2, 5] = 1
    turned, (organ,) = random_turn(image, [image], Scripted(quarters=quarters), flip=0.0, rotate=1.0)
    assert turned[0, 0].nonzero().tolist() == [list(place)]
    assert torch.equal(organ, turned)


def test_four_quarter_turns_are_none():
    """One, and three more."""
    image, maps = numbered((2, 5, 5))
    turned, turned_maps = image, [maps]
    for quarters in (1, 3):
        assert quarters == 1 or not torch.equal(turned, image)
        turned, turned_maps = random_turn(turned, turned_maps, Scripted(quarters=quarters), flip=0.0, rotate=1.0)
    assert torch.equal(turned, image)
    assert torch.equal(turned_maps[0], maps)


@pytest.mark.parametrize(("shape", "expected"), [((2, 4, 4), {1, 2, 3}), ((2, 4, 5), {0, 2})])
def test_a_plane_that_is_no_square_makes_half_turns_only(shape, expected):
    """The patch keeps its shape; a square has all three turns."""
    image, maps = numbered(shape)
    found = set()
    for seed in range(30):
        turned, _ = random_turn(image, [maps], generator(seed), flip=0.0, rotate=1.0)
        found |= {quarters for quarters in range(4) if torch.equal(turned, torch.rot90(image, quarters, (3, 4)))}
    assert found == expected


def warped_body(intensity, seed, **options):
    """The body, its occupancy as two maps, warped."""
    image, occupancy = (torch.from_numpy(array)[None] for array in body_case(intensity).patch(WHOLE))
    return random_warp(image[None], [occupancy, occupancy], generator(seed), air=intensity.low, **options)


@BOTH
def test_a_warp_moves_image_and_organ_together(intensity):
    """After it the organ still lies where the image is bright, every map sums to 1, and maps that were equal are equal."""
    bright_hu = (0 - intensity.offset) / intensity.scale  # between fat and organ
    for seed in range(5):
        image, maps = warped_body(intensity, seed)
        bright, organ = image[0, 0] > bright_hu, maps[0][0, 1:].sum(dim=0) > 0.5
        assert organ.sum() > 200
        assert float((bright == organ).float().mean()) > 0.98
        assert all(float((one.sum(dim=1) - 1).abs().max()) < 1e-5 for one in maps)
        assert all(float(one.min()) >= 0 for one in maps)
        assert torch.equal(maps[0], maps[1])


@BOTH
def test_what_a_warp_brings_in_from_outside_is_air_and_background(intensity):
    """A patch full of an organ: image and organ fade together, from the organ's value to that of air, also where that is not 0."""
    bright, air = intensity.high, intensity.low
    image, full = torch.full((1, 1, 12, 12, 12), bright), torch.zeros(1, 3, 12, 12, 12)
    full[:, 2] = 1
    warped, (occupancy,) = random_warp(image, [full], generator(3), air=air, degrees=40.0, scale=0.5)
    organ = occupancy[:, 2:]
    torch.testing.assert_close(warped, air + (bright - air) * organ, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(occupancy[:, :1], 1 - organ)
    assert (organ == 0).any()
    assert warped[organ == 0].unique().tolist() == pytest.approx([air])


def test_a_warp_by_nothing_changes_nothing():
    """No degrees and no stretch."""
    image, maps = numbered((4, 5, 6))
    same, (found,) = random_warp(image, [maps], generator(), air=-1.0, degrees=0.0, scale=0.0)
    torch.testing.assert_close(same, image)
    torch.testing.assert_close(found, maps, atol=1e-5, rtol=1e-4)


def test_a_stretch_is_that_of_its_axis():
    """Twice as much of the depth is seen: a full patch of 16 becomes its middle 8 slices, height and width as they were."""
    image, full = torch.ones(1, 1, 16, 8, 4), torch.zeros(1, 2, 16, 8, 4)
    full[:, 1] = 1
    chance = Scripted(uniform=[np.zeros(3), np.array([0.0, 0.0, 1.0])])  # angles; x, y, z
    warped, _ = random_warp(image, [full], chance, air=0.0, degrees=0.0, scale=1.0)
    expected = torch.zeros_like(image)
    expected[:, :, 4:12] = 1
    torch.testing.assert_close(warped, expected)


def test_a_scale_is_one_factor_of_at_most_ten_percent():
    """The same for every voxel, on both sides of 1; zero stays zero."""
    image = torch.tensor([0.0, 0.5, -2.0]).reshape(1, 1, 3, 1, 1)
    chance, factors = generator(), []
    for _ in range(200):
        scaled = random_scale(image, chance)
        factors.append(float(scaled[0, 0, 1]) / 0.5)
        torch.testing.assert_close(scaled, image * factors[-1])
    assert 0.9 <= min(factors) < 0.91
    assert 1.09 < max(factors) <= 1.1


def test_intensity_stays_in_the_window():
    """Whatever the changes, the image keeps its shape and lies in [0, 1]; most of the time something changes."""
    image, chance = torch.rand(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0)), generator()
    image[..., 0], image[..., 1] = 0.0, 1.0
    changed = [random_intensity(image, chance) for _ in range(60)]
    assert {tuple(one.shape) for one in changed} == {(1, 1, 6, 7, 8)}
    assert min(float(one.min()) for one in changed) == 0
    assert max(float(one.max()) for one in changed) == 1
    assert 30 < sum(not torch.equal(one, image) for one in changed) < 60


def abdomen():
    """Fat with an organ, a bone and air in it: image and occupancy."""
    image = torch.full((1, 1, 48, 48, 48), 0.06)
    image[:, :, :, :8] = 0.0
    image[:, :, 20:30, 20:30, 20:30] = 0.6
    image[:, :, 40:, 40:, 40:] = 0.9
    occupancy = torch.zeros(1, 14, 48, 48, 48)
    occupancy[:, 6, 20:30, 20:30, 20:30] = 1
    occupancy[:, 0] = 1 - occupancy[:, 6]
    return image, occupancy


def test_masses_spare_organs_bone_and_air():
    """Only background inside the body changes, and something does; what comes is soft tissue."""
    before, occupancy = abdomen()
    chance = generator()
    for _ in range(5):
        truth = occupancy.clone()
        after = random_masses(before, truth, chance)
        same = after == before
        assert same[0, 0, 20:30, 20:30, 20:30].all()
        assert same[0, 0, 40:, 40:, 40:].all()
        assert same[0, 0, :, :5].all()
        assert 0.01 < float((~same).float().mean()) < 0.95
        assert after.min() >= 0
        assert 0.3 < float(after[~same].max()) < 0.75  # 0.5 is the densest mass, and noise
        assert torch.equal(truth, occupancy)


def test_where_all_is_organ_there_is_no_room_for_masses():
    """The image comes out as it was."""
    image, occupancy = abdomen()
    occupancy[:, 0], occupancy[:, 6] = 0, 1
    assert torch.equal(random_masses(image, occupancy, generator()), image)

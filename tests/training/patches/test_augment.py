"""Spatial changes apply to image and maps alike; changes of the image alone keep its shape and range."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
from autosam_edge_training.patches.augment import (
    random_intensity,
    random_low_resolution,
    random_masses,
    random_scale,
    random_turn,
)

MM3 = (3.0, 3.0, 3.0)


def generator(seed=0):
    return np.random.default_rng(seed)


class Scripted:
    """Randomness that always gives the same answer."""

    def __init__(self, *, quarters=0):
        self._quarters = quarters

    def random(self):
        return 0.5

    def integers(self, low, high):
        assert low <= self._quarters < high
        return self._quarters


def numbered(shape, *, classes=3):
    """An image in which every voxel has a value of its own, and maps of it that sum to 1."""
    image = torch.arange(1.0, 1.0 + float(np.prod(shape))).reshape(1, 1, *shape)
    return image, maps_of(image, classes)


def maps_of(image, classes=3):
    """Voxel by voxel, so that they can be made again of the image that comes out."""
    return torch.cat([image * (c + 1) + c for c in range(classes)], dim=1).sin().softmax(dim=1)


@pytest.mark.parametrize("shape", [(4, 6, 6), (4, 5, 6)])
def test_maps_turn_with_the_image(shape):
    """What a map says of a voxel it says of the same voxel afterwards; no voxel is lost."""
    image, maps = numbered(shape)
    for seed in range(30):
        turned, (found, second) = random_turn(
            image, [maps, maps[:, :2]], generator(seed), flip=0.5, rotate=0.5
        )
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
        turned, turned_maps = random_turn(
            turned, turned_maps, Scripted(quarters=quarters), flip=0.0, rotate=1.0
        )
    assert torch.equal(turned, image)
    assert torch.equal(turned_maps[0], maps)


@pytest.mark.parametrize(("shape", "expected"), [((2, 4, 4), {1, 2, 3}), ((2, 4, 5), {0, 2})])
def test_a_plane_that_is_no_square_makes_half_turns_only(shape, expected):
    """The patch keeps its shape; a square has all three turns."""
    image, maps = numbered(shape)
    found = set()
    for seed in range(30):
        turned, _ = random_turn(image, [maps], generator(seed), flip=0.0, rotate=1.0)
        found |= {
            quarters for quarters in range(4) if torch.equal(turned, torch.rot90(image, quarters, (3, 4)))
        }
    assert found == expected


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
    """After all changes the image has its shape and lies in [0, 1]; most of the time something changes."""
    image, chance = torch.rand(1, 1, 6, 7, 8, generator=torch.Generator().manual_seed(0)), generator()
    image[..., 0], image[..., 1] = 0.0, 1.0
    changed = [random_intensity(image, chance) for _ in range(60)]
    assert {tuple(one.shape) for one in changed} == {(1, 1, 6, 7, 8)}
    assert min(float(one.min()) for one in changed) == 0
    assert max(float(one.max()) for one in changed) == 1
    assert 30 < sum(not torch.equal(one, image) for one in changed) < 60


def test_thick_slices_lose_detail_along_one_axis_only():
    """Alternating slices of 1 mm become nearly even; slices of 10 mm stay; the mean stays."""
    image = torch.zeros(1, 1, 24, 6, 6)
    image[:, :, ::2] = 1.0
    thick = [random_low_resolution(image, generator(seed), spacing_mm=(1.0, 1.0, 1.0)) for seed in range(20)]
    assert {tuple(one.shape) for one in thick} == {tuple(image.shape)}
    along_depth = [one for one in thick if float(one[0, 0, 8:16].std()) < 0.2]
    assert 10 <= len(along_depth) < 20  # the other axes are even: averaging there changes nothing
    assert all(float(one.mean()) == pytest.approx(0.5, abs=0.05) for one in thick)
    same = random_low_resolution(image, generator(), spacing_mm=(10.0, 10.0, 10.0))
    assert torch.equal(same, image)


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
        after = random_masses(before, truth, chance, spacing_mm=MM3)
        same = after == before
        assert same[0, 0, 20:30, 20:30, 20:30].all()
        assert same[0, 0, 40:, 40:, 40:].all()
        assert same[0, 0, :, :5].all()
        assert 0.01 < float((~same).float().mean()) < 0.95
        assert after.min() >= 0
        assert 0.3 < float(after[~same].max()) < 0.75  # 0.5 is the densest mass, and noise
        assert torch.equal(truth, occupancy)


def test_a_lung_gets_masses_and_the_air_around_the_patient_does_not():
    """Four patches in five: soft tissue in the lung. The air between the back and the table stays."""
    image = torch.zeros(1, 1, 48, 48, 48)
    image[:, :, :, 4:36, 4:44] = 0.5
    lung = torch.zeros(1, 1, 48, 48, 48, dtype=torch.bool)
    lung[:, :, :, 8:32, 8:40] = True
    image[lung] = 0.0
    image[:, :, :, 44:46] = 0.5  # the table
    image[:, :, :, 38:46, :2] = image[:, :, :, 38:46, 46:] = 0.5  # its rails
    occupancy = torch.zeros(1, 14, 48, 48, 48)
    occupancy[:, 0] = 1
    air = torch.nn.functional.max_pool3d(image, 5, stride=1, padding=2) == 0.0
    air_outside, deep_in_lung = air & ~lung, air & lung
    chance, with_tumor = generator(), 0
    for _ in range(20):
        after = random_masses(image, occupancy, chance, spacing_mm=MM3)
        assert after[air_outside].max() == 0.0
        with_tumor += bool(after[deep_in_lung].max() > 0.25)
    assert 11 <= with_tumor <= 19


def test_where_all_is_organ_there_is_no_room_for_masses():
    """The image comes out as it was."""
    image, occupancy = abdomen()
    occupancy[:, 0], occupancy[:, 6] = 0, 1
    assert torch.equal(random_masses(image, occupancy, generator(), spacing_mm=MM3), image)

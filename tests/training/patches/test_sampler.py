"""Patch ``n`` of a run depends on the seed and ``n`` only."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from autosam_edge_test_support import run_python

torch = pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("pydantic")
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Case, SoftLabels
from autosam_edge_training.patches.sampler import Sampler, Sampling

SIDE = 12
PATCH = (8, 8, 8)
PLAIN = Sampling(patch=PATCH, flip=0.0, rotate=0.0, scale=0.0)
EVERYTHING = Sampling(
    patch=PATCH,
    crops="organs",
    flip=0.5,
    rotate=0.5,
    scale=0.5,
    warp=0.5,
    slabs=0.5,
    low_resolution=0.5,
    intensity=True,
    masses=0.5,
)
MM3 = (3.0, 3.0, 3.0)


def flat_case(number, intensity=BTCV_INTENSITY):
    """All of one HU, which is the case's number; an organ in its middle."""
    labels = np.zeros((SIDE,) * 3, np.uint8)
    labels[4:8, 4:8, 4:8] = 1
    return Case(str(number), np.full(labels.shape, number, np.int16), labels, 3, intensity)


def noisy_case(number, shape=(10, 12, 14), classes=4):
    """Random HU and random shares of every class."""
    rng = np.random.default_rng(number)
    shares = rng.dirichlet(np.full(classes, 0.3), shape)
    target = np.rint(np.moveaxis(shares, -1, 0) * 255).astype(np.uint8)
    return Case(str(number), rng.integers(-100, 250, shape).astype(np.int16), target, classes, BTCV_INTENSITY)


def sampler_of(cases, sampling=PLAIN, *, seed=0, phantoms=(), teacher=None, **changes):
    """A sampler of cases with 3 mm voxels; ``changes`` are those of the sampling."""
    sampling = dataclasses.replace(sampling, **changes)
    return Sampler(cases, sampling, spacing_mm=MM3, seed=seed, phantoms=phantoms, teacher=teacher)


def number_of(patches):
    """Which flat case it is a patch of."""
    (value,) = patches.image.unique().tolist()
    return round(value * BTCV_INTENSITY.scale + BTCV_INTENSITY.offset)


def equal(a, b):
    """Bit for bit."""
    return torch.equal(a.image, b.image) and torch.equal(a.occupancy, b.occupancy)


@pytest.fixture
def noisy():
    return [noisy_case(number) for number in range(3)]


@pytest.mark.parametrize("sampling", [PLAIN, EVERYTHING], ids=["plain", "everything"])
def test_a_patch_does_not_depend_on_what_was_drawn_before(noisy, sampling):
    """A run resumed at step 7 sees what the uninterrupted one saw, whatever else was drawn."""
    first, second = (sampler_of(noisy, sampling, seed=5) for _ in range(2))
    drawn = [first.patch(number) for number in range(10)]
    torch.manual_seed(99)
    assert all(equal(second.patch(number), drawn[number]) for number in (7, 8, 0, 9))
    assert not any(equal(drawn[0], other) for other in drawn[1:])


def test_drawing_leaves_the_common_chance_alone(noisy):
    """Dropout of a network that draws from torch's generator is the same with another sampling."""
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    sampler_of(noisy, EVERYTHING).batch(0, size=4)
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_a_batch(noisy, world):
    """Together they see the patches that one process alone sees, each patch once."""
    sampler = sampler_of(noisy, EVERYTHING, seed=1)
    parts = [sampler.batch(3, size=4, rank=rank, world=world) for rank in range(world)]
    for rank, part in enumerate(parts):
        assert part.image.shape == (4 // world, 1, *PATCH)
        assert part.occupancy.shape == (4 // world, 4, *PATCH)
        assert part.teacher is None
        for place, number in enumerate(range(12 + rank, 16, world)):
            alone = sampler.patch(number)
            assert torch.equal(part.image[place], alone.image[0])
            assert torch.equal(part.occupancy[place], alone.occupancy[0])


def test_one_round_goes_through_every_case_once():
    """In an order of its own: batches of 2 over 5 cases, eight rounds."""
    sampler = sampler_of([flat_case(number) for number in range(5)])
    drawn = [number_of(sampler.patch(number)) for number in range(40)]
    rounds = [tuple(drawn[start : start + 5]) for start in range(0, 40, 5)]
    assert {tuple(sorted(one)) for one in rounds} == {(0, 1, 2, 3, 4)}
    assert len(set(rounds)) > 5


def test_another_seed_is_another_run(noisy):
    """Other orders, and another place in the same case."""
    flat = [flat_case(number) for number in range(5)]
    orders = {tuple(number_of(sampler_of(flat, seed=seed).patch(n)) for n in range(5)) for seed in range(10)}
    assert len(orders) > 5
    first, second = (sampler_of(noisy[:1], seed=seed).patch(0) for seed in range(2))
    assert not equal(first, second)


@pytest.mark.parametrize(("crops", "beyond"), [("sign", 0), ("organs", 8)])
def test_a_plain_patch_is_a_part_of_its_case(noisy, crops, beyond):
    """Nothing but a crop: image and occupancy stand in the case at one and the same place.

    A patch near an organ may reach eight slices beyond the case, where the last slice is repeated.
    """
    (case,) = noisy[:1]
    image, occupancy = case.patch((slice(0, 10), slice(0, 12), slice(0, 14)))
    rows = np.clip(np.arange(-beyond, 10 + beyond), 0, 9)
    image, occupancy = image[rows], occupancy[:, rows]
    sampler = sampler_of([case], crops=crops)
    corners = [(d, h, w) for d in range(len(rows) - 7) for h in range(5) for w in range(7)]
    boxes = [tuple(slice(start, start + 8) for start in corner) for corner in corners]
    for found in (sampler.patch(number) for number in range(8)):
        matches = [box for box in boxes if np.array_equal(image[box], found.image[0, 0].numpy())]
        assert len(matches) == 1
        assert np.array_equal(occupancy[(slice(None), *matches[0])], found.occupancy[0].numpy())


@pytest.mark.parametrize("crops", ["sign", "organs"])
@pytest.mark.parametrize(("foreground", "expected"), [(0.0, 0), (1.0, 40)])
def test_foreground_is_the_share_of_crops_on_an_organ(crops, foreground, expected):
    """Patches of one voxel: all of them organ, or none where background is asked for."""
    sampler = sampler_of([flat_case(0)], patch=(1, 1, 1), crops=crops, foreground=foreground)
    organ = sum(int(sampler.patch(number).occupancy[0, 1].item()) for number in range(40))
    if crops == "organs" and foreground == 0.0:
        assert organ < 10  # anywhere: the organ fills 64 of 1728 voxels
    else:
        assert organ == expected


def test_a_share_of_the_patches_is_of_phantoms():
    """All phantoms are used; with share 1 nothing else, with share 0 none."""
    cases, phantoms = [flat_case(number) for number in range(3)], [flat_case(number) for number in (100, 101)]

    def drawn(share, count):
        sampling = dataclasses.replace(PLAIN, patch=(2, 2, 2), phantoms=2 * (share > 0), phantom_share=share)
        sampler = sampler_of(cases, sampling, phantoms=phantoms)
        return [number_of(sampler.patch(number)) for number in range(count)]

    some = drawn(0.3, 500)
    assert 120 < sum(number >= 100 for number in some) < 180
    assert set(some) == {0, 1, 2, 100, 101}
    assert set(drawn(1.0, 30)) == {100, 101}
    assert set(drawn(0.0, 30)) == {0, 1, 2}


def changed(cases, **options):
    """Patch 0 with one change that the plain patch does not have."""
    return sampler_of(cases, **options).patch(0)


def test_a_flip_turns_image_and_occupancy_over(noisy):
    """Probability 1: all three axes of the plain patch."""
    plain, turned = changed(noisy), changed(noisy, flip=1.0)
    assert torch.equal(turned.image, plain.image.flip(2, 3, 4))
    assert torch.equal(turned.occupancy, plain.occupancy.flip(2, 3, 4))


def test_a_rotation_is_in_the_axial_plane(noisy):
    """One of the three quarter turns of the plain patch, of image and occupancy."""
    plain, turned = changed(noisy), changed(noisy, rotate=1.0)
    (quarters,) = (k for k in range(4) if torch.equal(turned.image, torch.rot90(plain.image, k, (3, 4))))
    assert quarters > 0
    assert torch.equal(turned.occupancy, torch.rot90(plain.occupancy, quarters, (3, 4)))


def test_a_scale_is_one_factor(noisy):
    """Within 10 %, and not 1; the occupancy stays."""
    plain, scaled = changed(noisy), changed(noisy, scale=1.0)
    factor = (scaled.image / plain.image).mean().item()
    assert 0.9 <= factor <= 1.1
    assert abs(factor - 1.0) > 1e-3
    torch.testing.assert_close(scaled.image, plain.image * factor)
    assert torch.equal(scaled.occupancy, plain.occupancy)


@pytest.mark.parametrize(
    ("options", "moves"),
    [({"warp": 1.0}, True), ({"masses": 1.0}, False), ({"intensity": True}, False)],
    ids=["warp", "masses", "intensity"],
)
def test_other_changes_are_made_when_they_are_asked_for(options, moves):
    """The image changes; the occupancy only where voxels move. Fat around an organ has room for masses."""
    case = flat_case(-90)
    plain, other = changed([case]), changed([case], **options)
    assert not torch.equal(other.image, plain.image)
    assert torch.equal(other.occupancy, plain.occupancy) != moves


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
def test_a_patch_larger_than_its_case_is_filled_as_the_runtime_does(intensity):
    """With air in the plane, also where air is not 0, and with the last slice along the depth."""
    case = flat_case(75, intensity)
    found = sampler_of([case], patch=(20, 12, 20)).patch(0)
    assert found.image.unique().tolist() == pytest.approx(
        sorted([intensity.low, (75 - intensity.offset) / intensity.scale])
    )
    air = found.image[0, 0] == found.image.min()
    assert (found.occupancy[0, 0][air] == 1).all()
    columns = air.any(dim=0)
    assert int(columns.sum()) == 12 * 8
    assert torch.equal(air, columns.expand(20, 12, 20))


@pytest.mark.skipif(sys.platform != "linux", reason="worker processes share the cases with a fork")
def test_worker_processes_prepare_the_same_patches():
    """In the order of the steps, for a run that resumes at step 3; in a new process, as training does."""
    program = """
from test_sampler import EVERYTHING, PLAIN, equal, noisy_case, sampler_of
for sampling in (PLAIN, EVERYTHING):
    sampler = sampler_of([noisy_case(number) for number in range(3)], sampling, seed=4)
    ahead = list(sampler.batches(range(3, 8), size=2, workers=2))
    assert len(ahead) == 5
    assert all(equal(one, sampler.batch(step, size=2)) for step, one in zip(range(3, 8), ahead))
print("same")
"""
    places = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": places}
    finished = run_python("-c", program, env=environment, timeout=120, check=True)
    assert finished.stdout == "same\n"


def test_steps_without_workers_are_the_batches_themselves(noisy):
    """One after the other, when they are asked for."""
    sampler = sampler_of(noisy, seed=4)
    found = list(sampler.batches(range(3, 6), size=2))
    assert len(found) == 3
    assert all(equal(one, sampler.batch(step, size=2)) for step, one in zip(range(3, 6), found, strict=True))


def partial_case():
    """Half of the scan is not known; organ 1 of 2 is labeled everywhere."""
    labels = np.zeros((SIDE,) * 3, np.uint8)
    labels[4:8, 4:8, 2:6] = 1
    labels[:, :, 6:] = 3
    return Case("partial", np.full(labels.shape, 40, np.int16), labels, 3, BTCV_INTENSITY, frozenset({1}))


@pytest.mark.parametrize("warp", [0.0, 1.0])
def test_what_is_not_known_is_missing_from_the_occupancy(warp):
    """In a plain and in a bent patch; what it may be is the background or organ 2."""
    sampler = sampler_of([partial_case()], crops="organs", warp=warp)
    shares = []
    for number in range(10):
        found = sampler.patch(number)
        assert found.possible.tolist() == [[1.0, 0.0, 1.0]]
        total = found.occupancy.sum(dim=1)
        assert float(total.max()) <= 1 + 1e-5
        assert float(found.occupancy[:, 2].max()) == 0
        shares.append(float(total.mean()))
    assert 0.2 < sum(shares) / len(shares) < 0.9


def test_synthetic_scans_without_organs_share_the_place_of_phantoms():
    """Their share of the patches holds background only."""
    sampling = dataclasses.replace(
        PLAIN, patch=(2, 2, 2), crops="organs", foreground=1.0, negatives=1, phantom_share=0.3
    )
    empty = Case("empty", np.zeros((SIDE,) * 3, np.int16), np.zeros((SIDE,) * 3, np.uint8), 3, BTCV_INTENSITY)
    sampler = sampler_of([flat_case(1)], sampling, phantoms=[empty])
    drawn = [number_of(sampler.patch(number)) for number in range(300)]
    assert 60 < drawn.count(0) < 120


def soft(case, *, shift=0):
    """Probabilities that are the occupancy of a case, its classes moved by ``shift``."""
    occupancy = case.patch(case.whole)[1]
    return SoftLabels.of(np.roll(occupancy, shift, axis=0), MM3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"flip": 0.5, "rotate": 1.0},
        {"warp": 1.0},
        {"patch": (16, 12, 20), "flip": 0.5, "rotate": 1.0, "warp": 1.0, "crops": "organs"},
        {
            "warp": 0.5,
            "slabs": 1.0,
            "low_resolution": 1.0,
            "masses": 0.5,
            "intensity": True,
            "crops": "organs",
        },
    ],
    ids=["cut", "turned", "warped", "padded", "everything"],
)
def test_kept_probabilities_go_where_the_occupancy_goes(noisy, changes):
    """A teacher that knows the occupancy still knows it after every cut, turn and warp."""
    teacher = {case.name: soft(case) for case in noisy}
    sampler = sampler_of(noisy, teacher=teacher, **changes)
    for step in range(4):
        found = sampler.batch(step, size=2)
        assert found.teacher.shape == found.occupancy.shape
        assert float((found.teacher - found.occupancy).abs().max()) <= 1 / 255
        assert float((found.teacher.sum(dim=1) - 1).abs().max()) < 1e-5


def test_kept_probabilities_are_the_teachers_and_not_the_truth(noisy):
    """A teacher that takes every class for the one before it."""
    teacher = {case.name: soft(case, shift=-1) for case in noisy}
    found = sampler_of(noisy, teacher=teacher, flip=0.5, rotate=0.5).patch(0)
    torch.testing.assert_close(found.teacher, found.occupancy.roll(-1, dims=1), atol=1 / 255, rtol=0.0)
    assert float((found.teacher - found.occupancy).abs().max()) > 0.5


def test_a_sampler_without_anything_to_draw_from_is_refused():
    """No case."""
    with pytest.raises(ValueError, match="no case"):
        sampler_of([])


@pytest.mark.parametrize("changes", [{"masses": 0.1}, {"intensity": True}])
def test_changes_for_another_window_are_refused(changes):
    """Masses and intensity know the values of tissue in [0, 1]; AMOS has others."""
    with pytest.raises(ValueError, match="BTCV"):
        sampler_of([flat_case(0, AMOS_INTENSITY)], **changes)


def test_phantoms_teach_their_labels_and_every_case_is_asked_about(noisy):
    """The labels of a phantom are perfect; a case without probabilities is refused."""
    case = noisy[0]
    sampling = dataclasses.replace(PLAIN, warp=0.5, phantom_share=1.0, phantoms=1)
    sampler = sampler_of([case], sampling, phantoms=[noisy[1]], teacher={case.name: soft(case)})
    found = sampler.patch(0)
    assert found.teacher is found.occupancy
    with pytest.raises(ValueError, match="do not cover"):
        sampler_of(noisy, teacher={case.name: soft(case)})


@pytest.mark.parametrize(
    "key",
    ["foreground", "flip", "rotate", "scale", "warp", "slabs", "low_resolution", "masses", "phantom_share"],
)
@pytest.mark.parametrize("share", [-0.1, 1.1])
def test_a_probability_lies_between_0_and_1(key, share):
    """Otherwise it is refused by its name."""
    with pytest.raises(ValueError, match=f"{key} must lie in"):
        Sampling(**{"phantoms": 1, "crops": "organs", key: share})


@pytest.mark.parametrize(
    "wrong",
    [{"patch": (8, 0, 8)}, {"phantoms": -1}, {"negatives": -1}, {"phantom_share": 0.1}, {"slabs": 0.5}],
)
def test_a_sampling_that_cannot_be_is_refused(wrong):
    """An empty patch, negative counts, a share without phantoms, slabs without organ crops."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_the_defaults_are_the_papers():
    """The paper's patches of 128^3, 1:1, flips and turns at 0.1, scale at 0.2, and nothing of our own."""
    paper = {
        "patch": (128, 128, 128),
        "crops": "sign",
        "foreground": 0.5,
        "flip": 0.1,
        "rotate": 0.1,
        "scale": 0.2,
    }
    ours = {"warp": 0.0, "slabs": 0.0, "low_resolution": 0.0, "intensity": False, "masses": 0.0}
    ours |= {"phantoms": 0, "negatives": 0, "phantom_share": 0.0}
    assert dataclasses.asdict(Sampling()) == {**paper, **ours}

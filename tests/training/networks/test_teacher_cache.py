"""Cached probabilities of a teacher belong to one teacher and one data set."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import SIDE, prepare_boxes
from autosam_edge_test_support import refused

from autosam_edge.errors import TrainingError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training.data import Case, Prepared, SoftLabels
from autosam_edge_training.networks.checkpoint import open_network, read_metadata
from autosam_edge_training.networks.students import save_student
from autosam_edge_training.networks.teacher_cache import (
    cache_probabilities,
    load_cached_probabilities,
    probabilities,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def dense(soft):
    """(C, D, H, W) probabilities, the background first."""
    found = np.zeros((soft.classes, *soft.shape), np.float32)
    for value, box in soft.organ_boxes.items():
        found[(value, *box)] = soft.share_in(value, box)
    found[0] = 1 - found[1:].sum(axis=0)
    return found


def training(folder):
    """The training cases of a prepared folder."""
    return [(Prepared.read(folder), "training")]


@pytest.fixture
def constant():
    """A network whose softmax is 0.1, 0.3 and 0.6 everywhere, and the tiles that it saw."""
    seen = []

    def network(tile):
        seen.append(tile)
        logits = torch.tensor([0.1, 0.3, 0.6]).log().reshape(1, 3, 1, 1, 1)
        return logits.expand(len(tile), 3, *tile.shape[2:])

    network.seen = seen
    return network


def test_answers_are_rounded_to_255(constant, cubes, taught):
    """0.3 and 0.6 are 76.5 and 153, each rounded, in every voxel, however the windows overlap."""
    case = Prepared.read(cubes).cases("training")[0]
    found = dense(probabilities(constant, read_metadata(taught), case, (16, 16, 16), CPU))
    assert found.shape == (3, 32, 32, 32)
    assert len(constant.seen) == 27
    for channel, value in zip(found[1:], (0.3, 0.6), strict=True):
        assert np.abs(channel - value).max() <= 0.5 / 255 + 1e-6


def test_the_teacher_sees_normalized_images_and_their_last_slices_beyond_the_ends(constant, cubes, taught):
    """A window that is larger than the case shows its first and its last slice again, as the runtime does."""
    case = Prepared.read(cubes).cases("training")[0]
    small = Case("small", case.image[:8].copy(), case.target[:8].copy(), 3, case.intensity)
    found = probabilities(constant, read_metadata(taught), small, (16, 32, 32), CPU)
    assert found.shape == (8, 32, 32)
    (tile,) = constant.seen
    inside = torch.from_numpy(small.patch(small.whole)[0])
    assert torch.equal(tile[0, 0, 4:12], inside)
    assert torch.equal(tile[0, 0, :4], inside[:1].expand(4, -1, -1))
    assert torch.equal(tile[0, 0, 12:], inside[-1:].expand(4, -1, -1))


def test_a_file_holds_what_was_written(tmp_path):
    """Boxes, probabilities, grid and identity; an organ that does not occur has no box."""
    shares = np.zeros((4, 5, 6, 7), np.float32)
    shares[1, 1:3, 2:4, 3:5] = 0.5
    shares[3, 4, 5, 6] = 1.0
    SoftLabels.of(shares, (2.0, 2.0, 2.5)).write(tmp_path / "a.npz", {"scan": "x=y", "teacher": "z"})
    soft, identity = SoftLabels.read(tmp_path / "a.npz")
    assert identity == {"scan": "x=y", "teacher": "z"}
    assert (soft.shape, soft.spacing_mm, soft.classes) == ((5, 6, 7), (2.0, 2.0, 2.5), 4)
    assert soft.organ_boxes == {
        1: (slice(1, 3), slice(2, 4), slice(3, 5)),
        3: (slice(4, 5), slice(5, 6), slice(6, 7)),
    }
    assert np.abs(dense(soft)[1:] - shares[1:]).max() <= 0.5 / 255 + 1e-6


def test_an_organ_is_kept_where_it_is_likely():
    """Its box ends where it falls below ``least``; within the box the small values stay."""
    shares = np.zeros((2, 1, 1, 9), np.float32)
    shares[1, 0, 0] = [0.008, 0.0, 0.2, 0.008, 0.9, 0.0, 0.008, 0.0, 0.0]
    soft = SoftLabels.of(shares, (1.0, 1.0, 1.0), least=0.01)
    assert soft.organ_boxes[1][2] == slice(2, 5)
    assert soft.share_in(1, (slice(0, 1), slice(0, 1), slice(3, 4))).item() == pytest.approx(2 / 255)


@pytest.mark.parametrize("spacing_mm", [(2.0, 2.0, 2.0), (4.5, 4.5, 4.5), (3.0, 2.0, 4.0)])
def test_probabilities_on_another_grid_are_those_of_the_scan_there(spacing_mm, tmp_path):
    """The occupancy of a fine grid, resampled, is that of the other grid, but for the second filter."""
    fine, other = (
        Prepared.read(prepare_boxes(tmp_path / name, targets="occupancy", spacing_mm=spacing)).case(
            "training0"
        )
        for name, spacing in (("fine", (1.5, 1.5, 1.5)), ("other", spacing_mm))
    )
    soft = SoftLabels.of(fine.patch(fine.whole)[1], (1.5, 1.5, 1.5)).resampled(spacing_mm, other.shape)
    found, expected = dense(soft), other.patch(other.whole)[1]
    assert found.shape == expected.shape
    for value in (1, 2):
        overlap = 2 * np.minimum(found[value], expected[value]).sum() / (found[value] + expected[value]).sum()
        assert overlap > 0.9
        for axis in range(3):  # not moved: a shift of half a fine voxel would be seen
            places = np.arange(found.shape[axis + 1]) * spacing_mm[axis]
            others = tuple(one for one in range(3) if one != axis)
            centers = [
                (shares[value].sum(axis=others) * places).sum() / shares[value].sum()
                for shares in (found, expected)
            ]
            assert abs(centers[0] - centers[1]) < 0.2


@pytest.fixture(scope="module")
def cache(cubes, taught, tmp_path_factory):
    """What a teacher said; not to be changed."""
    folder = tmp_path_factory.mktemp("cache") / "cache"
    return cache_probabilities([taught], training(cubes), folder, patch=(16, 16, 16))


def test_what_is_kept_is_of_every_training_case(cache, cubes, taught):
    """A file for each case, which says of which teacher and which scan."""
    assert {path.name for path in cache.iterdir()} == {"training0.npz", "training1.npz"}
    entry = Prepared.read(cubes).manifest.training[0]
    _, identity = SoftLabels.read(cache / "training0.npz")
    assert identity == {"teacher": file_digest(taught), "scan": entry.image_sha256}
    found = load_cached_probabilities(cache, [taught], training(cubes))
    assert {name: soft.shape for name, soft in found.items()} == dict.fromkeys(
        ("training0", "training1"), (SIDE,) * 3
    )


def test_windows_are_as_large_as_the_patches_of_the_teachers_training(constant, cubes, taught):
    """By the recipe in its file."""
    case = Prepared.read(cubes).cases("training")[0]
    metadata = read_metadata(taught)
    probabilities(constant, metadata, case, None, CPU)
    assert constant.seen[0].shape[2:] == metadata.patch


def test_what_is_missing_is_added(cubes, taught, tmp_path):
    """A call that was stopped keeps its files, and the next one computes the others only."""

    def stop(done, total):
        assert (done, total) == (1, 2)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache_probabilities([taught], training(cubes), tmp_path / "k", patch=(32, 32, 32), progress=stop)
    (first,) = (tmp_path / "k").iterdir()
    before, told = first.stat().st_mtime_ns, []
    cache_probabilities(
        [taught],
        [*training(cubes), (Prepared.read(cubes), "validation")],
        tmp_path / "k",
        patch=(32, 32, 32),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    assert first.stat().st_mtime_ns == before
    assert len(list((tmp_path / "k").iterdir())) == 3


def test_one_folder_teaches_students_of_other_spacings(cubes, taught, tmp_path):
    """The same files, asked for from data at another spacing; asked there first, they are the same too."""
    coarse = prepare_boxes(tmp_path / "coarse", spacing_mm=(4.5, 4.5, 4.5))
    for name, folder in (("a", cubes), ("b", coarse)):
        cache_probabilities([taught], training(folder), tmp_path / name, patch=(32, 32, 32))
    a, b = (
        load_cached_probabilities(tmp_path / name, [taught], training(coarse))["training0"] for name in "ab"
    )
    assert a.shape == b.shape == Prepared.read(coarse).arrays["training0"].shape
    assert np.abs(dense(a) - dense(b)).max() <= 1 / 255 + 1e-6
    found, truth = dense(a).argmax(axis=0), Prepared.read(coarse).case("training0").labels
    assert (found == truth).mean() > 0.9


def test_an_ensemble_answers_with_its_mean(cubes, taught, cache, tmp_path):
    """Of the teacher and a second one on another grid; the files belong to the two together."""
    network, metadata = open_network(taught)
    torch.nn.init.zeros_(list(network.parameters())[-1])
    coarse = replace(metadata, input=replace(metadata.input, spacing_mm=(4.5, 4.5, 4.5)), probe=())
    save_student(tmp_path / "second.safetensors", network, coarse)
    second = tmp_path / "second.safetensors"
    for name, teachers in {"two": [taught, second], "second": [second]}.items():
        cache_probabilities(teachers, training(cubes), tmp_path / name, patch=(16, 16, 16))
    mean = load_cached_probabilities(tmp_path / "two", [taught, second], training(cubes))["training0"]
    each = [
        load_cached_probabilities(folder, [teacher], training(cubes))["training0"]
        for folder, teacher in ((cache, taught), (tmp_path / "second", second))
    ]
    assert np.abs(dense(mean) - (dense(each[0]) + dense(each[1])) / 2).max() <= 2 / 255
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another teacher"):
        load_cached_probabilities(tmp_path / "two", [taught], training(cubes))


def test_a_teacher_of_other_data_is_not_asked(taught, tmp_path):
    """AE-TRAIN-008 before any work."""
    prepared = prepare_boxes(tmp_path / "data", names=("background", "a", "b"))
    with pytest.raises(TrainingError, match="AE-TRAIN-008"):
        cache_probabilities([taught], training(prepared), tmp_path / "k", patch=(32, 32, 32))
    assert not (tmp_path / "k").exists()


def test_answers_of_another_teacher_or_other_data_are_refused(
    cache, cubes, taught, autosam_teacher, tmp_path
):
    """AE-TRAIN-009 names which of the two; nothing is added to such a folder."""
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another teacher"):
        load_cached_probabilities(cache, [autosam_teacher], training(cubes))
    other = prepare_boxes(tmp_path, noise_hu=5.0)
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another scan"):
        load_cached_probabilities(cache, [taught], training(other))
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another scan"):
        cache_probabilities([taught], training(other), cache)


@pytest.mark.parametrize(
    "damage", ["no folder", "no file", "cut", "bytes changed", "another type", "pickled", "another shape"]
)
def test_damaged_answers_are_refused(damage, cache, cubes, taught, tmp_path):
    """Whatever is missing or cut, AE-TRAIN-009; an array of objects is not unpickled."""
    folder = tmp_path / "cache"
    if damage != "no folder":
        shutil.copytree(cache, folder)
    file = folder / "training1.npz"
    if damage == "no file":
        file.unlink()
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[:-100])
    elif damage == "bytes changed":
        content = bytearray(file.read_bytes())
        content[len(content) // 2 - 40 : len(content) // 2] = bytes(40)
        file.write_bytes(content)
    elif damage in ("another type", "pickled", "another shape"):
        with np.load(file) as content:
            arrays = dict(content)
        if damage == "another type":
            arrays["organ_1"] = arrays["organ_1"].astype(np.float32)
        elif damage == "pickled":
            arrays["organ_1"] = np.array([{"a": 1}], dtype=object)
        else:
            arrays["shape"] = np.array([32, 32, 31])
        np.savez(file, **arrays)
    with refused("AE-TRAIN-009"):
        load_cached_probabilities(folder, [taught], training(cubes))

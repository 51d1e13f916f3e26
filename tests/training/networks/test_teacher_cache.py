"""Cached probabilities of a teacher belong to one teacher and one data set."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import prepare_boxes, weights_of

from autosam_edge.errors import OutputError, TrainingError
from autosam_edge.file_hash import file_digest
from autosam_edge_training.data import Case, Prepared
from autosam_edge_training.networks.teacher_cache import (
    cache_probabilities,
    load_cached_probabilities,
    probabilities,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


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


def test_answers_are_rounded_to_255(constant, cubes):
    """0.1, 0.3 and 0.6 are 25.5, 76.5 and 153, each rounded, in every voxel, however the windows overlap."""
    case = Prepared.read(cubes).cases("training")[0]
    found = probabilities(constant, case, (16, 16, 16), overlap=0.5, device=CPU)
    assert found.shape == (3, 32, 32, 32)
    assert found.dtype == np.uint8
    assert len(constant.seen) == 27
    for channel, value in zip(found, (25.5, 76.5, 153.0), strict=True):
        assert np.abs(channel - value).max() <= 0.5


def test_the_teacher_sees_normalized_images_and_their_last_slices_beyond_the_ends(constant, cubes):
    """A window that is larger than the case shows its first and its last slice again, as the runtime does."""
    case = Prepared.read(cubes).cases("training")[0]
    small = Case("small", case.image[:8].copy(), case.target[:8].copy(), 3, case.intensity)
    found = probabilities(constant, small, (16, 32, 32), overlap=0.5, device=CPU)
    assert found.shape == (3, 8, 32, 32)
    (tile,) = constant.seen
    inside = torch.from_numpy(small.patch((slice(None),) * 3)[0])
    assert torch.equal(tile[0, 0, 4:12], inside)
    assert torch.equal(tile[0, 0, :4], inside[:1].expand(4, -1, -1))
    assert torch.equal(tile[0, 0, 12:], inside[-1:].expand(4, -1, -1))


@pytest.fixture(scope="module")
def cache(cubes, taught, tmp_path_factory):
    """What a teacher said; not to be changed."""
    return cache_probabilities(
        taught, Prepared.read(cubes), tmp_path_factory.mktemp("cache") / "cache", patch=(16, 16, 16)
    )


def test_what_is_kept_is_of_every_training_case(cache, cubes, taught):
    """An array per case, and a record of teacher, data and windows."""
    assert {path.name for path in cache.iterdir()} == {"teacher.json", "training0.npy", "training1.npy"}
    record = json.loads((cache / "teacher.json").read_text())
    assert record == {
        "teacher_sha256": file_digest(taught),
        "data_sha256": Prepared.read(cubes).sha256,
        "patch": [16, 16, 16],
        "overlap": 0.5,
    }
    arrays = load_cached_probabilities(cache, taught, Prepared.read(cubes))
    assert {name: array.shape for name, array in arrays.items()} == {
        "training0": (3, 32, 32, 32),
        "training1": (3, 32, 32, 32),
    }
    assert all(isinstance(array, np.memmap) for array in arrays.values())


def test_windows_are_as_large_as_the_patches_of_the_teachers_training(cubes, taught, tmp_path):
    """By the recipe in its file."""
    cache_probabilities(taught, Prepared.read(cubes), tmp_path / "k")
    own = json.loads(weights_of(taught)[1]["config"])["sampling"]["patch"]
    assert json.loads((tmp_path / "k" / "teacher.json").read_text())["patch"] == own


def test_progress_is_told_and_an_occupied_folder_is_refused(cache, cubes, taught, tmp_path):
    """One call per case; nothing that is there is overwritten."""
    told = []
    cache_probabilities(
        taught,
        Prepared.read(cubes),
        tmp_path / "k",
        patch=(32, 32, 32),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(1, 2), (2, 2)]
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        cache_probabilities(taught, Prepared.read(cubes), cache, patch=(32, 32, 32))


def test_a_stop_leaves_no_folder(cubes, taught, tmp_path):
    """Half of the answers are no answers."""

    def stop(done, total):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        cache_probabilities(taught, Prepared.read(cubes), tmp_path / "k", patch=(32, 32, 32), progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_teacher_of_other_data_is_not_asked(taught, tmp_path):
    """AE-TRAIN-008 before any work."""
    prepared = Prepared.read(prepare_boxes(tmp_path / "data", names=("background", "a", "b")))
    with pytest.raises(TrainingError, match="AE-TRAIN-008"):
        cache_probabilities(taught, prepared, tmp_path / "k", patch=(32, 32, 32))
    assert not (tmp_path / "k").exists()


def test_answers_of_another_teacher_or_other_data_are_refused(
    cache, cubes, taught, autosam_teacher, tmp_path
):
    """AE-TRAIN-009 names which of the two."""
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*: teacher_sha256 differ"):
        load_cached_probabilities(cache, autosam_teacher, Prepared.read(cubes))
    other = Prepared.read(prepare_boxes(tmp_path, noise_hu=5.0))
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*: data_sha256 differ"):
        load_cached_probabilities(cache, taught, other)


@pytest.mark.parametrize(
    "damage",
    [
        "no folder",
        "no record",
        "record cut",
        "no array",
        "array cut",
        "another shape",
        "another type",
        "pickled",
    ],
)
def test_damaged_answers_are_refused(damage, cache, cubes, taught, tmp_path):
    """Whatever is missing or cut, AE-TRAIN-009; an array of objects is not unpickled."""
    folder = tmp_path / "cache"
    if damage != "no folder":
        shutil.copytree(cache, folder)
    record, array = folder / "teacher.json", folder / "training1.npy"
    if damage == "no record":
        record.unlink()
    elif damage == "record cut":
        record.write_text(record.read_text()[:20])
    elif damage == "no array":
        array.unlink()
    elif damage == "array cut":
        array.write_bytes(array.read_bytes()[:-1000])
    elif damage == "another shape":
        np.save(array, np.zeros((3, 32, 32, 31), np.uint8))
    elif damage == "another type":
        np.save(array, np.zeros((3, 32, 32, 32), np.float32))
    elif damage == "pickled":
        np.save(array, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TrainingError) as caught:
        load_cached_probabilities(folder, taught, Prepared.read(cubes))
    assert caught.value.code == "AE-TRAIN-009"

"""What another tool wrote for the training cases teaches as our own teacher's probabilities do."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("pydantic")
from autosam_edge_test_recipes import distill_config

from autosam_edge.errors import InputError, TrainingError
from autosam_edge.formats.nifti import read_array
from autosam_edge_training import train_student
from autosam_edge_training.data import BTCV_NAMES, Prepared, prepare_phantoms
from autosam_edge_training.networks.foreign_teacher import cache_foreign_teacher
from autosam_edge_training.networks.teacher_cache import load_cached_probabilities

SPACING_MM = (8.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """One training phantom and one to validate with, on a coarse grid; not to be changed."""
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    return prepare_phantoms(
        folder, training=1, test=0, spacing_mm=SPACING_MM, scan_spacing_mm=(10.0, 6.0, 6.0)
    )


@pytest.fixture
def entry(phantoms):
    """The training case's files."""
    return Prepared.read(phantoms).manifest.entries("training")[0]


def write_dataset(folder, names=BTCV_NAMES[1:], *, first=1):
    """``dataset.json`` in the form of nnU-Net v2."""
    labels = {"background": 0, **{name: value for value, name in enumerate(names, start=first)}}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def cached(phantoms, folder, tmp_path):
    """The cache of the folder's teacher, of the one training case."""
    prepared = Prepared.read(phantoms)
    parts = [(prepared, "training")]
    cache = cache_foreign_teacher(folder, parts, tmp_path / "cache")
    (soft,) = load_cached_probabilities(cache, folder, parts).values()
    array = np.zeros((soft.classes, *soft.shape), dtype=int)
    for value, (box, share) in soft.parts.items():
        array[(value, *box)] = share
    array[0] = 255 - array[1:].sum(axis=0)
    return array, prepared


def test_labels_of_another_tool_are_the_occupancy(phantoms, entry, tmp_path):
    """The truth, with other numbers and other spelling, gives the shares of the prepared case."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    image = nib.load(entry.label)
    values = np.asarray(image.dataobj).astype(np.uint8)
    shifted = np.where(values > 0, values + 20, 0).astype(np.uint8)
    nib.save(nib.Nifti1Image(shifted, image.affine), folder / f"{entry.name}.nii.gz")
    spelled = [
        name.replace("kidney_left", "Left Kidney").replace("gallbladder", "gall bladder")
        for name in BTCV_NAMES[1:]
    ]
    write_dataset(folder, spelled, first=21)
    found, prepared = cached(phantoms, folder, tmp_path)
    truth = prepared.cases("training")[0].target.astype(int)
    assert found.shape == truth.shape
    assert np.abs(found - truth).max() <= 1


def test_probabilities_of_nnunet_are_resampled(phantoms, entry, tmp_path):
    """Half sure of the liver where it is: half of its share, the rest background."""
    folder = tmp_path / "nnunet"
    folder.mkdir()
    labels = np.asarray(read_array(entry.label)[0])
    probabilities = np.stack([(labels == value) * 0.5 for value in range(14)]).astype(np.float32)
    probabilities[0] = 1 - probabilities[1:].sum(axis=0)
    stem = entry.image.name.removesuffix(".nii.gz")
    np.savez_compressed(folder / f"{stem}.npz", probabilities=probabilities)
    write_dataset(folder)
    found, prepared = cached(phantoms, folder, tmp_path)
    truth = prepared.cases("training")[0].target.astype(int)
    assert np.abs(found[1:] - truth[1:] / 2).max() <= 1
    assert np.abs(found.sum(axis=0) - 255).max() <= 4


def test_masks_of_totalsegmentator_teach_what_they_know_and_labels_the_rest(phantoms, entry, tmp_path):
    """A mask of the liver: the other organs are those of the labels, and an unknown name is passed over."""
    folder = tmp_path / "total" / entry.name
    folder.mkdir(parents=True)
    image = nib.load(entry.label)
    values = np.asarray(image.dataobj)
    for name, mask in (("liver", values == 6), ("vertebrae_L1", values == 0)):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), folder / f"{name}.nii.gz")
    found, prepared = cached(phantoms, folder.parent, tmp_path)
    truth = prepared.cases("training")[0].target.astype(int)
    assert np.abs(found - truth).max() <= 3
    assert found[6].max() == 255


def test_a_student_learns_from_a_folder(phantoms, entry, tmp_path):
    """The whole recipe: two steps with the cached labels of another tool; the file says whose they were."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    image = nib.load(entry.label)
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), image.affine),
        folder / f"{entry.name}.nii.gz",
    )
    write_dataset(folder)
    cache = cache_foreign_teacher(folder, [(Prepared.read(phantoms), "training")], tmp_path / "cache")
    config = distill_config()
    weights = train_student.train(config, phantoms, tmp_path / "run", teacher=folder, cache=cache)
    assert weights.is_file()
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["teacher_network"] == "folder theirs"


def break_missing(folder, entry):
    (folder / f"{entry.name}.nii.gz").unlink()


def break_twice(folder, entry):
    (folder / entry.name).mkdir()


def break_names(folder, entry):
    (folder / "dataset.json").unlink()


def break_strangers(folder, entry):
    write_dataset(folder, ("heart", "lung"))


@pytest.mark.parametrize("damage", [break_missing, break_twice, break_names, break_strangers])
def test_a_folder_that_cannot_teach_is_refused(damage, phantoms, entry, tmp_path):
    """No file of the case, two of them, no names, no organ in common; nothing is left behind."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    image = nib.load(entry.label)
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), image.affine),
        folder / f"{entry.name}.nii.gz",
    )
    write_dataset(folder)
    damage(folder, entry)
    with pytest.raises(TrainingError, match="AE-TRAIN-029"):
        cache_foreign_teacher(folder, [(Prepared.read(phantoms), "training")], tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_labels_on_another_grid_are_refused(phantoms, entry, tmp_path):
    """Moved by 5 mm."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    image = nib.load(entry.label)
    affine = image.affine.copy()
    affine[0, 3] += 5
    nib.save(
        nib.Nifti1Image(np.asarray(image.dataobj).astype(np.uint8), affine), folder / f"{entry.name}.nii.gz"
    )
    write_dataset(folder)
    with pytest.raises(InputError, match="AE-NIFTI-005"):
        cache_foreign_teacher(folder, [(Prepared.read(phantoms), "training")], tmp_path / "cache")


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 5)), np.zeros((2, 3, 4, 5), np.int16), np.full((14, 2, 2, 2), np.nan)]
)
def test_an_npz_without_probabilities_is_refused(array, phantoms, entry, tmp_path):
    """Too few axes, whole numbers, NaN."""
    folder = tmp_path / "theirs"
    folder.mkdir()
    np.savez(folder / f"{entry.name}.npz", probabilities=array)
    write_dataset(folder)
    with pytest.raises(TrainingError, match="AE-TRAIN-029"):
        cache_foreign_teacher(folder, [(Prepared.read(phantoms), "training")], tmp_path / "cache")

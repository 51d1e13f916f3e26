"""What another tool wrote for the training cases teaches as our own teacher's probabilities do."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("scipy")
pytest.importorskip("pydantic")
from autosam_edge_test_recipes import distill_config

from autosam_edge.errors import InputError, OutputError, TrainingError
from autosam_edge.formats.nifti import read_array
from autosam_edge_training import train_student
from autosam_edge_training.data import BTCV_NAMES, Prepared, prepare_phantoms
from autosam_edge_training.networks.foreign_teacher import cache_foreign_teacher
from autosam_edge_training.networks.teacher_cache import (
    digest_of_cases,
    load_cached_probabilities,
    teacher_digest,
)

SPACING_MM = (8.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    """One training phantom and one to validate with, on a coarse grid; not to be changed."""
    folder = tmp_path_factory.mktemp("phantoms") / "data"
    return prepare_phantoms(
        folder, training=1, test=0, spacing_mm=SPACING_MM, scan_spacing_mm=(10.0, 6.0, 6.0)
    )


@pytest.fixture
def parts(phantoms):
    """The parts of data sets that are taught: the one training case."""
    return [(Prepared.read(phantoms), "training")]


@pytest.fixture
def entry(parts):
    """The training case's files."""
    return parts[0][0].manifest.entries("training")[0]


@pytest.fixture
def truth(parts):
    """The shares of the prepared training case, 255 = full."""
    return parts[0][0].cases("training")[0].target.astype(int)


def write_dataset(folder, names=BTCV_NAMES[1:], *, first=1, **more):
    """``dataset.json`` in the form of nnU-Net v2."""
    labels = {"background": 0, **{name: value for value, name in enumerate(names, start=first)}, **more}
    (folder / "dataset.json").write_text(json.dumps({"labels": labels}))


def write_labels(folder, entry, *, change=lambda values: values, shift_mm=0.0):
    """A new folder of another tool with the true labels of the training case, changed or moved along x."""
    folder.mkdir()
    image = nib.load(entry.label)
    affine = image.affine.copy()
    affine[0, 3] += shift_mm
    labels = change(np.asarray(image.dataobj)).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), folder / f"{entry.name}.nii.gz")
    write_dataset(folder)
    return folder


@pytest.fixture
def theirs(entry, tmp_path):
    """The folder of another tool with the true labels of the training case."""
    return write_labels(tmp_path / "theirs", entry)


def cached(parts, folder, tmp_path):
    """What the folder's teacher says of the training case, (C, D, H, W), 255 = certain."""
    cache = cache_foreign_teacher(folder, parts, tmp_path / "cache")
    (soft,) = load_cached_probabilities(cache, [folder], parts).values()
    array = np.zeros((soft.classes, *soft.shape), dtype=int)
    for value, (box, share) in soft.parts.items():
        array[(value, *box)] = share
    array[0] = 255 - array[1:].sum(axis=0)
    return array


def test_labels_of_another_tool_are_the_occupancy(parts, entry, truth, tmp_path):
    """The truth, with other numbers and other spelling, gives the shares of the prepared case."""
    folder = write_labels(tmp_path / "theirs", entry, change=lambda values: values + 20 * (values > 0))
    spelled = [
        name.replace("kidney_left", "Left Kidney").replace("gallbladder", "gall bladder")
        for name in BTCV_NAMES[1:]
    ]
    write_dataset(folder, spelled, first=21)
    found = cached(parts, folder, tmp_path)
    assert found.shape == truth.shape
    assert np.abs(found - truth).max() <= 1


def test_probabilities_of_nnunet_are_resampled(parts, entry, truth, tmp_path):
    """Half sure of the liver where it is: half of its share, the rest background."""
    folder = tmp_path / "nnunet"
    folder.mkdir()
    labels = np.asarray(read_array(entry.label)[0])
    probabilities = np.stack([(labels == value) * 0.5 for value in range(14)]).astype(np.float32)
    probabilities[0] = 1 - probabilities[1:].sum(axis=0)
    stem = entry.image.name.removesuffix(".nii.gz")
    np.savez_compressed(folder / f"{stem}.npz", probabilities=probabilities)
    write_dataset(folder, ignore=14)  # of nnU-Net's own training data, and never predicted
    found = cached(parts, folder, tmp_path)
    assert np.abs(found[1:] - truth[1:] / 2).max() <= 1
    assert np.abs(found.sum(axis=0) - 255).max() <= 4


def test_masks_of_totalsegmentator_teach_what_they_know_and_labels_the_rest(parts, entry, truth, tmp_path):
    """A mask of the liver: the other organs are those of the labels, and an unknown name is passed over."""
    folder = tmp_path / "total" / entry.name
    folder.mkdir(parents=True)
    image = nib.load(entry.label)
    values = np.asarray(image.dataobj)
    for name, mask in (("liver", values == 6), ("vertebrae_L1", values == 0)):
        nib.save(nib.Nifti1Image(mask.astype(np.uint8), image.affine), folder / f"{name}.nii.gz")
    found = cached(parts, folder.parent, tmp_path)
    assert np.abs(found - truth).max() <= 3
    assert found[6].max() == 255


def test_a_student_learns_from_a_folder(phantoms, parts, theirs, tmp_path):
    """The whole recipe: two steps with the cached labels of another tool; the file says whose they were."""
    cache = cache_foreign_teacher(theirs, parts, tmp_path / "cache")
    config = distill_config()
    weights = train_student.train(config, phantoms, tmp_path / "run", teachers=[theirs], cache=cache)
    assert weights.is_file()
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["teacher_network"] == "folder theirs"


def test_labels_beside_probabilities_are_passed_over(parts, entry, theirs, tmp_path):
    """nnU-Net writes both with --save_probabilities; the probabilities teach."""
    uniform = np.full((14, *read_array(entry.label)[0].shape), 1 / 14, np.float32)
    np.savez_compressed(theirs / f"{entry.name}.npz", probabilities=uniform)
    found = cached(parts, theirs, tmp_path)
    assert np.abs(found[1:] - 255 / 14).max() <= 1


def test_a_folder_that_grows_keeps_its_cache(parts, theirs, tmp_path):
    """A file for a scan that the run does not have is of no account."""
    before, digest = cached(parts, theirs, tmp_path), teacher_digest([theirs], parts)
    (theirs / "later.nii.gz").write_bytes(b"of another scan")
    assert np.array_equal(before, cached(parts, theirs, tmp_path))
    assert digest == teacher_digest([theirs], parts)


def exchange_numbers(folder, entry):
    first, second = "kidney_left", "kidney_right"
    path = folder / "dataset.json"
    text = path.read_text().replace(first, "x").replace(second, first).replace("x", second)
    path.write_text(text)


def change_probabilities(folder, entry):
    path = folder / f"{entry.name}.npz"
    np.savez(path, probabilities=np.load(path)["probabilities"][::-1])


@pytest.mark.parametrize("change", [exchange_numbers, change_probabilities])
def test_a_teacher_that_changed_in_files_of_the_same_size_is_another_one(
    change, parts, entry, theirs, tmp_path
):
    """Its earlier answers are not taken for those of now."""
    labels = read_array(entry.label)[0]
    np.savez(
        theirs / f"{entry.name}.npz", probabilities=np.stack([labels == v for v in range(14)]).astype("f4")
    )
    cached(parts, theirs, tmp_path)
    sizes = {path.name: path.stat().st_size for path in theirs.iterdir()}
    change(theirs, entry)
    assert sizes == {path.name: path.stat().st_size for path in theirs.iterdir()}
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another teacher"):
        cached(parts, theirs, tmp_path)


def test_answers_for_data_with_other_label_numbers_are_refused(parts, theirs, tmp_path):
    """As many labels in another order."""
    cached(parts, theirs, tmp_path)
    prepared = parts[0][0]
    other = replace(prepared, labels=("background", *reversed(prepared.labels[1:])))
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*of another teacher"):
        load_cached_probabilities(tmp_path / "cache", [theirs], [(other, "training")])


def test_answers_for_coarser_data_are_refused(parts, theirs, tmp_path):
    """They have lost what a finer student shall learn; a coarser student gets them resampled."""
    cached(parts, theirs, tmp_path)
    prepared = parts[0][0]
    finer = [(replace(prepared, spacing_mm=(8.0, 6.0, 3.0)), "training")]
    with pytest.raises(TrainingError, match=r"AE-TRAIN-009.*8 x 6 x 6 mm, coarser than 8 x 6 x 3 mm"):
        load_cached_probabilities(tmp_path / "cache", [theirs], finer)
    coarser = [(replace(prepared, spacing_mm=(8.0, 6.0, 12.0)), "training")]
    assert load_cached_probabilities(tmp_path / "cache", [theirs], coarser)


def test_a_folder_teaches_alone(theirs):
    """With a second teacher it is refused: no mean is made of the two."""
    for first, second in ((theirs, theirs / "dataset.json"), (theirs / "dataset.json", theirs)):
        with pytest.raises(TrainingError, match=r"AE-TRAIN-029.*one of several teachers"):
            digest_of_cases([first, second])


def test_the_cache_is_not_written_into_the_folder_of_the_teacher(parts, theirs):
    """It would change the teacher."""
    before = sorted(theirs.iterdir())
    with pytest.raises(TrainingError, match=r"AE-TRAIN-029.*theirs"):
        cache_foreign_teacher(theirs, parts, theirs)
    assert sorted(theirs.iterdir()) == before


def test_a_file_in_the_place_of_the_cache_is_an_error_of_the_output(parts, theirs, tmp_path):
    """AE-OUTPUT-001."""
    (tmp_path / "cache").write_text("")
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        cache_foreign_teacher(theirs, parts, tmp_path / "cache")


def test_two_masks_of_one_organ_are_refused(parts, entry, tmp_path):
    """In two spellings: nobody knows which one is meant."""
    folder = tmp_path / "theirs" / entry.name
    folder.mkdir(parents=True)
    for name in ("kidney_left", "Left Kidney"):
        shutil.copy(entry.label, folder / f"{name}.nii.gz")
    with pytest.raises(TrainingError, match=r"AE-TRAIN-029.*kidney_left twice"):
        cache_foreign_teacher(folder.parent, parts, tmp_path / "cache")


def break_missing(folder, entry):
    (folder / f"{entry.name}.nii.gz").unlink()


def break_twice(folder, entry):
    (folder / entry.name).mkdir()


def break_names(folder, entry):
    (folder / "dataset.json").unlink()


def break_strangers(folder, entry):
    write_dataset(folder, ("heart", "lung"))


def break_spelling(folder, entry):
    write_dataset(folder, (*BTCV_NAMES[1:], "Left Kidney"))


def break_numbers(folder, entry):
    (folder / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "liver": 6.5}}))


def break_regions(folder, entry):
    write_dataset(folder, kidneys=[2, 3])


def break_bytes(folder, entry):
    path = folder / f"{entry.name}.npz"
    np.savez_compressed(path, probabilities=np.random.default_rng(0).random((14, 8, 8, 8)))
    content = bytearray(path.read_bytes())
    content[200:1200] = b"\xff" * 1000
    path.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        *(break_missing, break_twice, break_names, break_strangers, break_spelling, break_numbers),
        *(break_regions, break_bytes),
    ],
)
def test_a_folder_that_cannot_teach_is_refused(damage, parts, entry, theirs, tmp_path):
    """No file of the case, two of them, no names, no organ in common; nothing is left behind."""
    damage(theirs, entry)
    why = ".*several values to kidneys" if damage is break_regions else ""
    with pytest.raises(TrainingError, match=f"AE-TRAIN-029{why}"):
        cache_foreign_teacher(theirs, parts, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_labels_on_another_grid_are_refused(parts, entry, tmp_path):
    """Moved by 5 mm."""
    folder = write_labels(tmp_path / "theirs", entry, shift_mm=5.0)
    with pytest.raises(InputError, match="AE-NIFTI-005"):
        cache_foreign_teacher(folder, parts, tmp_path / "cache")


@pytest.mark.parametrize(
    "array", [np.zeros((3, 4, 5)), np.zeros((2, 3, 4, 5), np.int16), np.full((14, 2, 2, 2), np.nan)]
)
def test_an_npz_without_probabilities_is_refused(array, parts, entry, theirs, tmp_path):
    """Too few axes, whole numbers, NaN."""
    np.savez(theirs / f"{entry.name}.npz", probabilities=array)
    with pytest.raises(TrainingError, match="AE-TRAIN-029"):
        cache_foreign_teacher(theirs, parts, tmp_path / "cache")

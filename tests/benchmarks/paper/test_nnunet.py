"""The raw data set is the one that nnU-Net's documentation describes."""

from __future__ import annotations

import dataclasses
import gzip
import json

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("scipy")
from autosam_edge.errors import InputError, OutputError, TrainingError
from autosam_edge_benchmarks.paper.nnunet import dataset_folder, nnunet_commands, write_nnunet
from autosam_edge_training.data import Entry, Manifest

LABELS = ("background", "spleen", "liver")


def manifest(tmp_path, splits=None, *, ending=".nii.gz"):
    """Files whose content is their name: nothing here opens them."""
    root = tmp_path / "data"
    root.mkdir(exist_ok=True)
    splits = splits or {"training": ["0001", "0002"], "validation": ["0007"], "test": ["0035"]}
    entries = {}
    for split, names in splits.items():
        entries[split] = tuple(
            Entry(
                n,
                root / f"img{n}{ending}",
                root / f"label{n}{ending}",
                f"{i:063x}{len(split) % 10}",
                "0" * 64,
                (3.0, 1.0, 1.0),
            )
            for i, n in enumerate(names)
        )
        for entry in entries[split]:
            for path in (entry.image, entry.label):
                path.write_bytes(path.name.encode())
    return Manifest("btcv", LABELS, root, **entries)


def test_files_have_the_names_and_places_of_nnunet(tmp_path):
    """Images end in _0000, labels do not, test cases have none; every file is the case's own, by link."""
    folder = write_nnunet(manifest(tmp_path), tmp_path / "raw")
    assert folder == tmp_path / "raw" / "Dataset501_BTCV"
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {
        "dataset.json",
        "splits_final.json",
        *(f"imagesTr/{name}_0000.nii.gz" for name in ("0001", "0002", "0007")),
        *(f"labelsTr/{name}.nii.gz" for name in ("0001", "0002", "0007")),
        "imagesTs/0035_0000.nii.gz",
    }
    assert found["imagesTr/0002_0000.nii.gz"].is_symlink()
    assert found["imagesTr/0002_0000.nii.gz"].read_bytes() == b"img0002.nii.gz"
    assert found["labelsTr/0007.nii.gz"].read_bytes() == b"label0007.nii.gz"


def test_the_description_and_the_split(tmp_path):
    """Labels by name, three cases to train on, and one fold that excludes the validation case."""
    folder = write_nnunet(manifest(tmp_path), tmp_path / "raw", copy=True)
    assert json.loads((folder / "dataset.json").read_text()) == {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "spleen": 1, "liver": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    assert json.loads((folder / "splits_final.json").read_text()) == [
        {"train": ["0001", "0002"], "val": ["0007"]}
    ]
    assert not any(path.is_symlink() for path in folder.rglob("*"))


def test_files_that_are_not_compressed_become_so(tmp_path):
    """nnU-Net wants one ending for all; the content stays."""
    folder = write_nnunet(manifest(tmp_path, ending=".nii"), tmp_path / "raw")
    with gzip.open(folder / "imagesTr" / "0001_0000.nii.gz") as file:
        assert file.read() == b"img0001.nii"


def test_without_validation_every_case_is_trained_on(tmp_path):
    """Without a split file the fold is ``all``; with one it is 0, and the file is copied for nnU-Net."""
    bare = write_nnunet(
        manifest(tmp_path, {"training": ["0001"], "test": ["0035"]}), tmp_path / "a", dataset_id=17
    )
    assert not (bare / "splits_final.json").exists()
    assert "nnUNetv2_train 17 3d_fullres all" in nnunet_commands(bare)
    held_out = nnunet_commands(write_nnunet(manifest(tmp_path), tmp_path / "b"))
    assert "nnUNetv2_train 501 3d_fullres 0" in held_out
    assert "splits_final.json $nnUNet_preprocessed/Dataset501_BTCV/" in held_out
    assert "--method nnunet" in held_out
    spaced = write_nnunet(manifest(tmp_path), tmp_path / "my raw")
    assert f"nnUNet_raw='{spaced.parent}'" in nnunet_commands(spaced)
    assert f"-i '{spaced}/imagesTs' " in nnunet_commands(spaced)


def test_the_names_of_prepared_data_sets_are_taken():
    """As ``data prepare decathlon`` makes them of the name in dataset.json."""
    assert dataset_folder("My-Liver_1.0") == "Dataset503_MY-LIVER_1.0"


def test_a_case_that_is_labeled_in_part_is_refused(tmp_path):
    """nnU-Net would take 255 for a class; where every voxel is labeled, ``known`` changes nothing."""
    data = manifest(tmp_path)
    entry = dataclasses.replace(data.training[0], known=(1,))
    data = dataclasses.replace(data, training=(entry, *data.training[1:]))
    labels = np.zeros((2, 2, 2), np.uint8)
    nib.save(nib.Nifti1Image(labels, np.eye(4)), entry.label)
    assert write_nnunet(data, tmp_path / "raw").is_dir()
    labels[0] = 255
    nib.save(nib.Nifti1Image(labels, np.eye(4)), entry.label)
    with pytest.raises(InputError, match="AE-DATA-003.*case 0001 is labeled in part"):
        write_nnunet(data, tmp_path / "other")


@pytest.mark.parametrize(("name", "number"), [("btcv", 0), ("btcv", 1000), ("my data", 5), ("a/b", 5)])
def test_what_nnunet_would_not_take_is_refused(name, number):
    """Numbers have three digits at most, and a name is part of the name of a folder."""
    with pytest.raises(TrainingError) as caught:
        dataset_folder(name, number)
    assert caught.value.code == "AE-TRAIN-024"


def test_nothing_is_replaced_and_nothing_half_written(tmp_path):
    """A folder that is there is kept as it is; a file that is missing leaves no data set behind."""
    data = manifest(tmp_path)
    write_nnunet(data, tmp_path / "raw")
    with pytest.raises(OutputError):
        write_nnunet(data, tmp_path / "raw")
    data.test[0].image.unlink()
    with pytest.raises(InputError):
        write_nnunet(data, tmp_path / "other")
    assert not list(tmp_path.glob("other/**/*"))


def test_a_training_case_without_labels_is_refused(tmp_path):
    """nnU-Net needs the labels of each training case; nothing is written."""
    data = manifest(tmp_path)
    bare = dataclasses.replace(data.training[0], label=None, label_sha256=None, known=())
    data = dataclasses.replace(data, training=(bare, *data.training[1:]))
    with pytest.raises(InputError, match="case 0001") as caught:
        write_nnunet(data, tmp_path / "raw")
    assert caught.value.code == "AE-DATA-002"
    assert not list(tmp_path.glob("raw/*"))

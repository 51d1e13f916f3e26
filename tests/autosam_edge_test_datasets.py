"""Small made-up data sets in the layouts of the real ones."""

from __future__ import annotations

import json

import numpy as np

SHAPE = (6, 16, 16)
SPACING_MM = (3.0, 1.5, 1.5)


def affine(shift_mm=0.0):
    """NIfTI's matrix of the made-up scans, moved along x."""
    matrix = np.diag([-SPACING_MM[2], -SPACING_MM[1], SPACING_MM[0], 1.0])
    matrix[0, 3] = shift_mm
    return matrix


def scan_and_labels(seed, *, classes=14):
    """int16 HU and uint8 labels, (D, H, W): noise, and every organ a block of its own."""
    rng = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:5] = (np.arange(SHAPE[1] * SHAPE[2]).reshape(SHAPE[1:]) // 16) % classes
    return rng.integers(-200, 300, SHAPE).astype(np.int16), labels


def write_array(path, array, *, shift_mm=0.0):
    """A NIfTI file of a (D, H, W) array."""
    import nibabel as nib

    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.ascontiguousarray(array.T), affine(shift_mm)), path)


def write_pair(image, label, seed, *, classes=14):
    """Image and label of a case."""
    hu, labels = scan_and_labels(seed, classes=classes)
    write_array(image, hu)
    write_array(label, labels)


def write_btcv(folder, numbers=("0001", "0002", "0007", "0035"), *, images="imagesTr", labels="labelsTr"):
    """BTCV with some of its cases."""
    for number in numbers:
        write_pair(
            folder / images / f"img{number}.nii.gz", folder / labels / f"label{number}.nii.gz", int(number)
        )
    return folder


def prepare_btcv(root, *numbers):
    """What is prepared in ``out`` of the BTCV in ``data``; with numbers, of a new one with these cases."""
    from autosam_edge_training.data import LAYOUTS, prepare_dataset

    if numbers:
        write_btcv(root / "data", numbers)
    return prepare_dataset(LAYOUTS["btcv"](root / "data"), root / "out")


def write_partial(folder):
    """Three scans in the layout ``partial``: all organs and unknown voxels, the liver alone, no labels."""
    cases = {"all": list(range(1, 14)), "liver": [6], "none": []}
    for seed, (name, known) in enumerate(cases.items()):
        hu, labels = scan_and_labels(seed)
        if name == "liver":
            labels[:, 4:12, 4:12] = 6
        write_array(folder / "images" / f"{name}.nii.gz", hu)
        if known:
            keep = labels == 6 if name == "liver" else labels > 0
            write_array(folder / "labels" / f"{name}.nii.gz", np.where(keep, labels, 255).astype(np.uint8))
    content = {name: {"known": known, "origin": "made up"} for name, known in cases.items()}
    (folder / "cases.json").write_text(json.dumps(content))
    return folder


def write_amos(folder, training=(1, 4, 507), test=(8, 600)):
    """AMOS with some of its cases, CT and MRI, and its own dataset.json."""
    content = {
        "labels": {str(value): name for value, name in enumerate(AMOS_OWN_NAMES)},
        "training": [],
        "validation": [],
    }
    for part, key, numbers in (("Tr", "training", training), ("Va", "validation", test)):
        for number in numbers:
            name = f"amos_{number:04d}.nii.gz"
            write_pair(folder / f"images{part}" / name, folder / f"labels{part}" / name, number, classes=16)
            content[key].append({"image": f"./images{part}/{name}", "label": f"./labels{part}/{name}"})
    (folder / "dataset.json").write_text(json.dumps(content))
    return folder


AMOS_OWN_NAMES = (
    "background",
    "spleen",
    "right kidney",
    "left kidney",
    "gall bladder",
    "esophagus",
    "liver",
    "stomach",
    "arota",
    "postcava",
    "pancreas",
    "right adrenal gland",
    "left adrenal gland",
    "duodenum",
    "bladder",
    "prostate/uterus",
)

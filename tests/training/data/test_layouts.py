"""Data sets are found as they are shipped, with their splits, and labels go by name."""

from __future__ import annotations

import dataclasses
import json

import pytest

pytest.importorskip("scipy")
from autosam_edge_test_datasets import AMOS_OWN_NAMES, write_amos, write_btcv, write_partial
from autosam_edge_test_support import refused

from autosam_edge.errors import InputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge_training.data import (
    AMOS_INTENSITY,
    AMOS_NAMES,
    BTCV_INTENSITY,
    BTCV_NAMES,
    BTCV_VALIDATION,
    LAYOUTS,
)

SWINUNETR_NAMES = [
    "background",
    "spleen",
    "rkid",
    "lkid",
    "gall",
    "eso",
    "liver",
    "sto",
    "aorta",
    "IVC",
    "veins",
    "pancreas",
    "rad",
    "lad",
]


def names(listing):
    return {split: [pair.name for pair in pairs] for split, pairs in listing.splits.items()}


def write_json(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("imagesTr", "labelsTr"),
        ("Training/img", "Training/label"),
        ("RawData/Training/img", "RawData/Training/label"),
    ],
)
def test_btcv_is_found_in_each_layout(images, labels, tmp_path):
    """As Synapse ships it and in Decathlon's folders: the case number decides the split."""
    listing = LAYOUTS["btcv"](write_btcv(tmp_path, images=images, labels=labels))
    assert names(listing) == {
        "training": ["0001", "0002"],
        "validation": [BTCV_VALIDATION[0]],
        "test": ["0035"],
    }
    assert listing.labels == BTCV_NAMES == ("background", *(label.name for label in BTCV_LABELS))
    assert listing.intensity == BTCV_INTENSITY
    (warning,) = listing.warnings
    assert "26 are not here: 0003" in warning


def test_other_files_are_no_cases(tmp_path):
    """What macOS leaves behind, and notes."""
    write_btcv(tmp_path)
    (tmp_path / "imagesTr" / "._img0003.nii.gz").write_bytes(b"x")
    (tmp_path / "imagesTr" / "README.txt").write_text("x")
    assert len(LAYOUTS["btcv"](tmp_path).splits["training"]) == 2


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda folder: (folder / "labelsTr").rename(folder / "labels"), "AE-DATA-001"),
        (
            lambda folder: (folder / "imagesTr" / "img0001.nii.gz").rename(
                folder / "imagesTr" / "first.nii.gz"
            ),
            "AE-DATA-001",
        ),
        (lambda folder: write_btcv(folder, ["0061"]), "AE-DATA-001"),
        (lambda folder: (folder / "imagesTr" / "img0001.nii").write_bytes(b""), "AE-DATA-001"),
        (lambda folder: (folder / "labelsTr" / "label0002.nii.gz").unlink(), "AE-DATA-002"),
        (lambda folder: (folder / "imagesTr" / "img0002.nii.gz").unlink(), "AE-DATA-002"),
    ],
    ids=["no folder", "no number", "no such case", "a case twice", "no label", "no image"],
)
def test_a_btcv_that_is_not_whole_is_refused(break_it, code, tmp_path):
    """A folder or a number that is not BTCV's, an image or a label alone."""
    break_it(write_btcv(tmp_path))
    with refused(code):
        LAYOUTS["btcv"](tmp_path)


def test_a_label_table_beside_the_images_must_say_the_same(tmp_path):
    """SwinUNETR's short names are the same organs; organs in another order are refused."""
    write_btcv(tmp_path)
    write_json(tmp_path, labels={str(value): name for value, name in enumerate(SWINUNETR_NAMES)})
    LAYOUTS["btcv"](tmp_path)
    other = [SWINUNETR_NAMES[0], *sorted(SWINUNETR_NAMES[1:])]
    write_json(tmp_path, labels={str(value): name for value, name in enumerate(other)})
    with refused("AE-DATA-009", "label 1 is IVC, expected spleen"):
        LAYOUTS["btcv"](tmp_path)
    write_json(tmp_path, labels={"0": "background", "1": "spleen"})
    with pytest.raises(InputError, match="2 labels, expected 14"):
        LAYOUTS["btcv"](tmp_path)


@pytest.mark.parametrize("below", ["", "amos22"])
def test_amos_keeps_its_ct_cases(below, tmp_path):
    """Numbers from 500 on are MRI; imagesTr trains and imagesVa tests; labels are matched by name."""
    write_amos(tmp_path / below)
    listing = LAYOUTS["amos"](tmp_path)
    assert names(listing) == {"training": ["amos_0001", "amos_0004"], "validation": [], "test": ["amos_0008"]}
    assert listing.labels == AMOS_NAMES
    assert len(AMOS_NAMES) == 16
    assert AMOS_NAMES[AMOS_OWN_NAMES.index("postcava")] == "inferior_vena_cava"
    assert AMOS_NAMES[AMOS_OWN_NAMES.index("bladder")] == "urinary_bladder"
    assert listing.intensity == AMOS_INTENSITY
    assert "200 CT cases in imagesTr; 2 are here" in listing.warnings[0]
    assert "100 CT cases in imagesVa; 1 are here" in listing.warnings[1]


def test_amos_cases_that_its_own_list_names_are_missed_by_name(tmp_path):
    """A download that stopped halfway says what is missing; MRI cases are not missed."""
    write_amos(tmp_path)
    for part in ("images", "labels"):
        for name in ("amos_0004", "amos_0507"):
            (tmp_path / f"{part}Tr" / f"{name}.nii.gz").unlink()
    assert "dataset.json amos_0004 are missing" in LAYOUTS["amos"](tmp_path).warnings[0]


def test_a_list_of_amos_that_is_none_is_refused(tmp_path):
    """AE-DATA-006."""
    write_amos(tmp_path)
    write_json(tmp_path, training=None)
    with refused("AE-DATA-006"):
        LAYOUTS["amos"](tmp_path)


def test_amos_shares_organs_with_btcv_by_name_not_by_number():
    """Pancreas is 10 in AMOS and 11 in BTCV."""
    assert (AMOS_NAMES.index("pancreas"), BTCV_NAMES.index("pancreas")) == (10, 11)
    assert len(set(AMOS_NAMES) & set(BTCV_NAMES)) == 13  # with the background


def decathlon(folder, **changes):
    """A Decathlon data set's list; the files are not looked at."""
    content = {
        "name": "Spleen of someone",
        "modality": {"0": "CT"},
        "labels": {"0": "background", "1": "Spleen", "2": "Right Kidney", "3": "Vena cava (inf)/portal"},
        "training": [
            {"image": f"./imagesTr/s_{n}.nii.gz", "label": f"./labelsTr/s_{n}.nii.gz"} for n in range(8)
        ],
        "test": ["./imagesTs/s_9.nii.gz", {"image": "imagesTs/s_10.nii.gz", "label": "labelsTs/s_10.nii.gz"}],
        **changes,
    }
    write_json(folder, **content)
    return LAYOUTS["decathlon"](folder)


def test_a_decathlon_lists_itself(tmp_path):
    """Labels get TotalSegmentator's names, test images without label are left out and counted."""
    listing = decathlon(tmp_path)
    assert listing.dataset == "Spleen-of-someone"
    assert listing.labels == ("background", "spleen", "kidney_right", "vena_cava_inf_portal")
    assert names(listing)["test"] == ["s_10"]
    assert listing.splits["training"][0].label == tmp_path / "labelsTr" / "s_0.nii.gz"
    assert listing.warnings == ("1 test images have no label and are left out.",)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"modality": {"0": "MRI"}}, "AE-DATA-009"),
        ({"modality": {"0": "CT", "1": "PET"}}, "AE-DATA-009"),
        ({"labels": {"0": "background", "2": "spleen"}}, "AE-DATA-006"),
        ({"labels": {"0": "background", "1": "left kidney", "2": "kidney_left"}}, "AE-DATA-006"),
        *(
            ({"labels": {"0": "background", "1": name}}, "AE-DATA-006")
            for name in ("", "Tumör", "a<b>", "=cmd", "x" * 65)
        ),
        ({"labels": {"0": "liver", "1": "spleen"}}, "AE-DATA-006"),
        ({"labels": ["background", "spleen"]}, "AE-DATA-006"),
        ({"labels": None}, "AE-DATA-006"),
        ({"training": ["imagesTr/s_1.nii.gz"]}, "AE-DATA-006"),
        ({"training": [{"label": "s_1.nii.gz"}]}, "AE-DATA-006"),
        ({"training": [{"image": "../s_1.nii.gz", "label": "s_1.nii.gz"}]}, "AE-DATA-006"),
        ({"training": [{"image": "/s_1.nii.gz", "label": "s_1.nii.gz"}]}, "AE-DATA-006"),
        ({"training": [{"image": "a b.nii.gz", "label": "s_1.nii.gz"}]}, "AE-DATA-006"),
        ({"training": [{"image": "ä.nii.gz", "label": "s_1.nii.gz"}]}, "AE-DATA-006"),
        ({"training": 3}, "AE-DATA-006"),
    ],
)
def test_a_decathlon_that_cannot_be_used_is_refused(changes, code, tmp_path):
    """Not CT, labels that no model may have, no label, paths that lead out, bad names of cases."""
    with refused(code) as caught:
        decathlon(tmp_path, **changes)
    assert "Error" not in caught.value.message


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ({"0": "background", "1": "liver", "5": "tumor"}, "have the numbers 0, 1, 5; expected 0, 1, 2"),
        ({"0": "background", "1": "liver", "01": "spleen"}, "have the numbers 0, 1, 1; expected 0, 1, 2"),
        (
            {"0": "background", "1": "Left Kidney", "2": "kidney_left"},
            "two labels have the name 'kidney_left'",
        ),
        ({"0": "liver", "1": "spleen"}, "label 0 is 'liver', expected \"background\""),
    ],
)
def test_labels_that_cannot_be_used_are_named(labels, words, tmp_path):
    """And the label files are not forgotten."""
    with pytest.raises(InputError, match=words) as caught:
        decathlon(tmp_path, labels=labels)
    assert "label files" in caught.value.remedy


@pytest.mark.parametrize("name", ["Background", "Clear Label", "unlabeled"])
def test_the_background_has_other_names_too(name, tmp_path):
    assert len(decathlon(tmp_path, labels={"0": name, "1": "liver"}).labels) == 2


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"labels": {"background": 0, "Spleen": 1}, "channel_names": {"0": "CT"}}, 'Write its "labels" as'),
        ({"training": [{"image": "a b.nii.gz", "label": "s_1.nii.gz"}]}, "Rename the files"),
        ({"labels": {"0": "background", "2": "spleen"}}, "Correct it."),
    ],
    ids=["nnU-Net", "a name", "labels"],
)
def test_the_remedy_for_a_list_of_others_is_not_our_command(changes, remedy, tmp_path):
    """``data prepare`` did not write it."""
    with pytest.raises(InputError) as caught:
        decathlon(tmp_path, **changes)
    assert caught.value.remedy.startswith(remedy)


def test_short_names_of_organs_are_known(tmp_path):
    """Where they mean one thing only; "lad" is a coronary artery too."""
    labels = {str(value): name for value, name in enumerate(("background", "IVC", "lkid", "LAD"))}
    assert decathlon(tmp_path, labels=labels).labels[1:] == ("inferior_vena_cava", "kidney_left", "lad")


def test_a_decathlon_without_its_list_is_refused(tmp_path):
    """There is nothing else to go by."""
    with refused("AE-INPUT-010"):
        LAYOUTS["decathlon"](tmp_path)


def test_the_same_cases_are_held_out_whatever_the_order(tmp_path):
    """The rule looks at names alone; a case that is missing does not change the rank of the others."""
    listing = decathlon(tmp_path)
    held = names(listing.hold_out(3))
    assert len(held["validation"]) == 3
    assert sorted(held["training"] + held["validation"]) == names(listing)["training"]

    def held_out_of(training):
        changed = dataclasses.replace(listing, splits={**listing.splits, "training": training})
        return names(changed.hold_out(3))["validation"]

    pairs = listing.splits["training"]
    assert set(held_out_of(pairs[::-1])) == set(held["validation"])
    assert held_out_of([pair for pair in pairs if pair.name != held["training"][0]]) == held["validation"]


def test_something_is_left_to_train_on(tmp_path):
    """Holding all cases out is refused."""
    with refused("AE-DATA-005"):
        decathlon(tmp_path).hold_out(8)


def test_partly_labeled_scans_say_which_organs_are_known(tmp_path):
    """All are for training; a scan without labels has no label file and knows nothing."""
    listing = LAYOUTS["partial"](write_partial(tmp_path))
    pairs = listing.splits["training"]
    assert [(pair.name, pair.known, pair.label is not None) for pair in pairs] == [
        ("all", tuple(range(1, 14)), True),
        ("liver", (6,), True),
        ("none", (), False),
    ]
    assert listing.labels == BTCV_NAMES


def test_partly_labeled_scans_may_have_organs_of_their_own(tmp_path):
    """Those of a ``dataset.json``; a value beyond them is refused."""
    write_partial(tmp_path)
    write_json(
        tmp_path, labels={"0": "background", **{str(value): f"Organ {value}" for value in range(1, 15)}}
    )
    assert LAYOUTS["partial"](tmp_path).labels[14] == "organ_14"
    write_json(tmp_path, labels={"0": "background", "1": "liver"})
    with refused("AE-DATA-006", "case all knows label 13, expected 1 to 1"):
        LAYOUTS["partial"](tmp_path)


@pytest.mark.parametrize(
    "cases",
    [
        {"a": {}},
        {"a": {"known": [14]}},
        {"a": {"known": [0]}},
        {"a": {"known": ["x"]}},
        {"../a": {"known": []}},
        {"a": []},
    ],
    ids=["no list", "no organ", "background", "no number", "a path", "no object"],
)
def test_a_list_of_known_organs_that_cannot_be_used_is_refused(cases, tmp_path):
    """A missing or wrong list, a name that leads out of the folder."""
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    with refused("AE-DATA-006") as caught:
        LAYOUTS["partial"](tmp_path)
    if "../a" in cases:
        assert "A to Z, a to z" in caught.value.message

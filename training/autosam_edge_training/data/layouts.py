"""The layouts of public data sets on a disk, and their splits into training and test cases.

Data sets number organs differently, so labels go by name, TotalSegmentator's, wherever one exists. Where a
``dataset.json`` lies beside the images, its label table must say the same.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from autosam_edge.error_codes import DATA_LABELS_DIFFER
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.labels import BTCV_LABELS, ORGAN_NAME_RULE, is_organ_name, total_segmentator_name
from autosam_edge_training.choices import Split
from autosam_edge_training.data.case import AMOS_INTENSITY, BTCV_INTENSITY, Intensity
from autosam_edge_training.data.manifest import (
    SPLITS,
    CaseName,
    broken,
    case_name,
    inside,
    names_by_value,
    read_description,
)
from autosam_edge_training.error_codes import CASE_FILE_MISSING, DATA_LAYOUT_UNKNOWN, SPLIT_EMPTY
from autosam_edge_training.strict import JsonObject, checked_dataclass

BTCV_NAMES = ("background", *(label.name for label in BTCV_LABELS))
AMOS_NAMES = (
    "background",
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
    "duodenum",
    "urinary_bladder",
    "prostate",
)
"""AMOS calls label 9 postcava and label 15 prostate or uterus."""

# The split of SwinUNETR's dataset_0.json, which the paper's 24/6 follows.
BTCV_TEST = ("0035", "0036", "0037", "0038", "0039", "0040")
# Four of the other 24, held out to compare students; the six test cases are never looked at for that.
BTCV_VALIDATION = ("0007", "0010", "0026", "0033")
_BTCV_CASES = tuple(f"{number:04d}" for number in (*range(1, 11), *range(21, 41)))

_AMOS_MRI = 500  # case numbers from here on are MRI
_AMOS_CT: dict[Split, int] = {"training": 200, "test": 100}

# Of SwinUNETR's file for BTCV; elsewhere they may mean something else ("lad" is a coronary artery too).
_SHORT = {"veins": "portal_vein_and_splenic_vein", "rad": "adrenal_gland_right", "lad": "adrenal_gland_left"}
# How data sets call the value 0, after lower case and underscores.
_BACKGROUND = {"background", "bg", "clear_label", "none", "other", "unlabeled", "unlabelled", "void"}
_CORRECT = "Correct it."  # the remedy for a list that came with the data set
_RENUMBER = f"{_CORRECT} Where a label gets another number, change it in the label files too."


@dataclass(frozen=True)
class Pair:
    """Image and label of a case.

    Args:
        label: Label image, or None where the scan has no labels.
        known: Label values that are labeled everywhere in this scan; there 255 means "not known". None: all
            are labeled.
    """

    name: str
    image: Path
    label: Path | None
    known: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Listing:
    """A data set as it lies on the disk, not yet read.

    Args:
        warnings: Remarks on the data set, one sentence each.
    """

    dataset: str
    root: Path
    labels: tuple[str, ...]
    intensity: Intensity
    splits: Mapping[Split, Sequence[Pair]]
    warnings: tuple[str, ...] = ()

    def hold_out(self, count: int) -> Listing:
        """Move ``count`` training cases to validation: those whose names have the smallest SHA-256.

        The rule knows nothing of the images, and the same cases come out whatever the order on the disk and
        whatever else is missing.

        Raises:
            InputError: Nothing would be left to train on (AE-DATA-005).
        """
        training = self.splits["training"]
        ranked = sorted(training, key=lambda pair: hashlib.sha256(pair.name.encode()).hexdigest())
        if count >= len(ranked):
            raise SPLIT_EMPTY(
                f"holding {count} of {len(ranked)} training cases out leaves none to train on.",
                remedy="Hold fewer cases out.",
            )
        held = {pair.name for pair in ranked[:count]}
        splits = {
            **self.splits,
            "training": [pair for pair in training if pair.name not in held],
            "validation": [*self.splits["validation"], *(pair for pair in training if pair.name in held)],
        }
        return dataclasses.replace(self, splits=splits)


def list_btcv(source: Path) -> Listing:
    """BTCV as Synapse ships it, or in the folders of the Decathlon (``imagesTr``, ``labelsTr``).

    The case number decides the split: 0035 to 0040 for testing, 0007, 0010, 0026 and 0033 for validation, the
    other 20 for training.

    Raises:
        InputError: Another layout (AE-DATA-001), an image without label (AE-DATA-002), or a label table that
            is not BTCV's (AE-DATA-009).
    """
    layouts = (
        ("imagesTr", "labelsTr"),
        ("Training/img", "Training/label"),
        ("RawData/Training/img", "RawData/Training/label"),
    )
    images, labels = next((pair for pair in layouts if (source / pair[0]).is_dir()), layouts[0])
    pairs = _pairs(source, images, labels, re.compile(r"(\d{4})$"))
    splits: dict[Split, list[Pair]] = {split: [] for split in SPLITS}
    for pair in pairs:
        if pair.name not in _BTCV_CASES:
            raise _not_laid_out(
                "BTCV", f"there is no labeled case {pair.name}, but 0001 to 0010 and 0021 to 0040"
            )
        splits[
            "test" if pair.name in BTCV_TEST else "validation" if pair.name in BTCV_VALIDATION else "training"
        ].append(pair)
    missing = sorted(set(_BTCV_CASES) - {pair.name for pair in pairs})
    warnings = (
        [f"BTCV has 30 labeled cases; {len(missing)} are not here: {', '.join(missing)}."] if missing else []
    )
    _check_labels(source, BTCV_NAMES)
    return Listing("btcv", source, BTCV_NAMES, BTCV_INTENSITY, splits, tuple(warnings))


def list_amos(source: Path) -> Listing:
    """The CT part of AMOS 2022: ``imagesTr`` for training, ``imagesVa`` for testing.

    Cases from number 500 on are MRI and left out. Counts are held against the 200 and 100 CT cases that AMOS
    has.

    Raises:
        InputError: As :func:`list_btcv`.
    """
    source = source / "amos22" if (source / "amos22").is_dir() else source
    splits: dict[Split, list[Pair]] = {split: [] for split in SPLITS}
    folders: dict[Split, tuple[str, str]] = {
        "training": ("imagesTr", "labelsTr"),
        "test": ("imagesVa", "labelsVa"),
    }
    warnings = []
    listed = _listed_amos(source)
    for split, (images, labels) in folders.items():
        pairs = _pairs(source, images, labels, re.compile(r"^(amos_\d{4})$"))
        splits[split] = [pair for pair in pairs if int(pair.name[-4:]) < _AMOS_MRI]
        if len(splits[split]) != _AMOS_CT[split]:
            line = f"AMOS has {_AMOS_CT[split]} CT cases in {images}; {len(splits[split])} are here"
            missing = sorted(listed.get(images, set()) - {pair.name for pair in splits[split]})
            if missing:
                line += f", of those in dataset.json {', '.join(missing)} are missing"
            warnings.append(f"{line}.")
    _check_labels(source, AMOS_NAMES)
    return Listing("amos", source, AMOS_NAMES, AMOS_INTENSITY, splits, tuple(warnings))


def list_decathlon(source: Path) -> Listing:
    """A CT data set of the Medical Segmentation Decathlon, or one with the same ``dataset.json``.

    Training and validation are what it says. Of the test cases those with a label stay; the Decathlon's own
    have none. The window is that of BTCV, for soft tissue.

    Raises:
        InputError: No ``dataset.json`` (AE-INPUT-010), one that cannot be used (AE-DATA-006), or images that
            are not CT (AE-DATA-009).
    """
    content = read_description(JsonObject, source / "dataset.json", remedy=_CORRECT)
    labels = _own_labels(content, ', and the cases as a list "training" of {"image": FILE, "label": FILE}')
    modality = content.get("modality", {"0": "CT"})
    if not isinstance(modality, dict) or [str(kind).upper() for kind in modality.values()] != ["CT"]:
        raise DATA_LABELS_DIFFER(
            "dataset.json does not say that the images are CT.", remedy="Give a data set of CT scans."
        )
    splits: dict[Split, list[Pair]] = {split: [] for split in SPLITS}
    unlabeled = 0
    try:
        for split in SPLITS:
            for entry in content.get(split, []):
                if isinstance(entry, dict) and "label" in entry:
                    image, label = (source / inside(entry[key]) for key in ("image", "label"))
                    splits[split].append(Pair(_stem(image), image, label))
                elif split == "test":
                    unlabeled += 1
                else:
                    raise ValueError(f"a case of {split} has no label")
    except KeyError as error:
        raise broken("dataset.json", f"a case has no {error}", remedy=_CORRECT) from error
    except (TypeError, ValueError, AttributeError) as error:
        raise broken("dataset.json", str(error), remedy=_CORRECT) from error
    try:
        for pair in itertools.chain(*splits.values()):
            case_name(pair.name)
    except ValueError as error:
        remedy = "Rename the files of this case, on the disk and in dataset.json."
        raise broken("dataset.json", str(error), remedy=remedy) from error
    warnings = [f"{unlabeled} test images have no label and are left out."] if unlabeled else []
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", str(content.get("name", ""))).strip("-") or "decathlon"
    return Listing(name, source, labels, BTCV_INTENSITY, splits, tuple(warnings))


@checked_dataclass(config=ConfigDict(frozen=True))  # notes on a case, such as its license, are welcome
class _PartialCase:
    """A case in ``cases.json``: the label values that are labeled everywhere in its scan."""

    known: tuple[Annotated[int, Field(ge=1)], ...]


def list_partial(source: Path) -> Listing:
    """Scans that are labeled in part, in ``images/``, ``labels/`` and ``cases.json``.

    ``cases.json`` maps each name to an object whose ``known`` lists the values that are labeled everywhere in
    that scan. A voxel of value 255 may be the background or an organ that is not in that list. A scan without
    a label file has an empty list. All cases are for training. The organs are those of ``labels`` in a
    ``dataset.json``, as :func:`list_decathlon` reads them, or BTCV's where there is none.

    Raises:
        InputError: No ``cases.json`` (AE-INPUT-010), one that cannot be used (AE-DATA-006), or a missing file
            (AE-DATA-002).
    """
    pairs = []
    remedy = "Correct it; where the name of a case is refused, rename its files too."
    cases = read_description(dict[CaseName, _PartialCase], source / "cases.json", remedy=remedy)
    labels = BTCV_NAMES
    if (source / "dataset.json").is_file():
        description = read_description(JsonObject, source / "dataset.json", remedy=_CORRECT)
        labels = _own_labels(description) if "labels" in description else labels
    for name, case in cases.items():
        known = tuple(sorted(case.known))
        if known and known[-1] >= len(labels):
            raise broken(
                "cases.json",
                f"case {name} knows label {known[-1]}, expected 1 to {len(labels) - 1}",
                remedy="Correct it. Where the organs are not BTCV's, write `labels` into a dataset.json.",
            )
        image, label = (source / folder / f"{name}.nii.gz" for folder in ("images", "labels"))
        pairs.append(Pair(name, image, label if known or label.is_file() else None, known))
    splits: dict[Split, list[Pair]] = {"training": pairs, "validation": [], "test": []}
    return Listing("partial", source, labels, BTCV_INTENSITY, splits)


LAYOUTS: Mapping[str, Callable[[Path], Listing]] = {
    "btcv": list_btcv,
    "amos": list_amos,
    "decathlon": list_decathlon,
    "partial": list_partial,
}
"""Layouts by the name that ``data prepare`` takes."""


def _pairs(source: Path, images: str, labels: str, pattern: re.Pattern[str]) -> list[Pair]:
    """Images and labels of two folders, paired by the case name that ``pattern`` finds in the file names."""
    found: list[dict[str, Path]] = []
    for folder in (images, labels):
        if not (source / folder).is_dir():
            raise _not_laid_out("the data set", f"there is no folder {folder}")
        by_name: dict[str, Path] = {}
        for path in sorted((source / folder).iterdir()):
            if path.name.startswith(".") or not path.name.endswith((".nii", ".nii.gz")):
                continue  # macOS's ._ files, README and the like
            match = pattern.search(_stem(path))
            if match is None or match[1] in by_name:
                raise _not_laid_out(
                    "the data set", f"{folder}/{path.name} has no case number, or one that is there twice"
                )
            by_name[match[1]] = path
        found.append(by_name)
    if lonely := sorted(set(found[0]) ^ set(found[1])):
        raise CASE_FILE_MISSING(
            f"these cases have only an image or only a label in {images} and {labels}: {', '.join(lonely)}."
        )
    return [Pair(name, found[0][name], found[1][name]) for name in sorted(found[0])]


def _stem(path: Path) -> str:
    """``img0001`` of ``img0001.nii.gz``."""
    return re.sub(r"\.nii(\.gz)?$", "", path.name)


def _listed_amos(source: Path) -> dict[str, set[str]]:
    """CT cases that AMOS's own ``dataset.json``, if it is there, lists in each folder."""
    if not (source / "dataset.json").is_file():
        return {}
    listed: dict[str, set[str]] = {}
    content = read_description(JsonObject, source / "dataset.json", remedy=_CORRECT)
    try:
        entries = [*content.get("training", []), *content.get("validation", [])]
    except TypeError as error:
        raise broken("dataset.json", "training or validation is no list", remedy=_CORRECT) from error
    for entry in entries:
        match = re.search(r"(images\w\w)/(amos_(\d{4}))\.nii", str(entry))
        if match and int(match[3]) < _AMOS_MRI:
            listed.setdefault(match[1], set()).add(match[2])
    return listed


def _check_labels(source: Path, expected: tuple[str, ...]) -> None:
    """Refuse a ``dataset.json`` whose label table differs from ours: its organs would be learned wrong."""
    path = source / "dataset.json"
    if not path.is_file() or "labels" not in (content := read_description(JsonObject, path, remedy=_CORRECT)):
        return
    try:
        names = names_by_value(content["labels"])
    except (AttributeError, TypeError, ValueError) as error:
        raise broken("dataset.json", str(error), remedy=_CORRECT) from error
    for value, (stated, known) in enumerate(zip(names, expected, strict=False)):
        if value and _SHORT.get(stated.lower(), total_segmentator_name(stated)) != known:
            raise _other_labels(f"label {value} is {stated}, expected {known}")
    if len(names) != len(expected):
        raise _other_labels(f"there are {len(names)} labels, expected {len(expected)}")


def _own_labels(description: JsonObject, cases: str = "") -> tuple[str, ...]:
    """The organs of a ``dataset.json`` by TotalSegmentator's names, the background first.

    Args:
        cases: What an nnU-Net file lacks besides, for its remedy.

    Raises:
        InputError: A bundle could not have them, or they are no list of organs by number (AE-DATA-006).
    """
    stated = description.get("labels")
    if isinstance(stated, dict) and "background" in stated:
        raise broken(
            "dataset.json",
            "it is that of an nnU-Net data set, with labels as name to number",
            remedy=f'Write its "labels" as number to name{cases}, as the Decathlon has them.',
        )
    try:
        if not isinstance(stated, dict) or not all(number.isdecimal() for number in stated):
            raise ValueError('it has no "labels" as number to name')
        labels = names_by_value({value: total_segmentator_name(str(name)) for value, name in stated.items()})
        if labels[0] not in _BACKGROUND:
            raise ValueError(
                f'label 0 is {labels[0][:80]!r}, expected "background", as 0 stands where no organ is'
            )
    except ValueError as error:
        raise broken("dataset.json", str(error), remedy=_RENUMBER) from error
    for value, name in enumerate(labels):
        if value and not is_organ_name(name):
            what = f"the name of label {value} is {name[:80]!r}, expected {ORGAN_NAME_RULE}"
            raise broken("dataset.json", what, remedy=_CORRECT)
    return labels


def _other_labels(what: str) -> AutosamEdgeError:
    return DATA_LABELS_DIFFER(
        f"dataset.json numbers the organs in another way: {what}.",
        remedy="Use the layout `decathlon`, which reads its labels.",
    )


def _not_laid_out(dataset: str, why: str) -> AutosamEdgeError:
    return DATA_LAYOUT_UNKNOWN(f"{dataset} is laid out in another way: {why}.")

"""The files of a foreign teacher: which belong to a case, what their classes are, and their digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from autosam_edge.labels import total_segmentator_name
from autosam_edge_training.data import Entry, Prepared
from autosam_edge_training.data.manifest import hash_file
from autosam_edge_training.error_codes import FOREIGN_TEACHER_INVALID


def source_of(folder: Path, entry: Entry) -> Path:
    """The one file or folder of a case.

    Raises:
        TrainingError: There is none, or there are two (AE-TRAIN-029).
    """
    stem = entry.image.name.removesuffix(".gz").removesuffix(".nii")
    names = dict.fromkeys(
        f"{name}{ending}" for name in (entry.name, stem) for ending in (".npz", ".nii.gz", "")
    )
    found = [folder / name for name in names if (folder / name).exists()]
    # nnU-Net writes NAME.nii.gz, its labels, beside the probabilities in NAME.npz.
    labels = {path.with_suffix(".nii.gz") for path in found if path.suffix == ".npz"}
    found = [path for path in found if path not in labels]
    if len(found) != 1:
        why = "has " + " and ".join(path.name for path in found) if found else "has no file"
        raise FOREIGN_TEACHER_INVALID(f"case {entry.name} {why} in {folder.name}, expected one.")
    return found[0]


def class_names(folder: Path) -> dict[str, int]:
    """Value of each class by its TotalSegmentator name, from ``dataset.json``.

    nnU-Net's label ``ignore`` is left out: it marks voxels of the training data and is never predicted.

    Raises:
        TrainingError: It is missing, or does not give each class one whole number (AE-TRAIN-029).
    """
    try:
        labels = json.loads((folder / "dataset.json").read_bytes())["labels"]
        pairs = [(str(key), str(value)) for key, value in labels.items()]
        if all(key.isdigit() for key, _ in pairs):
            pairs = [(name, value) for value, name in pairs]
        if regions := [name for name, value in pairs if value.startswith("[")]:
            raise FOREIGN_TEACHER_INVALID(
                f"dataset.json in {folder.name} gives several values to {', '.join(regions)}.",
                remedy="Give a teacher of separate classes; one of regions cannot teach.",
            )
        pairs = [(name, value) for name, value in pairs if name != "ignore"]
        values = [int(value) for _, value in pairs]
    except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise FOREIGN_TEACHER_INVALID(
            f"dataset.json in {folder.name} does not name the classes ({type(error).__name__})."
        ) from error
    names = distinct_names((name for name, _ in pairs), f"dataset.json in {folder.name}")
    return dict(zip(names, values, strict=True))


def distinct_names(names: Iterable[str], where: str) -> list[str]:
    """TotalSegmentator's names of the classes.

    Raises:
        TrainingError: Two of them are one organ (AE-TRAIN-029).
    """
    plain = [total_segmentator_name(name) for name in names]
    if twice := sorted({name for name in plain if plain.count(name) > 1}):
        raise FOREIGN_TEACHER_INVALID(f"{where} has {', '.join(twice)} twice, in two spellings.")
    return plain


def foreign_sha256(folder: Path, prepared: Prepared, entry: Entry) -> str:
    """SHA-256 of all that the probabilities of a case are made of, beside its scan.

    These are the teacher's files of the case, the names of its classes, and the labels of the data set, which
    tell what the teacher does not know.

    Raises:
        TrainingError: The teacher has no file of the case, or does not name its classes (AE-TRAIN-029).
        InputError: A file cannot be read (AE-DATA-002).
    """
    source = source_of(folder, entry)
    files = mask_files(source) if source.is_dir() else [source]
    hashes = [[file.name, _sha256(file, file.stat().st_size, file.stat().st_mtime_ns)] for file in files]
    names = {} if source.is_dir() else class_names(folder)
    labels = [prepared.labels, entry.label_sha256, entry.known]
    return hashlib.sha256(json.dumps([hashes, names, labels], sort_keys=True).encode()).hexdigest()


def mask_files(folder: Path) -> list[Path]:
    """The masks of a case, one for each organ."""
    return sorted(folder.glob("*.nii.gz"))


@cache
def _sha256(file: Path, size: int, changed_ns: int) -> str:
    """SHA-256 of a file, which one process asks for several times."""
    del size, changed_ns  # they tell that the file is still the same
    return hash_file(file)

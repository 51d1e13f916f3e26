"""One list of cases for every data set: which image, which label, which split, and the hash of each file.

The file is JSON in the style of the Medical Segmentation Decathlon, so that MONAI's
``load_decathlon_datalist`` reads it (``base_dir`` = the ``root`` that it names)::

    {"name": "btcv", "schema_version": 2, "modality": {"0": "CT"}, "root": "../btcv", "labels": {"0":
    "background", "1": "spleen"},
     "warnings": [],
     "training": [{"name": "0001", "image": "imagesTr/img0001.nii.gz", "label": "labelsTr/label0001.nii.gz",
                   "image_sha256": "...", "label_sha256": "...", "spacing_mm": [3.0, 0.76, 0.76], "known":
                   null}],
     "validation": [], "test": []}

What the data are does not depend on where they lie: :attr:`Manifest.sha256` covers labels, names, splits and
file hashes, no path.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, TypeVar, get_args

from pydantic import AfterValidator, Field

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training.choices import Split
from autosam_edge_training.error_codes import (
    CASE_FILE_MISSING,
    CASE_TWICE,
    DATA_DESCRIPTION_INVALID,
    DATA_FILE_CHANGED,
    DATA_FILE_MISSING,
    SPLIT_EMPTY,
)
from autosam_edge_training.strict import STRICT, as_dict, checked_dataclass, parse_json

SPLITS: tuple[Split, ...] = get_args(Split)
SCHEMA_VERSION = 2
T = TypeVar("T")


def case_name(name: str) -> str:
    """A name that can be the name of a file on every disk.

    Raises:
        ValueError: It cannot.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ValueError(
            f"the name of case {name!r} has other characters than A to Z, a to z, 0 to 9, '.', '_' and '-'"
        )
    return name


CaseName = Annotated[str, AfterValidator(case_name)]
_Length = Annotated[float, Field(gt=0)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@checked_dataclass(config=STRICT)
class Entry:
    """One case of a manifest.

    Args:
        image, label: Files; relative to the manifest's root inside of a manifest, whole as
            :meth:`Manifest.entries` gives them. A scan without labels has no label file.
        image_sha256, label_sha256: SHA-256 of the two files, hexadecimal; None for a label file that does not
            exist.
        spacing_mm: Voxel spacing of the image, (D, H, W) of the file.
        known: Label values that are labeled everywhere in this scan, or None where all are.
    """

    name: CaseName
    image: Path
    label: Path | None
    image_sha256: Sha256
    label_sha256: Sha256 | None
    spacing_mm: tuple[_Length, _Length, _Length]
    known: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if (self.label is None) != (self.label_sha256 is None) or (self.label is None and self.known != ()):
            raise ValueError("a scan without a label file has no SHA-256 of it and no known label")

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, and the label where there is one."""
        return (self.image,) if self.label is None else (self.image, self.label)

    @property
    def label_file(self) -> Path:
        """The label file, where labels are needed.

        Raises:
            InputError: The case is a scan without labels (AE-DATA-002).
        """
        if self.label is None:
            raise CASE_FILE_MISSING(f"case {self.name} is a scan without labels; its labels are needed here.")
        return self.label

    def check(self) -> None:
        """Refuse files that are not those that the manifest was made of.

        Raises:
            InputError: A file is missing (AE-DATA-002) or another one (AE-DATA-008).
        """
        for path, expected in zip(self.files, (self.image_sha256, self.label_sha256), strict=False):
            if hash_file(path) != expected:
                raise DATA_FILE_CHANGED(
                    f"{path.name} is not the file that was prepared: its SHA-256 differs."
                )


@dataclass(frozen=True)
class Manifest:
    """The cases of a data set.

    Args:
        dataset: Name, such as ``btcv``.
        root: Folder that the entries' paths start from.
        warnings: Remarks on the data set, such as missing cases, one sentence each.

    Raises:
        InputError: A case stands in it twice, by name or by content (AE-DATA-004), or nothing is left to
            train on (AE-DATA-005).
    """

    dataset: str
    labels: tuple[str, ...]
    root: Path
    training: tuple[Entry, ...]
    validation: tuple[Entry, ...] = ()
    test: tuple[Entry, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        cases = Cases()
        for split in SPLITS:
            for entry in self.split(split):
                cases.add(entry.name, entry.image_sha256, f"case {entry.name} of {split}")
        if not self.training:
            raise SPLIT_EMPTY(
                "the training split is empty.", remedy="Check the folder, or hold out fewer cases."
            )

    @property
    def sha256(self) -> str:
        """SHA-256 of what the data are: labels, names, splits and file hashes; the same wherever they lie."""
        splits: dict[str, object] = {
            split: [[e.name, e.image_sha256, e.label_sha256, e.known] for e in self.split(split)]
            for split in SPLITS
        }
        content = {"schema_version": SCHEMA_VERSION, "labels": self.labels, **splits}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def split(self, split: Split) -> tuple[Entry, ...]:
        """The cases of a split as they stand in the manifest."""
        return {"training": self.training, "validation": self.validation, "test": self.test}[split]

    def entries(self, split: Split) -> list[Entry]:
        """The cases of a split, with whole paths.

        Raises:
            InputError: A file is not there (AE-DATA-002).
        """
        found = []
        for entry in self.split(split):
            label = None if entry.label is None else self.root / entry.label
            whole = dataclasses.replace(entry, image=self.root / entry.image, label=label)
            for path in whole.files:
                if not path.is_file():
                    raise _missing(path)
            found.append(whole)
        return found

    def write(self, path: Path, *, folder: Path | None = None) -> None:
        """Write the manifest; its root is relative to the file, so that a folder with both can be moved.

        Args:
            folder: Folder in which the file will stand, where it is written in another one.
        """
        home = (path.parent if folder is None else folder).resolve()
        try:
            root = Path(os.path.relpath(self.root.resolve(), home)).as_posix()
        except ValueError:  # another drive of Windows
            root = self.root.resolve().as_posix()
        splits: dict[str, object] = {
            split: [as_dict(entry) for entry in self.split(split)] for split in SPLITS
        }
        content = {
            "name": self.dataset,
            "schema_version": SCHEMA_VERSION,
            "modality": {"0": "CT"},
            "root": root,
            "labels": {str(value): name for value, name in enumerate(self.labels)},
            "warnings": list(self.warnings),
            **splits,
        }
        path.write_text(json.dumps(content, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest; its files are looked for only when :meth:`entries` is asked for them.

        Raises:
            InputError: It is not a manifest, or has unknown keys (AE-DATA-006); see also the class.
        """
        file = read_description(_ManifestFile, path)
        return cls(
            file.name,
            names_by_value(file.labels),
            (path.parent / file.root).resolve(),
            file.training,
            file.validation,
            file.test,
            file.warnings,
        )


@checked_dataclass(config=STRICT)
class _ManifestFile:
    """Content of ``manifest.json``."""

    name: str
    schema_version: Literal[2]
    modality: dict[str, str]
    root: str
    labels: dict[str, str]
    warnings: tuple[str, ...]
    training: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    test: tuple[Entry, ...]

    def __post_init__(self) -> None:
        names_by_value(self.labels)
        for entry in (*self.training, *self.validation, *self.test):
            for path in entry.files:
                inside(path.as_posix())


def inside(path: str) -> Path:
    """A path from a description as a path below the root.

    Raises:
        ValueError: It leads out of the root.
    """
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise ValueError("the path of a case leads out of the folder")
    return Path(parts)


class Cases:
    """The cases so far, none twice: one that is trained on and tested with makes every score worthless.

    Args:
        remedy: Remedy for a case that is there twice; None for the usual one.
    """

    def __init__(self, remedy: str | None = None) -> None:
        self._seen: dict[str, str] = {}
        self._remedy = remedy

    def add(self, name: str, image_sha256: str, where: str) -> None:
        """Add a case.

        Args:
            where: What the message calls it, such as ``case 0001 of test``.

        Raises:
            InputError: It is there already, by its name or its image (AE-DATA-004).
        """
        for key in (f"name {name.lower()}", f"image {image_sha256}"):  # some disks ignore the case of letters
            if key in self._seen:
                message = f"{where} is also {self._seen[key]}, by its name or its image."
                raise CASE_TWICE(message, remedy=self._remedy)
            self._seen[key] = where


def names_by_value(labels: dict[str, str]) -> tuple[str, ...]:
    """Names in the order of their values from ``{"0": "background", "1": "spleen"}``.

    Raises:
        ValueError: The values are not 0, 1, 2, ..., or a name stands there twice.
    """
    by_value = sorted((int(value), str(name)) for value, name in labels.items())
    values, names = [value for value, _ in by_value], tuple(name for _, name in by_value)
    if values != [*range(len(values))] or len(values) < 2:
        found = ", ".join(map(str, values[:20]))
        raise ValueError(f"the labels have the numbers {found}; expected 0, 1, 2 and so on, at least 0 and 1")
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two labels have the name {twice[0][:80]!r}; expected a name of its own for each")
    return names


def read_description(kind: type[T], path: Path, *, remedy: str | None = None) -> T:
    """Read a JSON file into a checked dataclass.

    Args:
        remedy: Remedy for a file that ``data prepare`` did not write.

    Raises:
        InputError: There is no such file (AE-INPUT-010), or it is not as expected (AE-DATA-006).
    """
    if not path.is_file():
        raise DATA_FILE_MISSING(f"the folder has no {path.name}.")
    try:
        return parse_json(kind, path.read_bytes())
    except ValueError as error:
        raise broken(path.name, str(error), remedy=remedy) from error


def broken(name: str, why: str, *, remedy: str | None = None) -> AutosamEdgeError:
    """The error for a description that cannot be used; the remedy is by default that for our own."""
    return DATA_DESCRIPTION_INVALID(f"{name} cannot be used: {why}.", remedy=remedy)


def _missing(path: Path) -> AutosamEdgeError:
    return CASE_FILE_MISSING(
        f"{path.name} is not there or cannot be read.",
        remedy="Copy the data set whole, or correct `root` in manifest.json if it was moved.",
    )


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        InputError: It is not there or cannot be read (AE-DATA-002).
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise _missing(path) from error

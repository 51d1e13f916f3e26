"""A folder that ``data prepare`` wrote: one image and one target array per case, and what they are.

``NAME.image.npy`` and ``NAME.target.npy`` are plain NumPy arrays, read as memory maps, so that a crop touches
only its own part of the file and a data set need not fit into memory. ``prepared.json`` says how they were
made and what their hashes are; ``manifest.json`` leads to the files that they were made of.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from autosam_edge.errors import AutosamEdgeError
from autosam_edge_training.choices import Split, Targets
from autosam_edge_training.data.case import Case, Intensity
from autosam_edge_training.data.manifest import SPLITS, CaseName, Manifest, hash_file, read_description
from autosam_edge_training.error_codes import PREPARED_DATA_DAMAGED, SPLIT_EMPTY
from autosam_edge_training.strict import STRICT, checked_dataclass

FILE_NAME = "prepared.json"
MANIFEST_NAME = "manifest.json"
SCHEMA_VERSION = 2


@checked_dataclass(config=STRICT)
class Arrays:
    """What is known of a case's two arrays.

    Args:
        shape: Shape of the image, (D, H, W).
        known: Label values that are labeled everywhere in this scan, or None where all are.
    """

    shape: tuple[int, int, int]
    image_sha256: str
    target_sha256: str
    known: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Prepared:
    """A data set on the model's grid.

    Args:
        dataset: ``btcv``, ``amos`` or another name.
        spacing_mm: Voxel spacing of the model's grid (D, H, W), mm.
        targets: Content of the target arrays: occupancies or labels.
        split: Case names of ``training``, ``validation`` and ``test``.
        arrays: Shape and hashes of the arrays of each case, by name.
        manifest_sha256: :attr:`Manifest.sha256` of the files that it was made of.
        sha256: Of ``prepared.json``, which holds the hash of every array: the one hash that says which data a
            run saw.
    """

    folder: Path
    dataset: str
    labels: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    targets: Targets
    split: Mapping[Split, tuple[str, ...]]
    arrays: Mapping[str, Arrays]
    manifest_sha256: str
    sha256: str

    @property
    def classes(self) -> int:
        """Labels with the background."""
        return len(self.labels)

    @classmethod
    def read(cls, folder: Path) -> Prepared:
        """Open a prepared folder; every array must be there with the shape and type that it had.

        Raises:
            InputError: No prepared folder (AE-INPUT-010), an unknown description (AE-DATA-006), or damaged
                arrays (AE-DATA-007).
        """
        file = read_description(_PreparedFile, folder / FILE_NAME)
        prepared = cls(
            folder,
            file.dataset,
            file.labels,
            file.spacing_mm,
            file.intensity,
            file.targets,
            MappingProxyType(file.split),
            MappingProxyType(file.cases),
            file.manifest_sha256,
            hash_file(folder / FILE_NAME),
        )
        for name in prepared.arrays:
            prepared.case(name)
        return prepared

    @property
    def manifest(self) -> Manifest:
        """The files that the folder was made of.

        Raises:
            InputError: ``manifest.json`` is missing or is that of other data (AE-INPUT-010, AE-DATA-006,
                AE-DATA-007).
        """
        manifest = Manifest.read(self.folder / MANIFEST_NAME)
        if manifest.sha256 != self.manifest_sha256:
            raise _damaged(MANIFEST_NAME, "lists other files than those that the folder was made of")
        return manifest

    def cases(self, split: Split) -> list[Case]:
        """The cases of a split, memory-mapped.

        Raises:
            InputError: The split is empty (AE-DATA-005), or an array is damaged (AE-DATA-007).
        """
        if not self.split[split]:
            raise SPLIT_EMPTY(
                f"the {split} split is empty.", remedy="Prepare the data set with such a split."
            )
        return [self.case(name) for name in self.split[split]]

    def case(self, name: str) -> Case:
        """One case, memory-mapped and read-only.

        Raises:
            InputError: An array is missing, or has another shape or type (AE-DATA-007).
            KeyError: There is no such case.
        """
        shape, known = self.arrays[name].shape, self.arrays[name].known
        image = _map(self.folder / f"{name}.image.npy", shape, np.int16)
        planes = self.classes + (known is not None)
        target = _map(
            self.folder / f"{name}.target.npy",
            (planes, *shape) if self.targets == "occupancy" else shape,
            np.uint8,
        )
        return Case(
            name, image, target, self.classes, self.intensity, None if known is None else frozenset(known)
        )

    def settings(self) -> dict[str, object]:
        """What a folder was made of and how: two with the same settings hold the same data."""
        return {
            "schema_version": SCHEMA_VERSION,
            "dataset": self.dataset,
            "manifest_sha256": self.manifest_sha256,
            "labels": self.labels,
            "spacing_mm": self.spacing_mm,
            "intensity": dataclasses.asdict(self.intensity),
            "targets": self.targets,
            "split": {split: self.split[split] for split in SPLITS},
        }

    def write(self) -> None:
        """Write ``prepared.json`` into the folder."""
        cases = {name: dataclasses.asdict(arrays) for name, arrays in self.arrays.items()}
        text = json.dumps({**self.settings(), "cases": cases}, indent=1) + "\n"
        (self.folder / FILE_NAME).write_bytes(text.encode())


@checked_dataclass(config=STRICT)
class _PreparedFile:
    """Content of ``prepared.json``."""

    schema_version: Literal[2]
    dataset: str
    manifest_sha256: str
    labels: tuple[str, ...]
    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    targets: Targets
    split: dict[Split, tuple[str, ...]]
    cases: dict[CaseName, Arrays]

    def __post_init__(self) -> None:
        names = chain.from_iterable(self.split.values())
        if set(self.split) != set(SPLITS) or sorted(names) != sorted(self.cases):
            raise ValueError("the split does not name each case once")


def _map(path: Path, shape: tuple[int, ...], dtype: type) -> npt.NDArray[Any]:
    """A memory-mapped array of known shape and type."""
    try:
        array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise _damaged(path.name, "is missing") from error
    except Exception as error:  # NumPy raises whatever its readers raise on a damaged file
        raise _damaged(path.name, "is cut short or no array") from error
    if array.shape != shape or array.dtype != dtype:
        raise _damaged(
            path.name, f"holds {array.dtype} {array.shape}, expected {np.dtype(dtype).name} {shape}"
        )
    return array


def _damaged(file: str, what: str) -> AutosamEdgeError:
    return PREPARED_DATA_DAMAGED(f"the prepared folder is damaged: {file} {what}.")

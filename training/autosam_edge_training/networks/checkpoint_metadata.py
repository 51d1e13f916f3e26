"""The metadata of a network's file: what the network is, which input it takes, and how it was trained."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO, Literal

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from autosam_edge.system.atomic_files import staged_file
from autosam_edge_training.data import Intensity
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.strict import STRICT, JsonObject, checked_dataclass, parse_values

AUTOSAM = "autosam"
"""Name of an AutoSAM teacher, where a student has its own."""
_JSON = ("arguments", "spacing_mm", "intensity", "labels", "config", "probe", "datasets")
# Keys of the file and fields of :class:`TeacherRecord`.
_TEACHER = {"teacher_network": "network", "teacher_sha256": "sha256", "teacher": "source", "lambda": "weight"}


@checked_dataclass(config=STRICT)
class TeacherRecord:
    """The teacher that a student was distilled from.

    Args:
        source: Source of its probabilities: ``online``, a forward pass at every step, or ``cached``.
        weight: Lambda of equation 2, the weight of the labels, 0 to 1.
    """

    network: str
    sha256: str
    source: Literal["online", "cached"]
    weight: float


@checked_dataclass(config=STRICT)
class CheckpointMetadata:
    """Metadata of ``student.safetensors`` and ``teacher.safetensors``.

    Args:
        student: Name of the student, ``monai:NAME``, or ``autosam`` for an AutoSAM teacher.
        arguments: Arguments of a network of MONAI, or the network's part of a teacher's recipe.
        input: Grid, intensities and labels of the training data.
        datasets: Cases of each data set that the weights were trained on, in this run or in those whose
            weights they come from; no cases of a data set that only a teacher was trained on.
        commit: Commit of the code; empty outside of a checkout.
        sam_sha256: SHA-256 of the SAM file that holds a teacher's frozen parameters; empty if its own file
            holds all parameters.
        probe: Logits of a student for a fixed input, see
            :func:`~autosam_edge_training.networks.students.save_student`.
    """

    student: str
    arguments: JsonObject
    input: NetworkInput
    config: JsonObject
    steps: int
    datasets: dict[str, tuple[str, ...]]
    data_sha256: str
    commit: str
    merging: Literal["v2"] = "v2"  # that of MONAI from 1.5 on; before, two of the eight slices repeated
    teacher: TeacherRecord | None = None
    sam_sha256: str = ""
    probe: tuple[float, ...] = ()

    @property
    def classes(self) -> int:
        """Number of labels with the background, the network's output channels."""
        return len(self.input.labels)

    @property
    def patch(self) -> tuple[int, int, int]:
        """Voxels (D, H, W) of the patches that the network was trained on."""
        depth, height, width = self.config["sampling"]["patch"]
        return depth, height, width

    @classmethod
    def read(cls, path: Path) -> CheckpointMetadata:
        """Read the metadata of a file, not its weights.

        Raises:
            OSError: The file cannot be read.
            SafetensorError: It is not a safetensors file.
            ValueError: Its metadata are not those of a network; see :meth:`parse`.
        """
        try:
            with safe_open(path, framework="pt") as file:
                return cls.parse(file.metadata() or {})
        except FileNotFoundError as error:  # that of safetensors names the folder and has no number
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path.name) from error

    @classmethod
    def parse(cls, stored: Mapping[str, str]) -> CheckpointMetadata:
        """Metadata from the strings that a file holds.

        Raises:
            ValueError: A key is unknown, missing or wrong; it is named.
        """
        values: JsonObject = {
            key: json.loads(value) if key in _JSON else value for key, value in stored.items()
        }
        try:
            low, high, offset, scale = values.pop("intensity")
            values["input"] = NetworkInput(
                tuple(values.pop("spacing_mm")),
                Intensity((low, high), offset, scale),
                tuple(values.pop("labels")),
                values.pop("dataset"),
            )
            if "datasets" not in values:  # written before weights told where they come from
                values["datasets"] = {values["input"].dataset: values.pop("cases").split(",")}
            classes = int(values.pop("classes"))
            values["merging"]
        except KeyError as error:
            raise ValueError(f"the metadata of the file have no key {error}") from error
        except TypeError as error:
            raise ValueError("spacing_mm, intensity or labels in the metadata are not lists") from error
        if teacher := {field: values.pop(key) for key, field in _TEACHER.items() if key in values}:
            values["teacher"] = teacher
        metadata = parse_values(cls, values)
        if classes != metadata.classes:
            raise ValueError(f"the network has {classes} outputs and {metadata.classes} labels")
        return metadata

    def to_strings(self) -> dict[str, str]:
        """The strings that a file holds."""
        takes, teacher = self.input, self.teacher
        window = takes.intensity.window_hu
        stored = {
            "student": self.student,
            "arguments": json.dumps(self.arguments),
            "classes": str(self.classes),
            "merging": self.merging,
            "spacing_mm": json.dumps(takes.spacing_mm),
            "intensity": json.dumps([*window, takes.intensity.offset, takes.intensity.scale]),
            "labels": json.dumps(takes.labels),
            "dataset": takes.dataset,
            "config": json.dumps(self.config),
            "steps": str(self.steps),
            "datasets": json.dumps(self.datasets),
            "data_sha256": self.data_sha256,
            "commit": self.commit,
        }
        if teacher is not None:
            stored |= {key: str(getattr(teacher, field)) for key, field in _TEACHER.items()}
        if self.sam_sha256:
            stored["sam_sha256"] = self.sam_sha256
        if self.probe:
            stored["probe"] = json.dumps(self.probe)
        return stored


def write_network(path: Path, state: dict[str, Tensor], metadata: CheckpointMetadata) -> None:
    """Write weights and metadata as safetensors; equal ones are equal bytes.

    Args:
        path: File to write; it appears whole or not at all.
    """
    strings = metadata.to_strings()
    with staged_file(path) as stage:
        stage.touch()
        mode = stage.stat().st_mode  # by the umask; save_file's is for the owner only
        save_file(state, stage, metadata=strings)
        stage.chmod(mode)
        # save_file writes the metadata in random order, and the file's hash names the network elsewhere.
        with stage.open("r+b") as file:
            length, header = read_header(file)
            header = {**header, "__metadata__": strings}
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode().ljust(length)
            assert len(text) == length
            file.seek(8)
            file.write(text)


def read_header(file: BinaryIO) -> tuple[int, JsonObject]:
    """Length and content of the header of a safetensors file: 8 bytes with the length, then JSON."""
    length = int.from_bytes(file.read(8), "little")
    return length, json.loads(file.read(length))


def join_datasets(parts: Iterable[Mapping[str, Iterable[str]]]) -> dict[str, tuple[str, ...]]:
    """All cases of each data set, each once."""
    joined: dict[str, dict[str, None]] = {}
    for datasets in parts:
        for name, cases in datasets.items():
            joined.setdefault(name, {}).update(dict.fromkeys(cases))
    return {name: tuple(cases) for name, cases in joined.items()}

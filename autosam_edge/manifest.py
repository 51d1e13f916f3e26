"""The manifest of a bundle: what ``manifest.json`` may hold, and the limits of its values."""

from __future__ import annotations

import hashlib
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from autosam_edge.error_codes import MANIFEST_INVALID
from autosam_edge.errors import BundleError
from autosam_edge.labels import ORGAN_NAME_RULE, is_organ_name, total_segmentator_name
from autosam_edge.model import InputContract, Model
from autosam_edge.plausibility.expected_dice import Confidence
from autosam_edge.plausibility.thresholds import Thresholds
from autosam_edge.strict_json import build, parse_json
from autosam_edge.volume import Label

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 3  # 3: what the network sees beyond the ends of a scan, and decision weights
MANIFEST = "manifest.json"
MAX_MANIFEST_BYTES = 4 << 20
_MAX_NAME, _MAX_SENTENCE = 100, 4000  # characters
_MAX_FILES, _MAX_ARTIFACTS, _MAX_LABELS = 10_000, 64, 255  # labels are uint8
_MAX_WORKING_SET_MB, _MAX_RELATIVE_TIME = 16_384.0, 1000.0
_MAX_MESSAGE = 300  # characters of a file that an error quotes
_MAX_PATH = 255  # characters
_MAX_OVERLAP = 0.9  # more would make any scan a run of days
_MAX_TILE_VOXELS = 1 << 24
_SHA256 = re.compile(r"[0-9a-f]{64}")
_FORMAT_NAME = re.compile(r"[a-z0-9-]{1,40}")
_SNOMED_CODE = re.compile(r"[0-9]{6,18}")


@dataclass(frozen=True)
class Postprocess:
    """Changes to the labels after the network.

    Args:
        one_part: Names of the organs that are one connected object in the body. Of several parts, the one of
            which the network is most certain is kept.
        decision_weights: Factor of an organ's probability before the largest is taken, by the organ's name; 1
            for an organ that is not named.
    """

    one_part: tuple[str, ...]
    decision_weights: dict[str, float]


Proof = Literal["executed", "imitated", "interpreted"]
"""How an artifact was compared with the student: ``executed`` by its runtime; ``imitated`` by its runtime,
which rounds to a number format that the processor lacks and needs more time; or ``interpreted`` operator by
operator, where the runtime was missing."""


@dataclass(frozen=True)
class Artifact:
    """One converted form of the student.

    Args:
        target: Runtime that runs it, such as ``onnx`` or ``coreml``.
        precision: Number format, such as ``fp32`` or ``int8``.
        path: Path of the file or folder inside the bundle.
        proof: Kind of comparison with the student at export, see :data:`Proof`.
        worst_organ_dice: Smallest Dice of an organ against the trained student on the comparison scans, 0 to
            1.
        working_set_mb: Memory of the engine with the weights and one tile, measured at export, MB; None if
            the artifact was not executed.
        relative_time: Time of a tile divided by that of the first executed artifact of the bundle, measured
            in one run at export; None if the artifact was not executed.
    """

    target: str
    precision: str
    path: str
    proof: Proof
    worst_organ_dice: float
    working_set_mb: float | None
    relative_time: float | None

    @property
    def name(self) -> str:
        """``target/precision``."""
        return f"{self.target}/{self.precision}"


@dataclass(frozen=True)
class Manifest:
    """The parsed ``manifest.json``.

    Args:
        schema_version: Version of the layout, see ``SCHEMA_VERSION``.
        name: Model name, such as ``pocketnet-btcv-3mm``.
        version: Model version.
        license: License of the weights.
        intended_use: Research-use statement.
        training_data: One sentence on the data that the weights were trained on.
        input: Input contract of the network.
        postprocess: Changes to the labels after the network.
        plausibility: Limits of the plausibility check with the numbers behind them; None checks nothing.
        labels: Label table.
        artifacts: Converted forms of the student.
        files: SHA-256 of every file that is read, by its path; without the manifest itself. Other files of
            the bundle, such as ``*.etrecord`` for developers, are never read.
        provenance: Student, hash of the checkpoint, exporter and versions of its packages.
        confidence: Map from the probabilities to the expected Dice of each organ; may be left out, and then
            nothing is expected.
    """

    schema_version: int
    name: str
    version: str
    license: str
    intended_use: str
    training_data: str
    input: InputContract
    postprocess: Postprocess
    plausibility: Thresholds | None
    labels: tuple[Label, ...]
    artifacts: tuple[Artifact, ...]
    files: dict[str, str]
    provenance: dict[str, object]
    confidence: Confidence | None = None

    def __post_init__(self) -> None:
        for name in ("name", "version"):
            text = getattr(self, name)
            _require(0 < len(text) <= _MAX_NAME, name, f"1 to {_MAX_NAME} characters")
            # They stand in one line, and in DICOM, where a backslash separates two values.
            _require(text.isprintable() and "\\" not in text, name, "one line without a backslash")
        for name in ("license", "intended_use", "training_data"):
            _require(len(getattr(self, name)) <= _MAX_SENTENCE, name, f"at most {_MAX_SENTENCE} characters")
        _require(self.input.overlap <= _MAX_OVERLAP, "input.overlap", f"at most {_MAX_OVERLAP}")
        voxels = math.prod(self.input.patch)
        _require(voxels <= _MAX_TILE_VOXELS, "input.patch", f"at most {_MAX_TILE_VOXELS} voxels in all")
        _require(0 < len(self.labels) <= _MAX_LABELS, "labels", f"1 to {_MAX_LABELS} organs")
        for label in self.labels:
            _check_label(label)
        organs = {total_segmentator_name(label.name) for label in self.labels}
        _require(
            len(organs) == len(self.labels),
            "labels",
            "a name of its own for each organ, whatever its blanks and capitals",
        )
        _require(len(self.files) <= _MAX_FILES, "files", f"at most {_MAX_FILES} files")
        for name, digest in self.files.items():
            _require(_inside(name), f"files names {name[:80]!r}, which", "a plain path inside the bundle")
            _require(_SHA256.fullmatch(digest) is not None, f"files.{name[:80]}", "64 hexadecimal digits")
        _require(len(self.artifacts) <= _MAX_ARTIFACTS, "artifacts", f"at most {_MAX_ARTIFACTS}")
        names = [artifact.name for artifact in self.artifacts]
        _require(len(set(names)) == len(names), "artifacts", "each target and precision once")
        for artifact in self.artifacts:
            self._check_artifact(artifact)

    def _check_artifact(self, artifact: Artifact) -> None:
        where = f"artifact {artifact.name[:80]}"
        for part in (artifact.target, artifact.precision):
            _require(_FORMAT_NAME.fullmatch(part) is not None, where, "a name of small letters and digits")
        _require(bool(self.files_of(artifact.path)), f"{where} has no hash in files, so it", "listed there")
        _require(0.0 <= artifact.worst_organ_dice <= 1.0, f"{where}: worst_organ_dice", "0 to 1")
        time, memory = artifact.relative_time, artifact.working_set_mb
        timed = "a number if the artifact was executed, else null"
        _require((artifact.proof == "executed") == (time is not None), f"{where}: relative_time", timed)
        if time is not None:
            _require(
                0.0 < time <= _MAX_RELATIVE_TIME, f"{where}: relative_time", f"0 to {_MAX_RELATIVE_TIME:g}"
            )
        if memory is not None:
            least = self.tile_mb
            allowed = f"{least:.3g} (one tile and its logits) to {_MAX_WORKING_SET_MB:g} MB"
            _require(least <= memory <= _MAX_WORKING_SET_MB, f"{where}: working_set_mb", allowed)

    @property
    def tile_mb(self) -> float:
        """Size of a tile and of its logits as float32, MB: no engine needs less beside the weights."""
        return math.prod(self.input.patch) * 4 * (2 + len(self.labels)) / 1e6

    def artifact(self, name: str) -> Artifact:
        """The artifact with a name, ``target/precision``.

        Raises:
            KeyError: There is none.
        """
        return {artifact.name: artifact for artifact in self.artifacts}[name]

    def files_of(self, path: str) -> dict[str, str]:
        """SHA-256 of an artifact's file, named ``""``, or of a folder's files by their path."""
        if path in self.files:
            return {"": self.files[path]}
        return {
            name.removeprefix(f"{path}/"): digest
            for name, digest in self.files.items()
            if name.startswith(f"{path}/")
        }

    def sha256_of(self, path: str) -> str:
        """One SHA-256 for an artifact: that of its file, or of the list of a folder's files and hashes."""
        files = self.files_of(path)
        listed = "".join(f"{digest}  {name}\n" for name, digest in sorted(files.items()))
        return files.get("") or hashlib.sha256(listed.encode()).hexdigest()

    def model(self, sha256: str) -> Model:
        """The model that this manifest describes.

        Args:
            sha256: SHA-256 of the manifest, hexadecimal.

        Raises:
            ValueError: See :class:`~autosam_edge.model.Model`.
        """
        rules = self.postprocess
        return Model(
            self.input,
            self.labels,
            rules.one_part,
            self.name,
            self.version,
            self.license,
            sha256,
            rules.decision_weights,
            self.plausibility,
            self.confidence,
        )

    @classmethod
    def parse(cls, text: bytes) -> Manifest:
        """Read and check a manifest; unknown and missing keys are refused.

        Raises:
            BundleError: AE-BUNDLE-003 with the key at fault.
        """
        with well_formed(MANIFEST):
            raw = parse_json(text)
            version = raw.get("schema_version") if isinstance(raw, dict) else None
            if type(version) is not int or version < 1:
                raise ValueError(f"schema_version is {version!r}, this runtime reads {SCHEMA_VERSION}")
            if version != SCHEMA_VERSION:
                again = "Export it again: autosam-edge export --checkpoint BUNDLE/student.safetensors."
                raise MANIFEST_INVALID(
                    f"the bundle has the schema version {version}, this runtime reads {SCHEMA_VERSION}.",
                    remedy=again if version < SCHEMA_VERSION else "Install a newer autosam-edge.",
                )
            manifest = build(cls, raw, "manifest")
            # A model refuses labels, rules and weights that do not fit each other.
            manifest.model(hashlib.sha256(text).hexdigest())
            return manifest


@contextmanager
def well_formed(name: str) -> Iterator[None]:
    """Turn a value that breaks the schema of a file into the bundle's error: its author made the mistake.

    Raises:
        BundleError: A ValueError was raised (AE-BUNDLE-003).
    """
    try:
        yield
    except BundleError:
        raise
    except ValueError as error:
        found = " ".join(str(error).split())
        brief = found if len(found) <= _MAX_MESSAGE else f"{found[:_MAX_MESSAGE]}..."
        raise MANIFEST_INVALID(f"{name} is not valid: {brief}.") from error


def _inside(name: str) -> bool:
    """Whether a path of a manifest stays inside the bundle on every system."""
    path = PurePosixPath(name)
    return (
        len(name) <= _MAX_PATH
        and path.as_posix() == name
        and not path.is_absolute()
        and ".." not in path.parts
        and not set(name) & set("\\:")
    )


def _require(holds: bool, what: str, expected: str) -> None:
    """Refuse a value of the manifest.

    Raises:
        ValueError: It does not hold.
    """
    if not holds:
        raise ValueError(f"{what} is out of range, expected {expected}")


def _check_label(label: Label) -> None:
    where = f"label {label.name[:80]!r}"
    _require(is_organ_name(label.name), where, f"a name of {ORGAN_NAME_RULE}")
    _require(_SNOMED_CODE.fullmatch(label.snomed_code) is not None, f"{where}: snomed_code", "6 to 18 digits")
    _require(0 < len(label.snomed_meaning) <= 64, f"{where}: snomed_meaning", "1 to 64 characters")
    _require(label.laterality in ("", "left", "right"), f"{where}: laterality", "left, right or empty")
    _require(all(0 <= part <= 255 for part in label.color), f"{where}: color", "0 to 255")

"""The student of a bundle with its description, and the bundle's manifest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from autosam_edge import __version__
from autosam_edge.bundle import STUDENT_FILE, default_bundle_path, open_bundle
from autosam_edge.errors import ErrorCode, first_line
from autosam_edge.labels import label_table
from autosam_edge.manifest import SCHEMA_VERSION, Artifact, Manifest
from autosam_edge.model import InputContract, Model
from autosam_edge.plausibility.expected_dice import Confidence
from autosam_edge.plausibility.thresholds import Thresholds
from autosam_edge.strict_json import build, parse_json
from autosam_edge.system.clock import today
from autosam_edge.system.file_hash import file_digest
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_export.convert.quantization import QuantizationPlan
from autosam_edge_export.error_codes import (
    CONFIDENCE_INVALID,
    DECISION_WEIGHTS_INVALID,
    DESCRIPTION_INVALID,
    PLAUSIBILITY_INVALID,
    STUDENT_FILE_INVALID,
)
from autosam_edge_export.proof.parity_report import ParityEntry, as_json, as_markdown
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.students import load_student, parameter_count
from autosam_edge_training.strict import JsonObject

_File = TypeVar("_File")

DEFAULT_OVERLAP = 0.25
BTCV_LICENSE = (
    "Research use only: trained on BTCV (Synapse syn3193805), whose terms do not allow other use. "
    "The code is Apache-2.0."
)
# The organs for which keeping one part does not cost Dice on the validation cases: docs/adr/0009-one-part.md.
ONE_PART = ("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "inferior_vena_cava")


@dataclass(frozen=True)
class Description:
    """What a bundle says and decides beyond its checkpoint.

    Args:
        name: Name of the model; None makes one from the student's name and spacing.
        model_card: Text of the model card in Markdown; None writes a short one.
        training_data: Sentence on the training data; None takes the checkpoint's.
        version: Version of the model; None takes the package's.
        decision_weights: Factor of an organ's probability before the largest is taken, by the organ's name;
            None takes those of the default bundle with its student, and none with another.
        plausibility: Limits of the plausibility check; None takes those of the default bundle with its
            student, and with another checks nothing.
        confidence: Map to the expected Dice of each organ; None takes that of the default bundle with its
            student, and with another expects nothing.
    """

    name: str | None = None
    model_card: str | None = None
    training_data: str | None = None
    version: str | None = None
    decision_weights: Mapping[str, float] | None = None
    plausibility: Thresholds | None = None
    confidence: Confidence | None = None


NO_DESCRIPTION = Description()


@dataclass(frozen=True)
class _WeightsFile:
    decision_weights: dict[str, float]
    benchmark: str | None = None


@dataclass(frozen=True)
class _PlausibilityFile:
    plausibility: Thresholds


@dataclass(frozen=True)
class _ConfidenceFile:
    confidence: Confidence


def _read(kind: type[_File], path: Path, invalid: ErrorCode, content: str) -> _File:
    try:
        return build(kind, parse_json(path.read_bytes()), path.name, other_keys=True)
    except ValueError as error:
        raise invalid(f"{path.name} holds no {content}: {error}.") from error


def read_decision_weights(path: Path) -> dict[str, float]:
    """Read the file that ``fit-decision-weights`` writes; only its ``decision_weights`` count.

    Raises:
        ExportError: The file holds no decision weights (AE-EXPORT-014).
    """
    found = _read(_WeightsFile, path, DECISION_WEIGHTS_INVALID, "decision weights")
    if found.benchmark is not None:  # its key of this name says with which weights it was measured
        raise DECISION_WEIGHTS_INVALID(f"{path.name} is the result of another command.")
    return found.decision_weights


def read_plausibility(path: Path) -> Thresholds:
    """Read the file that ``bench plausibility`` writes; only its ``plausibility`` counts.

    Raises:
        ExportError: The file holds no thresholds (AE-EXPORT-015).
    """
    return _read(_PlausibilityFile, path, PLAUSIBILITY_INVALID, "thresholds").plausibility


def read_confidence(path: Path) -> Confidence:
    """Read the file that ``bench confidence`` writes; only its ``confidence`` counts.

    Raises:
        ExportError: The file holds no map to the expected Dice (AE-EXPORT-017).
    """
    return _read(_ConfidenceFile, path, CONFIDENCE_INVALID, "map to the expected Dice").confidence


class LoadedStudent:
    """A student that was read from its checkpoint, and its description.

    Attributes:
        weights: Path of the checkpoint.
        sha256: Hash of the checkpoint, hexadecimal.
        module: Network in eval mode.
        metadata: Metadata of the checkpoint.
        input: Grid, intensities and labels of the network.
        name, version, training_data, license, model_card: Texts for the bundle.
        labels: Label table.
        one_part: Names of the organs of which only one part is kept.
        decision_weights: Factor of an organ's probability before the largest is taken, by the organ's name.
        plausibility: Limits of the plausibility check, None if there are none.
        confidence: Map to the expected Dice of each organ, None if there is none.

    Args:
        checkpoint: Path of the student's safetensors; None takes the one in the default bundle.
        description: What the bundle says and decides beyond the checkpoint.

    Raises:
        ExportError: The file is not a student's checkpoint (AE-EXPORT-002), or the decision weights or the
            map to the expected Dice do not fit it (AE-EXPORT-014).
    """

    def __init__(self, checkpoint: Path | None, description: Description) -> None:
        self.weights = default_bundle_path() / STUDENT_FILE if checkpoint is None else checkpoint
        try:
            self.sha256 = file_digest(self.weights)
            self.module, self.metadata = load_student(self.weights)
            self.input = self.metadata.input
            self.input.contract((96, 96, 96), DEFAULT_OVERLAP)  # refuses an impossible grid or window
            if not all(values.isfinite().all() for values in self.module.parameters()):
                raise ValueError("its weights are not all finite")
        except Exception as error:  # safetensors' own error is neither an OSError nor a ValueError
            why = (error.strerror if isinstance(error, OSError) else None) or first_line(error)
            raise STUDENT_FILE_INVALID(
                f"{self.weights.name} is not a student's checkpoint: {why}."
            ) from error
        self.kind = self.metadata.student
        sides = [f"{side:g}" for side in self.input.spacing_mm]
        spacing = sides[0] if len(set(sides)) == 1 else "x".join(sides)
        self.name = description.name or f"{self.kind.replace(':', '-')}-{spacing}mm"
        self.version = description.version or __version__
        seen = [(name.upper() or "BTCV", len(cases)) for name, cases in self.metadata.datasets.items()]
        self.training_data = description.training_data or ", ".join(
            f"{count} cases of {name}" if count else f"a teacher that was trained on {name}"
            for name, count in seen
        )
        self.labels = label_table(self.input.labels)
        names = [name for name, _ in seen]
        other_license = f"Only what the terms of {' and '.join(names)} allow. The code is Apache-2.0."
        self.license = BTCV_LICENSE if "BTCV" in names else other_license
        self.model_card = description.model_card or (
            f"# {self.name}\n\n{RESEARCH_USE}\n\n"
            f"Trained on: {self.training_data}\n\nLicense: {self.license}\n"
        )
        self.one_part = tuple(name for name in ONE_PART if name in self.input.labels)
        weights = description.decision_weights
        if weights is None:
            weights = open_bundle().manifest.postprocess.decision_weights if checkpoint is None else {}
        self.decision_weights = dict(weights)
        self.plausibility = description.plausibility
        self.confidence = description.confidence
        if checkpoint is None:
            shipped = open_bundle().manifest
            self.plausibility = self.plausibility or shipped.plausibility
            self.confidence = self.confidence or shipped.confidence
        try:
            self.model(self.input.contract((96, 96, 96), DEFAULT_OVERLAP))
        except ValueError as error:
            raise DECISION_WEIGHTS_INVALID(
                f"the decision weights or the map to the expected Dice do not fit the student: {error}."
            ) from error

    @property
    def organs(self) -> list[str]:
        """Names of all organs that the student knows."""
        return [label.name for label in self.labels]

    @cached_property
    def engine(self) -> TorchEngine:
        """The student itself as an engine: the reference of every comparison."""
        return TorchEngine(self.module, self.input.intensity)

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return parameter_count(self.module)

    def model(self, contract: InputContract) -> Model:
        """What a session needs to run the student itself."""
        return Model(
            contract,
            self.labels,
            self.one_part,
            self.name,
            self.version,
            self.license,
            self.sha256,
            self.decision_weights,
            self.plausibility,
            self.confidence,
        )

    def format_metadata(self, contract: InputContract) -> dict[str, str]:
        """Metadata for file formats that have room for some, such as ONNX."""
        return {
            "model": self.kind,
            "intended_use": RESEARCH_USE,
            "license": self.license,
            "software": f"autosam-edge {__version__}",
            "checkpoint_sha256": self.sha256,
            "labels": ",".join(["background", *self.input.labels[1:]]),
            "spacing_mm": ",".join(f"{side:g}" for side in contract.spacing_mm),
            "window_hu": ",".join(f"{edge:g}" for edge in contract.window_hu),
        }


def require_describable(student: LoadedStudent, contract: InputContract) -> None:
    """Refuse, before the conversions, what no manifest may hold.

    Raises:
        ExportError: A text, a label or the patch is out of range (AE-EXPORT-018).
    """
    text = json.dumps(_manifest(student, contract))
    try:
        build(Manifest, parse_json(text.encode()), "manifest")
    except ValueError as error:
        raise DESCRIPTION_INVALID(f"no bundle may hold this student: {error}.") from error


def write_bundle(
    folder: Path,
    student: LoadedStudent,
    contract: InputContract,
    artifacts: Sequence[Artifact],
    proof: Sequence[ParityEntry],
    *,
    packages: Sequence[str],
    quantization: Mapping[str, object] | None,
) -> None:
    """Write the student, its model card, the parity report and the manifest beside the artifacts.

    Args:
        proof: Entries of the artifacts for ``parity.json``.
        quantization: Result of :func:`describe_quantization`; None if no artifact is int8.
    """
    shutil.copyfile(student.weights, folder / STUDENT_FILE)
    (folder / "MODEL_CARD.md").write_text(student.model_card, encoding="utf-8")
    (folder / "parity.json").write_text(as_json(proof), encoding="utf-8")
    (folder / "parity.md").write_text(as_markdown(proof, student.organs), encoding="utf-8")
    provenance = {
        "student": student.kind,
        "merging": student.metadata.merging,
        "steps": str(student.metadata.steps),
        "parameters": student.parameters,
        "checkpoint_sha256": student.sha256,
        "exported": today(),
        "exporter": f"autosam-edge {__version__}",
        "versions": {name: _version(name) for name in packages},
        **({"quantization": quantization} if quantization else {}),
    }
    files = {
        path.relative_to(folder).as_posix(): file_digest(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    manifest = _manifest(student, contract, artifacts, files, provenance)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def _manifest(
    student: LoadedStudent,
    contract: InputContract,
    artifacts: Sequence[Artifact] = (),
    files: Mapping[str, str] = MappingProxyType({}),
    provenance: Mapping[str, object] = MappingProxyType({}),
) -> JsonObject:
    """Content of ``manifest.json``; without artifacts, the part that is known before the conversions."""
    return {
        "schema_version": SCHEMA_VERSION,
        "name": student.name,
        "version": student.version,
        "license": student.license,
        "intended_use": RESEARCH_USE,
        "training_data": student.training_data,
        "input": dataclasses.asdict(contract),
        "postprocess": {"one_part": list(student.one_part), "decision_weights": student.decision_weights},
        "plausibility": student.plausibility and dataclasses.asdict(student.plausibility),
        "labels": [dataclasses.asdict(label) for label in student.labels],
        "artifacts": [dataclasses.asdict(artifact) for artifact in artifacts],
        "files": dict(files),
        "provenance": dict(provenance),
        "confidence": student.confidence and dataclasses.asdict(student.confidence),
    }


def _version(package: str) -> str:
    """Version of a package; its distribution may have another name, such as onnxruntime-gpu."""
    try:
        return version(package)
    except PackageNotFoundError:
        return str(import_module(package).__version__)


def describe_quantization(plan: QuantizationPlan, scans: int) -> dict[str, object]:
    """What int8 was calibrated on and which layers stay float, for the manifest."""
    return {
        "calibration": {"scans": scans, "tiles": plan.tiles, "sha256": plan.tiles_sha256},
        "float_layers": list(plan.kept_float),
        "sensitivity": [dataclasses.asdict(entry) for entry in plan.sensitivities],
    }

"""The export command: convert, compare, describe, and only then let the bundle exist."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from autosam_edge import __version__
from autosam_edge.atomic_files import staged_folder
from autosam_edge.bundle import SCHEMA_VERSION, Artifact, Bundle, default_bundle_path, read_files
from autosam_edge.engines.selection import load_engine, why_missing
from autosam_edge.errors import AutosamEdgeError, first_line
from autosam_edge.file_hash import file_digest
from autosam_edge.label_table import label_table
from autosam_edge.model import MAX_SIDE, InputContract, Model
from autosam_edge.phantom import make_phantom
from autosam_edge.verify import GOLDEN, read_golden_tile, verify_bundle
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_export.convert.quantization import draw_tiles
from autosam_edge_export.convert.student_forms import Job
from autosam_edge_export.error_codes import PATCH_UNSUITABLE, STUDENT_FILE_INVALID
from autosam_edge_export.monai_bundle import write_monai_bundle
from autosam_edge_export.proof.cost import measure_cost, time_tiles
from autosam_edge_export.proof.golden_vectors import write_golden
from autosam_edge_export.proof.parity import artifact_figures, as_markdown, compare, require, summarize
from autosam_edge_export.targets import TARGETS, wanted_artifacts
from autosam_edge_export.targets.target import preflight, require_packages
from autosam_edge_training.networks.hu_input import TorchEngine
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import load_student, parameter_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autosam_edge.engines.engine import Engine
    from autosam_edge.volume import Volume

STUDENT_FILE = "student.safetensors"
BTCV_LICENSE = "Research use only: trained on BTCV (Synapse syn3193805), whose terms do not allow other use. The code is Apache-2.0."
CALIBRATION_TILES = 8
_CALIBRATION_SEEDS = (11, 12, 13, 14)
_STUDENT = "torch"
# The organs for which keeping one part does not cost Dice on the validation cases: docs/adr/0009-one-part.md.
ONE_PART = ("spleen", "kidney_right", "kidney_left", "gallbladder", "liver", "stomach", "inferior_vena_cava")


@dataclass(frozen=True)
class Description:
    """What the bundle says of the model beside what the checkpoint says.

    Args:
        name: Model name; None makes one from the student's.
        model_card: Markdown; None writes a short one from the facts.
        training_data: One sentence; None takes the checkpoint's.
    """

    name: str | None = None
    model_card: str | None = None
    training_data: str | None = None


class _Student:
    """A loaded checkpoint and how it is described."""

    def __init__(self, checkpoint: Path | None, description: Description) -> None:
        self.weights = default_bundle_path() / STUDENT_FILE if checkpoint is None else checkpoint
        try:
            self.sha256 = file_digest(self.weights)
            self.module, self.facts = load_student(self.weights)
            self.input = self.facts.input
            input_contract(
                self.input, (96, 96, 96), 0.25
            )  # its grid and window are some that a runtime takes
        except (
            Exception
        ) as error:  # safetensors raises its own SafetensorError from Rust, beside OSError and our ValueError
            raise STUDENT_FILE_INVALID(
                f"{self.weights.name} is not a student's checkpoint: {first_line(error)}."
            ) from error
        sides = [f"{side:g}" for side in self.input.spacing_mm]
        spacing = sides[0] if len(set(sides)) == 1 else "x".join(sides)
        self.name = description.name or f"{self.facts.student.replace(':', '-')}-{spacing}mm"
        dataset = self.input.dataset.upper() or "BTCV"
        self.training_data = description.training_data or f"{len(self.facts.cases)} cases of {dataset}"
        self.labels = label_table(self.input.labels)
        self.license = (
            BTCV_LICENSE
            if dataset == "BTCV"
            else f"Only what the terms of {dataset} allow. The code is Apache-2.0."
        )
        short = f"# {self.name}\n\n{RESEARCH_USE}\n\nTrained on: {self.training_data}\n\nLicense: {self.license}\n"
        self.model_card = description.model_card or short
        self.one_part = tuple(name for name in ONE_PART if name in self.input.labels)

    def model(self, contract: InputContract) -> Model:
        """What a session needs to run the student itself."""
        return Model(contract, self.labels, self.one_part, self.name, __version__, self.license, self.sha256)


def input_contract(takes: NetworkInput, patch: tuple[int, int, int], overlap: float) -> InputContract:
    """The contract that a student was trained for, with the tile of choice."""
    return InputContract(
        "CT",
        "DHW",
        "HU",
        takes.spacing_mm,
        takes.intensity.window_hu,
        "antialiased-linear",
        patch,
        overlap,
        "gaussian",
    )


def export_bundle(
    checkpoint: Path | None,
    out: Path,
    *,
    targets: Sequence[str] = ("onnx",),
    precisions: Sequence[str] = ("fp32",),
    description: Description = Description(),
    patch: tuple[int, int, int] = (96, 96, 96),
    overlap: float = 0.25,
    volumes: Mapping[str, Volume] | None = None,
    calibration: Mapping[str, Volume] | None = None,
    interpreted_tiles: int | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Turn a trained student into a bundle and prove every artifact equal.

    Args:
        checkpoint: Student's safetensors; None takes the one in the default bundle.
        out: The bundle to write, a folder; it must not exist, or be a bundle (it holds golden vectors), which
            is replaced at the end.
        targets: Names in :data:`~autosam_edge_export.targets.TARGETS`.
        precisions: Every pair with a target for which there are tolerances becomes an artifact.
        description: What the bundle says of the model.
        patch: Tile (D, H, W), multiples of 32.
        overlap: Of the tiles at run time.
        volumes: CT volumes to compare on, by name; None uses two phantoms.
        calibration: CT volumes to calibrate int8 on, other patients than ``volumes``; None uses four
            phantoms.
        interpreted_tiles: Compare artifacts that are interpreted on so many tiles of each volume, those with
            most organ; None takes whole volumes, which are slow to interpret for a large student.
        say: Called with one line per stage.

    Returns:
        ``bundle``, ``model``, ``torch`` (what the student itself takes) and ``artifacts``: for each its name
        and its entry of ``parity.json``.

    Raises:
        ExportError: A target or precision is not known (AE-EXPORT-001), the checkpoint is not a student
            (AE-EXPORT-002) or does not take the patch (AE-EXPORT-006), it cannot be traced or a target lacks
            an operator (AE-EXPORT-007), it bears no eight bits (AE-EXPORT-012), this processor no bfloat16
            (AE-EXPORT-013), an artifact does not run (AE-EXPORT-005), or parity fails (AE-EXPORT-003,
            AE-EXPORT-004); AE-EXPORT-008 to -011 are a target's own. No bundle is left.
        MissingExtraError: A target's runtime is not installed (AE-EXTRA-001).
        OutputError: The bundle cannot be written.
    """
    wanted = wanted_artifacts(targets, precisions)
    _require_patch(patch)
    kinds = {target.name: target for target, _ in wanted}
    for target in kinds.values():
        require_packages(target)
        target.trial()
    student = _Student(checkpoint, description)
    contract = input_contract(student.input, patch, overlap)
    model = student.model(contract)
    torch.manual_seed(0)
    engine = TorchEngine(student.module, student.input.intensity)
    organs = student.input.labels[1:]

    with staged_folder(out, replaces=GOLDEN) as folder:
        writer = _Writer(
            folder,
            student,
            contract,
            ("torch", "monai", *{name: None for kind in kinds.values() for name in kind.packages}),
        )
        job = Job(
            student.module,
            contract,
            student.input.intensity,
            organs,
            {
                "model": student.facts.student,
                "intended_use": RESEARCH_USE,
                "license": student.license,
                "software": f"autosam-edge {__version__}",
                "checkpoint_sha256": student.sha256,
                "labels": ",".join(["background", *organs]),
                "spacing_mm": ",".join(f"{side:g}" for side in contract.spacing_mm),
                "window_hu": ",".join(f"{edge:g}" for edge in contract.window_hu),
            },
            lambda: draw_tiles(
                model, engine, calibration or _phantoms(*_CALIBRATION_SEEDS), CALIBRATION_TILES
            ),
            say,
        )
        say(f"{student.facts.student}, {parameter_count(student.module):,} parameters")
        for target in kinds.values():
            preflight(target, job.program(target.options))
        artifacts, facts, beside = [], {}, {}
        for target, precision in wanted:
            made = target.convert(job, precision)
            for name, content in made.files.items():
                file = folder / made.path / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            proof = "interpreted" if why_missing(target.name) else "executed"
            artifact = Artifact(target.name, precision, made.path, proof, 0.0, None, None)
            artifacts.append(artifact)
            facts[artifact.name] = dict(made.facts)
            beside |= made.beside
        say("golden vectors")
        write_golden(folder, model, engine)
        quantization = _quantization(job, len(calibration or _CALIBRATION_SEEDS))
        writer.write(artifacts, quantization)

        bundle = Bundle(folder)
        executed = [artifact for artifact in artifacts if artifact.proof == "executed"]
        costs = {}
        for artifact in executed:
            say(f"measuring {artifact.name}")
            costs[artifact.name] = dataclasses.asdict(
                measure_cost(folder / artifact.path, artifact.target, artifact.precision, patch)
            )
        engines = {artifact.name: load_engine(bundle, artifact) for artifact in executed}
        tile_ms = time_tiles({_STUDENT: engine, **engines}, read_golden_tile(bundle).hu)
        student_ms = tile_ms.pop(_STUDENT)
        for name, milliseconds in tile_ms.items():
            costs[name]["tile_ms"] = milliseconds
        interpreters = stand_ins(bundle, artifacts)
        records = compare(
            model,
            engines | interpreters,
            engine,
            volumes or _phantoms(1, 2),
            scratch=folder,  # the disk that must have room for the bundle too
            say=say,
            on_tiles=dict.fromkeys(interpreters, interpreted_tiles) if interpreted_tiles else {},
        )
        entries = [
            {
                **summarize(a, records[a.name]),
                "cost": costs.get(a.name),
                "megabytes": _megabytes(folder / a.path),
                "facts": facts[a.name],
            }
            for a in artifacts
        ]
        require(entries)
        (folder / "parity.json").write_text(
            json.dumps(entries, indent=1, allow_nan=False) + "\n", encoding="utf-8"
        )
        (folder / "parity.md").write_text(as_markdown(entries), encoding="utf-8")
        reference_ms = next(iter(tile_ms.values()), 0.0)
        measured = [
            artifact_figures(artifact, entry, reference_ms)
            for artifact, entry in zip(artifacts, entries, strict=True)
        ]
        writer.write(measured, quantization)
        verify_bundle(Bundle(folder), interpreters=interpreters, on_message=say)
        for name, content in beside.items():
            (folder / name).write_bytes(content)
    return {
        "bundle": str(out),
        "model": student.name,
        "student": student.facts.student,
        "torch": {"tile_ms": student_ms, "megabytes": _megabytes(student.weights)},
        "artifacts": [
            {"name": artifact.name, **entry} for artifact, entry in zip(artifacts, entries, strict=True)
        ],
    }


def _require_patch(patch: tuple[int, int, int]) -> None:
    if any(side % 32 or not 32 <= side <= MAX_SIDE for side in patch):  # SwinUNETR halves it five times
        raise _no_such_patch(patch)


def _no_such_patch(patch: tuple[int, int, int]) -> AutosamEdgeError:
    return PATCH_UNSUITABLE(
        f"the student does not take a patch of {'x'.join(map(str, patch))}.",
        remedy=f"Use the patch that it was trained on; sides are multiples of 32, {MAX_SIDE} at most.",
    )


def stand_ins(bundle: Bundle, artifacts: Sequence[Artifact]) -> dict[str, Engine]:
    """What evaluates the artifacts, by name, whose runtime this machine does not have.

    Raises:
        MissingExtraError: A package that reads one back is not installed (AE-EXTRA-001).
    """
    found = {}
    for artifact in artifacts:
        target = TARGETS.get(artifact.target)
        if target is not None and target.interpretable and why_missing(artifact.target):
            require_packages(target)
            found[artifact.name] = target.stand_in(bundle.read_artifact(artifact.path))
    return found


def _megabytes(artifact: Path) -> float:
    """Size of a file or a folder, MB."""
    return round(sum(len(content) for content in read_files(artifact).values()) / 1e6, 2)


def export_monai(
    checkpoint: Path | None,
    out: Path,
    *,
    patch: tuple[int, int, int] = (96, 96, 96),
    description: Description = Description(),
) -> Path:
    """Write the student as a MONAI Bundle, a folder that MONAI itself loads and runs.

    Args:
        checkpoint: Student's safetensors; None takes the one in the default bundle.
        out: The folder; it must not exist.
        patch: Tile (D, H, W).
        description: What the bundle says of the model.

    Raises:
        ExportError: The checkpoint is not a student (AE-EXPORT-002), or it does not take the patch
            (AE-EXPORT-006).
        OutputError: The folder exists (AE-OUTPUT-002) or cannot be written.
    """
    _require_patch(patch)
    student = _Student(checkpoint, description)
    try:
        with torch.inference_mode():
            student.module(torch.zeros(1, 1, *patch))
    except RuntimeError as error:  # some networks of MONAI are built for one patch
        raise _no_such_patch(patch) from error
    with staged_folder(out) as folder:
        write_monai_bundle(
            student.weights,
            student.facts,
            input_contract(student.input, patch, 0.25),
            student.input.intensity,
            student.labels,
            folder,
            name=student.name,
            license=student.license,
            training_data=student.training_data,
            model_card=student.model_card,
        )
    return out


def _phantoms(*seeds: int) -> dict[str, Volume]:
    """Synthetic scans, for a proof that needs no data."""
    return {f"phantom-{seed}": make_phantom(seed).volume for seed in seeds}


def _quantization(job: Job, scans: int) -> dict[str, Any]:
    """What static int8 was calibrated on and which layers it left alone, for the provenance."""
    plan = job.plan
    if plan is None:
        return {}
    return {
        "calibration": {"scans": scans, "tiles": plan.tiles, "sha256": plan.tiles_sha256},
        "float_layers": list(plan.kept_float),
        "sensitivity": [dataclasses.asdict(entry) for entry in plan.sensitivities],
    }


class _Writer:
    """Writes what a bundle holds beside its artifacts."""

    def __init__(
        self, folder: Path, student: _Student, contract: InputContract, packages: Sequence[str]
    ) -> None:
        self._folder, self._student, self._contract, self._packages = folder, student, contract, packages
        shutil.copyfile(student.weights, folder / STUDENT_FILE)
        (folder / "MODEL_CARD.md").write_text(student.model_card, encoding="utf-8")

    def write(self, artifacts: Sequence[Artifact], quantization: Mapping[str, Any]) -> None:
        """Write ``manifest.json`` with the hash of every file beside it."""
        folder, facts = self._folder, self._student.facts
        provenance = {
            "student": facts.student, "merging": facts.merging, "steps": str(facts.steps),
            "parameters": parameter_count(self._student.module),
            "checkpoint_sha256": self._student.sha256,
            "exported": datetime.now(timezone.utc).date().isoformat(),
            "exporter": f"autosam-edge {__version__}",
            "versions": {name: version(name) for name in self._packages},
            **({"quantization": dict(quantization)} if quantization else {}),
        }
        files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
        manifest = {
            "schema_version": SCHEMA_VERSION,
            "name": self._student.name,
            "version": __version__,
            "license": self._student.license,
            "intended_use": RESEARCH_USE,
            "training_data": self._student.training_data,
            "input": dataclasses.asdict(self._contract),
            "postprocess": {"one_part": list(self._student.one_part)},
            "labels": [dataclasses.asdict(label) for label in self._student.labels],
            "artifacts": [dataclasses.asdict(artifact) for artifact in artifacts],
            "files": {
                p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files
            },
            "provenance": provenance,
        }
        (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def as_table(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The report's rows for a person: precision, size, cost, worst organ, verdict."""
    first = next((entry["cost"]["tile_ms"] for entry in report["artifacts"] if entry["cost"]), 0.0)
    student = report["torch"]
    rows = [
        {
            "artifact": "student in torch",
            "MB": f"{student['megabytes']:.1f}",
            "load s": "",
            "ms a tile": f"{student['tile_ms']:.0f}",
            "time": f"{student['tile_ms'] / first:.2f} x" if first else "",
            "peak MB": "",
            "worst organ": "",
            "mean Dice": "",
            "verdict": "",
        }
    ]
    for entry in report["artifacts"]:
        cost, worst = entry["cost"], entry["worst_organ"]
        slower = cost is not None and cost["tile_ms"] > 1.05 * first
        verdict = "passed, but slower" if slower else "passed" if cost else "passed, interpreted"
        rows.append(
            {
                "artifact": entry["name"],
                "MB": f"{entry['megabytes']:.1f}",
                "load s": f"{cost['load_s']:.2f}" if cost else "",
                "ms a tile": f"{cost['tile_ms']:.0f}" if cost else "",
                "time": f"{cost['tile_ms'] / first:.2f} x" if cost else "",
                "peak MB": f"{cost['peak_rss_mb']:.0f}" if cost else "",
                "worst organ": f"{entry['organ_dice'].get(worst, 0.0):.4f} {worst}",
                "mean Dice": f"{entry['mean_dice']:.4f}",
                "verdict": verdict,
            }
        )
    return rows


def delegation_lines(report: Mapping[str, Any]) -> list[str]:
    """What each delegate took, one line per artifact that has some."""
    lines = []
    for entry in report["artifacts"]:
        if taken := entry["facts"].get("delegation"):
            shares = f"{100 * taken['node_share']:.1f} % of the operators and {100 * taken['work_share']:.2f} % of the multiplications"
            parts = "one part" if taken["delegates"] == 1 else f"{taken['delegates']} parts"
            lines.append(
                f"{entry['name']}: delegated {shares}, in {parts}; {sum(taken['left'].values())} operators left"
            )
    return lines

"""The export: convert a student, compare every artifact with it, and only then write the bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from autosam_edge.bundle import Bundle, read_files
from autosam_edge.engines.engine import Engine
from autosam_edge.engines.selection import engine_class, make_engine, why_missing
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.golden import GOLDEN
from autosam_edge.manifest import Artifact, Proof
from autosam_edge.model import MAX_SIDE, InputContract
from autosam_edge.phantom import make_phantom
from autosam_edge.system.atomic_files import staged_folder
from autosam_edge.system.clock import doubt, today
from autosam_edge.system.machine import describe_machine
from autosam_edge.verify import verify_bundle
from autosam_edge.volume import Volume
from autosam_edge_export.bundle_writer import (
    DEFAULT_OVERLAP,
    NO_DESCRIPTION,
    Description,
    LoadedStudent,
    describe_quantization,
    require_describable,
    write_bundle,
)
from autosam_edge_export.convert.quantization import Tiles, draw_tiles
from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.error_codes import BF16_NOT_SUPPORTED, PATCH_UNSUITABLE
from autosam_edge_export.monai_bundle import write_monai_bundle
from autosam_edge_export.proof.cost import ArtifactCost, measure_cost, time_tiles
from autosam_edge_export.proof.golden_vectors import write_golden
from autosam_edge_export.proof.parity import MadeArtifact, compare, require, summarize
from autosam_edge_export.proof.parity_report import not_compared
from autosam_edge_export.proof.tolerances import TOLERANCES
from autosam_edge_export.targets import TARGETS, wanted_artifacts
from autosam_edge_export.targets.target import Target, preflight, require_packages
from autosam_edge_training.networks.students import MONAI
from autosam_edge_training.strict import JsonObject

CALIBRATION_TILES = 8
_CALIBRATION_SEEDS = (11, 12, 13, 14)
_COMPARISON_SEEDS = (1, 2)
_STUDENT = "torch"


def export_bundle(
    checkpoint: Path | None,
    out: Path,
    *,
    targets: Sequence[str] = ("onnx",),
    precisions: Sequence[str] = ("fp32",),
    description: Description = NO_DESCRIPTION,
    patch: tuple[int, int, int] = (96, 96, 96),
    volumes: Mapping[str, Volume] | None = None,
    calibration: Mapping[str, Volume] | None = None,
    interpreted_tiles: int | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> JsonObject:
    """Turn a trained student into a bundle and prove that every artifact is equal to it.

    Args:
        out: Folder to write. It must not exist, or hold a bundle, which is replaced at the end.
        targets: Names in :data:`~autosam_edge_export.targets.TARGETS`.
        patch: Sides of a tile (D, H, W), voxels, multiples of 32; of a network of MONAI, of 16.
        volumes: CT volumes to compare on, by name; None uses two phantoms.
        calibration: CT volumes of other patients to calibrate int8 on, by name; None uses four phantoms.
        interpreted_tiles: Number of tiles of each volume to compare interpreted artifacts on; None compares
            whole volumes, which takes long for a large student.

    Returns:
        Report of JSON values: ``bundle``, ``date``, ``machine``, ``model``, ``student``, ``torch`` (size and
        time of the student itself) and ``artifacts`` (name and entry of ``parity.json``).

    Raises:
        ExportError: A conversion or the proof fails (AE-EXPORT-001 to -014, -018). No bundle is left.
        MissingExtraError: A package of a target is not installed (AE-EXTRA-001).
        OutputError: The bundle cannot be written.
    """
    date, machine = today(), describe_machine()
    wanted = wanted_artifacts(targets, precisions)
    for target in _targets_of(wanted):
        require_packages(target)
        target.check_toolchain()
    student = LoadedStudent(checkpoint, description)
    _require_patch(patch, student)
    contract = student.input.contract(patch, DEFAULT_OVERLAP)
    require_describable(student, contract)
    with staged_folder(out, replaces=GOLDEN) as folder:
        report = _make_bundle(folder, student, contract, wanted, volumes, calibration, interpreted_tiles, log)
    return {"bundle": str(out), "date": date, "machine": machine, **report}


def _make_bundle(
    folder: Path,
    student: LoadedStudent,
    contract: InputContract,
    wanted: Sequence[tuple[Target, str]],
    volumes: Mapping[str, Volume] | None,
    calibration: Mapping[str, Volume] | None,
    interpreted_tiles: int | None,
    log: Callable[[str], None],
) -> JsonObject:
    """Convert, measure, compare, and then describe; the arguments are those of :func:`export_bundle`."""
    torch.manual_seed(0)
    log(f"{student.kind}, {student.parameters:,} parameters")
    model = student.model(contract)
    forms = _student_forms(student, contract, calibration, log)
    made = _convert(forms, wanted, folder)
    log("golden vectors")
    tile = write_golden(folder, model, student.engine)
    measured = _measure(made, folder, student.engine, tile, log)
    _require_rounding(made, measured.engines, student.engine, tile)
    interpreters = make_interpreters(made, lambda path: read_files(folder / path))
    records = compare(
        model,
        measured.engines | interpreters,
        student.engine,
        volumes or _phantoms(*_COMPARISON_SEEDS),
        scratch=folder,  # the disk that must have room for the bundle too
        log=log,
        on_tiles=dict.fromkeys(interpreters, interpreted_tiles) if interpreted_tiles else {},
    )
    proof = [summarize(entry, records[entry.name], measured.costs.get(entry.name)) for entry in made]
    require(proof)
    artifacts = [a.with_figures(entry, measured.reference_ms) for a, entry in zip(made, proof, strict=True)]
    int8 = any(precision == "int8" for _, precision in wanted)
    write_bundle(
        folder,
        student,
        contract,
        artifacts,
        proof,
        packages=("torch", "monai", *(name for target in _targets_of(wanted) for name in target.packages)),
        quantization=describe_quantization(forms.quantization, len(calibration or _CALIBRATION_SEEDS))
        if int8
        else None,
    )
    verify_bundle(Bundle(folder), interpreters=interpreters, on_message=log)
    for name, content in ((name, content) for a in made for name, content in a.developer_files.items()):
        (folder / name).write_bytes(content)
    return {
        "model": student.name,
        "student": student.kind,
        "doubt_of_times": measured.doubt,
        "not_compared": not_compared(proof, student.organs),
        "torch": {"tile_ms": measured.student_ms, "megabytes": _megabytes(student.weights)},
        "artifacts": [{"name": entry.name, **dataclasses.asdict(entry)} for entry in proof],
    }


def _student_forms(
    student: LoadedStudent,
    contract: InputContract,
    calibration: Mapping[str, Volume] | None,
    log: Callable[[str], None],
) -> StudentForms:
    def calibration_tiles() -> Tiles:
        scans = calibration or _phantoms(*_CALIBRATION_SEEDS)
        return draw_tiles(student.model(contract), student.engine, scans, CALIBRATION_TILES)

    return StudentForms(
        student.module,
        contract,
        student.input.intensity,
        student.input.labels[1:],
        student.format_metadata(contract),
        calibration_tiles,
        log,
    )


def _targets_of(wanted: Sequence[tuple[Target, str]]) -> list[Target]:
    return list({target.name: target for target, _ in wanted}.values())


def _convert(forms: StudentForms, wanted: Sequence[tuple[Target, str]], folder: Path) -> list[MadeArtifact]:
    """Make every artifact and write its files."""
    for target in _targets_of(wanted):
        preflight(target, forms.program(target.options))
    made = []
    for target, precision in wanted:
        conversion = target.convert(forms, precision)
        for name, content in conversion.files.items():
            file = folder / conversion.path / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        made.append(
            MadeArtifact(
                target.name,
                precision,
                conversion.path,
                proof=_proof(target.name, precision),
                megabytes=_megabytes(folder / conversion.path),
                facts=conversion.facts,
                developer_files=conversion.developer_files,
            )
        )
    return made


def _proof(target: str, precision: str) -> Proof:
    if why_missing(target):
        return "interpreted"
    return "executed" if engine_class(target).has_instructions(precision) else "imitated"


@dataclass(frozen=True)
class _Measured:
    """Cost of the student and of the artifacts that this machine executes.

    Args:
        student_ms: Median time of a tile of the student in torch, ms.
        engines: Engines by artifact, in the order of the artifacts.
        doubt: Reason why the times are not to be trusted; empty if nothing speaks against them.
    """

    student_ms: float
    costs: Mapping[str, ArtifactCost]
    engines: dict[str, Engine]
    doubt: str

    @property
    def reference_ms(self) -> float:
        """Time of a tile of the first executed artifact, ms; 0 if there is none."""
        return next(iter(self.costs.values())).tile_ms if self.costs else 0.0


def _measure(
    made: Sequence[MadeArtifact],
    folder: Path,
    student: Engine,
    tile: npt.NDArray[np.float32],
    log: Callable[[str], None],
) -> _Measured:
    """Measure each executed artifact in a fresh process, then time all of them together with the student."""
    # The first one is what the times of the others are compared with: never an imitation.
    executed = sorted(
        (a for a in made if a.proof != "interpreted"), key=lambda made: made.proof == "imitated"
    )
    costs = {}
    for artifact in executed:
        log(f"measuring {artifact.name}")
        path = folder / artifact.path
        costs[artifact.name] = measure_cost(path, artifact.target, artifact.precision, tile.shape)
    engines: dict[str, Engine] = {
        a.name: make_engine(a.target, read_files(folder / a.path), sha256="", precision=a.precision)
        for a in executed
    }
    timing = time_tiles({_STUDENT: student, **engines}, tile)
    timed = {
        name: ArtifactCost(**dataclasses.asdict(cost), tile_ms=round(timing.median_ms(name), 1))
        for name, cost in costs.items()
    }
    return _Measured(round(timing.median_ms(_STUDENT), 1), timed, engines, doubt(timing.others_cores))


def _require_rounding(
    made: Sequence[MadeArtifact],
    engines: Mapping[str, Engine],
    student: Engine,
    tile: npt.NDArray[np.float32],
) -> None:
    """Refuse an imitation that is as close to the student as float32 is on a tile: it did not round."""
    for artifact in made:
        if artifact.proof != "imitated":
            continue
        difference = engines[artifact.name].run(tile).astype(np.float64) - student.run(tile)
        rms = float(np.sqrt(np.mean(difference**2)))
        if rms <= TOLERANCES[artifact.target, "fp32"].logit_rms:
            raise BF16_NOT_SUPPORTED(
                f"this processor has no bfloat16, and {artifact.name} was computed in float32: its logits "
                f"differ from the student's by {rms:.1e} (root mean square) only."
            )


def make_interpreters(
    artifacts: Sequence[Artifact | MadeArtifact], read: Callable[[str], Mapping[str, bytes]]
) -> dict[str, Engine]:
    """Interpreters of the artifacts whose runtime this machine lacks, by the artifact's name.

    Raises:
        MissingExtraError: A package that reads an artifact is not installed (AE-EXTRA-001).
    """
    interpreters = {}
    for artifact in artifacts:
        target = TARGETS.get(artifact.target)
        if target is not None and target.interpretable and why_missing(artifact.target):
            require_packages(target)
            interpreters[artifact.name] = target.make_interpreter(read(artifact.path))
    return interpreters


def _require_patch(patch: tuple[int, int, int], student: LoadedStudent) -> None:
    step = 16 if student.kind.startswith(MONAI) else 32  # SwinUNETR halves it five times
    if any(side % step or not step <= side <= MAX_SIDE for side in patch):
        raise _patch_unsuitable(patch)


def _patch_unsuitable(patch: tuple[int, int, int]) -> AutosamEdgeError:
    return PATCH_UNSUITABLE(f"the student does not take a patch of {'x'.join(map(str, patch))}.")


def _megabytes(artifact: Path) -> float:
    """Size of a file or a folder, MB."""
    return round(sum(len(content) for content in read_files(artifact).values()) / 1e6, 2)


def _phantoms(*seeds: int) -> dict[str, Volume]:
    """Synthetic scans, for a proof that needs no data."""
    return {f"phantom-{seed}": make_phantom(seed).volume for seed in seeds}


def export_monai(
    checkpoint: Path | None,
    out: Path,
    *,
    patch: tuple[int, int, int] = (96, 96, 96),
    description: Description = NO_DESCRIPTION,
) -> Path:
    """Write the student as a MONAI Bundle, a folder that MONAI itself loads and runs.

    Args:
        out: Folder to write; it must not exist.
        patch: Sides of a tile (D, H, W), voxels.

    Raises:
        ExportError: The checkpoint is not a student (AE-EXPORT-002), or it does not take the patch
            (AE-EXPORT-006).
        OutputError: The folder exists (AE-OUTPUT-002) or cannot be written.
    """
    student = LoadedStudent(checkpoint, description)
    _require_patch(patch, student)
    contract = student.input.contract(patch, DEFAULT_OVERLAP)
    try:
        with torch.inference_mode():
            student.module(torch.zeros(1, 1, *patch))
    except Exception as error:  # some networks of MONAI are built for one patch, and raise anything
        raise _patch_unsuitable(patch) from error
    with staged_folder(out) as folder:
        write_monai_bundle(student, contract, folder)
    return out


def as_table(report: JsonObject) -> list[dict[str, str]]:
    """Rows of the report for a person: size, cost, worst organ, verdict."""
    executed = (entry for entry in report["artifacts"] if entry["proof"] == "executed")
    first = next((entry["cost"]["tile_ms"] for entry in executed), 0.0)
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
        timed = entry["proof"] == "executed"
        slower = timed and cost["tile_ms"] > 1.05 * first
        verdict = "passed, but slower" if slower else "passed" if timed else f"passed, {entry['proof']}"
        rows.append(
            {
                "artifact": entry["name"],
                "MB": f"{entry['megabytes']:.1f}",
                "load s": f"{cost['load_s']:.2f}" if cost else "",
                "ms a tile": f"{cost['tile_ms']:.0f}" if timed else "",
                "time": f"{cost['tile_ms'] / first:.2f} x" if timed else "",
                "peak MB": f"{cost['peak_rss_mb']:.0f}" if cost else "",
                "worst organ": f"{entry['organ_dice'].get(worst, 0.0):.4f} {worst}",
                "mean Dice": f"{entry['mean_dice']:.4f}",
                "verdict": verdict,
            }
        )
    return rows


def delegation_lines(report: JsonObject) -> list[str]:
    """The share of the work that delegates take, one line per artifact with delegates."""
    lines = []
    for entry in report["artifacts"]:
        if taken := entry["facts"].get("delegation"):
            operators, work = 100 * taken["node_share"], 100 * taken["work_share"]
            shares = f"{operators:.1f} % of the operators and {work:.2f} % of the multiplications"
            parts = "one part" if taken["delegates"] == 1 else f"{taken['delegates']} parts"
            lines.append(
                f"{entry['name']}: delegated {shares}, in {parts}; "
                f"{sum(taken['left'].values())} operators left"
            )
    return lines

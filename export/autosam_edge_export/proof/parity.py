"""How close artifacts are to the trained student: the same volumes through the same runtime, engine against engine."""

from __future__ import annotations

import dataclasses
import math
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from monai.metrics import compute_hausdorff_distance

from autosam_edge.errors import ExportError
from autosam_edge.measurements import dice
from autosam_edge.session import Session
from autosam_edge_export.error_codes import ARTIFACT_DIFFERS, NOTHING_TO_COMPARE
from autosam_edge_training.evaluate import cropped_pair

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy.typing as npt

    from autosam_edge.bundle import Artifact
    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import Model
    from autosam_edge.volume import Volume


@dataclass(frozen=True)
class Tolerance:
    """What an artifact must reach.

    Args:
        organ_dice: Smallest Dice of an organ against the student, mean over the volumes that show it.
        mean_dice: Smallest mean over the organs.
        agreement: Smallest share of voxels with the same label, in any volume.
        logit_rms: Largest root mean square difference of the logits, in any volume and on the golden tile.
    """

    organ_dice: float
    mean_dice: float
    agreement: float
    logit_rms: float


_COREML = {
    "fp32": Tolerance(organ_dice=0.999, mean_dice=0.999, agreement=0.9999, logit_rms=1e-3),
    "fp16": Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.9995, logit_rms=2e-2),
    "int8-weights": Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.999, logit_rms=0.1),
    "palette6": Tolerance(organ_dice=0.97, mean_dice=0.99, agreement=0.998, logit_rms=0.3),
    "palette4": Tolerance(organ_dice=0.9, mean_dice=0.97, agreement=0.995, logit_rms=1.0),
}
TOLERANCES: Mapping[tuple[str, str], Tolerance] = {
    ("onnx", "fp32"): Tolerance(organ_dice=0.999, mean_dice=0.999, agreement=0.9999, logit_rms=1e-3),
    ("onnx", "fp16"): Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.9995, logit_rms=2e-2),
    ("onnx", "int8-weights"): Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.999, logit_rms=0.1),
    ("onnx", "int8"): Tolerance(organ_dice=0.97, mean_dice=0.99, agreement=0.998, logit_rms=0.3),
    ("openvino", "fp32"): Tolerance(organ_dice=0.999, mean_dice=0.999, agreement=0.9999, logit_rms=1e-3),
    ("openvino", "bf16"): Tolerance(organ_dice=0.99, mean_dice=0.995, agreement=0.998, logit_rms=0.2),
    ("openvino", "int8"): Tolerance(organ_dice=0.97, mean_dice=0.99, agreement=0.998, logit_rms=0.3),
    **{
        (target, precision): tolerance
        for target in ("coreml", "coreml-2d", "coreml-ios18")
        for precision, tolerance in _COREML.items()
    },
    ("executorch", "fp32"): Tolerance(organ_dice=0.999, mean_dice=0.999, agreement=0.9999, logit_rms=1e-3),
    ("executorch", "int8"): Tolerance(organ_dice=0.97, mean_dice=0.99, agreement=0.998, logit_rms=0.3),
    ("executorch-coreml", "fp16"): _COREML["fp16"],
}


class ParityError(ExportError):
    """An artifact is not the student.

    Args:
        code, message, remedy: See :class:`~autosam_edge.errors.AutosamEdgeError`.
        entries: Every artifact's entry for ``parity.json``.
    """

    def __init__(self, code: str, message: str, *, remedy: str, entries: Sequence[Mapping[str, Any]]) -> None:
        super().__init__(code, message, remedy=remedy)
        self.entries = entries


class _Recorder:
    """Runs the student and keeps its tiles and logits on the disk: a scan's would fill the memory."""

    def __init__(self, student: Engine, folder: Path, *, tiles: bool) -> None:
        self._student, self._folder, self._tiles = student, folder, tiles
        self.description = student.description
        self.organ_voxels: list[int] = []

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits = self._student.run(tile)
        np.save(self._folder / f"{len(self.organ_voxels)}.npy", logits)
        if self._tiles:
            np.save(self._folder / f"{len(self.organ_voxels)}.tile.npy", tile)
        self.organ_voxels.append(int(np.count_nonzero(logits.argmax(axis=0))))
        return logits


class _Compared:
    """Runs an artifact and holds its logits against the recorded ones; the session asks for the same tiles in the same order."""

    def __init__(self, artifact: Engine, folder: Path) -> None:
        self._artifact, self._folder = artifact, folder
        self.description = artifact.description
        self._tiles, self._squares, self._values = 0, 0.0, 0
        self.largest = 0.0

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits = self._artifact.run(tile)
        self._note(logits, np.load(self._folder / f"{self._tiles}.npy", mmap_mode="r"))
        return logits

    def labels_of(self, tiles: Sequence[int]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Some tiles only: what the artifact and the student label, each (tiles x D, H, W)."""
        found, expected = [], []
        for number in tiles:
            logits, recorded = (
                self._artifact.run(np.load(self._folder / f"{number}.tile.npy")),
                np.load(self._folder / f"{number}.npy"),
            )
            self._note(logits, recorded)
            found.append(logits.argmax(axis=0).astype(np.uint8))
            expected.append(recorded.argmax(axis=0).astype(np.uint8))
        return np.concatenate(found), np.concatenate(expected)

    def _note(self, logits: npt.NDArray[np.float32], recorded: npt.NDArray[np.float32]) -> None:
        difference = (
            np.abs(logits - recorded) if np.isfinite(logits).all() else np.full(1, np.inf)
        )  # a NaN would pass every comparison
        self.largest = max(self.largest, float(difference.max()))
        self._squares += float(np.square(difference).sum(dtype=np.float64))
        self._values += difference.size
        self._tiles += 1

    @property
    def rms(self) -> float:
        return float(np.sqrt(self._squares / max(1, self._values)))


def compare(
    model: Model,
    artifacts: Mapping[str, Engine],
    student: Engine,
    volumes: Mapping[str, Volume],
    *,
    scratch: Path,
    say: Callable[[str], None],
    on_tiles: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, list[dict[str, Any]]]:
    """Segment volumes with the student and with every artifact.

    Args:
        model: The student's input contract and label table.
        artifacts: The converted forms by name.
        student: The trained form.
        volumes: By the name that the report shows; CT in HU.
        scratch: Folder for the student's logits, some 50 MB a tile; they are removed after each volume.
        say: Called with one line per volume and engine.
        on_tiles: By artifact, how many tiles of each volume to compare on, those with most organ in them; the
            others see whole volumes.

    Returns:
        By artifact one record per volume: ``volume``, ``tiles`` (None for all), ``agreement``,
        ``logit_error``, ``logit_rms`` and ``organs`` with ``dice``,
        ``hd95_mm``, ``ml``, ``ml_difference`` and ``percent`` for each organ that either of the two finds.
    """
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in artifacts}
    for title, volume in volumes.items():
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            say(f"comparing on {title}")
            recorder = _Recorder(student, Path(folder), tiles=bool(on_tiles))
            whole = Session(model, recorder).segment(volume).labels
            richest = np.argsort(recorder.organ_voxels)[::-1]
            for name, engine in artifacts.items():
                say(f"comparing {name} on {title}")
                compared = _Compared(engine, Path(folder))
                tiles = on_tiles.get(name)
                if tiles is None:
                    found, expected = Session(model, compared).segment(volume).labels, whole
                    spacing_mm = volume.grid.spacing_mm
                else:
                    found, expected = compared.labels_of(sorted(richest[:tiles]))
                    spacing_mm = model.input.spacing_mm
                records[name].append(
                    {
                        "volume": title,
                        "tiles": None if tiles is None else min(tiles, len(richest)),
                        "agreement": float(np.count_nonzero(found == expected)) / found.size,
                        "logit_error": compared.largest,
                        "logit_rms": compared.rms,
                        "organs": _organs(model, found, expected, spacing_mm),
                    }
                )
    return records


def _organs(
    model: Model,
    found: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
) -> list[dict[str, Any]]:
    """Overlap, distance and volume of every organ that one of the two shows."""
    entries = []
    ml = math.prod(spacing_mm) / 1000.0
    for label in model.labels:
        a, b = found == label.value, expected == label.value
        voxels_a, voxels_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
        if voxels_a + voxels_b == 0:
            continue
        entries.append(
            {
                "organ": label.name,
                "dice": dice(a, b),
                "hd95_mm": hausdorff_95(a, b, spacing_mm) if voxels_a and voxels_b else None,
                "ml": voxels_a * ml,
                "ml_difference": (voxels_a - voxels_b) * ml,
                "percent": 100.0 * (voxels_a - voxels_b) / voxels_b if voxels_b else None,
            }
        )
    return entries


def hausdorff_95(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """95th percentile of the surface distances between two masks, neither empty, mm; the larger of the two directions.

    Source: MONAI ``compute_hausdorff_distance``, on a crop around both masks.
    """
    if np.array_equal(a, b):
        return 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # as in evaluate: MONAI warns of itself
        return float(
            compute_hausdorff_distance(
                *cropped_pair(a, b), include_background=True, percentile=95, spacing=spacing_mm
            )[0, 0]
        )


def summarize(artifact: Artifact, records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The entry of ``parity.json`` for an artifact: figures over all volumes, the tolerance, and what falls short of it (``failures``)."""
    tolerance = TOLERANCES[(artifact.target, artifact.precision)]
    scores: dict[str, list[float]] = {}
    for record in records:
        for organ in record["organs"]:
            scores.setdefault(organ["organ"], []).append(organ["dice"])
    dices = {organ: float(np.mean(values)) for organ, values in scores.items()}
    figures = {
        "organ_dice": dices,
        "mean_dice": float(np.mean(list(dices.values()))) if dices else 0.0,
        "worst_organ": min(dices, key=lambda organ: dices[organ]) if dices else "",
        "worst_case_dice": min((score for values in scores.values() for score in values), default=0.0),
        "agreement": min(record["agreement"] for record in records),
        "logit_error": max(record["logit_error"] for record in records),
        "logit_rms": max(record["logit_rms"] for record in records),
    }
    failures = [
        f"{organ} has Dice {value:.4f} ({min(scores[organ]):.3f} in the worst volume), needs {tolerance.organ_dice}"
        for organ, value in dices.items()
        if value < tolerance.organ_dice
    ]
    if figures["mean_dice"] < tolerance.mean_dice:
        failures.append(f"the mean Dice is {figures['mean_dice']:.4f}, needs {tolerance.mean_dice}")
    if figures["agreement"] < tolerance.agreement:
        failures.append(f"labels agree in {figures['agreement']:.6f} of voxels, need {tolerance.agreement}")
    if figures["logit_rms"] > tolerance.logit_rms:
        failures.append(
            f"logits differ by {figures['logit_rms']:.1e} (root mean square), allowed {tolerance.logit_rms}"
        )
    head = {
        "target": artifact.target,
        "precision": artifact.precision,
        "proof": artifact.proof,
        "tolerance": dataclasses.asdict(tolerance),
    }
    return {**head, **figures, "failures": failures, "volumes": list(records)}


def require(entries: Sequence[Mapping[str, Any]]) -> None:
    """Let a bundle exist only if every artifact is the student.

    Raises:
        ParityError: An organ or a figure falls short (AE-EXPORT-003), or no organ was found at all
            (AE-EXPORT-004).
    """
    if not any(entry["organ_dice"] for entry in entries):
        raise ParityError(
            NOTHING_TO_COMPARE.code,
            "neither the student nor an artifact found an organ in the comparison volumes, so nothing is proven.",
            remedy="Train the student, or give --volume with scans that it can label.",
            entries=entries,
        )
    failed = [f"{_name(entry)}: {'; '.join(entry['failures'])}" for entry in entries if entry["failures"]]
    if failed:
        raise ParityError(
            ARTIFACT_DIFFERS.code,
            f"not equal to the student: {'. '.join(failed)}.",
            remedy="Leave the precision out, give more --calibrate scans, or report a conversion that changed the network.",
            entries=entries,
        )


def as_markdown(entries: Sequence[Mapping[str, Any]]) -> str:
    """``parity.md``: one table over the artifacts, one per artifact over the organs."""
    lines = ["# The artifacts against the trained student", ""]
    lines += [
        "| artifact | proof | worst organ | Dice | mean Dice | labels agree | logits, rms | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in entries:
        worst = entry["worst_organ"]
        scores = f"{entry['organ_dice'].get(worst, 0.0):.5f} | {entry['mean_dice']:.5f}"
        figures = f"{scores} | {entry['agreement']:.6f} | {entry['logit_rms']:.1e}"
        lines.append(
            f"| {_name(entry)} | {entry['proof']} | {worst} | {figures} | {'failed' if entry['failures'] else 'passed'} |"
        )
    lines += ["", "## Dice by organ", "", "| organ | " + " | ".join(_name(entry) for entry in entries) + " |"]
    lines.append("|---" * (len(entries) + 1) + "|")
    for organ in dict.fromkeys(organ for entry in entries for organ in entry["organ_dice"]):
        scores = " | ".join(f"{entry['organ_dice'].get(organ, math.nan):.4f}" for entry in entries)
        lines.append(f"| {organ} | {scores} |")
    lines.append("| MB | " + " | ".join(f"{entry['megabytes']:.1f}" for entry in entries) + " |")
    lines.append(
        "| ms a tile | "
        + " | ".join(f"{entry['cost']['tile_ms']:.0f}" if entry["cost"] else "" for entry in entries)
        + " |"
    )
    for entry in entries:
        volumes = ", ".join(
            record["volume"] if record["tiles"] is None else f"{record['tiles']} tiles of {record['volume']}"
            for record in entry["volumes"]
        )
        lines += [
            "",
            f"## {_name(entry)}",
            "",
            f"Dice: mean over {volumes}. Distance and difference: the largest of any.",
            "",
        ]
        lines += ["| organ | Dice | HD95 mm | volume difference ml | % |", "|---|---|---|---|---|"]
        for organ, value in entry["organ_dice"].items():
            rows = [row for record in entry["volumes"] for row in record["organs"] if row["organ"] == organ]
            far = max((row["hd95_mm"] for row in rows if row["hd95_mm"] is not None), default=float("nan"))
            ml = max((row["ml_difference"] for row in rows), key=abs)
            percent = max(
                (row["percent"] for row in rows if row["percent"] is not None), key=abs, default=float("nan")
            )
            lines.append(f"| {organ} | {value:.5f} | {far:.2f} | {ml:+.3f} | {percent:+.2f} |")
    return "\n".join(lines) + "\n"


def _name(entry: Mapping[str, Any]) -> str:
    return f"{entry['target']}/{entry['precision']}"


def artifact_figures(artifact: Artifact, entry: Mapping[str, Any], reference_ms: float) -> Artifact:
    """The artifact with what was measured of it; times as a share of ``reference_ms``."""
    figures = {"worst_organ_dice": round(entry["organ_dice"].get(entry["worst_organ"], 0.0), 5)}
    if cost := entry["cost"]:
        figures |= {
            "working_set_mb": round(cost["working_set_mb"], 1),
            "relative_time": round(cost["tile_ms"] / reference_ms, 3),
        }
    return dataclasses.replace(artifact, **figures)

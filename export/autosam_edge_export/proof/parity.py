"""How close artifacts are to the student: both segment the same volumes with the same runtime."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
from monai.metrics.hausdorff_distance import compute_hausdorff_distance

from autosam_edge.engines.engine import Engine
from autosam_edge.manifest import Artifact, Proof
from autosam_edge.measurements import dice
from autosam_edge.model import Model
from autosam_edge.session import Session
from autosam_edge.volume import Volume
from autosam_edge_export.error_codes import ARTIFACT_DIFFERS, NOTHING_TO_COMPARE
from autosam_edge_export.proof.cost import ArtifactCost
from autosam_edge_export.proof.parity_report import OrganRecord, ParityEntry, VolumeRecord
from autosam_edge_export.proof.tolerances import TOLERANCES
from autosam_edge_training.evaluate.scores import cropped_pair


@dataclass(frozen=True)
class MadeArtifact:
    """An artifact that was converted and written, but not yet compared.

    Args:
        path: Path in the bundle, of a file or of a folder.
        proof: See :data:`~autosam_edge.manifest.Proof`.
        developer_files: Files for developers, which the manifest does not list, by their path in the bundle.
    """

    target: str
    precision: str
    path: str
    proof: Proof
    megabytes: float = 0.0
    facts: Mapping[str, object] = field(default_factory=dict)
    developer_files: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``target/precision``."""
        return f"{self.target}/{self.precision}"

    def with_figures(self, entry: ParityEntry, reference_ms: float) -> Artifact:
        """The artifact as the manifest describes it.

        Args:
            entry: Entry of the artifact in ``parity.json``.
            reference_ms: Time of a tile of the first executed artifact, ms.
        """
        cost = entry.cost
        return Artifact(
            self.target,
            self.precision,
            self.path,
            self.proof,
            worst_organ_dice=round(entry.worst_dice, 5),
            working_set_mb=round(cost.working_set_mb, 1) if cost else None,
            relative_time=None if entry.tile_ms is None else round(entry.tile_ms / reference_ms, 3),
        )


class _Recorder:
    """Runs the student and stores tiles and logits on the disk, as those of a scan would fill the memory."""

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
    """Runs an artifact and compares its logits with the recorded ones, as tiles come in the same order."""

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
        """Labels of the artifact and of the student on some tiles, each (tiles x D, H, W)."""
        found, expected = [], []
        for number in tiles:
            logits = self._artifact.run(np.load(self._folder / f"{number}.tile.npy"))
            recorded = np.load(self._folder / f"{number}.npy")
            self._note(logits, recorded)
            found.append(logits.argmax(axis=0).astype(np.uint8))
            expected.append(recorded.argmax(axis=0).astype(np.uint8))
        return np.concatenate(found), np.concatenate(expected)

    def _note(self, logits: npt.NDArray[np.float32], recorded: npt.NDArray[np.float32]) -> None:
        # A NaN would pass every comparison.
        difference = np.abs(logits - recorded) if np.isfinite(logits).all() else np.full(1, np.inf)
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
    log: Callable[[str], None],
    on_tiles: Mapping[str, int] = MappingProxyType({}),
) -> dict[str, list[VolumeRecord]]:
    """Segment volumes with the student and with every artifact.

    Args:
        volumes: CT volumes in HU, by the name that the report shows.
        scratch: Folder for the student's logits, some 50 MB a tile; they are removed after each volume.
        on_tiles: Number of tiles of each volume to compare, by artifact: those with most organ voxels. An
            artifact that is not named is compared on whole volumes.
    """
    records: dict[str, list[VolumeRecord]] = {name: [] for name in artifacts}
    for title, volume in volumes.items():
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            log(f"comparing on {title}")
            recorder = _Recorder(student, Path(folder), tiles=bool(on_tiles))
            whole = Session(model, recorder).segment(volume).labels
            richest = np.argsort(recorder.organ_voxels)[::-1]
            for name, engine in artifacts.items():
                log(f"comparing {name} on {title}")
                compared = _Compared(engine, Path(folder))
                tiles = on_tiles.get(name)
                if tiles is None:
                    found, expected = Session(model, compared).segment(volume).labels, whole
                    spacing_mm = volume.grid.spacing_mm
                else:
                    found, expected = compared.labels_of(sorted(richest[:tiles]))
                    spacing_mm = model.input.spacing_mm
                records[name].append(
                    VolumeRecord(
                        title,
                        tiles=None if tiles is None else min(tiles, len(richest)),
                        agreement=float(np.count_nonzero(found == expected)) / found.size,
                        logit_error=compared.largest,
                        logit_rms=compared.rms,
                        organs=_organs(model, found, expected, spacing_mm),
                    )
                )
    return records


def _organs(
    model: Model,
    found: npt.NDArray[np.uint8],
    expected: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float, float],
) -> tuple[OrganRecord, ...]:
    """Overlap, distance and volume of every organ that one of the two finds."""
    records = []
    ml = math.prod(spacing_mm) / 1000.0
    for label in model.labels:
        a, b = found == label.value, expected == label.value
        voxels_a, voxels_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
        if voxels_a + voxels_b:
            records.append(
                OrganRecord(
                    label.name,
                    dice=dice(a, b),
                    hd95_mm=hausdorff_95(a, b, spacing_mm) if voxels_a and voxels_b else None,
                    ml=voxels_a * ml,
                    ml_difference=(voxels_a - voxels_b) * ml,
                    percent=100.0 * (voxels_a - voxels_b) / voxels_b if voxels_b else None,
                )
            )
    return tuple(records)


def hausdorff_95(
    a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> float:
    """95th percentile of the surface distances between two masks, mm; the larger of the two directions.

    Args:
        a: Mask (D, H, W), not empty.
        b: Mask of the same shape, not empty.
        spacing_mm: Spacing (D, H, W), mm.

    Source:
        MONAI ``compute_hausdorff_distance``, on a crop around both masks.
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


def summarize(
    artifact: MadeArtifact, records: Sequence[VolumeRecord], cost: ArtifactCost | None = None
) -> ParityEntry:
    """The entry of ``parity.json`` for an artifact.

    Args:
        records: Figures of each volume, at least one.
    """
    tolerance = TOLERANCES[artifact.target, artifact.precision]
    scores: dict[str, list[float]] = {}
    for organ in (organ for record in records for organ in record.organs):
        scores.setdefault(organ.organ, []).append(organ.dice)
    dices = {organ: float(np.mean(values)) for organ, values in scores.items()}
    mean_dice = float(np.mean(list(dices.values()))) if dices else 0.0
    agreement = min(record.agreement for record in records)
    logit_rms = max(record.logit_rms for record in records)
    failures = [
        f"{organ} has Dice {value:.4f} ({min(scores[organ]):.3f} in the worst volume), "
        f"needs {tolerance.organ_dice}"
        for organ, value in dices.items()
        if value < tolerance.organ_dice
    ]
    if mean_dice < tolerance.mean_dice:
        failures.append(f"the mean Dice is {mean_dice:.4f}, needs {tolerance.mean_dice}")
    if agreement < tolerance.agreement:
        failures.append(f"labels agree in {agreement:.6f} of voxels, need {tolerance.agreement}")
    if logit_rms > tolerance.logit_rms:
        failures.append(f"logits differ by {logit_rms:.1e} (root mean square), allowed {tolerance.logit_rms}")
    return ParityEntry(
        artifact.target,
        artifact.precision,
        artifact.proof,
        tolerance,
        organ_dice=dices,
        mean_dice=mean_dice,
        worst_organ=min(dices, key=lambda organ: dices[organ]) if dices else "",
        worst_case_dice=min((score for values in scores.values() for score in values), default=0.0),
        agreement=agreement,
        logit_error=max(record.logit_error for record in records),
        logit_rms=logit_rms,
        failures=tuple(failures),
        volumes=tuple(records),
        cost=cost,
        megabytes=artifact.megabytes,
        facts=dict(artifact.facts),
    )


def require(entries: Sequence[ParityEntry]) -> None:
    """Refuse the bundle unless every artifact is equal to the student.

    Raises:
        ExportError: A figure is outside of its tolerance (AE-EXPORT-003), or no organ was found at all
            (AE-EXPORT-004).
    """
    if not any(entry.organ_dice for entry in entries):
        raise NOTHING_TO_COMPARE(
            "neither the student nor an artifact found an organ in the comparison volumes."
        )
    if failed := [f"{entry.name}: {'; '.join(entry.failures)}" for entry in entries if entry.failures]:
        told = f"not equal to the student: {'. '.join(failed)}."
        precisions = {entry.precision for entry in entries if entry.failures}
        if "fp32" in precisions:
            raise ARTIFACT_DIFFERS(told)
        calibrated = " or give more scans in `calibration`," if "int8" in precisions else ""
        raise ARTIFACT_DIFFERS(told, remedy=f"Leave the precision out,{calibrated} or report the problem.")

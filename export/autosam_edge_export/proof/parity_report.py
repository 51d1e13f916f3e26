"""The results of the comparison of artifacts with the student: ``parity.json`` and ``parity.md``."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from autosam_edge_export.proof.cost import ArtifactCost
from autosam_edge_export.proof.tolerances import Tolerance


@dataclass(frozen=True)
class OrganRecord:
    """One organ in one volume, the artifact's labels against the student's.

    Args:
        hd95_mm: 95th percentile of the surface distances, mm; None if one of the masks is empty.
        ml: Volume of the organ in the artifact's labels, ml.
        ml_difference: Volume in the artifact's labels less that in the student's, ml.
        percent: The same difference as a share of the student's volume, %; None if the student finds none.
    """

    organ: str
    dice: float
    hd95_mm: float | None
    ml: float
    ml_difference: float
    percent: float | None


@dataclass(frozen=True)
class VolumeRecord:
    """One volume, the artifact's results against the student's.

    Args:
        tiles: Number of tiles that were compared; None for the whole volume.
    """

    volume: str
    tiles: int | None
    agreement: float
    logit_error: float
    logit_rms: float
    organs: tuple[OrganRecord, ...]

    @property
    def title(self) -> str:
        """Name of the volume, and how much of it was compared."""
        return self.volume if self.tiles is None else f"{self.tiles} tiles of {self.volume}"


@dataclass(frozen=True)
class ParityEntry:
    """One artifact in ``parity.json``, whose keys are these names.

    Args:
        organ_dice: Dice by organ, mean over the volumes that show the organ.
        mean_dice: Mean of ``organ_dice``.
        worst_organ: Name of the organ with the lowest Dice; empty if no organ was found.
        agreement: Smallest share of voxels with the same label in any volume.
        logit_error: Largest difference of a logit in any volume.
        logit_rms: Largest root mean square difference of the logits in any volume.
        failures: Sentences that name each figure outside of the tolerance.
    """

    target: str
    precision: str
    proof: str
    tolerance: Tolerance
    organ_dice: dict[str, float]
    mean_dice: float
    worst_organ: str
    worst_case_dice: float
    agreement: float
    logit_error: float
    logit_rms: float
    failures: tuple[str, ...]
    volumes: tuple[VolumeRecord, ...]
    cost: ArtifactCost | None
    megabytes: float
    facts: dict[str, object]

    @property
    def name(self) -> str:
        """``target/precision``."""
        return f"{self.target}/{self.precision}"

    @property
    def tile_ms(self) -> float | None:
        """Time of a tile, ms; None if it says nothing of the runtime, which did not run or only imitated."""
        return self.cost.tile_ms if self.cost is not None and self.proof == "executed" else None

    @property
    def worst_dice(self) -> float:
        """Dice of the worst organ; 0 if no organ was found."""
        return self.organ_dice.get(self.worst_organ, 0.0)


def as_json(entries: Sequence[ParityEntry]) -> str:
    """The text of ``parity.json``."""
    return json.dumps([dataclasses.asdict(entry) for entry in entries], indent=1, allow_nan=False) + "\n"


def not_compared(entries: Sequence[ParityEntry], organs: Sequence[str]) -> str:
    """A sentence on the organs that no comparison scan shows, as the student found none; empty without."""
    absent = [organ for organ in organs if not any(organ in entry.organ_dice for entry in entries)]
    return f"Found in no comparison scan, so not compared: {', '.join(absent)}." if absent else ""


def as_markdown(entries: Sequence[ParityEntry], organs: Sequence[str]) -> str:
    """The text of ``parity.md``: one table of all artifacts, one of the organs, one per artifact.

    Args:
        organs: Names of all organs that the student knows.
    """
    lines = ["# The artifacts against the trained student", ""]
    scores = ("worst organ", "Dice", "mean Dice", "labels agree", "logits, rms")
    heading = ("artifact", "proof", *scores, "verdict")
    lines += _table(heading, (_artifact_row(entry) for entry in entries))
    lines += ["", "## Dice by organ", ""]
    lines += _table(("organ", *(entry.name for entry in entries)), _organ_rows(entries))
    if absent := not_compared(entries, organs):
        lines += ["", absent]
    for entry in entries:
        volumes = ", ".join(record.title for record in entry.volumes)
        lines += ["", f"## {entry.name}", ""]
        lines += [f"Dice: mean over {volumes}. Distance and difference: the largest of any.", ""]
        columns = ("organ", "Dice", "HD95 mm", "volume difference ml", "%")
        lines += _table(columns, (_difference_row(entry, organ) for organ in entry.organ_dice))
    return "\n".join(lines) + "\n"


def _table(heading: Sequence[str], rows: Iterator[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table."""
    body = [f"| {' | '.join(row)} |" for row in (heading, *rows)]
    return [body[0], "|---" * len(heading) + "|", *body[1:]]


def _artifact_row(entry: ParityEntry) -> tuple[str, ...]:
    verdict = "failed" if entry.failures else "passed"
    scores = (f"{entry.worst_dice:.5f}", f"{entry.mean_dice:.5f}")
    figures = (f"{entry.agreement:.6f}", f"{entry.logit_rms:.1e}")
    return entry.name, entry.proof, entry.worst_organ, *scores, *figures, verdict


def _organ_rows(entries: Sequence[ParityEntry]) -> Iterator[tuple[str, ...]]:
    """Dice of each organ, then size and time; one column per artifact."""
    for organ in dict.fromkeys(organ for entry in entries for organ in entry.organ_dice):
        yield organ, *(f"{entry.organ_dice.get(organ, math.nan):.4f}" for entry in entries)
    yield "MB", *(f"{entry.megabytes:.1f}" for entry in entries)
    yield "ms a tile", *("" if entry.tile_ms is None else f"{entry.tile_ms:.0f}" for entry in entries)


def _difference_row(entry: ParityEntry, organ: str) -> tuple[str, ...]:
    """One organ of one artifact: mean Dice, and the largest distance and difference in any volume."""
    records = [record for volume in entry.volumes for record in volume.organs if record.organ == organ]
    hd95_mm = max((r.hd95_mm for r in records if r.hd95_mm is not None), default=math.nan)
    ml = max((r.ml_difference for r in records), key=abs)
    percent = max((r.percent for r in records if r.percent is not None), key=abs, default=math.nan)
    return organ, f"{entry.organ_dice[organ]:.5f}", f"{hd95_mm:.2f}", f"{ml:+.3f}", f"{percent:+.2f}"

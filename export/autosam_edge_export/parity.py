"""How close an artifact is to the trained student: the same volumes through the same runtime, engine against engine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.errors import ExportError
from autosam_edge.metrics import dice
from autosam_edge.session import Session

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from autosam_edge.bundle import Bundle
    from autosam_edge.engines.engine import Engine
    from autosam_edge.volume import Volume


@dataclass(frozen=True)
class Tolerance:
    """What an artifact must reach.

    Args:
        organ_dice: Smallest Dice of any organ against the student.
        agreement: Smallest share of voxels with the same label.
        logit_error: Largest absolute difference of a logit.
    """

    organ_dice: float
    agreement: float
    logit_error: float


TOLERANCES: Mapping[tuple[str, str], Tolerance] = {
    ("onnx", "fp32"): Tolerance(organ_dice=0.999, agreement=0.9999, logit_error=1e-2),
}


class _Both:
    """Runs two engines on every tile, keeps the largest difference, and returns the first one's logits."""

    def __init__(self, artifact: Engine, student: Engine) -> None:
        self._artifact, self._student = artifact, student
        self.largest = 0.0
        self.student_logits: list[npt.NDArray[np.float32]] = []

    @property
    def description(self) -> dict[str, str]:
        return self._artifact.description

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        logits, expected = self._artifact.run(tile), self._student.run(tile)
        self.largest = max(self.largest, float(np.abs(logits - expected).max()))
        self.student_logits.append(expected)
        return logits


class _Replay:
    """Returns recorded logits in order, so that the student runs once per tile."""

    def __init__(self, logits: list[npt.NDArray[np.float32]]) -> None:
        self._logits = iter(logits)

    @property
    def description(self) -> dict[str, str]:
        return {"name": "replay", "version": "", "precision": "fp32", "threads": "1", "sha256": ""}

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:  # noqa: ARG002  the order tells the tile
        return next(self._logits)


def compare(bundle: Bundle, artifact: Engine, student: Engine, volumes: Mapping[str, Volume]) -> list[dict[str, Any]]:
    """Segment volumes with both engines.

    Args:
        bundle: Gives the input contract and the label table.
        artifact: The converted form.
        student: The trained form.
        volumes: By the name that the report shows; CT in HU.

    Returns:
        One record per volume: ``volume``, ``agreement``, ``logit_error`` and ``organs`` with ``dice``, ``ml`` and ``ml_difference``
        for each organ that either engine finds.
    """
    records = []
    for name, volume in volumes.items():
        both = _Both(artifact, student)
        found = Session(bundle, both, working_set_mb=0.0).segment(volume).labels
        expected = Session(bundle, _Replay(both.student_logits), working_set_mb=0.0).segment(volume).labels
        organs = []
        for label in bundle.manifest.labels:
            a, b = found == label.value, expected == label.value
            voxels_a, voxels_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
            if voxels_a + voxels_b:
                ml = volume.grid.voxel_ml
                organs.append({"organ": label.name, "dice": dice(a, b), "ml": voxels_a * ml, "ml_difference": (voxels_a - voxels_b) * ml})
        agreement = float(np.count_nonzero(found == expected)) / found.size
        records.append({"volume": name, "agreement": agreement, "logit_error": both.largest, "organs": organs})
    return records


def judge(target: str, precision: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Hold records against the tolerance.

    Returns:
        The entry of ``parity.json`` for this artifact.

    Raises:
        ExportError: An organ or a figure falls short (AE-EXPORT-003), or no organ was found at all (AE-EXPORT-004).
    """
    tolerance = TOLERANCES[(target, precision)]
    dices = [(organ["dice"], organ["organ"], record["volume"]) for record in records for organ in record["organs"]]
    if not dices:
        raise ExportError(
            "AE-EXPORT-004",
            "neither the student nor the artifact found an organ in the comparison volumes, so nothing is proven.",
            remedy="Train the student, or give --volume with scans that it can label.",
        )
    worst = min(dices)
    agreement = min(record["agreement"] for record in records)
    logit_error = max(record["logit_error"] for record in records)
    failures = []
    if worst[0] < tolerance.organ_dice:
        failures.append(f"{worst[1]} in {worst[2]} has Dice {worst[0]:.5f}, needs {tolerance.organ_dice}")
    if agreement < tolerance.agreement:
        failures.append(f"labels agree in {agreement:.6f} of voxels, need {tolerance.agreement}")
    if logit_error > tolerance.logit_error:
        failures.append(f"a logit differs by {logit_error:.2e}, allowed {tolerance.logit_error}")
    if failures:
        remedy = "The conversion changed the network: report it with the versions that `pip freeze` shows."
        raise ExportError("AE-EXPORT-003", f"{target}/{precision} is not equal to the student: {'; '.join(failures)}.", remedy=remedy)
    return {
        "target": target,
        "precision": precision,
        "tolerance": dataclasses.asdict(tolerance),
        "worst_organ": {"dice": worst[0], "organ": worst[1], "volume": worst[2]},
        "agreement": agreement,
        "logit_error": logit_error,
        "volumes": records,
    }

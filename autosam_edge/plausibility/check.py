"""The check of one run: its plausibility, the organs that the scan cuts, and each organ's expected Dice."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility.evidence import EvidenceCollector
from autosam_edge.plausibility.expected_dice import SoftDice, near_organs
from autosam_edge.plausibility.reference import ABDOMINAL, PASSING
from autosam_edge.plausibility.rules import judge
from autosam_edge.plausibility.signs import shows_whole_liver
from autosam_edge.volume import in_sentence
from autosam_edge.warning_codes import ORGAN_CUT, ORGAN_NOT_FOUND, ORGAN_OUTSIDE, PASSING_ORGAN_CUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from autosam_edge.geometry import Grid
    from autosam_edge.plausibility.evidence import Evidence
    from autosam_edge.plausibility.expected_dice import Confidence
    from autosam_edge.plausibility.thresholds import Thresholds
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.verdict import Plausibility
    from autosam_edge.volume import Label


class RunCheck:
    """Takes the probabilities of a run as they pass, and gives the verdict and the expected Dice at its end.

    Args:
        thresholds: Limits of the model; None gives no verdict.
        confidence: Map to the expected Dice; None expects nothing.
        weights: C decision weights, the background's first.
    """

    def __init__(
        self, thresholds: Thresholds | None, confidence: Confidence | None, weights: Sequence[float]
    ) -> None:
        self._thresholds, self._confidence = thresholds, confidence
        self._collector = EvidenceCollector()
        self._soft_dice = SoftDice(weights, confidence.temperature) if confidence else None

    def push(self, rows: npt.NDArray[np.float32]) -> None:
        """Take the next rows of probabilities, (rows, C, H', W'), each voxel summing to 1."""
        near = near_organs(rows)
        self._collector.push(near)
        if self._soft_dice is not None:
            self._soft_dice.push(near)

    def finish(
        self,
        hu: npt.NDArray[np.generic],
        labels: npt.NDArray[np.uint8],
        grid: Grid,
        table: Sequence[Label],
        warnings: Sequence[ScanWarning],
    ) -> tuple[Plausibility | None, dict[str, float], list[ScanWarning]]:
        """Judge the labels.

        Args:
            hu: (D, H, W) canonical view of the scan, HU.
            labels: (D, H, W) canonical view of the labels.

        Returns:
            The verdict, None without thresholds; the expected Dice by organ, empty without confidence; and
            the warnings of the check.
        """
        expected: dict[str, float] = {}
        unsure: list[ScanWarning] = []
        if self._confidence is not None and self._soft_dice is not None:
            expected = self._confidence.expected_dice(self._soft_dice.by_organ(table))
            unsure = self._confidence.warnings(expected, table)
        evidence = self._collector.evidence(hu, labels, grid, table)
        plausibility, found = judge(evidence, self._thresholds, warnings) if self._thresholds else (None, [])
        unsure = [warning for warning in unsure if warning.organ in evidence.organs]
        coverage = coverage_warnings(evidence, labels, table)
        return plausibility, expected, [*found, *coverage, *unsure]


def coverage_warnings(
    evidence: Evidence, labels: npt.NDArray[np.uint8], table: Sequence[Label]
) -> Iterator[ScanWarning]:
    """One warning for each organ that is cut by the scan or was not found; none if nothing was found.

    Beside a whole liver lies at least a part of every organ that the reference names: the liver reaches from
    the diaphragm to the lower half of the right kidney. Of other organs nothing is known.

    Args:
        labels: (D, H, W) labels of the evidence, which has no organ that lies between its samples.
    """
    if not evidence.organs:
        return
    shown, known = shows_whole_liver(evidence), ABDOMINAL | set(PASSING)
    for label in table:
        organ = evidence.organs.get(label.name)
        title = in_sentence(label.title)
        if organ is not None and organ.cut_by:
            code = PASSING_ORGAN_CUT if label.name in PASSING else ORGAN_CUT
            faces = " and the ".join(organ.cut_by)
            yield code(
                f"The edge of the scan cuts the {title} at the {faces}, so that the volume is that of a "
                "part.",
                organ=label.name,
            )
        elif organ is not None or label.name not in known or _holds(labels, label.value):
            continue
        elif shown:
            yield ORGAN_NOT_FOUND(
                f"No voxel has the label {title}, although the scan shows its place: the organ was removed, "
                "is very small, or was missed.",
                organ=label.name,
            )
        else:
            yield ORGAN_OUTSIDE(
                f"No voxel has the label {title}. The organ may lie outside of the scan, which does not show "
                "a whole liver.",
                organ=label.name,
            )


def _holds(labels: npt.NDArray[np.uint8], value: int) -> bool:
    return any((plane == value).any() for plane in labels)

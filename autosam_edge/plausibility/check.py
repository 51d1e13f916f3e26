"""The plausibility check of one run: collect evidence, judge it, and say which organs the scan cuts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility.coverage import coverage_warnings
from autosam_edge.plausibility.evidence import EvidenceCollector
from autosam_edge.plausibility.rules import judge

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt

    from autosam_edge.geometry import Grid
    from autosam_edge.plausibility.thresholds import Thresholds
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.verdict import Plausibility
    from autosam_edge.volume import Label


class PlausibilityCheck:
    """Takes the probabilities of a run as they pass, and gives the verdict at its end.

    Args:
        thresholds: Limits of the model; None checks nothing.
    """

    def __init__(self, thresholds: Thresholds | None) -> None:
        self._thresholds = thresholds
        self._collector = EvidenceCollector()

    def push(self, rows: npt.NDArray[np.float32]) -> None:
        """Take the next rows of probabilities, (rows, C, H', W'), each voxel summing to 1."""
        if self._thresholds is not None:
            self._collector.push(rows)

    def finish(
        self,
        hu: npt.NDArray[np.generic],
        labels: npt.NDArray[np.uint8],
        grid: Grid,
        table: Sequence[Label],
        warnings: Sequence[ScanWarning],
    ) -> tuple[Plausibility | None, list[ScanWarning]]:
        """Judge the labels.

        Args:
            hu: (D, H, W) canonical view of the scan, HU.
            labels: (D, H, W) canonical view of the labels.

        Returns:
            The verdict, None without thresholds; and the warnings of the check.
        """
        if self._thresholds is None:
            return None, []
        evidence = self._collector.evidence(hu, labels, grid, table)
        plausibility, found = judge(evidence, self._thresholds, warnings)
        return plausibility, [*found, *coverage_warnings(evidence, table)]

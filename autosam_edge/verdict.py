"""The verdict on a segmentation: whether its labels can be those of an abdomen, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from autosam_edge.scan_warning import ScanWarning

Verdict = Literal["plausible", "doubtful", "implausible"]
"""``plausible``: nothing speaks against the labels. ``doubtful``: a warning of this severity says what does;
a person must look. ``implausible``: the scan is not one that the model can label; nothing is written unless a
person accepts it."""


@dataclass(frozen=True)
class Plausibility:
    """The verdict with the numbers behind it; docs/plausibility.md describes them.

    Args:
        verdict: ``plausible``, ``doubtful`` or ``implausible``.
        reasons: Warnings for which the labels are implausible, the strongest first; empty otherwise.
        measured: What the rules looked at, by name; JSON types only.
    """

    verdict: Verdict
    reasons: tuple[ScanWarning, ...] = ()
    measured: Mapping[str, object] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Verdict, codes of the reasons and measured values as JSON types."""
        return {
            "verdict": self.verdict,
            "reasons": [reason.code for reason in self.reasons],
            "measured": dict(self.measured),
        }

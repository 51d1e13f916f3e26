"""Organs that the scan shows in part or not at all, with the reason as far as the other organs tell it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility.reference import ABDOMINAL, PASSING
from autosam_edge.plausibility.signs import shows_whole_liver
from autosam_edge.warning_codes import ORGAN_CUT, ORGAN_NOT_FOUND, ORGAN_OUTSIDE, PASSING_ORGAN_CUT

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autosam_edge.plausibility.evidence import Evidence
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Label


def coverage_warnings(evidence: Evidence, table: Sequence[Label]) -> Iterator[ScanWarning]:
    """One warning for each organ that is cut by the scan or was not found; none if nothing was found.

    Beside a whole liver lies at least a part of every organ that the reference names: the liver reaches from
    the diaphragm to the lower half of the right kidney.
    """
    if not evidence.organs:
        return
    shown = shows_whole_liver(evidence)
    for label in table:
        organ = evidence.organs.get(label.name)
        title = label.title[:1].lower() + label.title[1:]
        if organ is not None and organ.cut_by:
            code = PASSING_ORGAN_CUT if label.name in PASSING else ORGAN_CUT
            faces = " and the ".join(organ.cut_by)
            yield code(
                f"The {title} reaches the {faces} of the scan, so that its volume is that of a part.",
                organ=label.name,
            )
        elif organ is None and shown and label.name in ABDOMINAL | set(PASSING):
            yield ORGAN_NOT_FOUND(
                f"The {title} was not found, although the scan shows its place: it was removed, is very "
                "small, or was missed.",
                organ=label.name,
            )
        elif organ is None:
            yield ORGAN_OUTSIDE(
                f"The {title} was not found; it may lie outside of the scan, which does not show a whole "
                "liver.",
                organ=label.name,
            )

"""The rules: from the evidence of a run to warnings and a verdict.

A rule looks at one kind of evidence and yields findings. A finding doubts the labels, or refuses them. Rules
about how organs lie and fit together yield signs: one sign may be a rare patient, so that it only doubts; two
signs refuse.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from autosam_edge.plausibility import reference
from autosam_edge.verdict import Plausibility, Verdict
from autosam_edge.warning_codes import (
    NETWORK_UNSURE,
    ORGAN_HU_UNUSUAL,
    ORGAN_VOLUME_UNUSUAL,
    ORGANS_ARRANGED_WRONGLY,
    VALUES_NOT_HU,
    WRONG_BODY_PART,
    WRONG_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autosam_edge.plausibility.evidence import Evidence, OrganEvidence
    from autosam_edge.plausibility.thresholds import Thresholds
    from autosam_edge.scan_warning import ScanWarning

# A center of mass may be this far on the wrong side before it counts, as tumors and curved spines shift it.
_TOLERANCE_MM = 10.0
# Organs with less show no place: an adrenal gland of 0.5 ml, any other of 5 ml.
_PLACED_ML = {"adrenal_gland_right": 0.5, "adrenal_gland_left": 0.5}
_PLACED_ELSE_ML = 5.0
_BOTH_KIDNEYS_ML = 40.0
_OPPOSITE = {
    "right of": ("right side", "left side"),
    "in front of": ("front", "back"),
    "above": ("upper end", "lower end"),
}


def judge(
    evidence: Evidence, thresholds: Thresholds, warnings: Sequence[ScanWarning]
) -> tuple[Plausibility, list[ScanWarning]]:
    """Find the verdict on a run.

    Args:
        evidence: What the run shows.
        thresholds: Limits of the model.
        warnings: Warnings that the scan has already; one of severity ``doubtful`` makes its labels doubtful.

    Returns:
        The verdict, and the warnings of the rules, those that refuse first.
    """
    refused, doubted = [], []
    for warning, refuses in _findings(evidence, thresholds):
        (refused if refuses else doubted).append(warning)
    found = [*refused, *doubted]
    verdict: Verdict = "plausible"
    if refused:
        verdict = "implausible"
    elif any(warning.severity == "doubtful" for warning in (*warnings, *found)):
        verdict = "doubtful"
    return Plausibility(verdict, tuple(refused), measured(evidence)), found


def measured(evidence: Evidence) -> dict[str, object]:
    """What the rules look at, as JSON types."""
    return {
        "confidence": evidence.confidence,
        "share_below_fat": evidence.share_below_fat,
        "stray_share": evidence.stray_share,
        "abdomen_ml": abdomen_ml(evidence),
        "organs": [asdict(organ) for organ in evidence.organs.values()],
    }


def abdomen_ml(evidence: Evidence) -> float:
    """Volume of all organs that lie only in the abdomen, ml."""
    return sum(organ.ml for organ in evidence.organs.values() if organ.name in reference.ABDOMINAL)


def _findings(evidence: Evidence, limits: Thresholds) -> Iterator[tuple[ScanWarning, bool]]:
    """Every finding, and whether it refuses the labels."""
    yield from _values(evidence, limits)
    yield from _body_part(evidence, limits)
    yield from _size(evidence)
    signs = list(wrong_places(evidence)) + list(_wrong_company(evidence, limits))
    if signs:
        several = len(signs) > 1
        yield (
            ORGANS_ARRANGED_WRONGLY(
                "The organs do not lie as in a body" + (" at more than one place: " if several else ": ")
                + "; ".join(signs)
                + ". The scan may be mirrored, turned or upside down."
            ),
            several,
        )
    yield from ((warning, False) for warning in _ranges(evidence))


def _values(evidence: Evidence, limits: Thresholds) -> Iterator[tuple[ScanWarning, bool]]:
    share = evidence.share_below_fat
    if share < limits.share_below_fat.doubtful:
        yield (
            VALUES_NOT_HU(
                f"Only {share:.1%} of the voxels are below -100 HU, expected at least "
                f"{limits.share_below_fat.doubtful:.0%}: the values are probably not Hounsfield units."
            ),
            share < limits.share_below_fat.refused,
        )


def _body_part(evidence: Evidence, limits: Thresholds) -> Iterator[tuple[ScanWarning, bool]]:
    ml = abdomen_ml(evidence)
    if ml < limits.abdomen_ml.doubtful:
        yield (
            WRONG_BODY_PART(
                f"Organs of the abdomen take {ml:.0f} ml in the scan, expected at least "
                f"{limits.abdomen_ml.doubtful:.0f} ml: it probably shows another part of the body."
            ),
            ml < limits.abdomen_ml.refused,
        )
    if evidence.confidence is not None and evidence.confidence < limits.confidence.doubtful:
        yield (
            NETWORK_UNSURE(
                f"The network gives its organs a probability of {evidence.confidence:.3f} on average, expected "
                f"at least {limits.confidence.doubtful:.3f}: the scan is probably not of the kind that it knows."
            ),
            evidence.confidence < limits.confidence.refused,
        )


def _size(evidence: Evidence) -> Iterator[tuple[ScanWarning, bool]]:
    liver = evidence.organs.get("liver")
    lowest, highest = reference.LIVER_REFUSED_ML
    if liver is not None and ((liver.ml < lowest and not liver.cut_by) or liver.ml > highest):
        yield (
            WRONG_SIZE(
                f"The liver has {liver.ml:.0f} ml, expected {lowest:.0f} to {highest:.0f} ml: the spacing of the "
                "scan is probably wrong."
            ),
            True,
        )


def wrong_places(evidence: Evidence) -> Iterator[str]:
    """Pairs of organs that lie to each other as in no body, as phrases."""
    placed = {
        name: organ
        for name, organ in evidence.organs.items()
        if organ.ml >= _PLACED_ML.get(name, _PLACED_ELSE_ML)
    }
    for first, side, second in reference.PLACES:
        one, other = placed.get(first), placed.get(second)
        if one is None or other is None or _cut_towards(one, other, side):
            continue
        axis, sign = reference.AXIS[side]
        if sign * (one.center_mm[axis] - other.center_mm[axis]) < -_TOLERANCE_MM:
            yield f"the {one.title.lower()} is not {side} the {other.title.lower()}"


def _cut_towards(one: OrganEvidence, other: OrganEvidence, side: reference.Side) -> bool:
    """Whether the scan cuts the organs so that their centers may have changed places."""
    near, far = _OPPOSITE[side]
    return near in one.cut_by or far in other.cut_by


def _wrong_company(evidence: Evidence, limits: Thresholds) -> Iterator[str]:
    """Organs that do not fit the others, as phrases."""
    if evidence.stray_share > limits.stray_share.doubtful:
        yield f"{evidence.stray_share:.0%} of the labels lay apart from their organ"
    liver = evidence.organs.get("liver")
    if liver is None or liver.cut_by or liver.ml < reference.ORGANS["liver"].ml[0]:
        return
    # The whole liver is in the scan, so that the upper halves of the kidneys must be in it too.
    kidneys_ml = sum(
        evidence.organs[name].ml for name in ("kidney_right", "kidney_left") if name in evidence.organs
    )
    if kidneys_ml < _BOTH_KIDNEYS_ML:
        yield f"the kidneys have {kidneys_ml:.0f} ml beside a whole liver"
    spleen = evidence.organs.get("spleen")
    if spleen is not None and spleen.ml > liver.ml:
        yield f"the spleen ({spleen.ml:.0f} ml) is larger than the liver ({liver.ml:.0f} ml)"
    aorta = evidence.organs.get("aorta")
    if aorta is not None and "lower end" in aorta.cut_by and "upper end" not in aorta.cut_by:
        yield "the aorta leaves the scan at its lower end only"


def _ranges(evidence: Evidence) -> Iterator[ScanWarning]:
    for organ in evidence.organs.values():
        expected = reference.ORGANS.get(organ.name)
        if expected is None:
            continue
        low, high = expected.ml
        if organ.ml > high or (organ.ml < low and not organ.cut_by):
            yield ORGAN_VOLUME_UNUSUAL(
                f"The {organ.title.lower()} has {organ.ml:.0f} ml, expected {low:.0f} to {high:.0f} ml.",
                organ=organ.name,
            )
        low, high = expected.hu
        if not low <= organ.median_hu <= high:
            yield ORGAN_HU_UNUSUAL(
                f"The {organ.title.lower()} has a median of {organ.median_hu:.0f} HU, expected {low:.0f} to "
                f"{high:.0f} HU.",
                organ=organ.name,
            )

"""The rules: from the evidence of a run to warnings and a verdict.

A rule looks at one kind of evidence; what it finds doubts the labels or refuses them. How the organs lie and
fit together yields signs, as a mirrored body has no single mark. One sign can be a rare patient, which is a
caution; two doubt, three refuse. A doubt about the scan as a whole counts as a sign too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility import reference, signs
from autosam_edge.verdict import Plausibility, Verdict
from autosam_edge.volume import in_sentence
from autosam_edge.warning_codes import (
    ARRANGEMENT_UNUSUAL,
    NETWORK_UNSURE,
    NO_BODY,
    NOTHING_FOUND,
    ORGAN_HU_UNUSUAL,
    ORGAN_VOLUME_UNUSUAL,
    ORGANS_ARRANGED_WRONGLY,
    VALUES_NOT_HU,
    WRONG_BODY_PART,
    WRONG_SIZE,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autosam_edge.plausibility.evidence import Evidence
    from autosam_edge.plausibility.thresholds import Limit, Threshold, Thresholds
    from autosam_edge.scan_warning import ScanWarning

    Finding = tuple[ScanWarning, bool]  # and whether it refuses the labels

_FAR_HU = 150  # more than any shift of a scanner that is out of calibration
_DOUBTFUL_SIGNS = 2
_REFUSING_SIGNS = 3
_NO_ABDOMEN = (
    "it shows another part of the body or too small a part of the abdomen, or is not an image that the "
    "network knows."
)
_FOUND_ML = 5.0  # all organs together; less is a few voxels, as noise has them


def judge(
    evidence: Evidence, limits: Thresholds, warnings: Sequence[ScanWarning]
) -> tuple[Plausibility, list[ScanWarning]]:
    """Find the verdict on a run.

    Args:
        warnings: Warnings that the scan has already; one of severity ``doubtful`` makes its labels doubtful.

    Returns:
        The verdict, and the warnings of the rules, those that refuse first.
    """
    if NO_BODY.code in {warning.code for warning in warnings}:
        findings = [(NOTHING_FOUND("No organ was found: the scan shows only air."), True)]
    else:
        findings = list(_findings(evidence, limits))
    refusing = [warning for warning, refuses in findings if refuses]
    doubting = [warning for warning, refuses in findings if not refuses]
    if not refusing:  # labels that are wrong as a whole need no word on each organ
        doubting += _ranges(evidence)
    verdict: Verdict = "plausible"
    if refusing:
        verdict = "implausible"
    elif any(warning.severity == "doubtful" for warning in (*warnings, *doubting)):
        verdict = "doubtful"
    return Plausibility(verdict, tuple(refusing), evidence.as_dict()), [*refusing, *doubting]


def _findings(evidence: Evidence, limits: Thresholds) -> Iterator[Finding]:
    """Findings on the scan as a whole, the most certain cause first."""
    others = [
        *_values(evidence, limits.share_below_fat),
        *_organ_values(evidence, limits.impossible_values),
        *_body_part(evidence, limits),
        *_size(evidence, limits),
        *_certainty(evidence, limits.confidence, limits.surest_organ),
    ]
    yield from others
    found = list(signs.signs(evidence, limits.signs))
    if not found:
        return
    text = f"The organs do not lie or fit together as in a body: {'; '.join(found)}."
    count = len(found) + len(others)
    if count < _DOUBTFUL_SIGNS:
        yield ARRANGEMENT_UNUSUAL(text), False
    else:
        text += " The orientation or the spacing of the scan may be wrong."
        yield ORGANS_ARRANGED_WRONGLY(text), count >= _REFUSING_SIGNS


def _values(evidence: Evidence, limit: Threshold) -> Iterator[Finding]:
    share = evidence.share_below_fat
    if share < limit.doubtful:
        warning = VALUES_NOT_HU(
            f"{share:.1%} of the voxels are below -100 HU, expected at least {limit.doubtful:.1%}: the "
            "values are probably not Hounsfield units."
        )
        yield warning, share < limit.refused


def impossible_values(evidence: Evidence) -> float:
    """Share of the labeled volume in organs whose median is far from the HU of that organ, 0 to 1."""
    ml = {True: 0.0, False: 0.0}
    for organ in evidence.organs.values():
        if organ.name in reference.ORGANS:
            low, high = reference.ORGANS[organ.name].hu
            ml[low - _FAR_HU <= organ.median_hu <= high + _FAR_HU] += organ.ml
    return ml[False] / (sum(ml.values()) or 1.0)


def _organ_values(evidence: Evidence, limit: Limit) -> Iterator[Finding]:
    share = impossible_values(evidence)
    if share > limit.limit:
        warning = VALUES_NOT_HU(
            f"{share:.0%} of what was labeled has values more than {_FAR_HU} HU outside of those of the "
            f"organ, expected at most {limit.limit:.0%}: the values are probably not Hounsfield units."
        )
        yield warning, True


def _body_part(evidence: Evidence, limits: Thresholds) -> Iterator[Finding]:
    limit, fewest = limits.abdomen_ml, limits.abdomen_organs
    ml, count = evidence.abdomen_ml, evidence.abdomen_organs
    found_ml = sum(organ.ml for organ in evidence.organs.values())
    if found_ml < _FOUND_ML:
        found = f"Only {found_ml:.1f} ml of organs were found" if evidence.organs else "No organ was found"
        warning = NOTHING_FOUND(
            f"{found}: the scan may show another part of the body, too small a part of the abdomen, values "
            "that are not Hounsfield units, or only noise."
        )
        yield warning, True
    elif fewest is not None and count < fewest.limit and ml >= limit.refused:
        warning = WRONG_BODY_PART(
            f"The number of organs of the abdomen with 1 ml or more is {count} in this scan, expected at "
            f"least {fewest.limit:.0f}: {_NO_ABDOMEN}"
        )
        # A large liver alone is that of half a body.
        yield warning, ml < limits.smallest_liver_ml.limit
    elif ml < limit.doubtful:
        warning = WRONG_BODY_PART(
            f"The organs of the abdomen have {ml:.0f} ml in this scan, expected at least "
            f"{limit.doubtful:.0f} ml: {_NO_ABDOMEN}"
        )
        yield warning, ml < limit.refused


def _size(evidence: Evidence, limits: Thresholds) -> Iterator[Finding]:
    liver = evidence.organs.get("liver")
    if liver is None or evidence.abdomen_ml < limits.abdomen_ml.doubtful:
        return
    lowest, highest = limits.smallest_liver_ml.limit, limits.largest_liver_ml.limit
    if liver.ml > highest or (liver.ml < lowest and signs.shows_whole_liver(evidence)):
        warning = WRONG_SIZE(
            f"The liver has {liver.ml:.0f} ml, expected {lowest:.0f} to {highest:.0f} ml: the spacing or "
            "the orientation of the scan is probably wrong."
        )
        yield warning, True


def _certainty(evidence: Evidence, limit: Threshold, surest: Threshold) -> Iterator[Finding]:
    """A part of an abdomen has few organs to be sure of, yet one is enough to see that it is an abdomen."""
    confidence = evidence.confidence
    if confidence is not None and confidence < limit.doubtful:
        warning = NETWORK_UNSURE(
            f"The network's probability of the organs that it found is {confidence:.3f} on average, expected "
            f"at least {limit.doubtful:.3f}: the scan is not like those that it knows."
        )
        yield warning, confidence < limit.refused and evidence.surest_organ < surest.refused


def _ranges(evidence: Evidence) -> Iterator[ScanWarning]:
    """Organs whose volume or HU no such organ has."""
    for organ in evidence.organs.values():
        expected = reference.ORGANS.get(organ.name)
        if expected is None:
            continue
        title = in_sentence(organ.title)
        low, high = expected.ml
        if signs.has_unusual_volume(organ):
            yield ORGAN_VOLUME_UNUSUAL(
                f"The {title} has {organ.ml:.1f} ml, expected {low:.0f} to {high:.0f} ml.", organ=organ.name
            )
        low, high = expected.hu
        if not low <= organ.median_hu <= high:
            yield ORGAN_HU_UNUSUAL(
                f"The {title} has a median of {organ.median_hu:.0f} HU, expected {low:.0f} to {high:.0f} HU.",
                organ=organ.name,
            )

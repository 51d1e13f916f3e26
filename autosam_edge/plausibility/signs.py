"""Signs that the organs do not lie, or do not fit together, as in a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility import reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autosam_edge.plausibility.evidence import Evidence, Face, OrganEvidence

# A center of mass may be this far on the wrong side before it counts: tumors and curved spines shift it.
_TOLERANCE_MM = 10.0
# An organ with less shows no place: an adrenal gland 0.5 ml, any other 5 ml.
_PLACED_ML = {"adrenal_gland_right": 0.5, "adrenal_gland_left": 0.5}
_PLACED_ELSE_ML = 5.0
_KIDNEYS = ("kidney_right", "kidney_left")
_BOTH_KIDNEYS_ML = 40.0
_FRAGMENT_ML = 30.0
# In a mirrored scan the network calls a part of the liver spleen, what it still calls liver lies nearer to
# the middle, and it finds little of the vena cava.
_LARGEST_SPLEEN = 0.45  # of the liver's volume
_LIVER_MEDIAL_MM = 30.0
_SMALLEST_VENA_CAVA = 0.35  # of the aorta's volume
_UNUSUAL_VOLUMES = 2
_FACES: dict[reference.Side, tuple[Face, Face]] = {
    "right of": ("right side", "left side"),
    "in front of": ("front", "back"),
    "above": ("upper end", "lower end"),
}


def signs(evidence: Evidence, most_others: float) -> Iterator[str]:
    """All signs, as phrases.

    Args:
        evidence: What a run shows.
        most_others: Largest mean probability of other organs beside the winning one, 0 to 1.
    """
    yield from _wrong_places(evidence)
    kidneys_ml = sum(evidence.organs[name].ml for name in _KIDNEYS if name in evidence.organs)
    # A scan with the whole liver shows at least the upper halves of the kidneys.
    without_kidneys = shows_whole_liver(evidence) and kidneys_ml < _BOTH_KIDNEYS_ML
    if without_kidneys:
        yield f"the kidneys have {kidneys_ml:.0f} ml beside a whole liver"
    yield from _unusual_volumes(evidence, kidneys=not without_kidneys)
    if shows_whole_liver(evidence):
        yield from _beside_a_whole_liver(evidence, most_others)


def _wrong_places(evidence: Evidence) -> Iterator[str]:
    """Pairs of organs that lie to each other as in no body, as phrases."""
    placed = {
        name: organ
        for name, organ in evidence.organs.items()
        if organ.ml >= _PLACED_ML.get(name, _PLACED_ELSE_ML)
    }
    for first, side, second in reference.PLACES:
        one, other = placed.get(first), placed.get(second)
        if one is None or other is None:
            continue
        # A face that cuts an organ moves its center away from that face, past that of another organ perhaps.
        near, far = _FACES[side]
        if near in one.cut_by or far in other.cut_by:
            continue
        axis, sign = reference.AXIS[side]
        if sign * (one.center_mm[axis] - other.center_mm[axis]) < -_TOLERANCE_MM:
            yield f"{_the(one)} is not {side} {_the(other)}"


def has_unusual_volume(organ: OrganEvidence) -> bool:
    """Whether the organ is too large, or whole and too small; see :data:`reference.ORGANS`."""
    low, high = reference.ORGANS[organ.name].ml
    return organ.ml > high or (organ.ml < low and not organ.cut_by)


def shows_whole_liver(evidence: Evidence) -> bool:
    """Whether the scan shows the whole liver, and not only a fragment of what was taken for it."""
    liver = evidence.organs.get("liver")
    return liver is not None and not liver.cut_by and liver.ml >= _FRAGMENT_ML


def _unusual_volumes(evidence: Evidence, *, kidneys: bool) -> Iterator[str]:
    """An unusual volume of the liver, or of several organs, as a phrase."""
    unusual = [
        organ
        for organ in evidence.organs.values()
        if organ.name in reference.ORGANS
        and (kidneys or organ.name not in _KIDNEYS)
        and has_unusual_volume(organ)
    ]
    if len(unusual) >= _UNUSUAL_VOLUMES or "liver" in {organ.name for organ in unusual}:
        yield f"unusual volumes ({', '.join(f'{_the(organ)} {organ.ml:.0f} ml' for organ in unusual)})"


def _beside_a_whole_liver(evidence: Evidence, most_others: float) -> Iterator[str]:
    """What does not fit a liver that the scan shows as a whole, as phrases."""
    organs = evidence.organs
    liver, kidney = organs["liver"], organs.get("kidney_right")
    spleen, aorta = organs.get("spleen"), organs.get("aorta")
    if spleen is not None and spleen.ml > _LARGEST_SPLEEN * liver.ml:
        yield f"the spleen has {spleen.ml / liver.ml:.0%} of the liver's volume"
    if kidney is not None and liver.center_mm[0] - kidney.center_mm[0] > _LIVER_MEDIAL_MM:
        yield "the liver does not reach as far to the right as the right kidney"
    if aorta is not None and aorta.ml >= _PLACED_ELSE_ML:
        if "lower end" in aorta.cut_by and "upper end" not in aorta.cut_by:
            yield "the aorta leaves the scan at its lower end only"
        vena_cava = organs.get("inferior_vena_cava")
        if vena_cava is None or vena_cava.ml < _SMALLEST_VENA_CAVA * aorta.ml:
            yield "hardly anything of the inferior vena cava was found"
    if evidence.other_organs is not None and evidence.other_organs > most_others:
        yield f"the network takes organs for others (probability {evidence.other_organs:.1%})"


def _the(organ: OrganEvidence) -> str:
    return f"the {organ.title[:1].lower()}{organ.title[1:]}"

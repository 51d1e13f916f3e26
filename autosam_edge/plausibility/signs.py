"""Signs that the organs do not lie, or do not fit together, as in a body."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.plausibility import reference
from autosam_edge.volume import in_sentence

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autosam_edge.plausibility.evidence import Evidence, Face, OrganEvidence
    from autosam_edge.plausibility.thresholds import SignLimits

# An organ with less shows no place: an adrenal gland 0.5 ml, any other 5 ml.
_PLACED_ML = {"adrenal_gland_right": 0.5, "adrenal_gland_left": 0.5}
_PLACED_ELSE_ML = 5.0
_KIDNEYS = ("kidney_right", "kidney_left")
_FRAGMENT_ML = 30.0
_UNUSUAL_VOLUMES = 2
# The face that the words point to, and the opposite one.
_NEAR_AND_FAR: dict[reference.Side, tuple[Face, Face]] = {
    "right of": ("right side", "left side"),
    "in front of": ("front", "back"),
    "above": ("upper end", "lower end"),
}


def signs(evidence: Evidence, limits: SignLimits) -> Iterator[str]:
    """All signs, as phrases."""
    measured = measure_signs(evidence)

    def beyond(name: str, *, lowest: bool = False) -> float | None:
        """The number, if its limit speaks against the labels."""
        value, limit = measured[name], getattr(limits, name).limit
        return value if value is not None and (value < limit if lowest else value > limit) else None

    for phrase, distance_mm in wrong_sides(evidence):
        if distance_mm > limits.wrong_side_mm.limit:
            yield phrase
    # A scan with the whole liver shows at least the upper halves of the kidneys.
    kidneys_ml = beyond("kidneys_ml", lowest=True)
    if kidneys_ml is not None:
        yield f"the kidneys have {kidneys_ml:.0f} ml beside a whole liver"
    yield from _unusual_volumes(evidence, kidneys=kidneys_ml is None)
    # In a mirrored scan the network calls a part of the liver spleen, what it still calls liver lies nearer
    # to the middle, and it finds little of the vena cava.
    if (share := beyond("spleen_share")) is not None:
        yield f"the spleen has {share:.0%} of the liver's volume"
    if beyond("liver_medial_mm") is not None:
        yield "the liver does not reach as far to the right as the right kidney"
    if _aorta_ends_above(evidence):
        yield "the aorta leaves the scan at its lower end only"
    if beyond("vena_cava_share", lowest=True) is not None:
        yield "hardly anything of the inferior vena cava was found"
    if (others := beyond("other_organs")) is not None:
        yield f"the network takes organs for others (probability {others:.1%})"


def measure_signs(evidence: Evidence) -> dict[str, float | None]:
    """The numbers that :class:`~autosam_edge.plausibility.thresholds.SignLimits` limits, by its names.

    A number is None where its rule does not apply: all but ``wrong_side_mm`` need a whole liver.
    """
    organs = evidence.organs
    measured: dict[str, float | None] = dict.fromkeys(
        ("kidneys_ml", "spleen_share", "liver_medial_mm", "vena_cava_share", "other_organs")
    )
    measured["wrong_side_mm"] = max((mm for _, mm in wrong_sides(evidence)), default=None)
    if not shows_whole_liver(evidence):
        return measured
    liver, spleen, kidney, aorta = (organs.get(name) for name in ("liver", "spleen", "kidney_right", "aorta"))
    assert liver is not None
    measured["kidneys_ml"] = sum(organs[name].ml for name in _KIDNEYS if name in organs)
    measured["other_organs"] = evidence.other_organs
    if spleen is not None:
        measured["spleen_share"] = spleen.ml / liver.ml
    if kidney is not None:
        measured["liver_medial_mm"] = liver.center_mm[0] - kidney.center_mm[0]
    if aorta is not None and aorta.ml >= _PLACED_ELSE_ML:
        vena_cava = organs.get("inferior_vena_cava")
        measured["vena_cava_share"] = 0.0 if vena_cava is None else vena_cava.ml / aorta.ml
    return measured


def wrong_sides(evidence: Evidence) -> Iterator[tuple[str, float]]:
    """Each pair of organs with a place to each other: a phrase, and how far it is on the wrong side, mm."""
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
        near, far = _NEAR_AND_FAR[side]
        if near in one.cut_by or far in other.cut_by:
            continue
        axis, sign = reference.AXIS[side]
        distance_mm = sign * (other.center_mm[axis] - one.center_mm[axis])
        yield f"{_the(one)} is not {side} {_the(other)}", distance_mm


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


def _aorta_ends_above(evidence: Evidence) -> bool:
    aorta = evidence.organs.get("aorta")
    if aorta is None or aorta.ml < _PLACED_ELSE_ML or not shows_whole_liver(evidence):
        return False
    return "lower end" in aorta.cut_by and "upper end" not in aorta.cut_by


def _the(organ: OrganEvidence) -> str:
    return f"the {in_sentence(organ.title)}"

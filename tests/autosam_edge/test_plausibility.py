"""The plausibility check: each rule sees the condition that it is for, and an ordinary abdomen passes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import LIMITS, NOT_MEASURED

from autosam_edge.error_codes import (
    ARRANGEMENT_IMPLAUSIBLE,
    BODY_PART_IMPLAUSIBLE,
    LABELS_EMPTY,
    SIZE_IMPLAUSIBLE,
    VALUES_IMPLAUSIBLE,
)
from autosam_edge.errors import ImplausibleError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.plausibility import reference
from autosam_edge.plausibility.check import coverage_warnings
from autosam_edge.plausibility.evidence import Evidence, OrganEvidence
from autosam_edge.plausibility.refusal import require_plausible
from autosam_edge.plausibility.rules import judge
from autosam_edge.plausibility.signs import signs
from autosam_edge.plausibility.thresholds import Limit, Measured, Threshold
from autosam_edge.volume import Segmentation
from autosam_edge.warning_codes import (
    ARRANGEMENT_UNUSUAL,
    NETWORK_UNSURE,
    NO_BODY,
    ORGAN_CUT,
    ORGAN_HU_UNUSUAL,
    ORGAN_NOT_FOUND,
    ORGAN_OUTSIDE,
    ORGAN_VOLUME_UNUSUAL,
    ORGANS_ARRANGED_WRONGLY,
    PASSING_ORGAN_CUT,
    THICK_SLICES,
    VALUES_NOT_HU,
    WRONG_BODY_PART,
)

AREA = "Plausibility of the labels"
NOTHING = np.zeros((4, 4, 4), np.uint8)
# Volume, HU, and center of an ordinary body: x to the patient's left, y to the back, z to the head, mm.
BODY = {
    "spleen": (300, 110, (100, 20, 40)),
    "kidney_right": (160, 150, (-60, 40, -30)),
    "kidney_left": (170, 150, (70, 40, -20)),
    "gallbladder": (25, 10, (-60, -40, 0)),
    "esophagus": (15, 30, (10, 20, 110)),
    "liver": (1500, 100, (-80, -10, 40)),
    "stomach": (300, 20, (50, -50, 30)),
    "aorta": (90, 160, (5, 20, 20)),
    "inferior_vena_cava": (80, 130, (-30, 10, 0)),
    "portal_vein_and_splenic_vein": (30, 150, (0, -20, 20)),
    "pancreas": (80, 90, (20, -30, 0)),
    "adrenal_gland_right": (4, 60, (-40, 20, 20)),
    "adrenal_gland_left": (4, 60, (40, 20, 20)),
}
TITLES = {label.name: label.title for label in BTCV_LABELS}


def body(
    *, without=(), cut=None, confidence=0.92, sure=0.7, other_organs=0.01, share_below_fat=0.5, **organs
):
    """The evidence of an ordinary body; ``organs`` replace (ml, HU, center)."""
    cut = {"aorta": ("lower end", "upper end"), "esophagus": ("upper end",), **(cut or {})}
    found = {
        name: OrganEvidence(name, TITLES[name], float(ml), float(hu), center, tuple(cut.get(name, ())), sure)
        for name, (ml, hu, center) in {**BODY, **organs}.items()
        if name not in without
    }
    return Evidence(confidence, other_organs, share_below_fat, found)


def moved(change):
    """The organs of the body with their centers changed by a function."""
    return {name: (ml, hu, change(center)) for name, (ml, hu, center) in BODY.items()}


def verdict_of(evidence, warnings=()):
    """Verdict and codes of the rules."""
    plausibility, found = judge(evidence, LIMITS, warnings)
    return plausibility.verdict, [warning.code for warning in found]


def error_of(evidence, warnings=()):
    """The error that writing raises."""
    plausibility, found = judge(evidence, LIMITS, warnings)
    labels = np.zeros((3, 2, 2), np.uint8)
    segmentation = Segmentation(
        labels,
        Grid.axis_aligned(labels.shape, (3.0, 3.0, 3.0)),
        BTCV_LABELS,
        warnings=tuple(found),
        plausibility=plausibility,
    )
    with pytest.raises(ImplausibleError) as caught:
        require_plausible(segmentation)
    return caught.value


@hazard(AREA, "an abdomen as of most people", "written, plausible")
def test_an_ordinary_body_is_plausible():
    """No rule finds anything, and the numbers are there."""
    plausibility, found = judge(body(), LIMITS, ())
    assert (plausibility.verdict, plausibility.reasons, found) == ("plausible", (), [])
    assert plausibility.measured["abdomen_ml"] == sum(
        ml for name, (ml, *_) in BODY.items() if name in reference.ABDOMINAL
    )
    json.dumps(plausibility.as_dict(), allow_nan=False)


@hazard(
    AREA, "values that are not HU: MR, an offset of 1024, z-scores, gray values of 8 bits", VALUES_IMPLAUSIBLE
)
def test_values_that_are_not_hu_are_refused():
    """Nothing is below -100 HU, however sure the network is."""
    error = error_of(body(share_below_fat=0.0001, confidence=0.95))
    assert error.code == "AE-PLAUSIBLE-002"
    assert error.exit_code == 11


@hazard(AREA, "most organs have values of bone or air, as in an inverted scan", VALUES_IMPLAUSIBLE)
@pytest.mark.parametrize("hu", [1024, -700])
def test_values_that_no_organ_has_are_refused(hu):
    """Liver and spleen are most of the volume; a shift of 100 HU is not enough."""
    organs = {name: (ml, hu, center) for name, (ml, _, center) in BODY.items() if name in ("liver", "spleen")}
    assert error_of(body(**organs)).code == "AE-PLAUSIBLE-002"
    shifted = {name: (ml, value - 100, center) for name, (ml, value, center) in BODY.items()}
    assert verdict_of(body(**shifted))[0] != "implausible"


@hazard(AREA, "hardly any fat, gas or air in the scan", VALUES_NOT_HU)
def test_few_voxels_below_fat_are_doubtful():
    """Between the two limits."""
    assert verdict_of(body(share_below_fat=0.02)) == ("doubtful", [VALUES_NOT_HU.code])


@hazard(AREA, "chest, pelvis, head or legs only", BODY_PART_IMPLAUSIBLE)
def test_a_scan_without_organs_of_the_abdomen_is_refused():
    """Aorta, esophagus and vena cava do not make an abdomen."""
    assert error_of(body(without=reference.ABDOMINAL)).code == "AE-PLAUSIBLE-001"


@hazard(AREA, "nothing is found: noise, another part of the body, too small a field of view", LABELS_EMPTY)
@pytest.mark.parametrize(
    ("organs", "message"), [((), "no organ was found: "), (("aorta",), "only 4.0 ml of organs were found: ")]
)
def test_a_scan_in_which_nothing_is_found_is_refused_with_all_possible_reasons(organs, message):
    """Nobody knows which of them it is; noise is no part of a body."""
    error = error_of(
        body(without=set(BODY) - set(organs), aorta=(4.0, 100, (0, 0, 0)), confidence=None, other_organs=None)
    )
    assert error.code == "AE-PLAUSIBLE-005"
    assert message in error.message
    for reason in ("another part of the body", "too small", "not Hounsfield units", "noise"):
        assert reason in error.message


@hazard(AREA, "a thin slab that shows little of the organs", WRONG_BODY_PART)
def test_little_of_the_abdomen_is_doubtful():
    """73 ml of the liver and two other organs, cut above and below."""
    little = {
        "liver": (70, 100, (-80, 0, 0)),
        "spleen": (2, 110, (100, 20, 0)),
        "stomach": (1, 20, (50, -50, 0)),
    }
    cut = dict.fromkeys(little, ("lower end", "upper end"))
    evidence = body(without=set(BODY) - set(little), **little, cut=cut)
    assert verdict_of(evidence) == ("doubtful", [WRONG_BODY_PART.code])


@hazard(AREA, "a tumor in a lung, labeled as liver, and hardly any other organ", BODY_PART_IMPLAUSIBLE)
def test_a_scan_with_one_large_organ_of_the_abdomen_is_refused():
    """150 ml of liver beside vessels; two organs more make an abdomen, unless they are a few voxels."""
    vessels = {"aorta", "inferior_vena_cava", "esophagus"}
    liver, cut = (150, 100, (0, 0, 0)), {"liver": ("lower end", "upper end")}
    error = error_of(body(without=set(BODY) - {"liver"} - vessels, liver=liver, cut=cut))
    assert error.code == "AE-PLAUSIBLE-001"
    assert "1 ml or more is 1 in this scan, expected at least 3" in error.message
    three = set(BODY) - {"liver", "spleen", "stomach"} - vessels
    assert verdict_of(body(without=three, liver=liver, cut=cut))[0] == "plausible"
    specks = {"spleen": (0.9, 110, (100, 20, 40)), "stomach": (0.9, 20, (50, -50, 30))}
    few = body(without=three, liver=liver, cut={**cut, "spleen": ("upper end",)}, **specks)
    assert verdict_of(few)[0] == "implausible"


@hazard(AREA, "half of a body, which shows a large part of the liver and no other organ", WRONG_BODY_PART)
def test_a_large_liver_alone_is_doubtful():
    """More than the smallest liver that is whole."""
    cut = {"liver": ("left side", "lower end", "upper end")}
    alone = body(without=set(BODY) - {"liver"}, liver=(850, 100, (-80, 0, 0)), cut=cut)
    assert verdict_of(alone) == ("doubtful", [WRONG_BODY_PART.code])


def test_a_model_without_a_limit_of_the_number_of_organs_is_not_judged_by_it():
    """Its bundle was made before the limit, or it knows few organs."""
    liver, limits = (150, 100, (0, 0, 0)), dataclasses.replace(LIMITS, abdomen_organs=None)
    evidence = body(without=set(BODY) - {"liver"}, liver=liver, cut={"liver": ("lower end", "upper end")})
    assert judge(evidence, limits, ())[0].verdict == "plausible"


@hazard(
    AREA,
    "an image that the network does not know: inverted, another body part, twice the spacing",
    BODY_PART_IMPLAUSIBLE,
)
def test_a_network_that_is_unsure_of_everything_is_refused():
    """0.80 on average, expected 0.87."""
    error = error_of(body(confidence=0.80))
    assert error.code == "AE-PLAUSIBLE-001"
    assert "0.800" in error.message


@hazard(
    AREA,
    "a part of an abdomen, or one with a large mass, in which the network is sure of a kidney",
    NETWORK_UNSURE,
)
def test_one_sure_organ_shows_an_abdomen():
    """It is enough, unless it is a few ml of something else."""
    sure = body(confidence=0.75, sure=0.85)
    assert verdict_of(sure) == ("doubtful", [NETWORK_UNSURE.code])
    small = {name: (9, 100, BODY[name][2]) for name in reference.SOLID}
    assert verdict_of(body(confidence=0.75, sure=0.85, **small))[0] == "implausible"


@hazard(AREA, "the network is less sure than on scans that it knows", NETWORK_UNSURE)
def test_a_network_that_is_less_sure_is_doubtful():
    """Between the two limits."""
    assert verdict_of(body(confidence=0.85)) == ("doubtful", [NETWORK_UNSURE.code])


@hazard(AREA, "the spacing in the header is half of the true one", SIZE_IMPLAUSIBLE)
@hazard(AREA, "the spacing in the header is twice the true one", SIZE_IMPLAUSIBLE)
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_wrong_spacing_makes_the_liver_impossible(factor):
    """An eighth of 1500 ml, or eight times as much."""
    scaled = {
        name: (ml * factor**3, hu, tuple(np.multiply(center, factor)))
        for name, (ml, hu, center) in BODY.items()
    }
    assert error_of(body(**scaled)).code == "AE-PLAUSIBLE-004"


def test_a_liver_that_the_scan_cuts_can_be_small():
    """Its volume is only a lower bound."""
    assert (
        verdict_of(body(liver=(120, 100, (-80, -10, 40)), cut={"liver": ("upper end",)}))[0] != "implausible"
    )


@hazard(AREA, "left and right are exchanged in the header", ARRANGEMENT_IMPLAUSIBLE)
@hazard(AREA, "situs inversus", ARRANGEMENT_IMPLAUSIBLE)
def test_organs_on_the_wrong_side_are_refused():
    """The liver lies left of the spleen."""
    error = error_of(body(**moved(lambda center: (-center[0], *center[1:]))))
    assert error.code == "AE-PLAUSIBLE-003"
    assert "the liver is not right of the spleen" in error.message


@hazard(AREA, "head and feet are exchanged in the header", ARRANGEMENT_IMPLAUSIBLE)
def test_a_body_upside_down_is_refused():
    """The kidneys lie above the liver and the spleen."""
    error = error_of(
        body(**moved(lambda center: (*center[:2], -center[2])), cut={"esophagus": ("lower end",)})
    )
    assert error.code == "AE-PLAUSIBLE-003"
    assert "the liver is not above the right kidney" in error.message


@hazard(AREA, "front and back are exchanged in the header", ARRANGEMENT_IMPLAUSIBLE)
def test_a_body_front_to_back_is_refused():
    """The stomach lies behind the spleen."""
    error = error_of(body(**moved(lambda center: (center[0], -center[1], center[2]))))
    assert error.code == "AE-PLAUSIBLE-003"
    assert "the stomach is not in front of the spleen" in error.message


@hazard(AREA, "an organ lies as in hardly anybody, such as a pelvic kidney", ARRANGEMENT_UNUSUAL)
@hazard(AREA, "two signs that organs do not fit together", ORGANS_ARRANGED_WRONGLY)
def test_one_sign_is_a_caution_two_are_doubtful_and_three_refuse():
    """A left kidney above the spleen; a large spleen beside it; then the network is unsure as well."""
    kidney = {"kidney_left": (170, 150, (70, 40, 80))}
    both = {**kidney, "spleen": (900, 110, (100, 20, 40))}
    assert verdict_of(body(**kidney)) == ("plausible", [ARRANGEMENT_UNUSUAL.code])
    assert verdict_of(body(**both)) == ("doubtful", [ORGANS_ARRANGED_WRONGLY.code])
    assert verdict_of(body(**both, confidence=0.86))[0] == "implausible"


@pytest.mark.parametrize(
    ("changes", "sign"),
    [
        ({"without": ("kidney_left",), "kidney_right": (30, 150, (-60, 40, -30))}, "the kidneys have 30 ml"),
        ({"spleen": (900, 110, (100, 20, 40))}, "the spleen has 60%"),
        ({"liver": (1500, 100, (-20, -10, 40))}, "the liver does not reach as far"),
        ({"inferior_vena_cava": (20, 130, (-30, 10, 0))}, "the inferior vena cava"),
        ({"without": ("inferior_vena_cava",)}, "the inferior vena cava"),
        ({"cut": {"aorta": ("lower end",)}}, "the aorta leaves"),
        ({"other_organs": 0.03}, "the network takes organs for others"),
        ({"spleen": (5, 110, (100, 20, 40)), "kidney_left": (5, 150, (70, 40, -20))}, "unusual volumes"),
    ],
)
def test_organs_that_do_not_fit_each_other_are_a_sign(changes, sign):
    """One phrase for each, and none of a body as it should be."""
    assert [phrase for phrase in signs(body(**changes), LIMITS.signs) if sign in phrase]
    assert not list(signs(body(), LIMITS.signs))


def test_a_liver_that_the_scan_cuts_is_compared_with_nothing():
    """Its volume and its center are those of a part."""
    changes = {"spleen": (900, 110, (100, 20, 40)), "other_organs": 0.03, "without": ("inferior_vena_cava",)}
    assert len(list(signs(body(**changes), LIMITS.signs))) == 3
    assert not list(signs(body(**changes, cut={"liver": ("upper end",)}), LIMITS.signs))


@pytest.mark.parametrize("face", ["right side", "upper end"])
def test_an_organ_that_the_scan_cuts_on_that_side_shows_no_place(face):
    """The rest of a liver or of a vena cava lies elsewhere than its center."""
    liver = {"liver": (600, 100, (120, -10, -60))}
    cut = {"liver": (face,), "inferior_vena_cava": ("lower end",)}
    kept = [
        phrase
        for phrase in signs(body(**liver, cut=cut), LIMITS.signs)
        if phrase.startswith("the liver is not")
    ]
    direction = {"right side": "right of", "upper end": "above"}[face]
    assert kept
    assert not [phrase for phrase in kept if direction in phrase]


@hazard(AREA, "an organ is larger or smaller than such an organ can be", ORGAN_VOLUME_UNUSUAL)
def test_an_unusual_volume_names_its_organ():
    """A right kidney of 1.2 l; when the scan cuts a small organ, nothing is said."""
    _, (warning,) = judge(body(kidney_right=(1200, 150, (-60, 40, -30))), LIMITS, ())
    assert (warning.code, warning.organ) == (ORGAN_VOLUME_UNUSUAL.code, "kidney_right")
    small = {"spleen": (5, 110, (100, 20, 40))}
    assert verdict_of(body(**small))[0] == "doubtful"
    assert verdict_of(body(**small, cut={"spleen": ("upper end",)})) == ("plausible", [])


@hazard(AREA, "an organ has HU of air, fat or bone", ORGAN_HU_UNUSUAL)
@pytest.mark.parametrize("hu", [-185, 1065])
def test_impossible_hu_name_their_organ(hu):
    """A kidney of lung, a kidney of bone."""
    _, (warning,) = judge(body(kidney_left=(170, hu, (70, 40, -20))), LIMITS, ())
    assert (warning.code, warning.organ, warning.severity) == (
        ORGAN_HU_UNUSUAL.code,
        "kidney_left",
        "doubtful",
    )


@pytest.mark.parametrize(
    ("organ", "hu"),
    [
        ("liver", -3),
        ("liver", 20),
        ("liver", 180),
        ("aorta", 35),
        ("aorta", 700),
        ("stomach", -900),
        ("kidney_left", 320),
    ],
)
def test_disease_and_contrast_phases_pass(organ, hu):
    """Fatty liver, no contrast, an arterial phase, a stomach of gas."""
    ml, _, center = BODY[organ]
    assert verdict_of(body(**{organ: (ml, hu, center)})) == ("plausible", [])


def test_a_doubt_of_the_reader_makes_the_labels_doubtful():
    """Its severity counts, that of a caution does not."""
    assert verdict_of(body(), [VALUES_NOT_HU("Odd values.")])[0] == "doubtful"
    assert verdict_of(body(), [THICK_SLICES("Slices are thick.")])[0] == "plausible"


@hazard(AREA, "the scan shows only air", LABELS_EMPTY)
def test_a_scan_of_air_has_one_reason():
    """It is known, so no other is named."""
    error = error_of(Evidence(None, None, 1.0, {}), [NO_BODY("Air.")])
    assert error.code == "AE-PLAUSIBLE-005"
    assert error.message.endswith(": no organ was found: the scan shows only air.")


@hazard(AREA, "the edge of the scan cuts an organ", ORGAN_CUT)
@hazard(AREA, "the edge of the scan cuts the aorta, the vena cava or the esophagus", PASSING_ORGAN_CUT)
def test_organs_at_the_edge_of_the_scan_are_named():
    """The liver with caution; the aorta goes on in everybody, so that this is only said."""
    evidence = body(cut={"liver": ("upper end", "right side")})
    found = {warning.organ: warning for warning in coverage_warnings(evidence, NOTHING, BTCV_LABELS)}
    assert set(found) == {"liver", "aorta", "esophagus"}
    assert (found["liver"].severity, found["aorta"].severity) == ("caution", "info")
    assert "cuts the liver at the upper end and the right side" in found["liver"].message


@hazard(AREA, "an organ was not found although the whole liver is in the scan", ORGAN_NOT_FOUND)
@hazard(AREA, "an organ was not found in a scan that shows no whole liver", ORGAN_OUTSIDE)
@pytest.mark.parametrize(("cut", "code"), [((), ORGAN_NOT_FOUND), (("upper end",), ORGAN_OUTSIDE)])
def test_an_organ_that_was_not_found_has_a_reason(cut, code):
    """Removed or missed beside a whole liver; perhaps outside of the scan otherwise."""
    evidence = body(without=("gallbladder",), cut={"liver": cut})
    warnings = [w for w in coverage_warnings(evidence, NOTHING, BTCV_LABELS) if w.organ == "gallbladder"]
    assert [warning.code for warning in warnings] == [code.code]


def test_an_organ_between_the_samples_of_the_evidence_was_found():
    """One voxel in 3 mm is looked at. Nothing is said of an organ between them, nor of a foreign one."""
    evidence = body(without=("gallbladder",))
    labels = NOTHING.copy()
    labels[1, 2, 0] = next(label.value for label in BTCV_LABELS if label.name == "gallbladder")
    foreign = dataclasses.replace(BTCV_LABELS[0], name="femur", value=99)
    warned = {warning.organ for warning in coverage_warnings(evidence, labels, (*BTCV_LABELS, foreign))}
    assert not warned & {"gallbladder", "femur"}


def test_every_organ_of_the_table_has_a_range_and_every_place_is_an_organ():
    """And every source that a range names is listed."""
    assert set(reference.ORGANS) == {label.name for label in BTCV_LABELS}
    assert {name for first, _, second in reference.PLACES for name in (first, second)} <= set(
        reference.ORGANS
    )
    assert {source for organ in reference.ORGANS.values() for source in organ.sources} == set(
        reference.SOURCES
    )


def test_thresholds_in_the_wrong_order_or_range_are_refused():
    """A manifest is data from outside."""
    for changes in (
        {"confidence": Threshold(0.8, 0.9, *NOT_MEASURED)},
        {"confidence": Threshold(1.2, 0.8, *NOT_MEASURED)},
        {"abdomen_ml": Threshold(1.0, -1.0, *NOT_MEASURED)},
        {"impossible_values": Limit(2.0, *NOT_MEASURED)},
        {"largest_liver_ml": Limit(-1.0, *NOT_MEASURED)},
        {"abdomen_organs": Limit(101.0, *NOT_MEASURED)},
        {"signs": dataclasses.replace(LIMITS.signs, other_organs=Limit(2.0, *NOT_MEASURED))},
        {"signs": dataclasses.replace(LIMITS.signs, kidneys_ml=Limit(float("nan"), *NOT_MEASURED))},
    ):
        with pytest.raises(ValueError, match="plausibility"):
            dataclasses.replace(LIMITS, **changes)


@pytest.mark.parametrize("values", [(0, 1.0, 1.0, 1.0, 1.0, 1.0), (3, 1.0, 2.0, 1.5, 3.0, 4.0)])
def test_numbers_behind_a_limit_that_cannot_be_measured_are_refused(values):
    """No input, or a median below the 10 % quantile."""
    with pytest.raises(ValueError, match="plausibility"):
        Measured(*values)

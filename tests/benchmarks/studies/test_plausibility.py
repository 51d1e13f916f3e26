"""The study of the plausibility check: inputs are what their names say, and limits lie between them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from autosam_edge_test_support import RESULTS, SHARED_DATA

from autosam_edge.bundle import open_bundle
from autosam_edge.phantom import ORGANS, make_phantom
from autosam_edge.plausibility.evidence import BELOW_FAT_HU
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge_benchmarks.stand_in import stand_in_session

study = pytest.importorskip("autosam_edge_benchmarks.studies.plausibility")
inputs = pytest.importorskip("autosam_edge_benchmarks.studies.plausibility_inputs")
RESULT = RESULTS / "plausibility.json"


@pytest.fixture(scope="module")
def scan():
    phantom = make_phantom(2, spacing_mm=(6.0, 4.0, 4.0))
    table = open_bundle().manifest.labels
    assert [label.name for label in table] == list(ORGANS)
    return inputs.Scan.of(phantom.volume, phantom.labels, table)


@pytest.fixture(scope="module")
def made(scan):
    return {step.name: step.make(scan) for step in inputs.TRANSFORMATIONS}


def test_parts_of_a_scan_lie_where_they_were(scan, made):
    """The slices of a slab and the columns of a half, at their place in the patient."""
    slab = made["slab of 60 mm"]
    assert slab.shape[0] == 10
    start = round((slab.grid.affine[2, 3] - scan.grid.affine[2, 3]) / 6.0)
    np.testing.assert_array_equal(slab.hu, scan.hu[start : start + 10])
    left = made["left half"]
    assert left.grid.affine[0, 3] > scan.grid.affine[0, 3]
    np.testing.assert_array_equal(left.hu, scan.hu[:, :, -left.shape[2] :])
    assert made["field of view of 150 mm"].shape[1:] == (38, 38)


def test_the_pelvis_and_the_chest_hold_no_liver(scan, made):
    """They end where it begins; this phantom shows too little of a chest."""
    levels = scan.levels("liver")
    assert made["pelvis only"].shape[0] <= levels[0]
    assert made["chest only"] is None or made["chest only"].shape[0] <= len(scan.hu) - levels[-1]


def test_values_that_are_not_hu_have_nothing_below_fat(made):
    """But for the offset with a corner of -1 HU, which is above -100 HU."""
    for name in study.NOT_HU:
        assert float((made[name].hu < BELOW_FAT_HU).mean()) == 0.0, name


def test_a_header_that_lies_leaves_the_array_or_the_grid(scan, made):
    """Mirrored: the same grid, the array flipped. Scaled: the same array, another spacing."""
    np.testing.assert_array_equal(made["mirrored"].hu, scan.hu[:, :, ::-1])
    np.testing.assert_array_equal(made["upside down"].hu, scan.hu[::-1])
    assert made["mirrored"].grid.same_as(scan.grid)
    assert made["spacing x 2"].grid.spacing_mm == pytest.approx((12.0, 8.0, 8.0))
    np.testing.assert_array_equal(made["spacing x 2"].hu, scan.hu)


def test_an_input_that_the_run_refuses_is_left_out(scan):
    """Slices of 6 mm, doubled."""
    steps = {step.name: step for step in inputs.TRANSFORMATIONS}
    assert steps["spacing x 2"].of(scan) is None
    assert steps["spacing x 0.5"].of(scan) is not None


def entry(
    name,
    *,
    usable,
    confidence,
    sure=0.7,
    share=0.5,
    ml=2000.0,
    others=0.01,
    cut=(),
    hu=100.0,
    side=1.0,
    up=1.0,
):
    volumes = {"liver": ml, "spleen": ml / 8, "kidney_right": ml / 10, "aorta": ml / 20}
    places = {
        "liver": (-80 * side, 0, 40 * up),
        "spleen": (90 * side, 20, 40 * up),
        "kidney_right": (-60 * side, 30, -20 * up),
    }
    organs = {
        organ: {
            "ml": volume,
            "median_hu": hu,
            "center_mm": list(places.get(organ, (0, 20, 0))),
            "cut_by": list(cut),
            "confidence": sure,
        }
        for organ, volume in {**volumes, "inferior_vena_cava": ml / 20}.items()
    }
    measured = {
        "confidence": confidence,
        "other_organs": others,
        "share_below_fat": share,
        "abdomen_ml": ml,
        "organs": organs,
    }
    return {
        "scan": "1",
        "input": name,
        "usable": usable,
        "fitted": True,
        "measured": measured,
        "other_doubts": [],
    }


def test_limits_lie_between_usable_and_unusable_inputs_and_decide_the_verdicts():
    """Fitted numbers, then verdicts by them without another run."""
    result = {
        "inputs": [
            entry(study.AS_IT_IS, usable=True, confidence=0.93),
            entry(
                "slab of 24 mm",
                usable=True,
                confidence=0.86,
                sure=0.9,
                ml=300.0,
                share=0.12,
                cut=["upper end"],
            ),
            entry("mirrored", usable=False, confidence=0.87, others=0.03, side=-1.0),
            entry("upside down", usable=False, confidence=0.85, up=-1.0),
            entry("spacing x 0.5", usable=False, confidence=0.85, ml=100.0),
            entry("spacing x 2", usable=False, confidence=0.75, ml=6000.0),
            entry("inverted", usable=False, confidence=0.76, hu=-900.0),
            entry("HU + 1024", usable=False, confidence=0.74, share=0.0, hu=1100.0),
            entry("pelvis only", usable=False, confidence=0.70, ml=1.0),
            entry("lung with a tumor", usable=False, confidence=0.75, cut=["upper end"]),
        ]
    }
    finished = study.finished(result)
    limits = finished["plausibility"]
    assert 0.76 < limits["confidence"]["refused"] < 0.86
    assert limits["confidence"]["refused"] <= limits["confidence"]["doubtful"] < 0.93
    assert limits["surest_organ"]["refused"] == pytest.approx(0.72)
    assert 0.0 < limits["share_below_fat"]["refused"] < 0.12
    assert 1.0 < limits["abdomen_ml"]["refused"] < 300.0
    assert limits["scans"] == ("1",)
    verdicts = {row["input"]: row for row in finished["summary"]}
    assert all(verdicts[name]["implausible"] == 0 for name in (study.AS_IT_IS, "slab of 24 mm"))
    assert all(
        verdicts[name]["implausible"] == 1 for name in ("inverted", "HU + 1024", "pelvis only", "mirrored")
    )
    assert limits["signs"]["other_organs"]["limit"] == 0.01
    assert limits["signs"]["kidneys_ml"]["limit"] == 40.0  # a fifth of the only whole body's 200 ml
    assert limits["signs"]["kidneys_ml"]["usable"]["count"] == 1
    assert 0 < limits["signs"]["wrong_side_mm"]["limit"] < 60.0
    assert (limits["smallest_liver_ml"]["limit"], limits["largest_liver_ml"]["limit"]) == (500.0, 4000.0)
    assert 0.0 < limits["impossible_values"]["limit"] < 1.0


# Other scans whose verdict is not the wanted one; docs/plausibility.md says why.
KNOWN = {
    # The network labels a mass and ascites.
    ("tcga-ov-abdomen", "left half"),
    # A scan without contrast: of other HU, no organ is like one that the network knows.
    ("cort_liver", "HU + 100"),
    ("cort_liver", "HU - 100"),
    # Doubtful or not seen: few organs, or parts of them, tell how they should lie and how large they are.
    ("acrin_flt_001", "upside down"),
    ("acrin_flt_001", "front to back"),
    ("acrin_flt_001", "spacing x 0.5"),
    ("acrin_flt_013", "upside down"),
    ("acrin_flt_013", "front to back"),
    ("acrin_flt_013", "spacing x 0.5"),
    ("acrin_flt_013", "spacing x 2"),
    ("cptac_pda_189", "spacing x 0.5"),
    ("cptac_pda_249", "spacing x 0.5"),
    ("onko_thorax", "front to back"),
    ("spl_abdomen", "upside down"),
    ("spl_abdomen", "front to back"),
}


# Doubtful in the scans of the fit: a spleen of 3.2 liters, a cut liver, and few signs.
KNOWN_OF_FIT = {("0009", "mirrored"), ("0029", "spacing x 0.5"), ("0031", "upside down")}


def test_the_stored_study_refuses_no_usable_input_and_passes_no_unusable_one():
    """Of the scans of the fit as they are, at most two are doubtful; every other wrong verdict is listed."""
    result = json.loads(RESULT.read_text())
    wrong = [row for row in result["inputs"] if (row["verdict"] == "implausible") == row["usable"]]
    assert {(row["scan"], row["input"]) for row in wrong if row["fitted"]} == KNOWN_OF_FIT
    assert {row["verdict"] for row in wrong if row["fitted"]} == {"doubtful"}
    assert {(row["scan"], row["input"]) for row in wrong if not row["fitted"]} == KNOWN
    whole = [row["verdict"] for row in result["inputs"] if row["fitted"] and row["input"] == study.AS_IT_IS]
    assert len(whole) == 24
    assert whole.count("doubtful") <= 2


def test_the_stored_verdicts_are_those_of_the_code():
    """Rules and limits of today on the measured values give the stored verdicts."""
    stored = json.loads(RESULT.read_text())
    again = json.loads(study.as_json(study.finished(stored)))
    assert again == json.loads(RESULT.read_text())


def test_the_default_bundle_has_the_limits_of_the_stored_study():
    """The manifest's numbers are not written by hand."""
    result = json.loads(RESULT.read_text())
    manifest = json.loads((open_bundle().path / "manifest.json").read_text())
    assert manifest["plausibility"] == result["plausibility"]


def test_a_new_model_without_thresholds_is_measured():
    """Its first thresholds come from this study."""
    session = stand_in_session()
    assert session.model.plausibility is None
    result = {"inputs": []}
    running = study.Study(session, result, save=lambda _: None, log=lambda _: None)
    running.measure_others()
    names = {entry["input"]: entry["measured"]["abdomen_ml"] for entry in result["inputs"]}
    assert names["head of ellipsoids"] >= 0.0
    assert len(names) == 4


@pytest.mark.slow
def test_the_real_scan_and_what_is_made_of_it_get_their_verdicts():
    """A part of the table again: the abdomen passes, its pelvis, its mirror image and its offset do not."""
    folder = SHARED_DATA / "tcga-ov-abdomen"
    if not folder.is_dir():
        pytest.skip("the real CT series ../shared/data/tcga-ov-abdomen is not on this machine")
    session, volume = open_session(), read(folder)
    whole = session.segment(volume)
    assert whole.verdict != "implausible"
    scan = inputs.Scan.of(volume, whole.labels, whole.table)
    for step in inputs.TRANSFORMATIONS:
        if step.name in ("pelvis only", "mirrored", "HU + 1024", "turned by 10 degrees"):
            assert (session.segment(step.make(scan)).verdict != "implausible") == step.usable, step.name

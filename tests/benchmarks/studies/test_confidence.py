"""The study of the expected Dice: its inputs keep their truth, and the fit finds the map behind the data."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from autosam_edge_test_blocks import write_blocks
from autosam_edge_test_support import RESULTS, make_model
from typer.testing import CliRunner

from autosam_edge.bundle import open_bundle
from autosam_edge.cli import app
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import InputError
from autosam_edge.plausibility.expected_dice import Confidence
from autosam_edge.session import Session
from autosam_edge.strict_json import build

study = pytest.importorskip("autosam_edge_benchmarks.studies.confidence")
inputs = pytest.importorskip("autosam_edge_benchmarks.studies.confidence_inputs")
as_json = pytest.importorskip("autosam_edge_benchmarks.studies.plausibility").as_json
SLOPE, OFFSETS = 1.5, {"liver": 0.5, "spleen": -0.5}


def made_up(scans):
    """Organs whose Dice follows a map; the smallest log loss is that of temperature 1.3."""
    rng = np.random.default_rng(3)
    at = inputs.TEMPERATURES.index(1.3)
    entries = []
    for scan in scans:
        for number in range(30):
            organs = {}
            for name, offset in OFFSETS.items():
                odds = rng.normal(0.3, 1.0)
                soft = rng.random(len(inputs.TEMPERATURES))
                soft[at] = 1 / (1 + np.exp(-odds))
                organs[name] = {
                    "dice": float(1 / (1 + np.exp(-SLOPE * odds - offset))),
                    "soft_dice": soft.tolist(),
                }
            name = study.AS_IT_IS if number == 0 else f"input {number}"
            losses = np.abs(np.array(inputs.TEMPERATURES) - 1.3).tolist()
            entries.append(
                {"scan": scan, "input": name, "verdict": "plausible", "log_loss": losses, "organs": organs}
            )
    return {"inputs": entries}


def test_the_fit_finds_the_map_that_made_the_dice():
    """Temperature, slope and offsets; most organs with a Dice below 0.5 have the warning."""
    found = study.finished(made_up(["1", "2", "3"]))
    confidence = found["confidence"]
    assert (confidence["temperature"], confidence["scans"]) == (1.3, ("1", "2", "3"))
    assert confidence["slope"] == pytest.approx(SLOPE, rel=0.05)
    assert confidence["offsets"] == pytest.approx(OFFSETS, abs=0.1)
    assert confidence["mean_error"] < 0.01
    assert 0.8 <= confidence["caught"] <= 1.0
    assert found["reliability"]["all inputs"]["organs"] == confidence["organs"] == 180
    assert found["reliability"][study.AS_IT_IS]["organs"] == 6
    assert found["reliability"]["all inputs"]["rank_correlation"] > 0.99


def test_refused_labels_count_nowhere():
    """They are not written, so that no Dice of them is expected."""
    result = made_up(["1", "2"])
    before = study.finished(result)["confidence"]
    for entry in made_up(["3"])["inputs"]:
        broken = {name: {**organ, "dice": 0.0} for name, organ in entry["organs"].items()}
        result["inputs"].append({**entry, "verdict": "implausible", "organs": broken})
    assert study.finished(result)["confidence"] == before


@pytest.mark.parametrize("dice", [0.2, 0.9])
def test_a_limit_of_the_warning_needs_organs_on_both_sides(dice):
    """Of only good organs, or only bad ones, nothing can be told: AE-DATA-005."""
    result = made_up(["1", "2"])
    for entry in result["inputs"]:
        for organ in entry["organs"].values():
            organ["dice"] = dice
    with pytest.raises(InputError, match="AE-DATA-005.*Dice below 0.5"):
        study.finished(result)


def test_a_map_is_judged_without_a_fit_and_one_scan_is_too_few_to_fit():
    """An organ that the map lacks counts nowhere."""
    result = made_up(["1"])
    with pytest.raises(InputError, match="AE-DATA-005"):
        study.finished(result)
    given = Confidence(1.3, SLOPE, {"liver": 0.5}, 0.5, 1, 0.0, 0.0, 0.0, ("other",))
    found = study.finished(result, given)["reliability"]["all inputs"]
    assert (found["organs"], found["mean_error"]) == (30, 0.0)


def test_inputs_without_organs_count_nowhere():
    """A scan without any is none to fit on, and figures that are not defined are None."""
    result = made_up(["1", "2"])
    before = study.finished(result)["confidence"]
    empty = [{**entry, "organs": {}} for entry in made_up(["3"])["inputs"]]
    assert study.finished({"inputs": result["inputs"] + empty})["confidence"] == before
    given = Confidence(1.3, SLOPE, OFFSETS, 0.5, 1, 0.0, 0.0, 0.0, ("other",))
    judged = study.finished({"inputs": empty}, given)
    as_json(judged)  # which refuses NaN
    assert judged["reliability"]["all inputs"]["mean_error"] is None
    (one,) = made_up(["1"])["inputs"][:1]
    only = study.finished({"inputs": [{**one, "organs": {"liver": one["organs"]["liver"]}}]}, given)
    assert only["reliability"]["all inputs"]["organs"] == 1
    assert only["reliability"]["all inputs"]["rank_correlation"] is None


@pytest.fixture
def blocks(tmp_path):
    """A spleen that the model finds, and a kidney of which it finds a half; nobody knows what lies below."""
    labels = np.zeros((60, 36, 60), np.uint8)
    labels[12:48, 9:27, 12:24] = 1
    labels[12:48, 9:27, 33:57] = 2
    hu = np.choose(labels, [-125, 40, 200]).astype(np.int16)
    hu[:, :, 45:] = -125
    hu[:6, 9:27, 12:24] = 40  # found as spleen, but not known to be none
    labels[:6] = 255
    prepared = write_blocks(tmp_path, hu, labels)
    prepared.entry.known = (1, 2)
    return prepared


def test_inputs_keep_their_truth(blocks, monkeypatch):
    """Parts, every second slice and thick slices; unknown voxels count nowhere; what is there is kept."""
    names = (study.AS_IT_IS, "left half", "right half", "every second slice", "slices of 9 mm")
    monkeypatch.setattr(inputs, "INPUTS", [step for step in inputs.INPUTS if step.name in names])
    session = Session(make_model(), ThresholdEngine((-125.0, 40.0, 200.0), width_hu=20.0))
    result, saved = inputs.new_study(session, blocks, "validation"), []
    for _ in range(2):
        inputs.measure(
            session, blocks, "validation", result, save=lambda found: saved.append(1), log=lambda line: None
        )
    assert len(saved) == len(names)
    found = {entry["input"]: entry for entry in result["inputs"]}
    assert set(found) == set(names)
    spleen, kidney = blocks.labels[1:]
    dice = {
        name: {organ: at["dice"] for organ, at in entry["organs"].items()} for name, entry in found.items()
    }
    assert dice[study.AS_IT_IS] == {spleen: 1.0, kidney: pytest.approx(2 / 3, abs=1e-3)}
    assert dice["every second slice"] == dice[study.AS_IT_IS]
    assert dice["slices of 9 mm"] == dice[study.AS_IT_IS]
    assert dice["right half"][spleen] == 1.0
    assert set(dice["left half"]) == {kidney}
    assert found[study.AS_IT_IS]["organs"][spleen]["soft_dice"] == pytest.approx(
        [1.0] * len(inputs.TEMPERATURES), abs=0.01
    )
    assert found[study.AS_IT_IS]["log_loss"] == pytest.approx([0.0] * len(inputs.TEMPERATURES), abs=0.01)


def test_the_default_bundle_has_the_map_of_the_stored_study():
    """The manifest's numbers are not written by hand, and the code of today gives them again."""
    stored = json.loads((RESULTS / "confidence.json").read_text())
    assert json.loads(as_json(study.finished(stored))) == stored
    manifest = json.loads((open_bundle().path / "manifest.json").read_text())
    assert manifest["confidence"] == stored["confidence"]


def test_the_stored_judgment_is_of_the_bundle_and_of_no_scan_of_the_fit():
    """Test cases count nowhere else."""
    stored = json.loads((RESULTS / "confidence_test.json").read_text())
    confidence = build(Confidence, stored["confidence"], "confidence")
    assert confidence == open_bundle().manifest.confidence
    assert json.loads(as_json(study.finished(stored, confidence))) == stored
    assert not {entry["scan"] for entry in stored["inputs"]} & set(confidence.scans)


@pytest.mark.parametrize("seen", [[], ["0007"]])
def test_the_command_tells_what_the_model_has_seen(seen, tmp_path, monkeypatch):
    """A map that is fitted on cases of the training is too sure; the file names them."""
    prepared = SimpleNamespace(dataset="btcv", manifest_sha256="")
    monkeypatch.setattr("autosam_edge_training.data.Prepared.read", lambda _: prepared)
    monkeypatch.setattr(
        "autosam_edge_training.evaluate.seen_cases.seen_by_bundles", lambda *_args, **_options: seen
    )
    monkeypatch.setattr(inputs, "measure", lambda *_args, **_options: None)
    monkeypatch.setattr(study, "finished", lambda result, _: {**result, "reliability": {}})
    out = tmp_path / "confidence.json"
    result = CliRunner().invoke(app, ["bench", "confidence", "--data", str(tmp_path), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert json.loads(out.read_text()).get("seen", []) == seen

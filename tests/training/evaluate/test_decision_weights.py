"""Weights find what a careful network misses, and only weights that every case agrees on are taken."""

from __future__ import annotations

import dataclasses
import json
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("monai")
import nibabel as nib
from autosam_edge_test_support import make_model
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import InputError, TrainingError
from autosam_edge.formats.nifti import ras_affine
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.session import Session
from autosam_edge_training.data import Prepared
from autosam_edge_training.data.case import UNKNOWN
from autosam_edge_training.evaluate import seen_cases
from autosam_edge_training.evaluate.decision_weights import (
    CaseProbabilities,
    fit,
    fit_across,
    fit_session,
    mean_dice,
)

NAMES = ("background", "liver", "adrenal_gland_left")


def careful_case(name, *, share=0.3, seed=0):
    """1000 voxels: the liver is found; the gland has a probability of ``share``, the background the rest."""
    generator = np.random.default_rng(seed)
    truth = np.repeat(np.array([0, 1, 2], np.uint8), (700, 200, 100))
    probability = np.zeros((3, 1000), np.float32)
    probability[0, :700] = 0.9 + 0.05 * generator.random(700)
    probability[1, 700:900] = 0.8
    probability[2, 900:] = share
    probability[0] = 1 - probability[1:].sum(axis=0)
    probability[0, :700] = 0.95
    probability[2, :700] = 0.05
    return CaseProbabilities(name, probability, truth, np.bincount(truth, minlength=3))


def test_without_weights_the_gland_is_missed():
    """Dice 1 for the liver, 0 for the gland: 0.3 is less than 0.7."""
    assert careful_case("a").dice(np.ones(3)).tolist() == [1.0, 0.0]
    assert mean_dice([careful_case("a")], np.ones(3)) == 0.5


def test_the_smallest_weight_that_finds_it_is_taken():
    """0.3 w must exceed 0.7: 2.5 is the first of the grid that does."""
    weights = fit([careful_case("a")], NAMES)
    assert weights.tolist() == [1.0, 1.0, 2.5]
    assert mean_dice([careful_case("a")], weights) == 1.0


def test_a_fixed_organ_keeps_its_weight():
    """Even where a weight would help."""
    assert fit([careful_case("a")], NAMES, fixed=("adrenal_gland_left",)).tolist() == [1.0, 1.0, 1.0]


def test_only_what_holds_without_any_case_is_taken():
    """Two cases need 2.5 and one 1.75: every fit still sees one that needs 2.5. Then one case needs none."""
    cases = [careful_case("a"), careful_case("b"), careful_case("c", share=0.4)]
    found = fit_across(cases, NAMES)
    assert found.decision_weights == {"adrenal_gland_left": 2.5}
    assert found.without == {"liver": 1.0, "adrenal_gland_left": 0.0}
    assert found.fitted == {"liver": 1.0, "adrenal_gland_left": 1.0}
    assert [(case.case, case.without, case.fitted_on_others) for case in found.held_out] == [
        ("a", 0.5, 1.0),
        ("b", 0.5, 1.0),
        ("c", 0.5, 1.0),
    ]
    easy = [careful_case("a"), careful_case("c", share=0.6)]  # the second finds its gland without a weight
    assert fit_across(easy, NAMES).decision_weights == {}


def test_one_case_is_not_enough():
    """Nothing would be left to fit on: AE-DATA-005."""
    with pytest.raises(InputError, match="AE-DATA-005"):
        fit_across([careful_case("a")], NAMES)


def test_an_organ_that_a_scan_lacks_counts_for_nothing():
    """NaN, and the mean is that of the other organs."""
    case = careful_case("a")
    without = CaseProbabilities(
        "b", case.probability, np.where(case.truth == 2, 0, case.truth), np.array([800, 200, 0])
    )
    assert np.isnan(without.dice(np.ones(3))[1])
    assert mean_dice([without], np.ones(3)) == 1.0


@pytest.fixture
def suspected(tmp_path):
    """Two scans, and a model that gives the kidney of 118 HU a probability of 0.26, the spleen the rest."""
    labels = np.zeros((20, 24, 24), np.uint8)
    labels[4:16, 4:20, 4:12] = 1
    labels[4:16, 4:20, 12:20] = 2
    hu = np.choose(labels, [-125, 40, 118]).astype(np.int16)
    grid = Grid.axis_aligned(labels.shape, (3.0, 3.0, 3.0))
    nib.save(nib.Nifti1Image(hu.T, ras_affine(grid.affine)), tmp_path / "image.nii.gz")
    entries = [
        SimpleNamespace(name=name, image=tmp_path / "image.nii.gz", check=lambda: None, known=None)
        for name in ("a", "b")
    ]
    names = ("background", *(label.name for label in BTCV_LABELS[:2]))
    prepared = SimpleNamespace(
        dataset="blocks",
        labels=names,
        classes=3,
        spacing_mm=(3.0, 3.0, 3.0),
        manifest=SimpleNamespace(entries=lambda split: entries),
        manifest_sha256="0",
        case=lambda name: SimpleNamespace(labels=labels),
    )
    return Session(make_model(), ThresholdEngine((-125.0, 40.0, 200.0))), prepared


def test_the_weights_of_a_model_come_from_its_own_probabilities(suspected):
    """3 is the first weight of the grid above 0.735 / 0.265; a weight that the model has changes nothing."""
    session, prepared = suspected
    spleen, kidney = prepared.labels[1], "Right Kidney"  # the data set stores it as kidney_right
    first, second = session.model.labels
    own = (first, dataclasses.replace(second, name=kidney))
    session = Session(dataclasses.replace(session.model, labels=own), session.engine)
    for weights in ({}, {kidney: 50.0}):
        model = dataclasses.replace(session.model, decision_weights=weights)
        fitted = fit_session(Session(model, session.engine), prepared, "validation")
        assert fitted["decision_weights"] == {kidney: 3.0}
        assert fitted["without"][kidney] == 0.0
        assert fitted["fitted"] == {spleen: 1.0, kidney: 1.0}
        assert fitted["mean_dice"]["fitted"] == fitted["mean_dice"]["held_out_fitted_on_others"] == 1.0


@pytest.mark.parametrize("part", ["labels", "spacing_mm"])
def test_a_model_of_other_data_is_refused(part, suspected):
    """Its kidney would be fitted as the spleen, or its voxels do not exist in the data."""
    session, prepared = suspected
    setattr(prepared, part, getattr(prepared, part)[::-1] if part == "labels" else (2.0, 3.0, 3.0))
    with pytest.raises(TrainingError, match=f"AE-TRAIN-008.*other {part}"):
        fit_session(session, prepared, "validation")


def test_a_case_that_says_nothing_is_left_out(suspected):
    """One without organs, one that is labeled in part: weights and means are those of the others."""

    def fit() -> dict[str, object]:
        record = fit_session(session, prepared, "validation")
        return {key: value for key, value in record.items() if key not in {"date", "machine"}}

    session, prepared = suspected
    whole = prepared.case("a").labels
    entries = prepared.manifest.entries("validation")
    first = entries[0]
    expected = fit()
    entries += [SimpleNamespace(**{**vars(first), "name": "empty"})]
    entries += [SimpleNamespace(**{**vars(first), "name": "part", "known": (1,)})]
    first.known = (1, 2)  # all of them: as a case of a data set that is labeled wholly
    entries += [SimpleNamespace(**{**vars(first), "name": "holes"})]
    holes = np.where(np.indices(whole.shape)[0] < 6, UNKNOWN, whole).astype(np.uint8)
    labels_of = {"empty": np.zeros_like(whole), "holes": holes}
    prepared.case = lambda name: SimpleNamespace(labels=labels_of.get(name, whole))
    assert fit() == expected
    del entries[1:2]
    with pytest.raises(InputError, match="AE-DATA-005"):
        fit_session(session, prepared, "validation")


def test_the_command_writes_the_file_that_export_reads(suspected, tmp_path, monkeypatch):
    """With every figure behind the weights; the table shows each organ."""
    writer = pytest.importorskip("autosam_edge_export.bundle_writer")
    session, prepared = suspected
    monkeypatch.setattr(Prepared, "read", lambda folder: prepared)
    monkeypatch.setattr("autosam_edge_training.cli.evaluate.open_session", lambda bundle: session)
    monkeypatch.setattr(seen_cases, "seen_by_bundles", lambda *_, **__: ["0007"])
    out = tmp_path / "weights.json"
    result = CliRunner().invoke(app, ["fit-decision-weights", "--data", str(tmp_path), "-o", str(out)])
    assert result.exit_code == 0, result.output
    assert writer.read_decision_weights(out) == {prepared.labels[2]: 3.0}
    written = json.loads(out.read_text())
    assert {"machine", "data", "mean_dice", "held_out"} <= set(written)
    assert written["seen"] == ["0007"]
    assert f"{prepared.labels[2]} " in result.stdout

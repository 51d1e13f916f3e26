"""The golden vectors of any model are ones that verification reads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch")
from autosam_edge_test_mistakes import MISTAKES, WITHOUT_DECISION_WEIGHTS
from autosam_edge_test_support import write_bundle

from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.golden import _MAX_MODEL_VOXELS, read_golden_rules, read_golden_scan
from autosam_edge.labels import label_table
from autosam_edge.pipeline import one_part
from autosam_edge.session import Session
from autosam_edge.verify import _LABEL_AGREEMENT
from autosam_edge_export.proof.golden_vectors import (
    _SCAN_SHAPE,
    _decision,
    _scan,
    _scan_spacing_mm,
    _scan_volume,
    write_golden,
)

MODEL = open_bundle().model
MODELS = {"fast": MODEL, "standard": open_bundle(tier="standard").model}


@pytest.fixture(scope="module", params=MODELS)
def golden_scan(request):
    """The model of a tier, its golden scan, the formula and the labels."""
    model = MODELS[request.param]
    scan = _scan(model)
    formula = ThresholdEngine(scan["centers_hu"], width_hu=scan["width_hu"], reach_rows=scan["reach_rows"])
    return model, _scan_volume(model, scan["centers_hu"]), formula, scan["labels"]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_of_an_app_shows_in_the_labels(mistake, golden_scan):
    """Each changes 50 times as many labels as an app may have wrong."""
    model, volume, formula, labels = golden_scan
    if mistake in WITHOUT_DECISION_WEIGHTS and not model.decision_weights:
        pytest.skip("the model has no decision weights")
    wrong = MISTAKES[mistake](model, formula, volume)
    assert (wrong != labels).mean() > 50 * (1 - _LABEL_AGREEMENT)


def test_the_kept_part_of_an_organ_is_clearly_the_surest(golden_scan, monkeypatch):
    """Rounding must not decide which part of the golden scan stays."""
    model, volume, formula, _ = golden_scan
    leads = []
    find = one_part.find_parts

    def compare(runs, shape, weights):
        component, parts = find(runs, shape, weights)
        scores = np.bincount(component, weights=weights)
        leads.extend(scores[roots[1]] / scores[roots[0]] for roots in parts.values() if len(roots) > 1)
        return component, parts

    monkeypatch.setattr(one_part, "find_parts", compare)
    Session(model, formula).segment(volume)
    assert len(leads) >= 5
    assert max(leads) < 0.95


def with_organs(count):
    """The model with so many organs, none of them known."""
    table = label_table(["background", *(f"organ{value}" for value in range(1, count + 1))])
    rules = {"one_part": (), "decision_weights": {}, "plausibility": None, "confidence": None}
    return dataclasses.replace(MODEL, labels=table, **rules)


@pytest.mark.parametrize("organs", [1, 104, 255])
def test_any_number_of_organs_has_voxels_that_are_clear(organs):
    """With many organs few random voxels are, so more are drawn."""
    found = _decision(with_organs(organs))
    assert found["probabilities"].shape == (organs + 1, 8, 8, 4)
    np.testing.assert_array_equal(found["labels"], found["probabilities"].argmax(axis=0))
    best = np.sort(found["probabilities"], axis=0)
    assert (best[-1] - best[-2] > 0.01).all()


def test_a_fine_grid_has_a_golden_scan_that_verification_reads(tmp_path):
    """The limit counts the voxels of the model's grid along each axis by that axis's own spacing."""
    contract = dataclasses.replace(MODEL.input, spacing_mm=(8.0, 0.3, 0.3), patch=(96, 96, 96))
    model = dataclasses.replace(with_organs(2), input=contract)
    write_golden(tmp_path, model, ThresholdEngine([-100.0, 50.0, 200.0]))
    golden = {f"golden/{path.name}": path.read_bytes() for path in (tmp_path / "golden").iterdir()}
    changes = {
        "input": dataclasses.asdict(contract),
        "labels": [dataclasses.asdict(label) for label in model.labels],
        "artifacts": [],
    }
    bundle = Bundle(write_bundle(tmp_path / "m.edge", golden, **changes))
    assert set(np.unique(read_golden_scan(bundle).labels)) == {0, 1, 2}
    read_golden_rules(bundle)


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (2.0, 0.7, 0.7), (0.5, 0.5, 0.5), (0.1, 0.1, 20.0)])
def test_no_model_is_too_fine_for_a_golden_scan(spacing_mm):
    """The scan of a finer model is smaller; that of a coarse one is as it was."""
    scan_mm = _scan_spacing_mm(dataclasses.replace(MODEL.input, spacing_mm=spacing_mm))
    axes = zip(scan_mm, _SCAN_SHAPE, spacing_mm, strict=True)
    assert math.prod(max(1.0, side * voxels / target) for side, voxels, target in axes) <= _MAX_MODEL_VOXELS
    assert (scan_mm == (6.0, 2.4, 0.8)) is (min(spacing_mm) >= 1.0)

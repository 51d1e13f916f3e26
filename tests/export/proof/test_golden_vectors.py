"""The golden vectors of any model are ones that verification reads."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("torch")
from autosam_edge_test_support import write_bundle

from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.golden import _MAX_MODEL_VOXELS, read_golden_rules, read_golden_scan
from autosam_edge.labels import label_table
from autosam_edge_export.proof.golden_vectors import _SCAN_SHAPE, _decision, _scan_spacing_mm, write_golden

MODEL = open_bundle().model


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
    assert (scan_mm == (6.0, 2.4, 2.4)) is (min(spacing_mm) >= 1.0)

"""A model alone and behind a coarse one, on a scan whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge_test_blocks import write_blocks
from autosam_edge_test_support import make_model

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.session import Session
from autosam_edge_benchmarks.studies import tiers
from autosam_edge_benchmarks.studies.organ_dice import mean_dice


def test_what_the_coarse_model_missed_is_measured(tmp_path, monkeypatch):
    """A spleen that both models find, and a kidney 120 mm below it that only the finer one knows."""
    labels = np.zeros((60, 24, 24), np.uint8)
    labels[46:56, 10:20, 10:20] = 1
    labels[2:6, 10:20, 12:22] = 2
    hu = np.choose(labels, [-60, 40, -20]).astype(np.int16)
    prepared = write_blocks(tmp_path, hu, labels)
    sessions = {
        "fine": Session(make_model(), ThresholdEngine((-60.0, 40.0, -20.0))),
        "coarse": Session(make_model(), ThresholdEngine((-60.0, 100.0, 1000.0))),
    }
    monkeypatch.setattr(tiers.Prepared, "read", lambda folder: prepared)
    monkeypatch.setattr(tiers, "open_session", sessions.get)
    told = []
    result = tiers.measure_tiers("fine", "coarse", tmp_path, "validation", log=told.append)
    case = result["cases"]["1"]
    assert "mean Dice 1.000 alone" in told[0]
    assert "TierCase" not in told[0]
    assert (case["alone"], case["coarse_to_fine"], case["each_other"]) == (1.0, 0.5, 0.5)
    assert case["region"] == "organs"
    assert case["tiles"] < case["tiles_alone"]
    assert result["missed_mm"] == case["missed_mm"] == [44 * 3.0, 0.0, 2 * 3.0]
    labels[0] = 255  # nobody knows the lowest slice, and the kidney counts for nothing
    write_blocks(tmp_path, hu, labels)
    prepared.entry.known = (1,)
    result = tiers.measure_tiers("fine", "coarse", tmp_path, "validation")
    assert (result["mean"]["coarse_to_fine"], result["missed_mm"]) == (1.0, [44 * 3.0, 0.0, 2 * 3.0])


def test_without_an_organ_there_is_no_dice():
    """None, because JSON has no NaN."""
    air = np.zeros((2, 2, 2), np.uint8)
    assert mean_dice(air, air, BTCV_LABELS, {"spleen": 1}) is None

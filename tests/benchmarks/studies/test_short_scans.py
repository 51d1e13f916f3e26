"""Short scans are cut where the study says, and each rule can be seen, on a scan whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge_test_blocks import KIDNEY, SPLEEN, write_blocks
from autosam_edge_test_support import make_model

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import InputError
from autosam_edge.session import Session
from autosam_edge_benchmarks.studies import short_scans


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A spleen and a kidney through all 48 slices of 3 mm; the network is a formula over three rows."""
    labels = np.zeros((48, 24, 24), np.uint8)
    labels[:, 4:12, 4:20] = 1
    labels[:, 12:20, 4:20] = 2
    hu = np.choose(labels, [-125, 40, 200]).astype(np.int16)
    prepared = write_blocks(tmp_path, hu, labels)
    model = dataclasses.replace(make_model(patch=(96, 16, 16)), decision_weights={SPLEEN: 0.01})
    session = Session(model, ThresholdEngine((-125.0, 40.0, 200.0), width_hu=50.0, reach_rows=6))
    monkeypatch.setattr(short_scans.Prepared, "read", lambda folder: prepared)
    monkeypatch.setattr(short_scans, "open_session", lambda path: session)
    monkeypatch.setattr(short_scans, "CENTER", KIDNEY)
    return tmp_path


def test_each_rule_is_seen(data):
    """In 24 mm a voxel reads rows that are air, and is missed, or the last slice again, and is found."""
    variants = short_scans.measure_short_scans(data, data, "validation", lengths_mm=(24,))["variants"]
    air, repeated, weighted = (
        variants[name]["mean"] for name in ("air_beyond_ends", "last_slice_repeated", "and_decision_weights")
    )
    assert repeated["short_24_mm"] == repeated["cut_from_whole_24_mm"] == repeated["whole"] == 1.0
    assert air["short_24_mm"] < air["cut_from_whole_24_mm"]
    assert set(air) == {"whole", "short_24_mm", "cut_from_whole_24_mm"}
    assert weighted["whole"] == 1.0  # a weight of 0.01 does not overcome the formula of a sure voxel


def test_a_scan_without_the_organ_in_its_middle_is_refused(data, monkeypatch):
    """AE-DATA-011, and AE-DATA-005 for an empty split."""
    short_scans.Prepared.read(data).entry.known = (1,)
    with pytest.raises(InputError, match=f"AE-DATA-011.*{KIDNEY}"):
        short_scans.measure_short_scans(data, data, "validation")
    monkeypatch.setattr(short_scans, "CENTER", "pancreas")
    with pytest.raises(InputError, match="AE-DATA-011.*pancreas"):
        short_scans.measure_short_scans(data, data, "validation")
    with pytest.raises(InputError, match="AE-DATA-005"):
        short_scans.measure_short_scans(data, data, "training")

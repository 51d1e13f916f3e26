"""Dice, sizes and energy of a row come from files."""

from __future__ import annotations

import json

import pytest

from autosam_edge.bundle import open_bundle
from autosam_edge_benchmarks.rows import energy
from autosam_edge_benchmarks.rows.sizes import accuracy, install_size

BUNDLE = open_bundle(None)
ARTIFACT = BUNDLE.manifest.artifacts[0]
SAME = {
    "name": "onnxruntime",
    "precision": ARTIFACT.precision,
    "sha256": BUNDLE.manifest.sha256_of(ARTIFACT.path),
    "version": "1",
}


@pytest.mark.parametrize(
    ("engine", "dice"),
    [({}, 0.8), ({"name": "openvino"}, None), ({"precision": "int8"}, None), ({"sha256": "0" * 64}, None)],
)
def test_the_dice_is_that_of_the_same_artifact_engine_and_format(engine, dice, tmp_path):
    """Otherwise it is not known; the Dice against the student is the bundle's own."""
    organs = {"liver": {"dice": 0.9, "cases": 5}, "spleen": {"dice": 0.7, "cases": 6}}
    summary = {"data": "btcv test", "engine": SAME | engine, "mean_dice": 0.8, "organs": organs}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    found = accuracy(BUNDLE, ARTIFACT, "onnxruntime", [tmp_path / "summary.json"])
    assert (found.mean_dice, found.cases) == (dice, 6 if dice else None)
    assert 0.998 < found.worst_organ_dice <= found.against_student <= 1.0


def test_a_package_counts_with_what_it_needs(tmp_path):
    """NumPy alone is larger than 20 MB; the bundle is its files."""
    (tmp_path / "golden").mkdir()
    (tmp_path / "golden" / "a").write_bytes(bytes(1_500_000))
    found = install_size(tmp_path, "onnxruntime")
    assert found.packages_mb > 20
    assert found.bundle_mb == 1.5


@pytest.mark.parametrize(
    ("zones", "joules"),
    [({"intel-rapl:0": 3_000_000, "intel-rapl:0:1": 9, "amd-rapl:1": 500_000}, 3.5), ({"other": 1}, None)],
)
def test_energy_is_the_sum_of_the_packages(zones, joules, monkeypatch, tmp_path):
    """Without their parts; nothing where there is no package, or no such folder."""
    for name, microjoules in zones.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{microjoules}\n")
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path)
    assert energy.joules() == joules
    monkeypatch.setattr(energy, "_POWERCAP", tmp_path / "none")
    assert energy.joules() is None


@pytest.mark.parametrize(("before", "after", "used"), [(1.0, 3.5, 2.5), (3.5, 1.0, None), (None, 1.0, None)])
def test_a_counter_that_started_again_is_not_known(before, after, used):
    """A difference below zero is none."""
    assert energy.used(before, after) == used

"""Each artifact has its cost on this machine and its comparison at export."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("psutil")
from autosam_edge.bundle import open_bundle
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge_benchmarks import artifacts
from autosam_edge_export.proof.cost import Cost


@pytest.fixture
def bundle():
    return open_bundle(None)


@pytest.fixture
def result(bundle, monkeypatch):
    """Torch takes 300 ms, the first engine 200 ms, each next one 100 ms more; costs are made up."""

    def times(engines, tile, rounds):
        assert tile.shape == bundle.manifest.input.patch
        return {name: {"torch": 300.0}.get(name, 100.0 + 100.0 * n) for n, name in enumerate(engines)}

    monkeypatch.setattr(artifacts, "measure_cost", lambda *_: Cost(10.0, 60.0, 0.5))
    monkeypatch.setattr(artifacts, "time_tiles", times)
    monkeypatch.setattr(artifacts, "load_engine", lambda bundle, artifact: artifact.name)
    return artifacts.measure_artifacts(bundle)


def test_times_are_relative_to_the_first_artifact_of_the_bundle(result, bundle):
    """The first artifact that runs here has 1; all other times are divided by its time."""
    by_name = {entry["name"]: entry for entry in result["artifacts"] if "tile_ms" in entry}
    first = next(artifact.name for artifact in bundle.manifest.artifacts if artifact.name in by_name)
    assert by_name[first]["relative_time"] == 1.0
    assert result["torch"]["relative_time"] == round(300.0 / by_name[first]["tile_ms"], 3)


def test_each_artifact_has_its_comparison_and_its_cost_only_if_it_runs(result, bundle):
    """The values of parity.json, under the artifact's name; costs only for the engines of this machine."""
    parity = {f"{e['target']}/{e['precision']}": e for e in json.loads(bundle.read("parity.json"))}
    usable = {choice.artifact.name for choice in rank_artifacts(bundle.manifest) if choice.usable}
    assert {entry["name"] for entry in result["artifacts"]} == set(parity)
    assert usable
    for entry in result["artifacts"]:
        for key in ("worst_organ", "mean_dice", "megabytes"):
            assert entry[key] == parity[entry["name"]][key]
        assert entry.get("peak_rss_mb") == (60.0 if entry["name"] in usable else None)

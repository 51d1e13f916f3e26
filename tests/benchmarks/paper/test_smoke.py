"""The smoke runs are trained by the recipes themselves, once; every exhibit is built from them."""

from __future__ import annotations

import json
import shutil

import pytest

pytest.importorskip("monai")
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge_benchmarks.paper import smoke
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE
from autosam_edge_training.evaluate.score_run import score_run

ROWS = {
    "table1": {"ours"},
    "table2": {"ours"},
    "table3": {"with"},
    "table4": {"0.5", "1"},
    "figure4": {"small-alone", "small-distilled"},
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Phantoms and the three trained runs; a message for each."""
    messages = []
    data, runs = smoke.train_smoke_runs(tmp_path_factory.mktemp("smoke"), log=messages.append)
    assert len(messages) == 1 + len(runs)
    return data, runs


@pytest.fixture(scope="module")
def scored(trained, tmp_path_factory):
    """The scored runs."""
    data, runs = trained
    folder = tmp_path_factory.mktemp("scored")
    return {run.name: score_run(run, data, folder / run.name) for run in runs}


@pytest.fixture
def reproduce(trained, monkeypatch, tmp_path):
    """The command; it finds the runs trained."""
    monkeypatch.setattr(smoke, "train_smoke_runs", lambda work, log: trained)

    def run(exhibit):
        result = CliRunner().invoke(app, ["reproduce", exhibit, "--smoke", "--json", "-o", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return run


@pytest.mark.parametrize("exhibit", ROWS)
def test_each_run_is_in_its_row(exhibit, reproduce, scored, monkeypatch, tmp_path):
    """Rows of a smoke run have its Dice, other rows have none; title and file names name the smoke run."""
    monkeypatch.setattr(smoke, "score_run", lambda run, data, out: shutil.copytree(scored[run.name], out))
    result = reproduce(exhibit)
    ours = {row["row"]: row["values"]["dice"]["ours"] for row in result["rows"]}
    assert {key for key, value in ours.items() if value is not None} == ROWS[exhibit]
    assert all(0 <= ours[key] <= 100 for key in ROWS[exhibit])
    assert {row["dataset"] for row in result["rows"]} == {"btcv"}
    assert result["smoke"] is True
    assert SMOKE_TITLE in result["title"]
    assert {path.stem for path in tmp_path.glob(f"{exhibit}*")} == {f"{exhibit}-smoke"}


@pytest.mark.slow
def test_the_montage_shows_every_run(reproduce, tmp_path):
    """The predictions of the three runs are written on the scan's own grid, read back and drawn."""
    (case,) = reproduce("figure3")["cases"].values()
    assert case == {"teacher": True, "student": True, "distilled": True}
    assert (tmp_path / "figure3-smoke.png").stat().st_size > 10_000

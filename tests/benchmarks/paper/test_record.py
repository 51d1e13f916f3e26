"""Scores of others become a run of the tables."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("monai")
from autosam_edge.errors import TrainingError
from autosam_edge_benchmarks.paper.record import record_baseline
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import build_table
from autosam_edge_training.evaluate.report import summarize, write_results
from autosam_edge_training.evaluate.scores import Score


def scored(folder, method):
    scores = [Score(method, "btcv", "0035", "liver", 0.9, 0.5, 0.6, 0.7, 100, 90, (3.0, 0.8, 0.8))]
    write_results(folder, scores, {"method": method, "data": "btcv test", **summarize(scores)})
    return folder


def test_a_recorded_baseline_is_in_its_row(tmp_path):
    """Predictions of nnU-Net with a Dice of 0.9: 90 in table 1, with its parameters and without steps."""
    run = record_baseline(
        scored(tmp_path / "runs" / "n", "nnunet"),
        network="nnunet-3d-fullres",
        trainable_parameters=31_200_000,
    )
    assert run.facts.method == "nnunet"
    (line,) = [entry for entry in build_table(table_spec("table1"), tmp_path / "runs").lines if entry.runs]
    assert line.row.key == "nnunet"
    assert [cell.ours for cell in line.cells.values()] == [
        pytest.approx(31.2),
        pytest.approx(90),
        pytest.approx(50),
    ]
    assert json.loads((run.folder / "run.json").read_text())["steps"] is None


@pytest.mark.parametrize("method", ["student", "distill", "teacher"])
def test_a_run_of_ours_is_not_recorded_as_that_of_others(method, tmp_path):
    """`score` writes its file, which stays."""
    (tmp_path / "run.json").write_text("of score")
    with pytest.raises(TrainingError, match="AE-TRAIN-026"):
        record_baseline(scored(tmp_path, method), network="x")
    assert (tmp_path / "run.json").read_text() == "of score"


def test_scores_of_other_data_are_refused(tmp_path):
    """By the hash in the summary; nothing is written."""
    summary = json.loads((scored(tmp_path, "nnunet") / "summary.json").read_text())
    (tmp_path / "summary.json").write_text(json.dumps({**summary, "manifest_sha256": "1" * 64}))
    with pytest.raises(TrainingError, match="AE-TRAIN-021.*other data"):
        record_baseline(tmp_path, network="x", data_sha256="2" * 64)
    assert not (tmp_path / "run.json").exists()
    assert record_baseline(tmp_path, network="x", data_sha256="1" * 64).facts.data_sha256 == "1" * 64


def test_a_method_that_no_table_has_is_refused(tmp_path):
    """Nothing is written for it."""
    with pytest.raises(TrainingError, match="segvol") as caught:
        record_baseline(scored(tmp_path, "segvol"), network="x")
    assert caught.value.code == "AE-TRAIN-026"
    assert not (tmp_path / "run.json").exists()

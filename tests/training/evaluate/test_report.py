"""Means of scores, and the files that hold them."""

from __future__ import annotations

import json
import math

import pytest

pytest.importorskip("monai")
from autosam_edge_test_support import refused

from autosam_edge_training.evaluate.report import as_markdown, report, summarize, write_results
from autosam_edge_training.evaluate.scores import METRICS, Score, read_csv

NAN = math.nan


def rows(*values):
    """Scores of (case, organ, value)."""
    return [Score("net", "btcv", case, organ, v, v, v, v, 1, 1, (3.0, 1.0, 1.0)) for case, organ, v in values]


def test_organs_come_first_and_absent_ones_are_left_out():
    """Two cases, two organs, one absent in one case: mean over cases per organ and over organs per case."""
    summary = summarize(
        rows(("1", "liver", 0.9), ("1", "spleen", NAN), ("2", "liver", 0.7), ("2", "spleen", 0.5))
    )
    assert summary["organs"]["liver"]["dice"] == pytest.approx(0.8)
    assert summary["organs"]["spleen"]["cases"] == 1
    assert summary["cases"] == {"1": pytest.approx(0.9), "2": pytest.approx(0.6)}
    for metric in METRICS:
        assert summary[f"mean_{metric}"] == pytest.approx(0.65)
        assert summary[f"mean_{metric}_case_first"] == pytest.approx((0.9 + 0.6) / 2)


def test_what_no_case_has_counts_nowhere():
    """An organ that no case has and a case that has no organ; where nothing is left, there is no mean."""
    summary = summarize(
        rows(("1", "liver", 0.8), ("1", "spleen", NAN), ("2", "liver", NAN), ("2", "spleen", NAN))
    )
    assert list(summary["organs"]) == ["liver"]
    assert list(summary["cases"]) == ["1"]
    assert summary["mean_dice_case_first"] == pytest.approx(0.8)
    assert summarize(rows(("1", "liver", NAN)))["mean_dice"] is None


def test_the_files_say_the_same(tmp_path):
    """The summary's mean is the mean of the table; the Markdown shows it; no value in JSON is NaN."""
    scores = rows(("1", "liver", 0.9), ("1", "spleen", NAN), ("2", "liver", 0.7), ("2", "spleen", 0.5))
    summary = report(scores, "test", {"model": "net", "engine": None, "overlap": 0.5})
    write_results(tmp_path / "out", scores, summary)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "cases.csv",
        "summary.json",
        "summary.md",
    ]
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written == summary
    assert (written["method"], written["dataset"], written["data"]) == ("net", "btcv", "btcv test")
    assert {"cpu", "cores", "system", "versions"} <= set(written["machine"])
    assert summarize(read_csv(tmp_path / "out" / "cases.csv"))["mean_dice"] == summary["mean_dice"]
    assert "| **mean** | **0.650** |" in as_markdown(summary)
    assert "| spleen | 0.500 | 0.500 | 0.500 | 0.500 | 1 |" in as_markdown(summary)


def test_no_mean_is_shown_as_such():
    """Not as a number."""
    summary = report(rows(("1", "liver", NAN)), "test", {})
    assert "| **mean** | n/a | n/a | n/a | n/a | 0 |" in as_markdown(summary)


def test_a_folder_that_cannot_be_written_is_an_error_of_ours(tmp_path):
    """A file lies where the folder should be."""
    (tmp_path / "out").write_text("x")
    with refused("AE-OUTPUT-001"):
        write_results(
            tmp_path / "out", rows(("1", "liver", 0.5)), {**summarize([]), "method": "m", "data": "d"}
        )

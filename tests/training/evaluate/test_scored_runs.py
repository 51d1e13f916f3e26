"""Scored runs are read whole or refused."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("monai")
from autosam_edge_test_support import refused

from autosam_edge.errors import TrainingError
from autosam_edge_training.evaluate.scored_runs import find_runs, read_run, write_facts

ONE = {("1", "liver"): 0.8}


def test_the_mean_goes_over_cases_and_then_over_organs(write_run):
    """Liver (0.9 + 0.7) / 2, spleen 0.5, mean 0.65; the mean of the three rows would be 0.7."""
    dice = {("1", "liver"): 0.9, ("1", "spleen"): None, ("2", "liver"): 0.7, ("2", "spleen"): 0.5}
    run = read_run(write_run("a", dice, mean=0.65))
    assert run.means["dice"] == pytest.approx(0.65)
    assert run.means["nsd_1"] == pytest.approx(0.55)
    assert run.facts.weight == 0.5
    assert run.facts.spacing_mm == (1.5, 1.0, 1.0)


MISSING = object()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": MISSING}, "commit"),
        ({"colour": 1}, "colour"),
        ({"seed": "0"}, "seed"),
        ({"seed": True}, "seed"),
        ({"lambda": 1.5}, "lambda"),
        ({"lambda": None}, "a distilled run has a lambda"),
        ({"dataset": ""}, "dataset"),
        ({"spacing_mm": [1.0, 1.0]}, "spacing_mm"),
        ({"smoke": None}, "smoke"),
        ({"dataset": "phantoms"}, "a smoke run"),
    ],
)
def test_facts_that_are_not_right_are_refused(write_run, change, said):
    """Missing and unknown keys, other types, values out of range: AE-TRAIN-020 names the key."""
    folder = write_run("a", ONE, mean=0.8)
    facts = {**json.loads((folder / "run.json").read_text()), **change}
    facts = {key: value for key, value in facts.items() if value is not MISSING}
    (folder / "run.json").write_text(json.dumps(facts))
    with refused("AE-TRAIN-020", said):
        read_run(folder)


def test_scores_that_nobody_described_are_not_left_out_in_silence(write_run):
    """``cases.csv`` without ``run.json`` in the results is an error, not a row that is missing."""
    (write_run("a", ONE, mean=0.8) / "run.json").unlink()
    with refused("AE-TRAIN-020", "baseline record"):
        find_runs(write_run.results)


def test_cases_of_another_method_are_refused(write_run):
    """``cases.csv`` of one run beside ``run.json`` of another: AE-TRAIN-021."""
    folder = write_run("a", ONE, mean=0.8)
    path = folder / "cases.csv"
    path.write_text(path.read_text().replace("distill", "student"))
    with refused("AE-TRAIN-021", "of student on btcv"):
        read_run(folder)


@pytest.mark.parametrize(
    "summary", ['{"mean_dice": 0.81}', "{}", "[]", '{"mean_dice": null}', f'{{"mean_dice": {10**400}}}', None]
)
def test_a_summary_of_other_cases_is_refused(write_run, summary):
    """A mean that was edited by hand, or none at all, does not become a figure: AE-TRAIN-021."""
    folder = write_run("a", ONE, mean=0.8)
    if summary is None:
        (folder / "summary.json").unlink()
    else:
        (folder / "summary.json").write_text(summary)
    with refused("AE-TRAIN-021", "summary.json"):
        read_run(folder)


def test_a_run_without_a_scored_organ_is_refused(write_run):
    """The truth has none of the organs: there is no mean to show."""
    with pytest.raises(TrainingError, match="no scored organ"):
        read_run(write_run("a", {("1", "liver"): None}, mean=None))


def test_what_was_written_is_read(write_run, tmp_path):
    """``run.json`` keeps every fact, ``lambda`` by its name."""
    facts = read_run(write_run("a", ONE, mean=0.8)).facts
    write_facts(facts, tmp_path)
    assert json.loads((tmp_path / "run.json").read_text()) == write_run.facts
    assert facts.weight == 0.5


def test_runs_are_found_at_any_depth(write_run):
    """A smoke run only when smoke runs are asked for."""
    write_run("deep/a", ONE, mean=0.8)
    write_run("b", ONE, mean=0.8, dataset="amos", **{"lambda": 0.2})
    write_run("c", ONE, mean=0.8, smoke=True, dataset="phantoms")
    assert [run.folder.name for run in find_runs(write_run.results)] == ["b", "a"]
    assert [run.folder.name for run in find_runs(write_run.results, smoke=True)] == ["c"]


def test_an_absent_folder_holds_no_run(tmp_path):
    """Nothing was run: no error, no run."""
    assert find_runs(tmp_path / "none") == ()

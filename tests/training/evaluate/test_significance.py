"""Wilcoxon's test and Holm's correction in closed form, and comparisons that must not be made."""

from __future__ import annotations

import csv
import io
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("monai")
from autosam_edge_test_support import refused
from scipy.stats import rankdata, wilcoxon

from autosam_edge_training.evaluate.scores import METRICS, Score, as_csv, read_csv
from autosam_edge_training.evaluate.significance import (
    compare_methods,
    comparison_csv,
    comparison_markdown,
    holm,
    signed_rank,
)


def test_six_wins_of_six_reach_a_p_of_one_in_32():
    """2 of the 64 ways to give six ranks signs are as extreme: six test cases cannot go below 0.031."""
    test = signed_rank([0.01, 0.02, 0.03, 0.04, 0.05, 0.06])
    assert test.p == 0.03125 == test.smallest_p
    assert (test.n, test.zeros, test.method) == (6, 0, "exact")
    assert signed_rank([-0.01, -0.02, -0.03, -0.04, -0.05, -0.06]).p == 0.03125


def test_one_small_loss_among_six():
    """Rank 1 is negative: sums of 0 and 1, on either side, are as extreme: 4 of 64."""
    assert signed_rank([-1, 2, 3, 4, 5, 6]).p == 4 / 64


def test_zeros_are_left_out_and_counted():
    """They say nothing about the direction, and make n smaller."""
    assert signed_rank([0, 0, 0, 1, 2, 3]) == signed_rank([1, 2, 3]).__class__(
        n=3, zeros=3, p=0.25, method="exact", smallest_p=0.25, direction=1
    )


def test_differences_that_are_equal_but_for_rounding_are_ties():
    """0.3 - 0.2, 0.2 - 0.1 and 0.8 - 0.9 have one rank; 0.1 + 0.2 - 0.3 is no difference."""
    rounded = signed_rank([0.3 - 0.2, 0.2 - 0.1, 0.8 - 0.9, 0.5, 0.6, 0.7, 0.1 + 0.2 - 0.3])
    assert rounded == signed_rank([1, 1, -1, 5, 6, 7, 0])


def test_methods_that_are_the_same_do_not_differ():
    """Nothing but zeros, or nothing at all."""
    assert signed_rank([0.0, 0.0]).p == 1.0
    assert signed_rank([]).p == 1.0


@settings(max_examples=50)
@given(st.lists(st.integers(-4, 4).filter(bool), min_size=1, max_size=9))
def test_p_is_the_share_of_sign_choices_that_are_as_extreme(differences):
    """Ties included: counted by trying every choice."""
    ranks = rankdata(np.abs(differences))
    total = ranks.sum()
    observed = min(ranks[np.array(differences) > 0].sum(), ranks[np.array(differences) < 0].sum())
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s)
        for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    extreme = sum(min(s, total - s) <= observed + 1e-9 for s in sums)
    assert signed_rank(differences).p == pytest.approx(
        min(1.0, extreme / len(sums)) if observed < total / 2 else 1.0
    )


@pytest.mark.parametrize(("n", "method"), [(12, "exact"), (78, "exact"), (500, "exact"), (501, "approx")])
def test_without_ties_scipy_says_the_same(n, method):
    """Its exact p up to 500 pairs, beyond that its approximation."""
    differences = np.random.default_rng(n).normal(0.2, 1.0, n)
    test = signed_rank(differences)
    assert test.method == {"exact": "exact", "approx": "approximate"}[method]
    assert test.p == pytest.approx(wilcoxon(differences, method=method).pvalue, rel=1e-9)


def test_holm_steps_down():
    """0.01 x 3, then 0.03 x 2, then 0.04 x 1, never smaller than the one before."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]
    assert holm([]) == []


def table(path, method, gain=0.0, *, cases=6, organs=("liver", "spleen"), dataset="btcv", **changes):
    """A ``cases.csv`` with scores ``gain`` above the base, by another amount in each pair."""
    rows = []
    for number, (case, organ) in enumerate(itertools.product(range(cases), organs)):
        value = 0.5 + gain * (1 + 0.01 * number)
        values = dict.fromkeys(METRICS, value) | changes
        scores = (values[metric] for metric in METRICS)
        rows.append(Score(method, dataset, str(case), organ, *scores, 100 + number, 90, (3.0, 1.0, 1.0)))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(as_csv(rows))
    return path


def compared(folder, **options):
    """Ours, better by 0.1, against another method; ``options`` are those of the other's table."""
    return compare_methods(
        [table(folder / "ours.csv", "ours", 0.1), table(folder / "other.csv", "other", **options)]
    )


def of(result, metric="dice", other=None):
    (found,) = [c for c in result["comparisons"] if c["metric"] == metric and other in (None, c["other"])]
    return found


def test_a_method_that_always_wins_gets_the_star(tmp_path):
    """Twelve pairs, all better: p = 2 / 2^12, against both, and Holm doubles the smaller."""
    gains = {"ours": 0.1, "a": 0.0, "b": -0.1}
    result = compare_methods([table(tmp_path / f"{name}.csv", name, gain) for name, gain in gains.items()])
    assert of(result, other="a")["p"] == 2.0**-11
    assert of(result, other="a")["p_holm"] == 2.0**-10
    assert of(result, other="b")["mean_difference"] > of(result, other="a")["mean_difference"] > 0
    assert result["better_than_all"] == dict.fromkeys(METRICS, True)
    assert any("not independent" in line or "are not:" in line for line in result["warnings"])


def test_a_method_that_loses_to_one_gets_no_star(tmp_path):
    """Better than one of two is not better than all, and worse is never a star."""
    gains = {"ours": 0.1, "a": 0.0, "b": 0.2}
    result = compare_methods([table(tmp_path / f"{name}.csv", name, gain) for name, gain in gains.items()])
    assert of(result, other="b")["p"] < 0.01
    assert result["better_than_all"] == dict.fromkeys(METRICS, False)


@pytest.mark.parametrize("order", [("ours", "other"), ("other", "ours")])
def test_a_mean_against_the_ranks_gets_no_star_and_a_note(order, tmp_path):
    """Ours is a bit worse in 23 pairs and much better in one: the mean is for ours, the ranks are not."""
    table(tmp_path / "other.csv", "other", cases=12)
    ours = table(tmp_path / "ours.csv", "ours", -0.001, cases=12)
    first, *rest = read_csv(ours)
    ours.write_text(as_csv([replace(first, **dict.fromkeys(METRICS, 0.9)), *rest]))
    result = compare_methods([tmp_path / f"{name}.csv" for name in order])
    assert of(result)["p"] < 0.001
    assert (of(result)["mean_difference"] > 0) == (order[0] == "ours")
    assert result["better_than_all"] == dict.fromkeys(METRICS, False)
    note = (
        "The mean and the ranks point in different directions: ours is better by the mean, other by the ranks"
    )
    assert result["warnings"][0] == f"{note} (dice, nsd_1, nsd_2, nsd_3)."
    text = comparison_markdown(result)
    assert f"- {note}" in text
    assert "| against | mean of pairs, ours | mean of pairs, other |" in text


def test_six_cases_cannot_be_significant_by_case(tmp_path):
    """The unit of a case gives n = 6, and a line says what p can be reached."""
    tables = [table(tmp_path / "ours.csv", "ours", 0.1), table(tmp_path / "other.csv", "other")]
    result = compare_methods(tables, unit="case")
    assert (of(result)["n"], of(result)["p"], of(result)["smallest_p"]) == (6, 0.03125, 0.03125)
    assert not result["better_than_all"]["dice"]
    assert result["warnings"] == [
        "With 6 pairs that differ, p cannot be smaller than 0.0312, whatever the methods do."
    ]
    assert of(result)["mean_ours"] == pytest.approx(np.mean([0.5 + 0.1 * (1 + 0.01 * n) for n in range(12)]))


def test_metrics_are_tested_apart(tmp_path):
    """Equal Dice, better surfaces: zeros are stated for the one, a star stands at the other."""
    result = compare_methods(
        [table(tmp_path / "ours.csv", "ours", 0.1, dice=0.5), table(tmp_path / "other.csv", "other")]
    )
    assert (of(result)["zeros"], of(result)["n"], of(result)["p"]) == (12, 0, 1.0)
    assert result["better_than_all"] == {"dice": False, "nsd_1": True, "nsd_2": True, "nsd_3": True}
    assert "Pairs without a difference are left out: 12 for dice against other." in result["warnings"]


def test_pairs_without_a_partner_are_left_out_and_counted(tmp_path):
    """Another tool that knows one organ only."""
    result = compared(tmp_path, organs=("liver", "lung"))
    assert of(result)["n"] == 6
    assert any("12 organs of cases" in line for line in result["warnings"])


def test_skipped_scores_make_no_pair(tmp_path):
    """NaN in one of the two."""
    result = compared(tmp_path)
    text = (tmp_path / "other.csv").read_text()
    text = text.replace("other,btcv,0,liver,0.5,0.5,0.5,0.5", "other,btcv,0,liver,,,,")
    (tmp_path / "other.csv").write_text(text)
    again = compare_methods([tmp_path / "ours.csv", tmp_path / "other.csv"])
    assert of(again)["n"] == of(result)["n"] - 1


@pytest.mark.parametrize(
    "changes",
    [{"dataset": "amos"}, {"organs": ("lung", "heart")}, {"organs": ("spleen", "liver")}],
    ids=["data set", "organs", "truth"],
)
def test_scores_of_other_data_are_not_compared(changes, tmp_path):
    """Another data set, no organ in common, or the same organ with another size in the truth."""
    with refused("AE-DATA-013"):
        compared(tmp_path, **changes)


def test_methods_of_one_name_are_told_apart_by_their_folders(tmp_path):
    """Two runs of one student."""
    tables = [table(tmp_path / name / "cases.csv", "student") for name in ("run1", "run2")]
    result = compare_methods(tables)
    assert (result["ours"], of(result)["other"]) == ("student (run1)", "student (run2)")


def test_a_method_against_itself_differs_nowhere(tmp_path):
    """The same table twice: no pair differs, p is 1, and both can be told apart."""
    path = table(tmp_path / "run" / "cases.csv", "student")
    result = compare_methods([path, path])
    assert (result["ours"], of(result)["other"]) == ("student (run) #1", "student (run) #2")
    assert (of(result)["p"], of(result)["smallest_p"]) == (1.0, 1.0)
    assert (
        "With 0 pairs that differ, p cannot be smaller than 1, whatever the methods do." in result["warnings"]
    )


def test_the_tables_show_what_was_found(tmp_path):
    """CSV: a row per comparison; Markdown: a star, both p, every warning."""
    result = compared(tmp_path)
    found = list(csv.DictReader(io.StringIO(comparison_csv(result))))
    assert [row["metric"] for row in found] == list(METRICS)
    assert float(found[0]["p"]) == 2.0**-11
    text = comparison_markdown(result)
    assert "## dice *" in text
    assert "| other | 0.6055 | 0.5000 | +0.1055 | 12 | 0 | 0.000488 | 0.000488 | exact |" in text
    assert all(f"- {line}" in text for line in result["warnings"])


def test_pairs_that_another_rule_for_absent_organs_leaves_out_are_named(tmp_path):
    """Here a score, there none: the two tables were made with different --absent-organ."""
    ours, other = (table(tmp_path / f"{name}.csv", name) for name in ("ours", "other"))
    first, *rest = read_csv(other)
    other.write_text(as_csv([replace(first, dice=math.nan), *rest]))
    warnings = compare_methods([ours, other])["warnings"]
    assert any(line.startswith("1 absent organs count by the --absent-organ of one") for line in warnings)

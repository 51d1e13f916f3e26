"""Our values and their difference from the paper's, which runs are averaged, and the significance test."""

from __future__ import annotations

import pytest

pytest.importorskip("monai")
from autosam_edge_test_runs import one_score as one

from autosam_edge.errors import TrainingError
from autosam_edge_benchmarks.paper.render import as_markdown, text_rows, write_table
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE, Cell, build_table


def line(table, key, dataset="btcv"):
    (found,) = [entry for entry in table.lines if entry.row.key == key and entry.dataset == dataset]
    return found


@pytest.mark.parametrize(
    ("name", "key", "measure", "text", "value"),
    [
        ("table1", "nnunet", "dice", "not known here", None),
        ("table1", "ours", "parameters", "26.53", 26.53),
        ("table1", "nnformer", "parameters", "150", 150.0),
        ("table2", "sam-point", "nsd", "-", None),
        ("table4", "0.5", "dice", "83.27", 83.27),
        ("table4", "swinunetr-tiny-0.5", "dice", "not in the paper", None),
        ("figure4", "tiny-alone", "dice", "not known here", None),
    ],
)
def test_a_value_that_is_not_known_is_not_a_number(name, key, measure, text, value, tmp_path):
    """A text in the place of a value is shown as it is, and has no number."""
    cell = line(build_table(table_spec(name), tmp_path), key).cells[measure]
    assert (cell.paper, cell.paper_value) == (text, value)


@pytest.mark.parametrize(
    ("paper", "ours", "difference"),
    [("83.27", 80.0, -3.27), ("83.27", None, None), ("-", 80.0, None), ("not known here", None, None)],
)
def test_the_difference_needs_both_values(paper, ours, difference):
    """Ours minus the paper's; None if one of them is missing."""
    assert Cell(paper, ours).difference == (None if difference is None else pytest.approx(difference))


def test_ours_less_the_paper(write_run):
    """One run at lambda 0.5 with a Dice of 0.8: 80 - 83.27 = -3.27, and no other row is filled."""
    write_run("a", **one(0.8))
    table = build_table(table_spec("table4"), write_run.results)
    assert line(table, "0.5").cells["dice"].difference == pytest.approx(-3.27)
    rest = ["autosam-vit-b", "0", "100", "1.5 x 1 x 1", "a"]
    assert text_rows(table)[2] == ["swinunetr-small, 0.5", "BTCV", "mDice", "83.27", "80.00", "-3.27", *rest]
    assert sum(bool(entry.runs) for entry in table.lines) == 1


def test_seeds_are_averaged_with_their_spread(write_run):
    """0.80, 0.82 and 0.84: mean 82, sample deviation 2, three seeds."""
    for seed, value in enumerate((0.80, 0.82, 0.84)):
        write_run(f"s{seed}", **one(value), seed=seed)
    table = build_table(table_spec("table4"), write_run.results)
    cell = line(table, "0.5").cells["dice"]
    assert (cell.ours, cell.deviation, cell.seeds) == (pytest.approx(82.0), pytest.approx(2.0), 3)
    assert "82.00 ± 2.00" in as_markdown(table)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 200},
        {"spacing_mm": [3.0, 3.0, 3.0]},
        {"data_sha256": "2" * 64},
        {"reduction": "element"},
        {"teacher": "pocketnet"},
        {"recipe_sha256": "3" * 64},
    ],
)
def test_runs_of_another_configuration_have_their_own_line(write_run, change):
    """Steps, grid, data or loss differ: two lines with one seed each, never a mean."""
    write_run("a", **one(0.8))
    write_run("b", **one(0.6), seed=1, **change)
    lines = [
        entry
        for entry in build_table(table_spec("table4"), write_run.results).lines
        if entry.row.key == "0.5"
    ]
    assert sorted(entry.cells["dice"].ours for entry in lines) == [pytest.approx(60), pytest.approx(80)]


def test_two_runs_with_the_same_seed_are_refused(write_run):
    """A copy of a folder would look like a second seed."""
    write_run("a", **one(0.8))
    write_run("b", **one(0.8))
    with pytest.raises(TrainingError) as caught:
        build_table(table_spec("table4"), write_run.results)
    assert caught.value.code == "AE-TRAIN-022"


def test_smoke_and_real_runs_never_meet(write_run):
    """A smoke run is shown only in a smoke table, which has another title and other file names."""
    write_run("real", **one(0.8))
    write_run("smoke", **one(0.3), smoke=True, dataset="phantoms", seed=1)
    real = build_table(table_spec("table4"), write_run.results)
    smoke = build_table(table_spec("table4"), write_run.results, smoke=True)
    assert line(real, "0.5").cells["dice"].ours == pytest.approx(80)
    assert line(smoke, "0.5").cells["dice"].ours == pytest.approx(30)
    assert SMOKE_TITLE in as_markdown(smoke)
    assert SMOKE_TITLE not in as_markdown(real)
    assert not {path.name for path in write_table(smoke, write_run.results)} & {
        path.name for path in write_table(real, write_run.results)
    }


def test_table_1_has_parameters_dice_and_nsd(write_run):
    """Each run gives its row parameters in millions, mDice and mNSD; a row without a run has no value."""
    bare = {"lambda": None, "reduction": None}
    write_run(
        "with",
        **one(0.87),
        method="teacher",
        network="autosam-vit-b",
        apg=True,
        trainable_parameters=26_530_176,
        **bare,
    )
    write_run("without", **one(0.85), method="teacher", network="autosam-vit-b", apg=False, **bare)
    write_run("unetr", **one(0.7), method="student", network="monai:UNETR", **bare)
    write_run(
        "nnunet", **one(0.83), method="nnunet", network="nnunet", trainable_parameters=None, seed=None, **bare
    )
    table = build_table(table_spec("table1"), write_run.results, datasets=("btcv",))
    ours = {entry.row.key: [cell.ours for cell in entry.cells.values()] for entry in table.lines}
    assert ours["ours"] == [pytest.approx(26.530176), pytest.approx(87), pytest.approx(77)]
    assert ours["unetr"][1] == pytest.approx(70)
    assert ours["nnunet"] == [None, pytest.approx(83), pytest.approx(73)]
    assert ours["nnformer"] == [None, None, None]
    assert {entry.dataset for entry in table.lines} == {"btcv"}


def many(value):
    """Six cases of thirteen organs, whose Dice differ a little from pair to pair."""
    dice = {
        (str(case), f"organ {organ}"): value + 0.001 * ((7 * case + organ) % 10)
        for case in range(6)
        for organ in range(13)
    }
    return {"dice": dice, "mean": sum(dice.values()) / len(dice)}


BASELINES = {"nnunet": 0.7, "nnformer": 0.6, "unetr": 0.5, "swinunetr": 0.4}


@pytest.mark.parametrize(
    ("without", "value", "star"), [(None, 0.8, True), (None, 0.65, False), ("nnformer", 0.8, None)]
)
def test_a_star_needs_every_baseline(write_run, without, value, star):
    """Better in all 78 pairs than each of four: a star. Worse than one: none. One was not run: a remark."""
    bare = {"lambda": None, "reduction": None}
    for method, dice in BASELINES.items():
        if method != without:
            write_run(method, **many(dice), method=method, network=method, **bare)
    write_run("ours", **many(value), method="teacher", apg=True, **bare)
    table = build_table(table_spec("table1"), write_run.results, datasets=("btcv",))
    assert line(table, "ours").significant is star
    assert line(table, "nnunet").significant is None
    assert any(text.endswith(" *") for row in text_rows(table) for text in row) is bool(star)
    assert any("no run of nnFormer" in remark for remark in table.remarks) is (star is None)
    tests = [remark for remark in table.remarks if "Wilcoxon p" in remark]
    assert len(tests) == 2 * (len(BASELINES) - (without is not None))
    assert all("78 organs of cases" in remark for remark in tests)

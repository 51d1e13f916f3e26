"""Paper beside ours: the arithmetic, and what happens where one of the two is missing."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("monai")
from autosam_edge.errors import TrainingError
from autosam_edge_benchmarks.paper.published import DASH, EXHIBITS, PAPER, UNKNOWN, printed
from autosam_edge_benchmarks.paper.render import (
    as_dict,
    as_markdown,
    footnotes,
    headings,
    text_rows,
    write_table,
)
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE, build_table

TABLES = [name for name in EXHIBITS if name not in ("figure1", "figure3")]


def one(value):
    return {"dice": {("1", "liver"): value}, "mean": value}


def line(table, key, dataset="btcv"):
    (found,) = [entry for entry in table.lines if entry.row.key == key and entry.dataset == dataset]
    return found


@pytest.mark.parametrize("name", TABLES)
def test_without_runs_every_figure_of_ours_is_absent(name, tmp_path):
    """A row per row and data set of the paper; ours and the difference are n/a in each, and null in JSON."""
    table = build_table(table_spec(name), tmp_path / "none")
    spec = table.spec
    assert len(table.lines) == len(spec.rows) * len(spec.datasets)
    ours = [
        headings(table).index(heading)
        for heading in ("ours", "difference", "teacher", "seeds", "steps", "machine")
    ]
    assert len(text_rows(table)) == len(table.lines) * len(spec.measures)
    assert {row[i] for row in text_rows(table) for i in ours} == {"n/a"}
    assert {cell["ours"] for row in as_dict(table)["rows"] for cell in row["values"].values()} == {None}


@pytest.mark.parametrize("name", TABLES)
def test_every_printed_value_has_a_place_in_its_table(name, tmp_path):
    """No entry of the paper is lost for a key that no row has."""
    table = build_table(table_spec(name), tmp_path)
    keys = {row.key for row in table.spec.rows}
    entries = [entry for entry in PAPER if entry.exhibit == name]
    assert {entry.row for entry in entries} <= keys
    shown = {
        (entry.row.key, cell.measure): cell.paper
        for entry in table.lines
        if entry.dataset == "btcv"
        for cell in entry.cells
    }
    assert all(
        shown[entry.row, entry.measure] == entry.printed for entry in entries if entry.dataset != "amos"
    )


def test_what_is_not_known_is_not_a_number():
    """Table 1's scores were never read; the point rows print a dash; table 4 is known."""
    assert printed("table1", "nnunet", "dice", "btcv") is UNKNOWN
    assert str(UNKNOWN) == "not known here"
    assert printed("table2", "sam-point", "nsd", "amos") is DASH
    assert printed("table4", "0.5", "dice", "btcv").value == 83.27
    assert printed("table4", "0.5", "dice", "amos") is UNKNOWN
    assert printed("table1", "ours", "parameters", "amos").value == 26.53


def test_ours_less_the_paper(write_run):
    """One run at lambda 0.5 with a Dice of 0.8: 80 - 83.27 = -3.27, and no other row is filled."""
    write_run("a", **one(0.8))
    table = build_table(table_spec("table4"), write_run.results)
    (cell,) = line(table, "0.5").cells
    assert cell.difference == pytest.approx(-3.27)
    told = ["autosam-vit-b", "0", "100", "1.5 x 1 x 1", "a"]
    assert text_rows(table)[2] == ["swinunetr-small, 0.5", "BTCV", "mDice", "83.27", "80.00", "-3.27", *told]
    assert sum(bool(entry.runs) for entry in table.lines) == 1


def test_seeds_are_averaged_with_their_spread(write_run):
    """0.80, 0.82 and 0.84: mean 82, sample deviation 2, three seeds."""
    for seed, value in enumerate((0.80, 0.82, 0.84)):
        write_run(f"s{seed}", **one(value), seed=seed)
    found = line(build_table(table_spec("table4"), write_run.results), "0.5")
    assert found.cells[0].ours.mean == pytest.approx(82.0)
    assert found.cells[0].ours.deviation == pytest.approx(2.0)
    assert found.cells[0].ours.seeds == 3
    assert str(found.cells[0].ours) == "82.00 ± 2.00"


@pytest.mark.parametrize(
    "change",
    [
        {"steps": 200},
        {"spacing_mm": [3.0, 3.0, 3.0]},
        {"data_sha256": "2" * 64},
        {"reduction": "element"},
        {"teacher": "pocketnet"},
    ],
)
def test_runs_of_another_kind_are_lines_of_their_own(write_run, change):
    """Steps, grid, data or loss differ: two lines with one seed each, never a mean."""
    write_run("a", **one(0.8))
    write_run("b", **one(0.6), seed=1, **change)
    lines = [
        entry
        for entry in build_table(table_spec("table4"), write_run.results).lines
        if entry.row.key == "0.5"
    ]
    assert sorted(entry.cells[0].ours.mean for entry in lines) == [pytest.approx(60), pytest.approx(80)]


def test_a_run_that_is_there_twice_is_refused(write_run):
    """A copy of a folder would look like a second seed."""
    write_run("a", **one(0.8))
    write_run("b", **one(0.8))
    with pytest.raises(TrainingError) as caught:
        build_table(table_spec("table4"), write_run.results)
    assert caught.value.code == "AE-TRAIN-022"


def test_smoke_and_real_runs_never_meet(write_run):
    """A smoke run is shown only in a smoke table, whose title says what it is worth; its files have another name."""
    write_run("real", **one(0.8))
    write_run("smoke", **one(0.3), smoke=True, dataset="phantoms", seed=1)
    real = build_table(table_spec("table4"), write_run.results)
    smoke = build_table(table_spec("table4"), write_run.results, smoke=True)
    assert line(real, "0.5").cells[0].ours.mean == pytest.approx(80)
    assert line(smoke, "0.5").cells[0].ours.mean == pytest.approx(30)
    assert SMOKE_TITLE in as_markdown(smoke)
    assert SMOKE_TITLE not in as_markdown(real)
    assert not {path.name for path in write_table(smoke, write_run.results)} & {
        path.name for path in write_table(real, write_run.results)
    }


def test_a_machine_is_told_once_below_the_table(write_run):
    """Two seeds on two machines: letters in the row, the machines in the notes and in full in the CSV."""
    write_run("a", **one(0.8))
    write_run("b", **one(0.8), seed=1, machine="another")
    table = build_table(table_spec("table4"), write_run.results)
    assert text_rows(table)[2][-1] == "a, b"
    assert [note for note in footnotes(table) if note.startswith("Machine")] == [
        "Machine a: a machine.",
        "Machine b: another.",
    ]
    assert "a machine; another" in write_table(table, write_run.results)[1].read_text()


def test_a_student_that_the_paper_has_not_stands_below_its_own(write_run):
    """Tiny in table 4, PocketNet among the bars: ours is shown, there is no value of the paper and no difference, and how it was told."""
    write_run("t", **one(0.4), network="swinunetr-tiny", reduction="element")
    write_run("p", **one(0.6), network="pocketnet")
    table = build_table(table_spec("table4"), write_run.results)
    (row,) = [row for row in text_rows(table) if row[0] == "swinunetr-tiny, 0.5"]
    assert row[3:7] == ["not in the paper", "40.00", "n/a", "autosam-vit-b, element mean"]
    bars = line(build_table(table_spec("figure4"), write_run.results), "pocketnet-distilled")
    assert (bars.cells[0].ours.mean, bars.cells[0].difference) == (pytest.approx(60), None)


def test_lambda_one_is_the_student_without_a_teacher(write_run):
    """One run answers the last row of table 4 and the first bar of figure 4."""
    write_run("alone", **one(0.79), method="student", **{"lambda": None, "reduction": None})
    assert line(build_table(table_spec("table4"), write_run.results), "1").cells[
        0
    ].ours.mean == pytest.approx(79)
    assert line(build_table(table_spec("figure4"), write_run.results), "small-alone").cells[
        0
    ].ours.mean == pytest.approx(79)


def test_table_1_takes_what_belongs_to_it(write_run):
    """A teacher with its prompt generator is ours, one without is not; MONAI's UNETR from our recipe is UNETR; parameters are counted."""
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
    ours = {
        entry.row.key: [cell.ours.mean if cell.ours else None for cell in entry.cells]
        for entry in table.lines
    }
    assert ours["ours"] == [pytest.approx(26.530176), pytest.approx(87), pytest.approx(77)]
    assert ours["unetr"][1] == pytest.approx(70)
    assert ours["nnunet"] == [None, pytest.approx(83), pytest.approx(73)]
    assert ours["nnformer"] == [None, None, None]
    assert {entry.dataset for entry in table.lines} == {"btcv"}


def test_the_files_tell_what_the_table_shows(write_run, tmp_path):
    """Markdown with as many cells as headings, CSV in full numbers, JSON with null for what is absent."""
    write_run("a", **one(0.8))
    table = build_table(table_spec("table4"), write_run.results)
    markdown, rows, told = (path.read_text() for path in write_table(table, tmp_path / "out"))
    assert {text.count("|") for text in markdown.splitlines() if text.startswith("|")} == {
        len(headings(table)) + 1
    }
    assert all(note in markdown for note in footnotes(table))
    by_row = {row["row"]: row for row in csv.DictReader(rows.splitlines())}
    assert float(by_row["0.5"]["difference"]) == pytest.approx(-3.27)
    assert by_row["0"]["ours"] == by_row["0"]["difference"] == "n/a"
    values = {row["row"]: row["values"]["dice"] for row in json.loads(told)["rows"]}
    assert values["0.5"]["ours"] == pytest.approx(80)
    assert values["0"] == {
        "paper": 78.54,
        "paper_prints": "78.54",
        "ours": None,
        "deviation": None,
        "seeds": 0,
        "difference": None,
    }


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
    """Better in all 78 pairs than each of four: a star. Worse than one: none. One was not run: not tested, and the table says which."""
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

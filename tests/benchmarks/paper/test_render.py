"""A table as text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import json

import pytest

pytest.importorskip("monai")
from autosam_edge_test_runs import one_score as one

from autosam_edge_benchmarks.paper.render import as_dict, footnotes, headings, text_rows, write_table
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import build_table


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "figure4"])
def test_without_runs_every_value_of_ours_is_absent(name, tmp_path):
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


def test_machines_are_letters_that_the_notes_explain(write_run):
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


def test_a_student_that_the_paper_does_not_have(write_run):
    """Tiny in table 4, PocketNet in figure 4: our value and the teacher are shown, and no difference."""
    write_run("t", **one(0.4), network="swinunetr-tiny", reduction="element")
    write_run("p", **one(0.6), network="pocketnet")
    table = build_table(table_spec("table4"), write_run.results)
    (row,) = [row for row in text_rows(table) if row[0] == "swinunetr-tiny, 0.5"]
    assert row[3:7] == ["not in the paper", "40.00", "n/a", "autosam-vit-b, element mean"]
    bars = text_rows(build_table(table_spec("figure4"), write_run.results))
    (row,) = [row for row in bars if row[0] == "pocketnet distilled"]
    assert row[3:6] == ["not in the paper", "60.00", "n/a"]


def test_the_files_have_the_values_of_the_table(write_run, tmp_path):
    """Markdown with as many cells as headings, CSV in full numbers, JSON with null for what is absent."""
    write_run("a", **one(0.8))
    table = build_table(table_spec("table4"), write_run.results)
    markdown, rows, text = (path.read_text() for path in write_table(table, tmp_path / "out"))
    assert {text.count("|") for text in markdown.splitlines() if text.startswith("|")} == {
        len(headings(table)) + 1
    }
    assert all(note in markdown for note in footnotes(table))
    by_row = {row["row"]: row for row in csv.DictReader(rows.splitlines())}
    assert float(by_row["0.5"]["difference"]) == pytest.approx(-3.27)
    assert by_row["0"]["ours"] == by_row["0"]["difference"] == "n/a"
    values = {row["row"]: row["values"]["dice"] for row in json.loads(text)["rows"]}
    assert values["0.5"]["ours"] == pytest.approx(80)
    assert values["0"] == {
        "paper": 78.54,
        "paper_prints": "78.54",
        "ours": None,
        "deviation": None,
        "seeds": 0,
        "difference": None,
    }

"""The rows of the tables have the runs that belong to them."""

from __future__ import annotations

import pytest

pytest.importorskip("monai")
from autosam_edge_test_runs import FACTS

from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_training.evaluate.scored_runs import RunFacts

TEACHER = {
    "method": "teacher",
    "network": "autosam-vit-b",
    "lambda": None,
    "reduction": None,
    "teacher": None,
}
STUDENT = {**TEACHER, "method": "student"}


def rows(exhibit, facts):
    """Keys of the rows that take a run."""
    run = {**FACTS, **facts, "spacing_mm": (1.5, 1.0, 1.0)}
    run["weight"] = run.pop("lambda")
    return [row.key for row in table_spec(exhibit).rows if row.matches(RunFacts(**run))]


@pytest.mark.parametrize("name", ["table1", "table2", "table3", "table4", "figure4"])
def test_every_printed_value_is_of_a_measure_that_its_table_shows(name):
    """No value of the paper is lost, and no two rows of a table have the same key."""
    spec = table_spec(name)
    assert {measure for row in spec.rows for measure in row.paper} <= set(spec.measures)
    assert len({row.key for row in spec.rows}) == len(spec.rows)


@pytest.mark.parametrize(
    ("exhibit", "facts", "keys"),
    [
        ("table1", {**TEACHER, "apg": True}, ["ours"]),
        ("table1", {**TEACHER, "apg": False}, []),
        ("table1", {**STUDENT, "network": "monai:UNETR"}, ["unetr"]),
        ("table1", {**STUDENT, "method": "unetr", "network": "any"}, ["unetr"]),
        ("table1", {**STUDENT, "network": "swinunetr-small"}, []),
        ("table2", {**STUDENT, "method": "medsam-pm"}, ["medsam-pm"]),
        ("table3", {**TEACHER, "apg": False}, ["without"]),
        ("table4", {"lambda": 0.2}, ["0.2"]),
        ("table4", {"lambda": 0.3}, []),
        ("table4", {"lambda": 0.1 + 0.2 - 0.1}, ["0.2"]),
        ("table4", {"lambda": 1.0}, ["1"]),
        ("table4", {**STUDENT, "network": "swinunetr-tiny"}, ["swinunetr-tiny-1"]),
        ("figure4", {"lambda": 0.5, "network": "pocketnet"}, ["pocketnet-distilled"]),
        ("figure4", {"lambda": 0.8}, []),
        ("figure4", {**STUDENT, "network": "swinunetr-small"}, ["small-alone"]),
    ],
)
def test_a_run_is_in_its_row_and_in_no_other(exhibit, facts, keys):
    """Method, network, lambda and prompt generator decide; a student without a teacher has lambda 1."""
    assert rows(exhibit, facts) == keys


@pytest.mark.parametrize(("exhibit", "keys"), [("table4", ["0.5"]), ("figure4", ["small-distilled"])])
def test_another_student_takes_the_place_of_small(exhibit, keys):
    """As the only student of the table."""
    run = RunFacts(
        **{key: value for key, value in FACTS.items() if key != "lambda"}
        | {"weight": 0.5, "network": "x", "spacing_mm": None}
    )
    assert [row.key for row in table_spec(exhibit, student="x").rows if row.matches(run)] == keys
    assert {row.title.split(",")[0].split()[0] for row in table_spec(exhibit, student="x").rows} == {"x"}

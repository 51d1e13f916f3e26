"""A row, its schema, its figures and its line in a table."""

from __future__ import annotations

import dataclasses
import json

import pytest
from autosam_edge_test_rows import make_row
from jsonschema import Draft202012Validator

from autosam_edge.errors import BenchError
from autosam_edge_benchmarks.rows.figures import Sustained, TileLatency, within
from autosam_edge_benchmarks.rows.row import read_row
from autosam_edge_benchmarks.rows.schema import SCHEMA_FILE, row_schema
from autosam_edge_benchmarks.rows.table import COLUMNS, cells, notes, where_time_goes


def stored(folder, change=lambda row: row):
    row = json.loads(json.dumps(dataclasses.asdict(make_row())))
    change(row)
    (folder / "row.json").write_text(json.dumps(row))
    return folder / "row.json"


def test_the_schema_file_is_that_of_the_classes():
    """Every key is required, no other is allowed, and each has its sentence. Run schema.py after a change."""
    assert SCHEMA_FILE.read_text() == row_schema()
    schema = json.loads(row_schema())
    assert schema["required"] == list(schema["properties"])
    device = schema["properties"]["device"]
    assert all("description" in entry for entry in device["properties"].values())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda row: None, ""),
        (lambda row: row["device"].pop("governor"), "lacks the key 'governor'"),
        (lambda row: row.update(extra=1), "unknown key 'extra'"),
        (lambda row: row.update(schema_version=2), "schema_version is 2"),
        (lambda row: row["load"].update(first_s="fast"), "first_s is 'fast'"),
        (lambda row: row["artifact"].update(tile=[96, 96]), "has 2 elements"),
    ],
)
def test_the_reader_and_the_schema_take_the_same_rows(tmp_path, change, told):
    """What one refuses the other refuses too; the reader names the key."""
    path = stored(tmp_path, change)
    errors = list(Draft202012Validator(json.loads(row_schema())).iter_errors(json.loads(path.read_text())))
    assert bool(errors) == bool(told)
    if told:
        with pytest.raises(BenchError, match=f"AE-BENCH-003: row.json is no row of a benchmark: .*{told}"):
            read_row(path)
    else:
        assert read_row(path) == make_row()


@pytest.mark.parametrize(("n", "p90"), [(43, None), (44, 38.7)])
def test_a_p90_needs_44_samples(n, p90):
    """Samples 0, 1, 2, ...: 90 % of the way from the first to the last."""
    latency = TileLatency.of([range(n)], 0)
    assert (latency.n, latency.min, latency.p50, latency.p90) == (
        n,
        0,
        (n - 1) / 2,
        pytest.approx(p90) if p90 else None,
    )


@pytest.mark.parametrize(
    ("medians", "same"), [((100, 104, 101), True), ((100, 106, 101), False), ((100, 100), None)]
)
def test_three_repeats_within_5_percent_are_stable(medians, same):
    """The distance of the outer ones, as a share of the median."""
    assert within(medians) is same


def test_sustained_work_is_the_last_quarter_by_the_first():
    """100 ms, then 150: half as slow again; the curve has at most 40 parts and ends at the whole time."""
    found = Sustained.of([100.0] * 60 + [150.0] * 40)
    assert found.last_to_first == 1.5
    assert len(found.curve) <= 40
    assert found.curve[-1] == (12.0, 150.0)


@pytest.mark.parametrize("word", ["quiet", "noisy", "unstable", "not repeated"])
def test_the_line_of_a_row_says_whether_its_times_may_be_quoted(word):
    """The last cell; the reason stands below the table."""
    row = make_row(word=word)
    line = dict(zip(COLUMNS, cells(row), strict=True))
    assert line == {
        "artifact": "onnx/fp32, 1 thread",
        "load s": "0.20",
        "tile p50 ms": "100",
        "p90": "",
        "scans s": "4.0 / 8.0",
        "peak MB": "760 / 920",
        "J a scan": "",
        "last / first": "1.20",
        "Dice": "0.770",
        "timing": word,
    }
    below = " ".join(notes([row]))
    assert "Scan: phantom, 320 x 512 x 512, slices repeated." in below
    assert all(reason in below for reason in row.validity.reasons)


def test_where_the_time_goes_is_told_for_each_row():
    """The stages of the first scan, and the slowest operators of a tile."""
    told = " ".join(where_time_goes([make_row()]))
    parts = "read 1.2 s, network 1.6 s, write 0.4 s, program start and short stages 0.8 s"
    assert f"onnx/fp32, 1 thread, the first scan: {parts}." in told
    assert "2.0 times the floor of 50 ms a tile, 12 tiles in the first scan;" in told
    assert "slowest operators: Conv 80 ms (floor 40)." in told

"""The tables of the paper, read from ``tables.yaml``, and which of our runs belong to a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import field, replace
from functools import cache
from pathlib import Path
from typing import Literal

import yaml

from autosam_edge_benchmarks.choices import Dataset, Exhibit
from autosam_edge_training.evaluate.scored_runs import Method, RunFacts
from autosam_edge_training.strict import STRICT, checked_dataclass, parse_values

EDITION = "arXiv 2308.14936, the edition that distills (v1, v2)"
UNKNOWN = "not known here"
"""Text in place of a value of the paper that we did not read."""
_SMALL = "swinunetr-small"

Measure = Literal["parameters", "dice", "nsd"]


@checked_dataclass(config=STRICT)
class Published:
    """A result that others published, for comparison.

    Args:
        dice: Mean Dice, percent.
        protocol: Split and inference, in a few words. Values of different protocols are not comparable.
        source: Repository and file of the value.
    """

    what: str
    dataset: Dataset
    dice: float
    protocol: str
    source: str


@checked_dataclass(config=STRICT)
class Row:
    """A row of a table.

    Args:
        key: Name of the row in JSON and CSV.
        method: Method of the row's runs; None for a student.
        network: Network of a student; beside a method, our student recipe with it counts as the method too.
        weight: Lambda of a student.
        apg: With or without the auto prompt generator; None where it does not matter.
        paper: Value that the paper prints, by measure, as text: percent, or millions of parameters.
    """

    key: str
    title: str
    method: Method | None = None
    network: str | None = None
    weight: float | None = None
    apg: bool | None = None
    paper: Mapping[Measure, str] = field(default_factory=dict)

    def matches(self, run: RunFacts) -> bool:
        """Whether a scored run belongs to this row; a student without a teacher has lambda 1."""
        if self.method == run.method:
            return self.apg in (None, run.apg)
        if self.weight is None:
            return run.method == "student" and run.network == self.network
        found = 1.0 if run.method == "student" else run.weight
        same = found is not None and math.isclose(found, self.weight, abs_tol=1e-9)
        return same and run.network == self.network


@checked_dataclass(config=STRICT)
class PaperTable:
    """A table of the paper, or a figure that shows values.

    Args:
        rows: Rows in the paper's order.
        notes: Sentences below the table.
        published: Results of others, printed below the table.
        test_last_row: True if the last row is ours and is tested against each other row.
    """

    exhibit: Exhibit
    title: str
    heading: str
    measures: tuple[Measure, ...]
    datasets: tuple[Dataset, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    published: tuple[Published, ...] = ()
    test_last_row: bool = False


@cache
def _tables() -> dict[str, PaperTable]:
    content = yaml.safe_load(Path(__file__).with_name("tables.yaml").read_bytes())
    return {table.exhibit: table for table in parse_values(tuple[PaperTable, ...], content["tables"])}


def table_spec(exhibit: Exhibit, *, student: str | None = None) -> PaperTable:
    """Return the definition of a table, or of the figure that is drawn from one.

    Args:
        student: Network that takes the place of the paper's student Small, as the only student of the table;
            None for the students of our experiments.
    """
    table = _tables()[exhibit]
    if student is None:
        return table
    rows = [
        replace(row, network=student, title=row.title.replace(_SMALL, student))
        if row.network == _SMALL
        else row
        for row in table.rows
        if row.weight is None or row.network == _SMALL
    ]
    return replace(table, rows=tuple(rows))

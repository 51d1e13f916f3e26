"""A table of the paper beside ours: the runs of each row, the difference, and whether ours is better than the baselines.

A row without a run shows ``n/a``. Runs of one row that differ in anything but the seed (steps, grid, network,
data) are lines of their own and never averaged.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from autosam_edge_benchmarks.error_codes import RUN_TWICE
from autosam_edge_benchmarks.paper.published import PUBLISHED, Printed, Published, printed
from autosam_edge_training.evaluate import compare_methods
from autosam_edge_training.evaluate.scored_runs import find_runs

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autosam_edge_benchmarks.paper.published import Dataset, Measure
    from autosam_edge_benchmarks.paper.specs import Row, TableSpec
    from autosam_edge_training.evaluate import Metric
    from autosam_edge_training.evaluate.scored_runs import Run, Scored

SMOKE_TITLE = "smoke: phantoms and tiny networks, figures mean nothing"
_METRIC: dict[Measure, Metric] = {
    "dice": "dice",
    "nsd": "nsd_1",
}  # the headline tolerance is 1 mm; the paper names none


@dataclass(frozen=True)
class Spread:
    """A value over seeds.

    Args:
        mean: Percent, or millions of parameters.
        deviation: Sample standard deviation; None with one seed.
        seeds: How many.
    """

    mean: float
    deviation: float | None
    seeds: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """From one value per seed."""
        return cls(
            statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values)
        )

    def __str__(self) -> str:
        return f"{self.mean:.2f}" if self.deviation is None else f"{self.mean:.2f} ± {self.deviation:.2f}"


@dataclass(frozen=True)
class Cell:
    """The paper's value and ours.

    Args:
        measure: What is compared.
        paper: As printed.
        ours: From the runs of the line; None when there is none, or when they do not tell.
    """

    measure: Measure
    paper: Printed
    ours: Spread | None

    @property
    def difference(self) -> float | None:
        """Ours less the paper's."""
        return None if self.ours is None or self.paper.value is None else self.ours.mean - self.paper.value


@dataclass(frozen=True)
class Line:
    """A row of the paper on one data set, answered by runs that differ in the seed only, or by none.

    Args:
        row: Of the paper.
        dataset: Of the paper; phantoms stand in for it in a smoke run.
        cells: One per measure of the table.
        runs: Ours.
        significant: p < 0.01 against every baseline that was run (table 1); None where it was not tested.
    """

    row: Row
    dataset: Dataset
    cells: tuple[Cell, ...]
    runs: tuple[Run, ...]
    significant: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper beside ours.

    Args:
        spec: What it is.
        lines: In the paper's order, by data set.
        smoke: Its runs mean nothing.
        published: Results of others to judge ours by.
        remarks: What this run of the command has to add to the notes.
    """

    spec: TableSpec
    lines: tuple[Line, ...]
    smoke: bool
    published: tuple[Published, ...]
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """With the warning of a smoke run."""
        return f"{self.spec.exhibit}: {self.spec.title}" + (f" [{SMOKE_TITLE}]" if self.smoke else "")


def build_table(
    spec: TableSpec, results: Path, *, datasets: Sequence[Dataset] = ("btcv", "amos"), smoke: bool = False
) -> Table:
    """Read the runs and set them beside the paper.

    Args:
        spec: Which table.
        results: Folder with scored runs; may be absent.
        datasets: Only these of the table's data sets.
        smoke: From smoke runs only; otherwise from none of them.

    Raises:
        TrainingError: A run is broken (AE-TRAIN-020, -021), or two runs have all but their folder in common
            (-022).
    """
    runs = find_runs(results, smoke=smoke)
    lines = []
    for dataset in [name for name in spec.datasets if name in datasets][: 1 if smoke else None]:
        scored: Scored = "phantoms" if smoke else dataset
        for row in spec.rows:
            found = [
                run
                for run in runs
                if run.facts.dataset == scored and any(one.match(run.facts) for one in row.criteria)
            ]
            groups = _configurations(found) or [()]
            lines.extend(Line(row, dataset, _cells(spec, row, dataset, group), group) for group in groups)
    remarks: list[str] = []
    if spec.ours_against_all:
        lines, remarks = _starred(spec, lines)
    return Table(spec, tuple(lines), smoke, PUBLISHED.get(spec.exhibit, ()), tuple(remarks))


def _configurations(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Runs that differ in nothing but the seed, together."""
    groups: dict[tuple[object, ...], dict[int | None, Run]] = {}
    for run in runs:
        facts = run.facts
        key = (
            facts.network,
            facts.steps,
            facts.spacing_mm,
            facts.reduction,
            facts.teacher,
            facts.trainable_parameters,
            facts.data_sha256,
        )
        group = groups.setdefault(key, {})
        if facts.seed in group:
            raise RUN_TWICE(
                f"the scored runs {group[facts.seed].folder.name} and {run.folder.name} have one configuration and one seed."
            )
        group[facts.seed] = run
    return [tuple(group.values()) for group in groups.values()]


def _cells(spec: TableSpec, row: Row, dataset: Dataset, runs: Sequence[Run]) -> tuple[Cell, ...]:
    return tuple(
        Cell(measure, printed(spec.exhibit, row.key, measure, dataset), _ours(measure, runs))
        for measure in spec.measures
    )


def _ours(measure: Measure, runs: Sequence[Run]) -> Spread | None:
    if not runs:
        return None
    if measure == "parameters":
        counted = runs[0].facts.trainable_parameters  # one configuration, one count
        return None if counted is None else Spread(counted / 1e6, None, 1)
    return Spread.of([100.0 * run.means[_METRIC[measure]] for run in runs])


def _starred(spec: TableSpec, lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Hold each of our lines against every baseline of its data set.

    A star is given only where every baseline of the table was run; the tests that could be made are told as
    remarks all the same. With several seeds the first is compared with the first.
    """
    done, remarks = [], []
    for line in lines:
        baselines = [other for other in lines if other.dataset == line.dataset and other.row is not line.row]
        run = [other for other in baselines if other.runs]
        if line.row.key != "ours" or not line.runs or not run:
            done.append(line)
            continue
        result = compare_methods([line.runs[0].cases, *(other.runs[0].cases for other in run)])
        remarks += _told(result, line, run)
        if missing := sorted({other.row.title for other in baselines} - {other.row.title for other in run}):
            remarks.append(f"No star on {line.dataset.upper()}: there is no run of {', '.join(missing)}.")
            done.append(line)
        else:
            done.append(
                replace(
                    line,
                    significant=all(
                        result["better_than_all"][_METRIC[m]] for m in spec.measures if m in _METRIC
                    ),
                )
            )
    return done, list(dict.fromkeys(remarks))


def _told(result: dict[str, Any], ours: Line, others: Sequence[Line]) -> list[str]:
    """One sentence per test on the metrics that the table shows, then what a reader must know of them."""
    sentences = []
    for metric in _METRIC.values():
        tests = [test for test in result["comparisons"] if test["metric"] == metric]
        for test, other in zip(tests, others, strict=True):
            sentences.append(
                f"{ours.row.title} against {other.row.title} on {ours.dataset.upper()}, {metric}: {100 * test['mean_difference']:+.2f} over"
                f" {test['n'] + test['zeros']} organs of cases, Wilcoxon p = {test['p']:.2g} ({test['p_holm']:.2g} after Holm)."
            )
    return [*sentences, *result["warnings"]]

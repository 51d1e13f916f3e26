"""Compare a table of the paper with our scored runs.

A row without a run shows ``n/a``. Runs of one row that differ only in the seed are averaged. Runs that differ
in anything else (recipe, steps, grid, network, data) have lines of their own and are never averaged.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autosam_edge_benchmarks.choices import Dataset
from autosam_edge_benchmarks.error_codes import RUN_TWICE
from autosam_edge_benchmarks.paper.specs import UNKNOWN, Measure, PaperTable, Row
from autosam_edge_training.evaluate.scored_runs import Run, find_runs
from autosam_edge_training.evaluate.scores import Metric
from autosam_edge_training.evaluate.significance import compare_methods

SMOKE_TITLE = "smoke: phantoms and tiny networks, figures mean nothing"
# The paper names no tolerance; ours is 1 mm.
_METRIC: dict[Measure, Metric] = {"dice": "dice", "nsd": "nsd_1"}


@dataclass(frozen=True)
class Cell:
    """One measure of one line.

    Args:
        paper: Text that the paper prints, or why there is none.
        ours: Mean over the seeds, percent or millions of parameters; None without a run, or where the run has
            no value.
        deviation: Sample standard deviation over the seeds; None with fewer than two.
    """

    paper: str
    ours: float | None = None
    deviation: float | None = None
    seeds: int = 0

    @property
    def paper_value(self) -> float | None:
        """The paper's value as a number; None if there is none."""
        try:
            return float(self.paper)
        except ValueError:
            return None

    @property
    def difference(self) -> float | None:
        """Our value minus the paper's."""
        paper = self.paper_value
        return None if self.ours is None or paper is None else self.ours - paper


@dataclass(frozen=True)
class Line:
    """A row of the paper on one data set, with our runs of one configuration.

    Args:
        dataset: Data set of the paper; a smoke run uses phantoms in its place.
        runs: Our runs, which differ only in the seed; empty if there is none.
        significant: True if ours is better than every baseline with p < 0.01; None if not every baseline was
            run, or for a row that is not tested.
    """

    row: Row
    dataset: Dataset
    runs: tuple[Run, ...]
    cells: dict[Measure, Cell]
    significant: bool | None = None


@dataclass(frozen=True)
class Table:
    """A table of the paper with our values.

    Args:
        lines: Lines by data set, in the paper's order.
        smoke: True if the runs are smoke runs, whose values mean nothing.
        remarks: Results of the significance tests, one sentence each.
    """

    spec: PaperTable
    lines: tuple[Line, ...]
    smoke: bool
    remarks: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name and subject, and a warning if the runs are smoke runs."""
        return f"{self.spec.exhibit}: {self.spec.title}" + (f" [{SMOKE_TITLE}]" if self.smoke else "")


def build_table(
    spec: PaperTable, results: Path, *, datasets: Sequence[Dataset] = ("btcv", "amos"), smoke: bool = False
) -> Table:
    """Read the scored runs and compare them with the paper.

    Args:
        results: Folder with scored runs; may be absent.
        smoke: True to read smoke runs only; False to read none of them.

    Raises:
        TrainingError: A run is broken (AE-TRAIN-020, -021), or two runs have the same configuration and seed
            (-022).
    """
    runs = find_runs(results, smoke=smoke)
    lines: list[Line] = []
    remarks: list[str] = []
    for dataset in [name for name in spec.datasets if name in datasets][: 1 if smoke else None]:
        scored = "phantoms" if smoke else dataset
        block = [
            Line(row, dataset, group, {measure: _cell(row, measure, group) for measure in spec.measures})
            for row in spec.rows
            for group in _by_configuration(
                [run for run in runs if run.facts.dataset == scored and row.matches(run.facts)]
            )
        ]
        if spec.test_last_row:
            block, sentences = _test_last_row(spec, block)
            remarks += sentences
        lines += block
    return Table(spec, tuple(lines), smoke, tuple(dict.fromkeys(remarks)))


def _by_configuration(runs: Sequence[Run]) -> list[tuple[Run, ...]]:
    """Groups of runs that differ only in the seed; one empty group if there is no run."""
    groups: dict[tuple[object, ...], dict[int | None, Run]] = {}
    for run in runs:
        f = run.facts
        key = (
            f.network,
            f.steps,
            f.spacing_mm,
            f.reduction,
            f.teacher,
            f.trainable_parameters,
            f.data_sha256,
            f.recipe_sha256,
        )
        group = groups.setdefault(key, {})
        if f.seed in group:
            raise RUN_TWICE(
                f"the scored runs {group[f.seed].folder.name} and {run.folder.name} "
                f"have the same configuration and the same seed."
            )
        group[f.seed] = run
    return [tuple(group.values()) for group in groups.values()] or [()]


def _cell(row: Row, measure: Measure, runs: Sequence[Run]) -> Cell:
    if measure == "parameters":  # the same in all runs of one configuration
        counts = [run.facts.trainable_parameters for run in runs[:1]]
        values = [count / 1e6 for count in counts if count is not None]
    else:
        values = [100.0 * run.means[_METRIC[measure]] for run in runs]
    return Cell(
        row.paper.get(measure, UNKNOWN),
        statistics.fmean(values) if values else None,
        statistics.stdev(values) if len(values) > 1 else None,
        len(values),
    )


def _test_last_row(spec: PaperTable, lines: list[Line]) -> tuple[list[Line], list[str]]:
    """Test each of our lines against every baseline of its data set.

    A line is marked significant only if every baseline of the table was run; the tests that were possible
    are reported in any case. With several seeds, the first run of ours is compared with the first of each
    baseline.
    """
    baselines = [line for line in lines if line.row is not spec.rows[-1]]
    present = [line for line in baselines if line.runs]
    missing = sorted({line.row.title for line in baselines} - {line.row.title for line in present})
    tested: list[Line] = []
    remarks: list[str] = []
    for line in lines:
        significant = None
        if line.row is spec.rows[-1] and line.runs and present:
            result = compare_methods([line.runs[0].cases, *(other.runs[0].cases for other in present)])
            for metric in _METRIC.values():
                tests = [test for test in result["comparisons"] if test["metric"] == metric]
                remarks += [
                    f"{line.row.title} against {other.row.title} on {line.dataset.upper()}, {metric}: "
                    f"{100 * test['mean_difference']:+.2f} over {test['n'] + test['zeros']} organs of cases, "
                    f"Wilcoxon p = {test['p']:.2g} ({test['p_holm']:.2g} after Holm)."
                    for test, other in zip(tests, present, strict=True)
                ]
            remarks += result["warnings"]
            if missing:
                remarks.append(f"No star on {line.dataset.upper()}: there is no run of {', '.join(missing)}.")
            else:
                significant = all(result["better_than_all"][metric] for metric in _METRIC.values())
        tested.append(replace(line, significant=significant))
    return tested, remarks

"""Cost and accuracy of students: seconds for a scan on this machine, and the Dice of the scored run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from autosam_edge.bundle import Bundle
from autosam_edge_benchmarks.error_codes import BUNDLE_NOT_SCORED
from autosam_edge_benchmarks.figure_file import save_figure
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.segment_scan import SegmentRun, run_once
from autosam_edge_training.evaluate.scored_runs import Run, find_runs

_INK, _OURS = "#1b2430", "#1f6fb2"
_DPI = 150
_LINE_HEIGHT = 3.5  # of a line of text, in percent points of Dice


def measure_students(
    bundles: Sequence[Path],
    results: Path,
    scan: Path,
    *,
    repeats: int = 3,
    engine: str = "onnx",
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Segment a scan with every bundle, in turns, each time in a new process.

    Raises:
        BundleError: No scored run, or several, have the weights of a bundle (AE-BUNDLE-006).
    """
    result = new_result("students")
    scored = {path: _scored_run(path, results) for path in bundles}
    runs: dict[Path, list[SegmentRun]] = {path: [] for path in bundles}
    for turn in range(repeats):
        for path in bundles:
            runs[path].append(run_once(scan, bundle=path, engine=engine))
            log(f"turn {turn + 1}, {path.name}: {runs[path][-1]['wall_s']:.2f} s")
    students = [_summary(path.name, scored[path], runs[path]) for path in bundles]
    return {**result, "scan": runs[bundles[0]][0]["scan"], "engine": engine, "students": students}


def _scored_run(bundle: Path, results: Path) -> Run:
    weights = Bundle(bundle).manifest.provenance.get("checkpoint_sha256")
    found = [run for run in find_runs(results) if run.facts.weights_sha256 == weights]
    if len(found) != 1:
        raise BUNDLE_NOT_SCORED(
            f"{len(found)} scored runs have the weights of {bundle.name}; exactly one run must have them."
        )
    return found[0]


def _summary(bundle: str, scored: Run, runs: Sequence[SegmentRun]) -> Result:
    facts = scored.facts
    return {
        "bundle": bundle,
        "run": scored.folder.name,
        "network": facts.network,
        "lambda": facts.weight,
        "teacher": facts.teacher,
        "steps": facts.steps,
        "seed": facts.seed,
        "parameters": facts.total_parameters,
        **{name: round(value, 5) for name, value in scored.means.items()},
        "wall_s": statistics.median(run["wall_s"] for run in runs),
        "network_s": statistics.median(run["timings_s"]["network"] for run in runs),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "precision": runs[0]["precision"],
    }


def draw_students(result: Result, path: Path) -> None:
    """Draw the students as points: time to the right, Dice upward, area by the number of parameters.

    Args:
        result: Result of :func:`measure_students`.
    """
    figure = Figure(figsize=(7.5, 4.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    text_y = float("-inf")
    for student in sorted(result["students"], key=lambda student: float(student["dice"])):
        x, y = student["wall_s"], 100 * student["dice"]
        text_y = max(y, text_y + _LINE_HEIGHT)  # texts of neighbors do not overlap
        axes.scatter(x, y, s=student["parameters"] / 4e4, color=_OURS, alpha=0.8, linewidths=0)
        alone = student["lambda"] in (None, 1.0)
        how = "alone" if alone else f"from {student['teacher']}, lambda {student['lambda']:g}"
        text = f"{student['network']} {how}, {student['parameters'] / 1e6:.1f} M, {student['steps']:,} steps"
        axes.annotate(text, (x, y), (1.04 * x, text_y), va="center", color=_INK, fontsize=8)
    slowest = max(student["wall_s"] for student in result["students"])
    axes.set_xlim(0, 2.0 * slowest)
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"seconds from command to files, {result['engine']}, {result['machine']['cores']} cores")
    axes.set_ylabel("mean Dice on the test cases, percent")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Accuracy and time of the students", color=_INK, x=0.02, ha="left", fontsize=11)
    save_figure(figure, path)

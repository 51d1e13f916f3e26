"""What a student costs and what it is worth: seconds for a scan on this machine against the Dice of its scored run."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from autosam_edge.bundle import Bundle
from autosam_edge_benchmarks.error_codes import BUNDLE_NOT_SCORED
from autosam_edge_benchmarks.paper.figures import save_figure
from autosam_edge_benchmarks.result_header import new_report
from autosam_edge_benchmarks.segment_scan import run_once
from autosam_edge_training.evaluate.scored_runs import find_runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from autosam_edge_training.evaluate.scored_runs import Run

_INK, _QUIET, _OURS = "#1b2430", "#5d6b7a", "#1f6fb2"
_DPI = 150
_LINE = 3.5  # percent points that a line of text takes


def measure_students(
    bundles: Sequence[Path],
    results: Path,
    scan: Path,
    *,
    repeats: int = 3,
    engine: str = "onnx",
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Segment a scan with every bundle, taking turns, each time in a process of its own; the Dice is that of the scored run of its weights.

    Args:
        bundles: Folders; each holds the student that was scored.
        results: Folder with scored runs.
        scan: DICOM folder.
        repeats: Turns; medians are reported.
        engine: That all run on.
        say: Called with one line per run.

    Raises:
        BundleError: No scored run, or several, have a bundle's weights (AE-BUNDLE-006).
    """
    report = new_report("students")
    runs = {path: _run_of(path, results) for path in bundles}
    seen: dict[Path, list[dict[str, Any]]] = {path: [] for path in bundles}
    for turn in range(repeats):
        for path in bundles:
            seen[path].append(run_once(scan, bundle=path, engine=engine))
            say(f"turn {turn + 1}, {path.name}: {seen[path][-1]['wall_s']:.2f} s")
    students = [_entry(path, runs[path], seen[path]) for path in bundles]
    return {**report, "scan": seen[bundles[0]][0]["scan"], "engine": engine, "students": students}


def _run_of(path: Path, results: Path) -> Run:
    weights = Bundle(path).manifest.provenance.get("checkpoint_sha256")
    found = [run for run in find_runs(results) if run.facts.weights_sha256 == weights]
    if len(found) != 1:
        raise BUNDLE_NOT_SCORED(f"{len(found)} scored runs have the weights of {path.name}.")
    return found[0]


def _entry(path: Path, run: Run, seen: Sequence[dict[str, Any]]) -> dict[str, Any]:
    facts = run.facts
    return {
        "bundle": path.name,
        "run": run.folder.name,
        "network": facts.network,
        "lambda": facts.weight,
        "teacher": facts.teacher,
        "steps": facts.steps,
        "seed": facts.seed,
        "parameters": facts.total_parameters,
        **{name: round(value, 5) for name, value in run.means.items()},
        "wall_s": statistics.median(one["wall_s"] for one in seen),
        "network_s": statistics.median(one["timings_s"]["network"] for one in seen),
        "peak_rss_mb": max(one["peak_rss_mb"] for one in seen),
        "precision": seen[0]["precision"],
    }


def draw_students(report: dict[str, Any], path: Path) -> None:
    """The report as a picture: right is slower, up is better.

    Args:
        report: Of :func:`measure_students`.
        path: ``.png`` to write.
    """
    figure = Figure(figsize=(7.5, 4.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    low = float("-inf")
    for entry in sorted(report["students"], key=lambda entry: float(entry["dice"])):
        x, y = entry["wall_s"], 100 * entry["dice"]
        low = max(y, low + _LINE)  # texts of neighbors stand one above the other
        axes.scatter(x, y, s=entry["parameters"] / 4e4, color=_OURS, alpha=0.8, linewidths=0)
        how = (
            "alone"
            if entry["lambda"] in (None, 1.0)
            else f"from {entry['teacher']}, lambda {entry['lambda']:g}"
        )
        text = f"{entry['network']} {how}, {entry['parameters'] / 1e6:.1f} M, {entry['steps']:,} steps"
        axes.annotate(text, (x, y), (1.04 * x, low), va="center", color=_INK, fontsize=8)
    slowest = max(entry["wall_s"] for entry in report["students"])
    axes.set_xlim(0, 2.0 * slowest)
    axes.set_ylim(0, 100)
    axes.set_xlabel(f"seconds from command to files, {report['engine']}, {report['machine']['cores']} cores")
    axes.set_ylabel("mean Dice on the test cases, percent")
    axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("What a student costs, and what it is worth", color=_INK, x=0.02, ha="left", fontsize=11)
    save_figure(figure, path)

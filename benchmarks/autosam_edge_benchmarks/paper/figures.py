"""Figures 3 and 4: what the montage of truth and methods shows, and the bars of distillation."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from autosam_edge.atomic_files import write_file
from autosam_edge.formats.label_image import read_labels
from autosam_edge.formats.nifti import read_nifti
from autosam_edge.report.montage import MontageCase
from autosam_edge_benchmarks.error_codes import CASE_UNKNOWN
from autosam_edge_benchmarks.paper.render import told_by
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from matplotlib.axes import Axes

    from autosam_edge_benchmarks.paper.tables import Line, Table
    from autosam_edge_training.data import Entry, Manifest

_DPI = 150
_PAPER, _OURS, _INK, _QUIET = "#b9c3cf", "#1f6fb2", "#1b2430", "#5d6b7a"
TRUTH = "ground truth"
"""The first column of figure 3."""


def draw_bars(table: Table, path: Path) -> None:
    """Figure 4: for each bar the paper's value and ours, or the words that there is none.

    Args:
        table: Of :func:`autosam_edge_benchmarks.paper.tables.figure4`.
        path: File to write, ``.png``.
    """
    figure = Figure(figsize=(max(9.0, 1.35 * len(table.lines)), 4.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    top = max([_height(line, ours=ours) or 0.0 for line in table.lines for ours in (False, True)] + [1.0])
    for place, line in enumerate(table.lines):
        for ours, shift, color in ((False, -0.2, _PAPER), (True, 0.2, _OURS)):
            _bar(axes, place + shift, line, color, ours=ours, top=top)
    axes.set_xticks(range(len(table.lines)), [_bar_title(line) for line in table.lines], fontsize=8)
    axes.set_xlim(-0.6, len(table.lines) - 0.4)
    axes.set_ylim(0.0, 1.15 * top)
    axes.set_ylabel("mean Dice, percent")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=_PAPER, label="paper"), Patch(color=_OURS, label="ours")]
    figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=2)
    figure.suptitle(
        table.spec.title + (f"\n{SMOKE_TITLE}" if table.smoke else ""),
        color=_INK,
        x=0.02,
        ha="left",
        fontsize=11,
    )
    save_figure(figure, path)


def _height(line: Line, *, ours: bool) -> float | None:
    (cell,) = line.cells
    if ours:
        return cell.ours.mean if cell.ours else None
    return cell.paper.value


def _bar(axes: Axes, x: float, line: Line, color: str, *, ours: bool, top: float) -> None:
    height = _height(line, ours=ours)
    (cell,) = line.cells
    if height is None:  # the words stand where the bar would
        words = "n/a" if ours else str(cell.paper)
        axes.text(x, 0.02 * top, words, ha="center", va="bottom", rotation=90, color=_QUIET, fontsize=9)
        return
    deviation = cell.ours.deviation if ours and cell.ours else None
    axes.bar(x, height, width=0.36, color=color, yerr=deviation, capsize=4, ecolor=_INK)
    axes.text(
        x,
        height + (deviation or 0.0) + 0.01 * top,
        f"{height:.2f}",
        ha="center",
        va="bottom",
        color=_INK,
        fontsize=9,
    )


def _bar_title(line: Line) -> str:
    network, _, how = line.row.title.rpartition(" ")
    words = [network, how]
    if line.runs:
        facts = line.runs[0].facts
        words += [f"by {teacher}".replace(", ", "\n") for teacher in [told_by(facts)] if teacher]
        words += [] if facts.steps is None else [f"{facts.steps:,} steps"]
    return "\n".join(words)


def read_montage(
    manifest: Manifest, names: Sequence[str] | None, predictions: Mapping[str, Path]
) -> list[MontageCase]:
    """Read what figure 3 shows.

    Args:
        manifest: The data set.
        names: Cases of its test split; None for the first two.
        predictions: Folder with ``CASE.nii.gz`` by method; a file that is missing is shown as ``n/a``.

    Raises:
        TrainingError: A case is not in the test split (AE-TRAIN-023).
        InputError: A file cannot be read, lies on another grid than its scan (AE-NIFTI-005) or holds unknown
            labels (AE-DATA-003).
    """
    entries = {entry.name: entry for entry in manifest.entries("test")}
    chosen = list(entries)[:2] if names is None else list(names)
    missing = [name for name in chosen if name not in entries]
    if missing or not chosen:
        raise CASE_UNKNOWN(
            f"the test split of {manifest.dataset} has no case {', '.join(missing)}."
            if missing
            else f"{manifest.dataset} has no test case.",
            remedy=f"Name some of: {', '.join(entries)}."
            if entries
            else "Prepare the data set with a test split.",
        )
    return [_read_case(entries[name], predictions, len(manifest.labels)) for name in chosen]


def _read_case(entry: Entry, predictions: Mapping[str, Path], classes: int) -> MontageCase:
    volume = read_nifti(entry.image)
    files = {
        TRUTH: entry.label,
        **{method: folder / f"{entry.name}.nii.gz" for method, folder in predictions.items()},
    }
    return MontageCase(
        entry.name,
        volume,
        {
            name: read_labels(path, volume.grid, classes, f"{path.name} and its scan")
            if path.is_file()
            else None
            for name, path in files.items()
        },
    )


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG without a date or a version in it, so that the same input gives the same bytes; it appears whole or not at all."""
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_file(content.getvalue(), path)

"""Figure 3 (the cases of the montage) and figure 4 (the bars of distillation)."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from autosam_edge.formats.label_image import read_named_labels
from autosam_edge.formats.nifti import read_nifti
from autosam_edge.report.montage import MontageCase
from autosam_edge.system.atomic_files import write_file
from autosam_edge_benchmarks.error_codes import CASE_UNKNOWN
from autosam_edge_benchmarks.paper.render import ABSENT, teacher_label
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE, Line, Table
from autosam_edge_training.data import Entry, Manifest

_DPI = 150
_PAPER, _OURS, _INK, _QUIET = "#b9c3cf", "#1f6fb2", "#1b2430", "#5d6b7a"
TRUTH = "ground truth"
"""Name of the first column of figure 3."""


def draw_bars(table: Table, path: Path) -> None:
    """Draw figure 4: for each student the paper's value and ours, or a text if there is no value.

    Args:
        table: Table of the exhibit ``figure4``.
    """
    figure = Figure(figsize=(max(9.0, 1.35 * len(table.lines)), 4.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    cells = [line.cells["dice"] for line in table.lines]
    top = max([1.0, *(value for cell in cells for value in (cell.paper_value, cell.ours) if value)])
    for place, cell in enumerate(cells):
        _bar(axes, place - 0.2, cell.paper_value, cell.paper, _PAPER, top=top)
        _bar(axes, place + 0.2, cell.ours, ABSENT, _OURS, top=top, deviation=cell.deviation)
    axes.set_xticks(range(len(table.lines)), [_bar_title(line) for line in table.lines], fontsize=8)
    axes.set_xlim(-0.6, len(table.lines) - 0.4)
    axes.set_ylim(0.0, 1.15 * top)
    axes.set_ylabel("mean Dice, percent")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=_PAPER, label="paper"), Patch(color=_OURS, label="ours")]
    figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=2)
    title = table.spec.title + (f"\n{SMOKE_TITLE}" if table.smoke else "")
    figure.suptitle(title, color=_INK, x=0.02, ha="left", fontsize=11)
    save_figure(figure, path)


def save_figure(figure: Figure, path: Path) -> None:
    """Write a PNG file without date and version, so that the same input gives the same bytes.

    Args:
        path: PNG file; it is written whole or not at all.
    """
    content = io.BytesIO()
    figure.savefig(content, format="png", metadata={"Software": None})
    write_file(content.getvalue(), path)


def _bar(
    axes: Axes,
    x: float,
    height: float | None,
    absent: str,
    color: str,
    *,
    top: float,
    deviation: float | None = None,
) -> None:
    """Draw one bar with its value above it, or the text ``absent`` in its place."""
    if height is None:
        axes.text(x, 0.02 * top, absent, ha="center", va="bottom", rotation=90, color=_QUIET, fontsize=9)
        return
    axes.bar(x, height, width=0.36, color=color, yerr=deviation, capsize=4, ecolor=_INK)
    above = height + (deviation or 0.0) + 0.01 * top
    axes.text(x, above, f"{height:.2f}", ha="center", va="bottom", color=_INK, fontsize=9)


def _bar_title(line: Line) -> str:
    network, _, how = line.row.title.rpartition(" ")
    words = [network, how]
    if line.runs:
        facts = line.runs[0].facts
        words += [f"by {teacher}".replace(", ", "\n") for teacher in [teacher_label(facts)] if teacher]
        words += [] if facts.steps is None else [f"{facts.steps:,} steps"]
    return "\n".join(words)


def read_montage(
    manifest: Manifest, names: Sequence[str] | None, predictions: Mapping[str, Path]
) -> list[MontageCase]:
    """Read the cases that figure 3 shows.

    Args:
        names: Names of cases of the test split; None for the first two.
        predictions: Folder with ``CASE.nii.gz`` by method; a missing file is shown as ``n/a``.

    Raises:
        TrainingError: A case is not in the test split (AE-TRAIN-023).
        InputError: A file cannot be read, has another grid than its scan (AE-NIFTI-005) or contains unknown
            labels (AE-DATA-003).
    """
    entries = {entry.name: entry for entry in manifest.entries("test")}
    if not entries:
        raise CASE_UNKNOWN(
            f"the data set {manifest.dataset} has no test case.",
            remedy="Prepare the data set with a test split.",
        )
    chosen = list(entries)[:2] if names is None else names
    if missing := [name for name in chosen if name not in entries]:
        raise CASE_UNKNOWN(
            f"the test split of {manifest.dataset} has no case {', '.join(missing)}.",
            remedy=f"Name some of: {', '.join(entries)}.",
        )
    return [_read_case(entries[name], predictions, manifest.labels) for name in chosen]


def _read_case(entry: Entry, predictions: Mapping[str, Path], names: Sequence[str]) -> MontageCase:
    volume = read_nifti(entry.image)
    organs = dict(enumerate(names))

    def labels(path: Path | None) -> npt.NDArray[np.uint8] | None:
        if path is None or not path.is_file():
            return None
        remedy = f"Give {path.name} with the label numbers of the data set."
        return read_named_labels(path, volume.grid, organs, f"{path.name} and its scan", remedy)

    files = {method: folder / f"{entry.name}.nii.gz" for method, folder in predictions.items()}
    found: dict[str, Path | None] = {TRUTH: entry.label, **files}
    return MontageCase(entry.name, volume, {name: labels(path) for name, path in found.items()})

"""Figures 3 and 4: the montage of truth and methods, and the bars of distillation."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from autosam_edge.errors import TrainingError
from autosam_edge.geometry import Orientation
from autosam_edge.io.nifti import read_array, read_nifti
from autosam_edge.io.preview_views import Sections, render
from autosam_edge.volume import RESEARCH_USE, Segmentation
from autosam_edge_training.data import as_labels, require_same_grid
from autosam_edge_training.reproduce.tables import SMOKE_TITLE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes

    from autosam_edge.io.preview_views import Box, View
    from autosam_edge.volume import Label, Volume
    from autosam_edge_training.data import Entry, Manifest
    from autosam_edge_training.reproduce.tables import Line, Table

_DPI = 150
_PAPER, _OURS, _INK, _QUIET = "#b9c3cf", "#1f6fb2", "#1b2430", "#5d6b7a"
_LEGEND_INCH = 2.4  # of a column with the longest name
_PICTURE_INCH = 2.6  # width of one picture of the montage
_PLANES: tuple[Literal["axial", "coronal"], ...] = ("axial", "coronal")


def draw_bars(table: Table, path: Path) -> None:
    """Figure 4: for each bar the paper's value and ours, or the words that there is none.

    Args:
        table: Of :func:`autosam_edge_training.reproduce.tables.figure4`.
        path: File to write, ``.png``.
    """
    figure = Figure(figsize=(9.0, 4.8), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    top = max([_height(line, ours=ours) or 0.0 for line in table.lines for ours in (False, True)] + [1.0])
    for place, line in enumerate(table.lines):
        for ours, shift, color in ((False, -0.2, _PAPER), (True, 0.2, _OURS)):
            _bar(axes, place + shift, line, color, ours=ours, top=top)
    axes.set_xticks(range(len(table.lines)), [_bar_title(line) for line in table.lines])
    axes.set_xlim(-0.6, len(table.lines) - 0.4)
    axes.set_ylim(0.0, 1.15 * top)
    axes.set_ylabel("mean Dice, percent")
    axes.spines[["top", "right"]].set_visible(False)
    handles = [Patch(color=_PAPER, label="paper"), Patch(color=_OURS, label="ours")]
    figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=2)
    figure.suptitle(table.spec.title + (f"\n{SMOKE_TITLE}" if table.smoke else ""), color=_INK, x=0.02, ha="left", fontsize=11)
    _save(figure, path)


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
    axes.text(x, height + (deviation or 0.0) + 0.01 * top, f"{height:.2f}", ha="center", va="bottom", color=_INK, fontsize=9)


def _bar_title(line: Line) -> str:
    network, _, how = line.row.title.rpartition(" ")
    steps = f"\n{line.runs[0].facts.steps:,} steps" if line.runs and line.runs[0].facts.steps is not None else ""
    return f"{network}\n{how}{steps}"


@dataclass(frozen=True, eq=False)
class MontageCase:
    """One case of figure 3.

    Args:
        name: Of the case.
        volume: HU.
        truth: (D, H, W) uint8 on the volume's grid.
        found: Predictions by method, each as ``truth``; None where the method was not run.
    """

    name: str
    volume: Volume
    truth: npt.NDArray[np.uint8]
    found: Mapping[str, npt.NDArray[np.uint8] | None]

    def __post_init__(self) -> None:
        for labels in (self.truth, *self.found.values()):
            if labels is not None and labels.shape != self.volume.shape:
                raise ValueError(f"labels of shape {labels.shape} do not belong to a scan of {self.volume.shape}")


def read_montage(manifest: Manifest, names: Sequence[str] | None, predictions: Mapping[str, Path]) -> list[MontageCase]:
    """Read what figure 3 shows.

    Args:
        manifest: The data set.
        names: Cases of its test split; None for the first two.
        predictions: Folder with ``CASE.nii.gz`` by method; a file that is missing is shown as ``n/a``.

    Raises:
        TrainingError: A case is not in the test split (AE-TRAIN-023).
        InputError: A file cannot be read, lies on another grid than its scan (AE-NIFTI-005) or holds unknown labels (AE-DATA-003).
    """
    entries = {entry.name: entry for entry in manifest.entries("test")}
    chosen = list(entries)[:2] if names is None else list(names)
    missing = [name for name in chosen if name not in entries]
    if missing or not chosen:
        raise TrainingError(
            "AE-TRAIN-023",
            f"the test split of {manifest.dataset} has no case {', '.join(missing)}."
            if missing
            else f"{manifest.dataset} has no test case.",
            remedy=f"Name some of: {', '.join(entries)}." if entries else "Prepare the data set with a test split.",
        )
    return [_read_case(entries[name], predictions, len(manifest.labels)) for name in chosen]


def _read_case(entry: Entry, predictions: Mapping[str, Path], classes: int) -> MontageCase:
    volume = read_nifti(entry.image)
    found: dict[str, npt.NDArray[np.uint8] | None] = {}
    for method, folder in predictions.items():
        path = folder / f"{entry.name}.nii.gz"
        found[method] = _read_labels(path, volume, classes) if path.is_file() else None
    return MontageCase(entry.name, volume, _read_labels(entry.label, volume, classes), found)


def _read_labels(path: Path, volume: Volume, classes: int) -> npt.NDArray[np.uint8]:
    values, grid = read_array(path)
    require_same_grid(volume.grid, grid, f"{path.name} and its scan")
    return as_labels(values, classes)


def draw_montage(cases: Sequence[MontageCase], table: tuple[Label, ...], path: Path, *, smoke: bool = False) -> None:
    """Figure 3: each case in an axial and a coronal section through its organs; the truth in the first column, then every method.

    Args:
        cases: At least one, all with the same methods.
        table: Organs and their colors.
        path: File to write, ``.png``.
        smoke: Say that the picture means nothing.
    """
    methods = list(cases[0].found)
    rows = [row for case in cases for row in _rows(case, table)]
    views = [view for _, view, _ in rows]
    heights = [view.size_mm[1] / view.size_mm[0] * _PICTURE_INCH for view in views]
    size = ((len(methods) + 1) * _PICTURE_INCH + 0.5, sum(heights) + 0.08 * len(rows) + 1.0)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(len(rows), len(methods) + 1, squeeze=False, height_ratios=heights)
    for axes, title in zip(grid[0], ["ground truth", *methods], strict=True):
        axes.set_title(title, color=_INK, fontsize=10)
    for (case, view, box), line in zip(rows, grid, strict=True):
        for axes, labels in zip(line, [case.truth, *(case.found[method] for method in methods)], strict=True):
            _picture(axes, view, None if labels is None else _cut(case, labels, view, box), table)
        line[0].set_ylabel(f"{case.name}, {view.plane}", color=_INK, fontsize=9)
    shown = set(np.unique(np.concatenate([np.unique(case.truth) for case in cases])).tolist())
    handles = [Patch(color=[c / 255 for c in label.color], label=label.title) for label in table if label.value in shown]
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, int(size[0] / _LEGEND_INCH)), frameon=False, fontsize=8)
    figure.suptitle(SMOKE_TITLE if smoke else RESEARCH_USE, color=_QUIET, fontsize=8)
    _save(figure, path)


def _rows(case: MontageCase, table: tuple[Label, ...]) -> list[tuple[MontageCase, View, Box]]:
    """For each plane the section that shows most of the true organs, and how it is cropped."""
    sections = Sections(case.volume, Segmentation(case.truth.view(), case.volume.grid, table))
    return [(case, sections.choose(plane, 1)[0], sections.box) for plane in _PLANES]


def _cut(case: MontageCase, labels: npt.NDArray[np.uint8], view: View, box: Box) -> npt.NDArray[np.uint8]:
    """(rows, columns) of labels in the very section of ``view``."""
    axis = 0 if view.plane == "axial" else 1
    window = tuple(slice(view.index, view.index + 1) if k == axis else slice(*box[k]) for k in range(3))
    cut = np.squeeze(Orientation.of(case.volume.grid).to_canonical(labels)[window], axis=axis)
    return cut[::-1] if view.plane == "coronal" else cut  # superior on top


def _picture(axes: Axes, view: View, labels: npt.NDArray[np.uint8] | None, table: tuple[Label, ...]) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    width = round(_PICTURE_INCH * _DPI)
    height = max(8, round(width * view.size_mm[1] / view.size_mm[0]))
    if labels is None:
        axes.imshow(np.full((height, width, 3), 238, dtype=np.uint8))
        axes.text(0.5, 0.5, "n/a", transform=axes.transAxes, ha="center", va="center", color=_QUIET)
        return
    shown = replace(view, labels=np.ascontiguousarray(labels))
    axes.imshow(np.asarray(render(shown, table, (width, height))), interpolation="none")


def _save(figure: Figure, path: Path) -> None:
    """Without a date or a version in the file, so that the same input gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})

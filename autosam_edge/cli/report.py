"""What ``segment`` and ``demo`` share: run, measure, write, and show the report."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rich.padding import Padding
from rich.text import Text

from autosam_edge.cli.tables import new_console, new_table
from autosam_edge.measurements import organ_statistics
from autosam_edge.plausibility.refusal import require_plausible
from autosam_edge.scan_warning import most_severe_first
from autosam_edge.system.memory import peak_mb
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.write_results import warnings_of_outputs, write

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from rich.console import Console
    from rich.table import Table

    from autosam_edge.cli.progress import Stages
    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.scan_warning import ScanWarning, Severity
    from autosam_edge.session import Session
    from autosam_edge.volume import Segmentation, Volume

_COLORS: dict[Severity, str] = {"doubtful": "bold red", "caution": "yellow", "info": "none"}
_NOTE_WIDTH = 16  # characters; a table with narrower notes is hard to read
# Of an organ's numbers in the JSON object; the table rounds the numbers themselves.
_DECIMALS = {"ml": 2, "mean_hu": 1, "expected_dice": 3, "dice_against_truth": 3}
_OF_ORGAN = ("name", "title", "label", "ml", "mean_hu", "touches_border", "expected_dice")


@dataclass(frozen=True)
class Report:
    """What a run found and wrote.

    Args:
        outputs: Path of each file by its format.
        timings_s: Seconds by stage, and by format that was written.
        dice_against_truth: Dice by the name of the organ; only ``demo`` knows the truth.
    """

    segmentation: Segmentation
    organs: tuple[OrganStatistics, ...]
    outputs: Mapping[Format, Path]
    timings_s: Mapping[str, float]
    peak_rss_mb: float
    dice_against_truth: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object of ``--json``."""
        plausibility = self.segmentation.plausibility
        return {
            "outputs": {name: str(path) for name, path in self.outputs.items()},
            "scan": self.segmentation.grid.described(),
            "organs": [self._organ(organ) for organ in self.organs],
            "timings_s": {name: round(seconds, 3) for name, seconds in self.timings_s.items()},
            "peak_rss_mb": round(self.peak_rss_mb, 1),
            "plausibility": plausibility and plausibility.as_dict(),
            "warnings": [warning.as_dict() for warning in self.segmentation.warnings],
            "provenance": self.segmentation.provenance.as_dict(),
        }

    def _organ(self, organ: OrganStatistics) -> dict[str, Any]:
        told = {name: getattr(organ, name) for name in _OF_ORGAN}
        if organ.name in self.dice_against_truth:
            told["dice_against_truth"] = self.dice_against_truth[organ.name]
        return {
            name: round(value, _DECIMALS[name]) if name in _DECIMALS and value is not None else value
            for name, value in told.items()
        }


def run(
    volume: Volume,
    out: Path,
    stages: Stages,
    open_model: Callable[[], Session],
    *,
    formats: tuple[Format, ...] | None = None,
    accept_implausible: bool = False,
    pseudonymize: bool = False,
) -> Report:
    """Segment, measure and write.

    Implausible labels are refused before they are measured, unless they are accepted.
    """
    warnings = (*volume.warnings, *warnings_of_outputs(volume.source, formats))
    volume = replace(volume, warnings=warnings)
    with stages.stage("load model"):
        session = open_model()
    planned = session.plan(volume)
    stages.log(f"plan        {planned.summary}")
    with stages.bar("segment") as progress:
        segmentation = planned.execute(progress=progress)
    del session, planned  # frees the engine's memory before the results are written
    if not accept_implausible:
        require_plausible(segmentation)
    with stages.stage("statistics"):
        statistics = organ_statistics(volume, segmentation)
    write_s: dict[str, float] = {}
    with stages.stage("write"):
        outputs = write(
            volume,
            segmentation,
            out,
            formats=formats,
            statistics=statistics,
            timings_s=write_s,
            accept_implausible=accept_implausible,
            pseudonymize=pseudonymize,
        )
    timings_s = {
        **stages.seconds,
        **segmentation.timings_s,
        **{f"write {name}": seconds for name, seconds in write_s.items()},
    }
    return Report(segmentation, statistics, outputs, timings_s, peak_mb())


def show_report(report: Report, *, as_json: bool) -> None:
    """Print the report on stdout."""
    if as_json:
        print(json.dumps(report.as_dict()))
        return
    console = new_console()
    segmentation = report.segmentation
    warnings = most_severe_first(segmentation.warnings)
    words = {organ.name: _word(organ) for organ in report.organs}
    # A word such as "not found" says in brief what a fact about the organ says.
    warnings = [w for w in warnings if w.severity != "info" or not words.get(w.organ or "")]
    beside = {warning.organ: warning for warning in reversed(warnings) if warning.organ is not None}
    notes = [_line(beside[name]) if name in beside else Text(word) for name, word in words.items()]
    columns = _columns(report, notes)
    provenance = segmentation.provenance
    title = f"{provenance.model}, {provenance.engine} {provenance.precision}"
    if console.width >= _table_width(columns):
        console.print(_table(title, columns))
    else:
        _print_lines(console, title, columns)
    if segmentation.verdict:
        console.print(f"The labels are {segmentation.verdict}.", markup=False)
    shown = set(map(id, beside.values()))
    titles: dict[str | None, str] = {organ.name: organ.title for organ in report.organs}
    for warning in warnings:
        if id(warning) not in shown:
            about = f"{titles.get(warning.organ, warning.organ)}: " if warning.organ else ""
            # In a file each warning is one line, for tools that search lines.
            console.print(_line(warning, about), soft_wrap=not console.is_terminal)
    for path in report.outputs.values():
        console.print(str(path), markup=False, soft_wrap=True)
    console.print(RESEARCH_USE, markup=False, soft_wrap=True)


def _word(organ: OrganStatistics) -> str:
    """What its voxels say about an organ."""
    return "not found" if organ.mean_hu is None else "at the border" if organ.touches_border else ""


def _columns(report: Report, notes: list[Text]) -> dict[str, list[Text]]:
    """Cells by heading; the notes come last."""
    organs, known = report.organs, report.dice_against_truth
    columns: dict[str, list[Text]] = {
        "organ": [Text(organ.title) for organ in organs],
        "ml": [Text(f"{organ.ml:.1f}" if organ.ml else "-") for organ in organs],
        "mean HU": [Text("-" if organ.mean_hu is None else f"{organ.mean_hu:.0f}") for organ in organs],
    }
    overlaps = [known.get(organ.name) if known else organ.expected_dice for organ in organs]
    if known or any(dice is not None for dice in overlaps):
        columns["Dice" if known else "expected\nDice"] = [
            Text("-" if dice is None else f"{dice:.2f}") for dice in overlaps
        ]
    return {**columns, "note": notes}


def _table_width(columns: dict[str, list[Text]]) -> int:
    """Characters that the table needs: every cell whole but for the notes."""
    *whole, _ = (max(*map(len, heading.split()), *map(len, cells)) for heading, cells in columns.items())
    return sum(whole) + _NOTE_WIDTH + 2 * len(columns)


def _table(title: str, columns: dict[str, list[Text]]) -> Table:
    """One row for each organ; only notes are folded."""
    table = new_table(title, *columns, folded=("note",))
    for row in zip(*columns.values(), strict=True):
        table.add_row(*row)
    return table


def _print_lines(console: Console, title: str, columns: dict[str, list[Text]]) -> None:
    """Lines for each organ, for a terminal that is too narrow for the table."""
    console.print(title, markup=False)
    for organ, *numbers, note in zip(*columns.values(), strict=True):
        console.print(organ)
        pairs = zip(numbers, list(columns)[1:-1], strict=True)
        cells = Text(", ").join(Text(f"{' '.join(heading.split())} {number}") for number, heading in pairs)
        for line in (cells, note) if note else (cells,):
            console.print(Padding(line, (0, 0, 0, 2)))
    console.print()


def _line(warning: ScanWarning, about: str = "") -> Text:
    """Severity in its color, the sentence, and the code, dim."""
    return Text.assemble(
        (warning.severity, _COLORS[warning.severity]), f" {about}{warning.message} ", (warning.code, "dim")
    )

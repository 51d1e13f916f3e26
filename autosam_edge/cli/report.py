"""What ``segment`` and ``demo`` share: run, measure, write, and show the report."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from autosam_edge.measurements import organ_statistics
from autosam_edge.memory import peak_mb
from autosam_edge.volume import RESEARCH_USE
from autosam_edge.write_results import warnings_of_outputs, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from autosam_edge.cli.progress import Stages
    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.session import Session
    from autosam_edge.volume import Segmentation, Volume


def run(
    volume: Volume,
    out: Path,
    stages: Stages,
    open_model: Callable[[], Session],
    *,
    formats: tuple[Format, ...] | None = None,
    pseudonymize: bool = False,
) -> tuple[Segmentation, dict[str, Any]]:
    """Segment, measure and write.

    Returns:
        The labels, and the report that ``--json`` prints.
    """
    warnings = (*volume.warnings, *warnings_of_outputs(volume.source, formats))
    volume = replace(volume, warnings=warnings)
    with stages.stage("load model"):
        session = open_model()
    planned = session.plan(volume)
    shape = "x".join(map(str, planned.model_shape))
    stages.log(f"plan        {planned.tiles} tiles on {shape} voxels, about {planned.peak_mb:.0f} MB")
    with stages.bar("segment") as progress:
        segmentation = planned.execute(progress=progress)
    del session, planned  # frees the engine's memory before the results are written
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
            pseudonymize=pseudonymize,
        )
    timings_s = {
        **stages.seconds,
        **segmentation.timings_s,
        **{f"write {name}": seconds for name, seconds in write_s.items()},
    }
    return segmentation, {
        "outputs": {name: str(path) for name, path in outputs.items()},
        "scan": volume.grid.described(),
        "organs": [_organ(entry) for entry in statistics],
        "timings_s": {name: round(seconds, 3) for name, seconds in timings_s.items()},
        "peak_rss_mb": round(peak_mb(), 1),
        "warnings": [warning.as_dict() for warning in segmentation.warnings],
        "provenance": segmentation.provenance.as_dict(),
    }


def _organ(entry: OrganStatistics) -> dict[str, Any]:
    mean = None if entry.mean_hu is None else round(entry.mean_hu, 1)
    return {
        "name": entry.name,
        "label": entry.label,
        "ml": round(entry.ml, 2),
        "mean_hu": mean,
        "touches_border": entry.touches_border,
    }


def show_report(report: dict[str, Any], *, as_json: bool) -> None:
    """Print the report on stdout."""
    if as_json:
        print(json.dumps(report))
        return
    console = Console(highlight=False)
    with_truth = any("dice_against_truth" in organ for organ in report["organs"])
    provenance = report["provenance"]
    table = Table(
        title=f"{provenance['model']}, {provenance['engine']} {provenance['precision']}", title_justify="left"
    )
    table.add_column("organ", no_wrap=True, min_width=28)
    for heading in ("ml", "mean HU", *(["Dice to truth"] if with_truth else [])):
        table.add_column(heading, justify="right")
    table.add_column("note")
    for organ in report["organs"]:
        cells = [
            organ["name"],
            f"{organ['ml']:.1f}" if organ["ml"] else "-",
            "-" if organ["mean_hu"] is None else f"{organ['mean_hu']:.0f}",
        ]
        if with_truth:
            cells.append(f"{organ['dice_against_truth']:.2f}" if "dice_against_truth" in organ else "-")
        note = "not found" if not organ["ml"] else "at the border" if organ["touches_border"] else ""
        table.add_row(*cells, note)
    console.print(table)
    for warning in report["warnings"]:
        console.print(
            f"{warning['severity']} {warning['code']}: {warning['message']}", markup=False, soft_wrap=True
        )
    for path in report["outputs"].values():
        console.print(path, markup=False, soft_wrap=True)
    console.print(RESEARCH_USE, markup=False, soft_wrap=True)

"""A table as text cells, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from autosam_edge.atomic_files import write_files
from autosam_edge_benchmarks.paper.published import EDITION

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from autosam_edge_benchmarks.paper.published import Measure
    from autosam_edge_benchmarks.paper.tables import Cell, Line, Table
    from autosam_edge_training.evaluate.scored_runs import RunFacts

ABSENT = "n/a"
_TITLE: dict[Measure, str] = {"parameters": "tuned parameters, M", "dice": "mDice", "nsd": "mNSD"}


def headings(table: Table) -> list[str]:
    """Of :func:`text_rows`."""
    return [
        table.spec.heading,
        "data",
        "value",
        "paper",
        "ours",
        "difference",
        "teacher",
        "seeds",
        "steps",
        "grid mm",
        "machine",
    ]


def text_rows(table: Table) -> list[list[str]]:
    """A row per line and measure, as strings; what was not run is ``n/a``, a machine is a letter of :func:`footnotes`."""
    letters = {machine: chr(ord("a") + number) for number, machine in enumerate(_machines(table.lines))}
    return [
        [
            line.row.title,
            line.dataset.upper(),
            _TITLE[cell.measure],
            *_text_cell(cell, starred=bool(line.significant)),
            *_circumstances(line),
            ", ".join(letters[machine] for machine in _machines([line])) or ABSENT,
        ]
        for line in table.lines
        for cell in line.cells
    ]


def _text_cell(cell: Cell, *, starred: bool) -> tuple[str, str, str]:
    ours = ABSENT if cell.ours is None else str(cell.ours)
    if starred and cell.measure != "parameters":
        ours += " *"
    return str(cell.paper), ours, ABSENT if cell.difference is None else f"{cell.difference:+.2f}"


def _circumstances(line: Line) -> list[str]:
    """Teacher, seeds, steps and grid of a line; the network's grid and the steps are the same in all of its runs."""
    if not line.runs:
        return [ABSENT] * 4
    facts = line.runs[0].facts
    seeds = sorted(run.facts.seed for run in line.runs if run.facts.seed is not None)
    return [
        told_by(facts) or ABSENT,
        ", ".join(map(str, seeds)) or ABSENT,
        ABSENT if facts.steps is None else f"{facts.steps:,}",
        ABSENT if facts.spacing_mm is None else " x ".join(f"{side:g}" for side in facts.spacing_mm),
    ]


def _machines(lines: Sequence[Line]) -> list[str]:
    """On which the runs of these lines were trained, each once."""
    return list(dict.fromkeys(run.facts.machine for line in lines for run in line.runs if run.facts.machine))


def told_by(facts: RunFacts) -> str:
    """A distilled student's teacher, and the reduction of its loss where it is not the usual one."""
    return ", ".join(filter(None, (facts.teacher, "element mean" if facts.reduction == "element" else None)))


def footnotes(table: Table) -> list[str]:
    """Notes, remarks and published results, one sentence each."""
    others: dict[str, list[str]] = {}
    for p in table.published:
        others.setdefault(f"{p.source}: {p.protocol}", []).append(
            f"{p.what} {p.dataset.upper()} {p.dice:.2f}"
        )
    elsewhere = [
        f"Published elsewhere, mDice, {where}: {', '.join(results)}." for where, results in others.items()
    ]
    machines = [
        f"Machine {chr(ord('a') + number)}: {machine}."
        for number, machine in enumerate(_machines(table.lines))
    ]
    return [f"Paper: {EDITION}; scores in percent.", *machines, *table.spec.notes, *table.remarks, *elsewhere]


def as_markdown(table: Table) -> str:
    """A heading, the table, its notes."""
    rows = [headings(table), ["---"] * len(headings(table)), *text_rows(table)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"# {table.title}", "", *lines, "", *(f"- {note}" for note in footnotes(table))]) + "\n"


def as_dict(table: Table) -> dict[str, Any]:
    """JSON's types; a number that there is not is null."""
    return {
        "exhibit": table.spec.exhibit,
        "title": table.title,
        "paper": EDITION,
        "smoke": table.smoke,
        "rows": [_line_as_dict(line) for line in table.lines],
        "notes": [*table.spec.notes, *table.remarks],
        "published": [
            {"what": p.what, "dataset": p.dataset, "dice": p.dice, "protocol": p.protocol, "source": p.source}
            for p in table.published
        ],
    }


def _line_as_dict(line: Line) -> dict[str, Any]:
    facts = line.runs[0].facts if line.runs else None
    return {
        "row": line.row.key,
        "title": line.row.title,
        "dataset": line.dataset,
        "values": {cell.measure: _cell_as_dict(cell) for cell in line.cells},
        "significant": line.significant,
        "network": facts.network if facts else None,
        "teacher": facts.teacher if facts else None,
        "reduction": facts.reduction if facts else None,
        "steps": facts.steps if facts else None,
        "spacing_mm": facts.spacing_mm if facts else None,
        "data_sha256": facts.data_sha256 if facts else None,
        "runs": [
            {
                "folder": run.folder.name,
                "seed": run.facts.seed,
                "machine": run.facts.machine,
                "commit": run.facts.commit,
            }
            for run in line.runs
        ],
    }


def _cell_as_dict(cell: Cell) -> dict[str, Any]:
    return {
        "paper": cell.paper.value,
        "paper_prints": str(cell.paper),
        "ours": cell.ours.mean if cell.ours else None,
        "deviation": cell.ours.deviation if cell.ours else None,
        "seeds": cell.ours.seeds if cell.ours else 0,
        "difference": cell.difference,
    }


def _csv_rows(line: Line) -> Iterator[dict[str, str]]:
    """One row per measure, numbers in full; ``n/a`` where there is none."""
    teacher, seeds, steps, grid = _circumstances(line)
    machine = "; ".join(_machines([line])) or ABSENT
    for cell in line.cells:
        numbers = {key: value for key, value in _cell_as_dict(cell).items() if key in _CSV_COLUMNS}
        texts = {key: ABSENT if value is None else str(value) for key, value in numbers.items()}
        place = {"row": line.row.key, "dataset": line.dataset, "measure": cell.measure}
        yield {
            **place,
            **texts,
            "teacher": teacher,
            "seeds": seeds,
            "steps": steps.replace(",", ""),
            "grid_mm": grid,
            "machine": machine,
        }


_CSV_COLUMNS = (
    "row",
    "dataset",
    "measure",
    "paper",
    "paper_prints",
    "ours",
    "deviation",
    "difference",
    "teacher",
    "seeds",
    "steps",
    "grid_mm",
    "machine",
)


def write_table(table: Table, folder: Path) -> tuple[Path, ...]:
    """Write ``<exhibit>.md``, ``.csv`` and ``.json``; a smoke table is named ``<exhibit>-smoke``, so that it replaces no real one."""
    stem = folder / (table.spec.exhibit + ("-smoke" if table.smoke else ""))
    rows = io.StringIO(newline="")
    writer = csv.DictWriter(rows, _CSV_COLUMNS)
    writer.writeheader()
    writer.writerows(row for line in table.lines for row in _csv_rows(line))
    texts = {
        ".md": as_markdown(table),
        ".csv": rows.getvalue(),
        ".json": json.dumps(as_dict(table), indent=1) + "\n",
    }
    contents = {stem.with_suffix(suffix): text.encode() for suffix, text in texts.items()}
    write_files(contents)
    return tuple(contents)

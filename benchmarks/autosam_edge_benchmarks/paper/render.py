"""A table as rows of text, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

from autosam_edge.system.atomic_files import write_files
from autosam_edge_benchmarks.paper.specs import EDITION, Measure
from autosam_edge_benchmarks.paper.tables import Cell, Line, Table
from autosam_edge_training.evaluate.scored_runs import RunFacts

ABSENT = "n/a"
_TITLE: dict[Measure, str] = {"parameters": "tuned parameters, M", "dice": "mDice", "nsd": "mNSD"}


def headings(table: Table) -> list[str]:
    """Column headings of :func:`text_rows`."""
    values = ["data", "value", "paper", "ours", "difference"]
    return [table.spec.heading, *values, "teacher", "seeds", "steps", "grid mm", "machine"]


def text_rows(table: Table) -> list[list[str]]:
    """One row of text for each line and measure; a machine is a letter, which :func:`footnotes` explains."""
    letters = _machine_letters(table)
    rows = []
    for line in table.lines:
        machine = ", ".join(letters[name] for name in _machines([line])) or ABSENT
        for measure, cell in line.cells.items():
            ours = ABSENT if cell.ours is None else f"{cell.ours:.2f}"
            ours += "" if cell.deviation is None else f" ± {cell.deviation:.2f}"
            ours += " *" if line.significant and measure != "parameters" else ""
            difference = ABSENT if cell.difference is None else f"{cell.difference:+.2f}"
            place = [line.row.title, line.dataset.upper(), _TITLE[measure]]
            rows.append([*place, cell.paper, ours, difference, *_configuration(line), machine])
    return rows


def _configuration(line: Line) -> list[str]:
    """Teacher, seeds, steps and grid of the runs of a line; all but the seeds are the same in each run."""
    if not line.runs:
        return [ABSENT] * 4
    facts = line.runs[0].facts
    seeds = sorted(run.facts.seed for run in line.runs if run.facts.seed is not None)
    return [
        teacher_label(facts) or ABSENT,
        ", ".join(map(str, seeds)) or ABSENT,
        ABSENT if facts.steps is None else f"{facts.steps:,}",
        ABSENT if facts.spacing_mm is None else " x ".join(f"{side:g}" for side in facts.spacing_mm),
    ]


def _machines(lines: Sequence[Line]) -> list[str]:
    """Machines on which the runs of these lines were trained, each once."""
    return list(dict.fromkeys(run.facts.machine for line in lines for run in line.runs if run.facts.machine))


def _machine_letters(table: Table) -> dict[str, str]:
    return {machine: chr(ord("a") + number) for number, machine in enumerate(_machines(table.lines))}


def teacher_label(facts: RunFacts) -> str:
    """Teacher of a distilled student, and the reduction of its loss if not the default; empty without one."""
    return ", ".join(filter(None, (facts.teacher, "element mean" if facts.reduction == "element" else None)))


def footnotes(table: Table) -> list[str]:
    """Edition of the paper, machines, notes, remarks and published results, one sentence each."""
    others: dict[str, list[str]] = {}
    for p in table.spec.published:
        results = others.setdefault(f"{p.source}: {p.protocol}", [])
        results.append(f"{p.what} {p.dataset.upper()} {p.dice:.2f}")
    return [
        f"Paper: {EDITION}; scores in percent.",
        *(f"Machine {letter}: {machine}." for machine, letter in _machine_letters(table).items()),
        *table.spec.notes,
        *table.remarks,
        *(f"Published elsewhere, mDice, {where}: {', '.join(found)}." for where, found in others.items()),
    ]


def as_markdown(table: Table) -> str:
    """Return a heading, the table and its notes."""
    rows = [headings(table), ["---"] * len(headings(table)), *text_rows(table)]
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([f"# {table.title}", "", *lines, "", *(f"- {note}" for note in footnotes(table))]) + "\n"


def as_dict(table: Table) -> dict[str, object]:
    """Return the table in JSON's types; a value that does not exist is null."""
    return {
        "exhibit": table.spec.exhibit,
        "title": table.title,
        "paper": EDITION,
        "smoke": table.smoke,
        "rows": [_line_as_dict(line) for line in table.lines],
        "notes": [*table.spec.notes, *table.remarks],
        "published": [dataclasses.asdict(published) for published in table.spec.published],
    }


def _line_as_dict(line: Line) -> dict[str, object]:
    facts = line.runs[0].facts if line.runs else None
    shared = ("network", "teacher", "reduction", "steps", "spacing_mm", "data_sha256")
    return {
        "row": line.row.key,
        "title": line.row.title,
        "dataset": line.dataset,
        "values": {measure: _cell_as_dict(cell) for measure, cell in line.cells.items()},
        "significant": line.significant,
        **{name: getattr(facts, name, None) for name in shared},
        "runs": [
            {
                "folder": run.folder.name,
                **{key: getattr(run.facts, key) for key in ("seed", "machine", "commit")},
            }
            for run in line.runs
        ],
    }


def _cell_as_dict(cell: Cell) -> dict[str, object]:
    return {
        "paper": cell.paper_value,
        "paper_prints": cell.paper,
        "ours": cell.ours,
        "deviation": cell.deviation,
        "seeds": cell.seeds,
        "difference": cell.difference,
    }


def _as_csv(table: Table) -> str:
    """One row per line and measure, with unrounded numbers."""
    rows = []
    for line in table.lines:
        teacher, seeds, steps, grid = _configuration(line)
        for measure, cell in line.cells.items():
            values = {"row": line.row.key, "dataset": line.dataset, "measure": measure, **_cell_as_dict(cell)}
            values |= {"teacher": teacher, "seeds": seeds, "steps": steps.replace(",", ""), "grid_mm": grid}
            values["machine"] = "; ".join(_machines([line])) or ABSENT
            rows.append({key: ABSENT if value is None else value for key, value in values.items()})
    columns = ["row", "dataset", "measure", "paper", "paper_prints", "ours", "deviation", "difference"]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, [*columns, "teacher", "seeds", "steps", "grid_mm", "machine"])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def write_table(table: Table, folder: Path) -> tuple[Path, ...]:
    """Write ``<exhibit>.md``, ``.csv`` and ``.json``.

    A table of smoke runs is written to ``<exhibit>-smoke``, so that it does not replace a real one.
    """
    stem = folder / (table.spec.exhibit + ("-smoke" if table.smoke else ""))
    texts = {
        ".md": as_markdown(table),
        ".csv": _as_csv(table),
        ".json": json.dumps(as_dict(table), indent=1) + "\n",
    }
    contents = {stem.with_suffix(suffix): text.encode() for suffix, text in texts.items()}
    write_files(contents)
    return tuple(contents)

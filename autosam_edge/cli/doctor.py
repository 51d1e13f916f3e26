"""``autosam-edge doctor``."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from autosam_edge.cli.diagnosis import diagnose
from autosam_edge.cli.options import AsJson
from autosam_edge.cli.tables import new_console, new_table, show, show_facts
from autosam_edge.engines.telemetry import SET_BEFORE, VARIABLE

if TYPE_CHECKING:
    from autosam_edge.cli.diagnosis import Diagnosis

app = typer.Typer(rich_markup_mode="markdown")
_COLORS = {"works": "green", "loads": "green", "broken": "red"}


@app.command("doctor")
def doctor(as_json: AsJson = False) -> None:
    """Check this installation: which engines work, what is missing, what does not fit together."""
    found = diagnose()
    error = found.error()
    if as_json:
        told = {**dataclasses.asdict(found), "telemetry_variable_set": SET_BEFORE}
        print(json.dumps({**told, "error": None if error is None else error.code}))
    else:
        _show(found)
    if error is not None:
        raise error


def _show(found: Diagnosis) -> None:
    console, machine = new_console(), found.machine
    system = f"Python {machine['python']}, {machine['system']}"
    console.print(f"autosam-edge {found.version}, {system}", style="bold")
    free, disk = found.memory_available_gb, found.temporary_free_gb
    available = "" if free is None else f", {free:g} GB available"
    installed = (f"{name} {version}" for name, version in found.packages.items() if version)
    show_facts(
        {
            "processor": f"{machine['cpu']}",
            "threads": f"{found.threads} by default; the machine has {machine['cores']} cores",
            "memory": f"{machine['memory_gb']} GB{available}",
            "temporary": "no folder can be written" if disk is None else f"{disk:g} GB free",
            "telemetry": _telemetry(found),
            "packages": ", ".join(installed),
        }
    )
    title = "engines and decoders, each tried in a process of its own"
    words = ("part", "state", "package", "version")
    table = new_table(title, *words, "detail", words=words, folded=("detail",))
    for part in (*found.engines, found.decoders):
        state = f"[{_COLORS.get(part.state, 'dim')}]{part.state}[/]"
        detail = escape(part.install or part.detail)
        table.add_row(part.name, state, part.package, part.version or "", detail)
    show(table)
    for extra, missing in found.extras.items():
        if missing:
            lacks = f"[{extra}] lacks {', '.join(missing)}: pip install 'autosam-edge[{extra}]'"
            console.print(escape(lacks), style="dim")
    for problem in found.problems:
        console.print(escape(f"{problem.why}. Remedy: {problem.remedy}"), style="yellow")
    working = ", ".join(part.name for part in found.engines if part.state == "works")
    console.print(f"engines that work here: {working or 'none'}", style="green" if working else "red")


def _telemetry(found: Diagnosis) -> str:
    loud = [part.package for part in found.engines if part.telemetry_off is False]
    if loud:
        return f"ON in {', '.join(loud)}"
    others = "" if SET_BEFORE else f"; set {VARIABLE}=1 for other programs that use ONNX Runtime"
    return f"off{others}"

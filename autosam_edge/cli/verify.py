"""``autosam-edge verify``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import AsJson
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.verify import Check, VerificationError, verify_bundle


def verify(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            metavar="[BUNDLE]", help="Bundle to check. Default: the one that travels with the package."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Threads of the engines. Default: all cores.")
    ] = None,
    interpret: Annotated[
        bool,
        typer.Option(
            "--interpret",
            help="Evaluate what cannot run here, such as Core ML, operator by operator; needs the export extra.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Prove that this device computes what the bundle's model computed when it was exported; no torch needed."""
    opened = open_bundle(bundle)
    stages = Stages()
    stand_ins = {}
    if interpret:
        stand_ins = load_room("autosam_edge_export.export", "export").stand_ins(
            opened, opened.manifest.artifacts
        )
    try:
        checks = verify_bundle(opened, threads=threads, stand_ins=stand_ins, say=stages.say)
    except VerificationError as error:
        _show(opened.manifest.name, opened.manifest_sha256, error.checks, as_json=as_json)
        raise
    _show(opened.manifest.name, opened.manifest_sha256, checks, as_json=as_json)


def _show(model: str, sha256: str, checks: list[Check], *, as_json: bool) -> None:
    if as_json:
        print(
            json.dumps(
                {
                    "model": model,
                    "model_sha256": sha256,
                    "checks": [dataclasses.asdict(check) for check in checks],
                }
            )
        )
        return
    table = new_table(model)
    table.add_column("check", no_wrap=True)
    table.add_column("verdict")
    table.add_column("load s", justify="right")
    table.add_column("ms a tile", justify="right")
    table.add_column("what was seen")
    colors = {"passed": "green", "failed": "red", "skipped": "yellow"}
    for check in checks:
        load, tile = check.figures.get("load_s"), check.figures.get("tile_ms")
        cells = (f"{load:.2f}" if load is not None else "", f"{tile:.0f}" if tile is not None else "")
        table.add_row(
            check.name, f"[{colors[check.verdict]}]{check.verdict}[/]", *cells, escape(check.detail)
        )
    show(table)

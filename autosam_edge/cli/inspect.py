"""``autosam-edge info``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from autosam_edge.bundle import open_bundle


def info(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="[BUNDLE]", help="Bundle to look at. Default: the one that travels with the package.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Show what a bundle holds, after checking every hash."""
    opened = open_bundle(bundle)
    opened.verify()
    manifest, contract = opened.manifest, opened.manifest.input
    parity = json.loads(opened.read("parity.json"))
    if as_json:
        facts = {
            "name": manifest.name,
            "version": manifest.version,
            "model_sha256": opened.manifest_sha256,
            "license": manifest.license,
            "intended_use": manifest.intended_use,
            "training_data": manifest.training_data,
            "spacing_mm": contract.spacing_mm,
            "window_hu": contract.window_hu,
            "patch": contract.patch,
            "overlap": contract.overlap,
            "labels": {label.value: label.name for label in manifest.labels},
            "artifacts": [artifact.__dict__ for artifact in manifest.artifacts],
            "parity": parity,
            "provenance": manifest.provenance,
        }
        print(json.dumps(facts))
        return
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    rows = {
        "model": f"{manifest.name} {manifest.version}",
        "SHA-256": opened.manifest_sha256,
        "student": f"{manifest.provenance.get('student')}, {manifest.provenance.get('parameters', 0):,} parameters",
        "input": f"{contract.modality} in {contract.unit}, {' x '.join(f'{s:g}' for s in contract.spacing_mm)} mm, "
        f"window {contract.window_hu[0]:g} to {contract.window_hu[1]:g} HU",
        "tiles": f"{'x'.join(map(str, contract.patch))}, overlap {contract.overlap:g}, {contract.blend} blending",
        "organs": ", ".join(label.name for label in manifest.labels),
        "training": manifest.training_data,
        "license": manifest.license,
        "use": manifest.intended_use,
    }
    for artifact in manifest.artifacts:
        rows[f"{artifact.target}/{artifact.precision}"] = f"{artifact.path}, {artifact.working_set_mb:.0f} MB for a tile"
    for entry in parity:
        worst = entry["worst_organ"]
        rows["parity"] = (
            f"{entry['target']}/{entry['precision']}: worst organ Dice {worst['dice']:.5f} ({worst['organ']}), "
            f"labels agree in {entry['agreement']:.6f}, largest logit error {entry['logit_error']:.1e}"
        )
    for key, value in rows.items():
        table.add_row(key, str(value))
    console.print(table)
    console.print("every hash is right", style="green")

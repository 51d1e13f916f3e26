"""``autosam-edge info``."""

from __future__ import annotations

import json

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.options import AsJson, BundleArgument, TierOption
from autosam_edge.cli.tables import new_table, show
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.manifest import Manifest
from autosam_edge.parity import read_parity


def info(bundle: BundleArgument = None, tier: TierOption = None, as_json: AsJson = False) -> None:
    """Check every hash of a model bundle and show its content."""
    opened = open_bundle(bundle, tier=tier)
    opened.verify()
    manifest, contract = opened.manifest, opened.manifest.input
    parity, _ = read_parity(opened)
    if as_json:
        content = {
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
            "artifacts": [
                {**choice.artifact.__dict__, "usable": choice.usable, "reason": choice.reason}
                for choice in rank_artifacts(manifest)
            ],
            "parity": parity,
            "provenance": manifest.provenance,
        }
        print(json.dumps(content))
        return
    console = Console(highlight=False)
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")  # the hash is longer than some terminals are wide
    made_by = manifest.provenance
    count = made_by.get("parameters")
    parameters = f"{count:,}" if isinstance(count, int) else "unknown"
    spacing = " x ".join(f"{side:g}" for side in contract.spacing_mm)
    patch = "x".join(map(str, contract.patch))
    rows = {
        "model": f"{manifest.name} {manifest.version}",
        "SHA-256": opened.manifest_sha256,
        "student": f"{made_by.get('student')}, {parameters} parameters",
        "input": f"{contract.modality} in {contract.unit}, {spacing} mm, "
        f"window {contract.window_hu[0]:g} to {contract.window_hu[1]:g} HU",
        "tiles": f"{patch}, overlap {contract.overlap:g}, {contract.blend} blending",
        "organs": ", ".join(label.name for label in manifest.labels),
        "training": manifest.training_data,
        "license": manifest.license,
        "use": manifest.intended_use,
    }
    for key, value in rows.items():
        table.add_row(key, str(value))
    console.print(table)
    show(_artifacts(manifest))
    console.print("every hash is correct", style="green")


def _artifacts(manifest: Manifest) -> Table:
    """The artifacts with the reasons, best first; `segment` uses the first one."""
    words, numbers = ("artifact", "tested"), ("worst organ", "time", "MB per tile")
    title = "artifacts, best first on this device"
    table = new_table(title, *words, *numbers, "reason", words=words, folded=("reason",))
    for place, choice in enumerate(rank_artifacts(manifest)):
        artifact = choice.artifact
        style = "bold" if place == 0 and choice.usable else "" if choice.usable else "dim"
        time = "" if artifact.relative_time is None else f"{artifact.relative_time:.2f} x"
        memory = "" if artifact.working_set_mb is None else f"{artifact.working_set_mb:.0f}"
        figures = (artifact.proof, f"{artifact.worst_organ_dice:.4f}", time, memory)
        table.add_row(artifact.name, *figures, escape(choice.reason), style=style)
    return table

"""``autosam-edge info``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.markup import escape

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.options import AsJson, BundleArgument, TierOption
from autosam_edge.cli.tables import new_console, new_table, show, show_facts
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.parity import read_parity

if TYPE_CHECKING:
    from rich.table import Table

    from autosam_edge.bundle import Bundle
    from autosam_edge.manifest import Manifest


def info(bundle: BundleArgument = None, tier: TierOption = None, as_json: AsJson = False) -> None:
    """Check every hash of a model bundle and show its content."""
    opened = open_bundle(bundle, tier=tier)
    opened.verify()
    manifest, contract = opened.manifest, opened.manifest.input
    parity = read_parity(opened).content
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
    show_facts(_facts(opened))
    show(_artifacts(manifest))
    new_console().print("every hash is correct", style="green")


def _facts(bundle: Bundle) -> dict[str, str]:
    manifest, contract = bundle.manifest, bundle.manifest.input
    made_by = manifest.provenance
    count = made_by.get("parameters")
    parameters = f"{count:,}" if isinstance(count, int) else "unknown"
    spacing = " x ".join(f"{side:g}" for side in contract.spacing_mm)
    patch = "x".join(map(str, contract.patch))
    return {
        "model": f"{manifest.name} {manifest.version}",
        "SHA-256": bundle.manifest_sha256,
        "student": f"{made_by.get('student')}, {parameters} parameters",
        "input": f"{contract.modality} in {contract.unit}, {spacing} mm, "
        f"window {contract.window_hu[0]:g} to {contract.window_hu[1]:g} HU",
        "tiles": f"{patch}, overlap {contract.overlap:g}, {contract.blend} blending",
        "organs": ", ".join(label.name for label in manifest.labels),
        "training": manifest.training_data,
        "license": manifest.license,
        "use": manifest.intended_use,
    }


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

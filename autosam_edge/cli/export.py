"""``autosam-edge export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.progress import Stages
from autosam_edge.errors import OutputError
from autosam_edge.io.read import read


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write (*.edge).")],
    target: Annotated[str, typer.Option("--target", help="Runtime of the device.")] = "onnx",
    precision: Annotated[str, typer.Option("--precision", help="Number format of the weights.")] = "fp32",
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Student's safetensors. Default: the one in the default bundle.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the model.")] = None,
    volume: Annotated[
        list[Path] | None, typer.Option("--volume", help="CT scan to compare on; may be repeated. Default: two phantoms.")
    ] = None,
    training_data: Annotated[str | None, typer.Option("--training-data", help="One sentence for the manifest.")] = None,
    model_card: Annotated[Path | None, typer.Option("--model-card", help="Markdown file to put into the bundle.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Turn a trained student into a bundle, and prove that it is the student."""
    room = load_room("autosam_edge_export.export", "export")
    if out.exists() and not (out / "manifest.json").is_file():
        raise OutputError("AE-OUTPUT-002", f"{out.name} exists and is not a bundle.", remedy="Choose another name.")
    stages = Stages()
    volumes = {f"scan {number}": read(path) for number, path in enumerate(volume, start=1)} if volume else None
    report = room.export_bundle(
        checkpoint,
        out,
        target=target,
        precision=precision,
        name=name,
        volumes=volumes,
        model_card=model_card,
        training_data=training_data,
        say=stages.say,
    )
    if as_json:
        print(json.dumps(report))
        return
    worst = report["worst_organ"]
    print(f"{report['bundle']}: {target}/{precision}, {report['megabytes']} MB")
    print(f"worst organ Dice against the trained student {worst['dice']:.5f} ({worst['organ']})")
    print(f"labels agree in {report['agreement']:.6f} of voxels")

"""``autosam-edge export``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import AsJson
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.read_scan import read

if TYPE_CHECKING:
    from types import ModuleType

    from autosam_edge.volume import Volume

Scans = list[Path] | None


def export(
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write (*.edge).")],
    target: Annotated[
        str,
        typer.Option(
            "--target",
            help="Runtimes of the device, with commas: onnx, openvino, coreml, coreml-2d, coreml-ios18, executorch, "
            "executorch-coreml; or monai.",
        ),
    ] = "onnx",
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="Number formats, with commas: fp32, fp16, bf16, int8-weights, int8, palette6, palette4.",
        ),
    ] = "fp32",
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Student's safetensors. Default: the one in the default bundle."),
    ] = None,
    patch: Annotated[str, typer.Option("--patch", help="Tile, D,H,W in voxels.")] = "96,96,96",
    name: Annotated[str | None, typer.Option("--name", help="Name of the model.")] = None,
    volume: Annotated[
        Scans, typer.Option("--volume", help="CT scan to compare on; may be repeated. Default: two phantoms.")
    ] = None,
    calibrate: Annotated[
        Scans,
        typer.Option(
            "--calibrate",
            help="CT scan of another patient to calibrate int8 on; may be repeated. Default: phantoms.",
        ),
    ] = None,
    interpreted_tiles: Annotated[
        int | None,
        typer.Option(
            "--interpreted-tiles",
            min=1,
            help="Compare what can only be interpreted here, such as Core ML, on so many tiles of each scan. Default: whole scans.",
        ),
    ] = None,
    training_data: Annotated[
        str | None, typer.Option("--training-data", help="One sentence for the manifest.")
    ] = None,
    model_card: Annotated[
        Path | None,
        typer.Option(
            "--model-card", help="Markdown file to put into the bundle.", exists=True, dir_okay=False
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Turn a trained student into a bundle, and prove organ by organ that it is the student."""
    room = load_room("autosam_edge_export.export", "export")
    description = room.Description(
        name, model_card.read_text(encoding="utf-8") if model_card else None, training_data
    )
    if "monai" in target.split(","):
        if target != "monai" or precision != "fp32" or volume or calibrate or interpreted_tiles:
            raise typer.BadParameter(
                "a MONAI bundle holds the student as it is, in a folder of its own: no other target, precision or scan goes with it",
                param_hint="--target",
            )
        path = room.export_monai(checkpoint, out, patch=_patch(patch), description=description)
        print(json.dumps({"bundle": str(path)}) if as_json else path)
        return
    stages = Stages()
    report = room.export_bundle(
        checkpoint,
        out,
        targets=target.split(","),
        precisions=precision.split(","),
        description=description,
        patch=_patch(patch),
        volumes=_read(volume, "scan"),
        calibration=_read(calibrate, "calibration"),
        interpreted_tiles=interpreted_tiles,
        say=stages.say,
    )
    if as_json:
        print(json.dumps(report))
    else:
        _show(room, report)


def _patch(text: str) -> tuple[int, int, int]:
    sides = text.split(",")
    if len(sides) != 3 or not all(side.isdigit() for side in sides):
        raise typer.BadParameter(f"{text!r} is not three whole numbers with commas", param_hint="--patch")
    return int(sides[0]), int(sides[1]), int(sides[2])


def _read(paths: Scans, title: str) -> dict[str, Volume] | None:
    """The scans by number: their names may be a patient's."""
    return {f"{title} {number}": read(path) for number, path in enumerate(paths, start=1)} if paths else None


def _show(room: ModuleType, report: dict[str, Any]) -> None:
    rows = room.as_table(report)
    table = new_table(f"{report['bundle']}: {report['model']} ({report['student']})")
    for heading in rows[0]:
        left = heading in ("artifact", "worst organ", "verdict")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        table.add_row(*row.values())
    show(table)
    for line in room.delegation_lines(report):
        print(line)

"""``autosam-edge export``; the modules with torch are imported after wrong usage was refused."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.options import AsJson, folder, refuse_given, split_commas, weights_in
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.read_scan import read

if TYPE_CHECKING:
    from autosam_edge.volume import Volume
    from autosam_edge_training.strict import JsonObject

app = typer.Typer(rich_markup_mode="markdown")
Scans = list[Path] | None


Target = Annotated[
    str,
    typer.Option(
        "--target",
        metavar="NAME,...",
        help="Runtimes to export for: onnx, onnx-2d, openvino, coreml, coreml-2d, coreml-ios18, executorch, "
        "executorch-coreml; or, alone, monai or web.",
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        "--precision",
        metavar="NAME,...",
        help="Number formats: fp32, fp16, bf16, int8-weights, int8, palette6, palette4.",
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        help="Weights of the student: student.safetensors, or the folder of a run or bundle with that file. "
        "Default: those of the default bundle, in a checkout.",
        callback=weights_in,
    ),
]
Patch = Annotated[str, typer.Option("--patch", metavar="D,H,W", help="Size of the tile, in voxels.")]
VolumeOption = Annotated[
    Scans,
    typer.Option(
        "--volume",
        help="CT scan on which each artifact is compared with the student; can be repeated. "
        "Default: two phantoms.",
    ),
]
Calibrate = Annotated[
    Scans,
    typer.Option(
        "--calibrate",
        help="CT scan of another patient to calibrate int8 with; can be repeated. Default: phantoms.",
    ),
]
InterpretedTiles = Annotated[
    int | None,
    typer.Option(
        "--interpreted-tiles",
        min=1,
        help="Number of tiles of each scan to compare on if only an interpreter runs the artifact here, "
        "such as Core ML. Default: whole scans.",
    ),
]
Name = Annotated[str | None, typer.Option("--name", help="Name of the model.")]
Version = Annotated[
    str | None, typer.Option("--model-version", help="Version of the model. Default: the package's.")
]
TrainingData = Annotated[
    str | None, typer.Option("--training-data", help="Sentence about the training data, for the manifest.")
]
ModelCard = Annotated[
    Path | None,
    typer.Option("--model-card", help="Markdown file to put into the bundle.", exists=True, dir_okay=False),
]
DecisionWeights = Annotated[
    Path | None,
    typer.Option(
        "--decision-weights",
        help="File that `fit-decision-weights` wrote. Default: the weights of the default bundle if its "
        "student is exported, otherwise none.",
        exists=True,
        dir_okay=False,
    ),
]


Plausibility = Annotated[
    Path | None,
    typer.Option(
        "--plausibility",
        help="File that `bench plausibility` wrote. Default: the thresholds of the default bundle if its "
        "student is exported, otherwise none, so that nothing is checked.",
        exists=True,
        dir_okay=False,
    ),
]
Confidence = Annotated[
    Path | None,
    typer.Option(
        "--confidence",
        help="File that `bench confidence` wrote. Default: the map of the default bundle if its student is "
        "exported, otherwise none, so that no Dice is expected.",
        exists=True,
        dir_okay=False,
    ),
]


_WEB = "Options of --target web"
_FOR_WEB = {"bundle", "pyodide", "download", "cache"}
_FOR_STUDENT = {
    "checkpoint",
    "patch",
    "name",
    "model_version",
    "training_data",
    "model_card",
    "decision_weights",
}
_FOR_BUNDLE = {"volume", "calibrate", "interpreted_tiles", "plausibility", "confidence"}
_UNUSED = {"web": _FOR_STUDENT | _FOR_BUNDLE, "monai": _FOR_WEB | _FOR_BUNDLE}
"""Options that a target does not use, by their Python names; those of a bundle are ``_FOR_WEB``."""
WebBundle = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Bundle that the site runs, with an onnx artifact of the precision; one of onnx-2d brings "
        "WebGPU. Default: the one in the package.",
        rich_help_panel=_WEB,
        show_default=False,
    ),
]
Pyodide = Annotated[
    Path | None,
    typer.Option(
        "--pyodide",
        help="Folder with Pyodide's distribution, or with any third-party files that a site needs. Each is "
        "compared with its pinned SHA-256.",
        exists=True,
        file_okay=False,
        rich_help_panel=_WEB,
    ),
]
Download = Annotated[
    bool,
    typer.Option(
        "--download/--no-download",
        help="Fetch missing third-party files with npm and pip, or from Pyodide's own server. Each is "
        "compared with its pinned SHA-256.",
        rich_help_panel=_WEB,
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder that keeps what is fetched, for the next site. Default: nothing is kept.",
        file_okay=False,
        rich_help_panel=_WEB,
    ),
]


Out = Annotated[
    Path,
    typer.Option(
        "--out",
        "-o",
        metavar="PATH",
        parser=folder,
        help="Bundle to write (*.edge); of --target web, a folder.",
    ),
]


@app.command("export")
def export(
    context: typer.Context,
    out: Out,
    target: Target = "onnx",
    precision: Precision = "fp32",
    checkpoint: Checkpoint = None,
    patch: Patch = "96,96,96",
    name: Name = None,
    model_version: Version = None,
    volume: VolumeOption = None,
    calibrate: Calibrate = None,
    interpreted_tiles: InterpretedTiles = None,
    training_data: TrainingData = None,
    model_card: ModelCard = None,
    decision_weights: DecisionWeights = None,
    plausibility: Plausibility = None,
    confidence: Confidence = None,
    bundle: WebBundle = None,
    pyodide: Pyodide = None,
    download: Download = True,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Export a trained student network as a bundle; compare each artifact with it, by organ."""
    d, h, w = split_commas(
        patch, int, option="--patch", expected="three whole numbers with commas, such as 96,96,96", count=3
    )
    targets, precisions = ([name.strip() for name in text.split(",")] for text in (target, precision))
    if "web" in targets and targets != ["web"]:
        raise typer.BadParameter(
            "a web site is no bundle: give no other target with web", param_hint="--target"
        )
    _refuse_unused(context, targets, precisions)
    if targets == ["web"]:
        _export_web(out, bundle, precision, pyodide, download=download, cache=cache, as_json=as_json)
        return
    monai = "monai" in targets
    if monai and (targets, precisions) != (["monai"], ["fp32"]):
        raise typer.BadParameter(
            "a MONAI bundle holds the student unchanged: give no other target or precision with monai",
            param_hint="--target",
        )
    from autosam_edge_export.bundle_writer import (
        Description,
        read_confidence,
        read_decision_weights,
        read_plausibility,
    )
    from autosam_edge_export.export import export_bundle, export_monai

    description = Description(
        name,
        _read_card(model_card) if model_card else None,
        training_data,
        model_version,
        read_decision_weights(decision_weights) if decision_weights else None,
        read_plausibility(plausibility) if plausibility else None,
        read_confidence(confidence) if confidence else None,
    )
    if monai:
        made = export_monai(checkpoint, out, patch=(d, h, w), description=description)
        print(json.dumps({"bundle": str(made)}) if as_json else made)
        return
    report = export_bundle(
        checkpoint,
        out,
        targets=targets,
        precisions=precisions,
        description=description,
        patch=(d, h, w),
        volumes=_read(volume, "scan"),
        calibration=_read(calibrate, "calibration"),
        interpreted_tiles=interpreted_tiles,
        log=Stages().log,
    )
    print(json.dumps(report)) if as_json else _show(report)


def _refuse_unused(context: typer.Context, targets: list[str], precisions: list[str]) -> None:
    """Refuse an option that the export does not use, so that none is passed over in silence."""
    unused = _UNUSED.get(targets[0], _FOR_WEB)
    if not any("coreml" in target for target in targets):  # the only ones that have an interpreter
        unused = unused | {"interpreted_tiles"}
    refuse_given(context, unused, f"--target {','.join(targets)} does not use this option")
    if context.params["calibrate"] and "int8" not in precisions:
        raise typer.BadParameter("scans calibrate int8 only: add it to --precision", param_hint="--calibrate")


def _read_card(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        raise typer.BadParameter(f"{path.name} is no UTF-8 text", param_hint="--model-card") from error


def _export_web(
    out: Path,
    bundle: Path | None,
    precision: str,
    pyodide: Path | None,
    *,
    download: bool,
    cache: Path | None,
    as_json: bool,
) -> None:
    from autosam_edge_export.web.site import write_site
    from autosam_edge_export.web.third_party import ThirdParty

    folders = [pyodide] if pyodide else []
    with ThirdParty(folders, cache, download=download, log=Stages().log) as third_party:
        chosen = open_bundle(bundle, tier=None if bundle else "fast")
        report = write_site(chosen, out, third_party, precision=precision)
    if as_json:
        print(json.dumps(report))
        return
    print(f"{out}: {report['files']} files, {report['megabytes']} MB; providers: {report['providers']}")
    print(f"Serve it with any web server, for example: python -m http.server -d {shlex.quote(str(out))}")


def _read(paths: Scans, title: str) -> dict[str, Volume] | None:
    """The scans by number: their names may be a patient's."""
    return {f"{title} {number}": read(path) for number, path in enumerate(paths, start=1)} if paths else None


def _show(report: JsonObject) -> None:
    from autosam_edge_export.export import as_table, delegation_lines

    rows = as_table(report)
    title = f"{report['bundle']}: {report['model']} ({report['student']})"
    table = new_table(title, *rows[0], words=("artifact", "worst organ", "verdict"))
    for row in rows:
        table.add_row(*row.values())
    show(table)
    for remark in (report["not_compared"], report["doubt_of_times"]):
        if remark:
            print(remark)
    for line in delegation_lines(report):
        print(line)

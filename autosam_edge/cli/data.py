"""``autosam-edge data prepare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import AsJson
from autosam_edge.cli.progress import Stages

app = typer.Typer(
    help="Bring a data set to the form that training and evaluation read.", no_args_is_help=True
)


@app.callback()
def _data() -> None:
    """Keeps `prepare` a command of its own while it is the only one."""


@app.command("prepare")
def prepare(
    layout: Annotated[
        str,
        typer.Argument(
            metavar="LAYOUT", help="btcv, amos, decathlon or partial: how the data set is laid out."
        ),
    ],
    source: Annotated[
        Path, typer.Option("--src", help="Folder of the data set.", exists=True, file_okay=False)
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="Folder to make; one with the same data in it is taken as it is."),
    ],
    spacing: Annotated[
        str, typer.Option("--spacing", help="Of the model's grid along D, H, W (z, y, x), mm.")
    ] = "3,3,3",
    targets: Annotated[
        str,
        typer.Option(
            "--targets",
            help="occupancy: the share of every organ in each voxel; labels: the organ with the largest.",
        ),
    ] = "occupancy",
    validation: Annotated[
        int,
        typer.Option(
            "--validation", min=0, help="Training cases to hold out for validation. BTCV has its own four."
        ),
    ] = 0,
    as_json: AsJson = False,
) -> None:
    """Bring a data set to the model's grid: windowed, resampled as the runtime does it, with a manifest of every file."""
    room = load_room("autosam_edge_training.data", "train")
    if layout not in room.LAYOUTS:
        raise typer.BadParameter(f"expected {', '.join(room.LAYOUTS)}", param_hint="LAYOUT")
    if targets not in room.TARGETS:
        raise typer.BadParameter(f"expected {' or '.join(room.TARGETS)}", param_hint="--targets")
    if validation and layout == "btcv":
        raise typer.BadParameter("the validation cases of BTCV are fixed", param_hint="--validation")
    spacing_mm = _spacing(spacing)
    listing = room.LAYOUTS[layout](source)
    if validation:
        listing = listing.hold_out(validation)
    stages = Stages()
    with stages.bar("prepare") as progress:
        prepared = room.prepare_dataset(
            listing, out, spacing_mm=spacing_mm, targets=targets, say=stages.say, progress=progress
        )
    facts = {
        "folder": str(out),
        "dataset": prepared.dataset,
        "sha256": prepared.sha256,
        "manifest_sha256": prepared.manifest_sha256,
        "classes": prepared.classes,
        "cases": {split: len(names) for split, names in prepared.split.items()},
        "megabytes": round(sum(path.stat().st_size for path in out.glob("*.npy")) / 1e6, 1),
        "warnings": list(listing.warnings),
    }
    if as_json:
        print(json.dumps(facts))
        return
    counts = ", ".join(f"{count} {split}" for split, count in facts["cases"].items())
    print(f"{out}: {prepared.dataset}, {counts}, {facts['megabytes']} MB, sha256 {prepared.sha256}")


def _spacing(text: str) -> tuple[float, float, float]:
    """Three positive lengths from ``3,3,3``."""
    try:
        d, h, w = (float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(
            "expected three numbers with commas, such as 3,3,3", param_hint="--spacing"
        ) from error
    if not 0 < min(d, h, w) <= max(d, h, w) < float("inf"):
        raise typer.BadParameter("expected positive lengths", param_hint="--spacing")
    return d, h, w

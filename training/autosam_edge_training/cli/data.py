"""``autosam-edge data prepare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.cli.options import AsJson, split_commas
from autosam_edge.cli.progress import Stages
from autosam_edge.model import SPACING_MM, require_spacing
from autosam_edge_training.choices import Layout, Targets

app = typer.Typer(help="Prepare a data set for training and evaluation.", no_args_is_help=True)


LayoutName = Annotated[Layout, typer.Argument(metavar="LAYOUT", help="Layout of the data set on the disk.")]
Source = Annotated[Path, typer.Option("--src", help="Folder of the data set.", exists=True, file_okay=False)]
Out = Annotated[
    Path,
    typer.Option(
        "--out", "-o", help="Folder to create; a folder that already holds these data is used as it is."
    ),
]
Spacing = Annotated[
    str, typer.Option("--spacing", metavar="Z,Y,X", help="Voxel spacing to resample to, in mm.")
]
TargetsOption = Annotated[
    Targets,
    typer.Option(
        "--targets",
        help="Content of a label voxel: the share of every organ (occupancy), or the organ with the "
        "largest share (labels).",
    ),
]
Validation = Annotated[
    int,
    typer.Option(
        "--validation",
        min=0,
        help="Number of training cases to hold out for validation. BTCV has four fixed ones.",
    ),
]


@app.command("prepare")
def prepare(
    layout: LayoutName,
    source: Source,
    out: Out,
    spacing: Spacing = "3,3,3",
    targets: TargetsOption = "occupancy",
    validation: Validation = 0,
    as_json: AsJson = False,
) -> None:
    """Resample a data set to the model's grid.

    The scans are windowed and resampled as at run time; a manifest lists every file with its hash.
    """
    if validation and layout == "btcv":
        raise typer.BadParameter("the validation cases of BTCV are fixed", param_hint="--validation")
    low, high = SPACING_MM
    d, h, w = split_commas(
        spacing,
        _spacing_of_a_model,
        option="--spacing",
        expected=f"three lengths from {low:g} to {high:g} mm with commas, such as 3,3,3",
        count=3,
    )
    from autosam_edge_training.data import LAYOUTS, prepare_dataset

    listing = LAYOUTS[layout](source)
    if validation:
        listing = listing.hold_out(validation)
    stages = Stages()
    with stages.bar("prepare") as progress:
        prepared = prepare_dataset(
            listing, out, spacing_mm=(d, h, w), targets=targets, log=stages.log, progress=progress
        )
    cases = {split: len(names) for split, names in prepared.split.items()}
    megabytes = round(sum(path.stat().st_size for path in out.glob("*.npy")) / 1e6, 1)
    if as_json:
        report = {
            "folder": str(out),
            "dataset": prepared.dataset,
            "sha256": prepared.sha256,
            "manifest_sha256": prepared.manifest_sha256,
            "classes": prepared.classes,
            "cases": cases,
            "megabytes": megabytes,
            "warnings": list(listing.warnings),
        }
        print(json.dumps(report))
        return
    counts = ", ".join(f"{count} {split}" for split, count in cases.items())
    print(f"{out}: {prepared.dataset}, {counts}, {megabytes} MB, sha256 {prepared.sha256}")


def _spacing_of_a_model(text: str) -> float:
    """Reader of one length of ``--spacing``, mm."""
    length_mm = float(text)
    require_spacing("--spacing", (length_mm,) * 3)
    return length_mm

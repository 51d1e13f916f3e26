"""``autosam-edge baseline``: methods of others, through their own libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.progress import Stages

app = typer.Typer(help="Run the methods that the paper compares with.", no_args_is_help=True)
Data = Annotated[
    Path, typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True, file_okay=False)
]


@app.command("nnunet")
def nnunet(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder that nnU-Net calls nnUNet_raw.")],
    number: Annotated[
        int | None, typer.Option("--id", help="Number of the data set, 1 to 999.", min=1, max=999)
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files instead of linking them.")] = False,
) -> None:
    """Write the raw data set of nnU-Net v2 and print what to run in its own environment."""
    manifest = load_room("autosam_edge_training.data", "train").Manifest.read(data / "manifest.json")
    room = load_room("autosam_edge_benchmarks.paper.nnunet", "train")
    folder = room.write_nnunet(manifest, out, dataset_id=number, copy=copy)
    Stages().say(f"wrote {folder}; in an environment with nnunetv2 run:")
    print(room.nnunet_commands(folder))


@app.command("sam-point")
def sam_point(
    data: Data,
    sam: Annotated[
        Path, typer.Option("--sam", help="Checkpoint of SAM or MedSAM.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the predictions.")],
    random_points: Annotated[
        bool, typer.Option("--random-points", help="Any pixel of an organ, not its most interior one.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of random points.")] = 0,
    limit_slices: Annotated[
        int, typer.Option("--limit-slices", min=0, help="Only so many slices a case, to try it out; 0: all.")
    ] = 0,
    device: Annotated[str, typer.Option("--device", help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """SAM or MedSAM with one point per organ and slice, taken from the ground truth: no automatic segmentation."""
    leaf = load_room("autosam_edge_benchmarks.paper.sam_predictor", "sam2d")
    data_room = load_room("autosam_edge_training.data", "train")
    room = load_room("autosam_edge_benchmarks.paper.points", "train")
    config = room.PointConfig(
        rule="random" if random_points else "interior", seed=seed, limit_slices=limit_slices
    )
    predictor, facts = leaf.load_predictor(sam, device=device)
    manifest = data_room.Manifest.read(data / "manifest.json")
    print(room.write_point_predictions(predictor, manifest, out, config, facts=facts, say=Stages().say))


@app.command("record")
def record(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="With cases.csv and summary.json, as `evaluate -o` wrote them.",
            exists=True,
        ),
    ],
    network: Annotated[
        str, typer.Option("--network", help="What the method trained, such as nnunet-3d-fullres.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared data set that was scored.", exists=True, file_okay=False),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of its training.")] = None,
    steps: Annotated[int | None, typer.Option("--steps", min=0, help="Of its training.")] = None,
    tuned: Annotated[
        int | None, typer.Option("--tuned-parameters", min=0, help="As its own tool counts them.")
    ] = None,
    total: Annotated[int | None, typer.Option("--parameters", min=0, help="All of them.")] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="What it was trained on.")] = None,
) -> None:
    """Say what a method of others was, so that the tables show its scores."""
    room = load_room("autosam_edge_benchmarks.paper.record", "train")
    digest = (
        None
        if data is None
        else load_room("autosam_edge_training.data", "train").Manifest.read(data / "manifest.json").sha256
    )
    options = {
        "seed": seed,
        "steps": steps,
        "trainable_parameters": tuned,
        "total_parameters": total,
        "machine": machine,
    }
    recorded = room.record_baseline(run, network=network, data_sha256=digest, **options)
    print(f"{run / 'run.json'}: {recorded.facts.method} on {recorded.facts.dataset}")

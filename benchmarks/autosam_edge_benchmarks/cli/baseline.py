"""``autosam-edge baseline``: methods of others, through their own libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from autosam_edge.cli.extras import needs
from autosam_edge.cli.options import Data, refuse_given
from autosam_edge.cli.progress import Stages

app = typer.Typer(help="Run the methods that the paper compares with.", no_args_is_help=True)


@app.command("nnunet")
def nnunet(
    data: Data,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder nnUNet_raw of nnU-Net.")],
    number: Annotated[
        int | None, typer.Option("--id", help="Number of the data set, 1 to 999.", min=1, max=999)
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the files instead of linking them.")] = False,
) -> None:
    """Write the raw data set of nnU-Net v2 and print what to run in its own environment."""
    from autosam_edge_benchmarks.paper.nnunet import nnunet_commands, write_nnunet
    from autosam_edge_training.data import Manifest

    folder = write_nnunet(Manifest.read(data / "manifest.json"), out, dataset_id=number, copy=copy)
    Stages().log(f"wrote {folder}; in an environment with nnunetv2 run:")
    print(nnunet_commands(folder))


@app.command("sam-point")
def sam_point(
    context: typer.Context,
    data: Data,
    sam: Annotated[
        Path, typer.Option("--sam", help="Checkpoint of SAM or MedSAM.", exists=True, dir_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the predictions.")],
    random_points: Annotated[
        bool,
        typer.Option(
            "--random-points",
            help="Place the points at random in an organ. Default: at its most interior pixel.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Random seed of the points.")] = 0,
    limit_slices: Annotated[
        int,
        typer.Option("--limit-slices", min=0, help="Number of slices of each case, for a quick try; 0: all."),
    ] = 0,
    device: Annotated[
        Literal["cpu", "cuda", "mps"], typer.Option("--device", help="Device that computes.")
    ] = "cpu",
) -> None:
    """Run SAM or MedSAM with one point per organ and slice.

    The points come from the ground truth, so this is no automatic segmentation.
    """
    if not random_points:
        refuse_given(context, {"seed"}, "has no effect without --random-points")
    with needs("sam2d"):
        from autosam_edge_benchmarks.paper.sam_predictor import load_predictor
    from autosam_edge_benchmarks.paper.points import PointConfig, write_point_predictions
    from autosam_edge_training.data import Manifest

    config = PointConfig(rule="random" if random_points else "interior", seed=seed, limit_slices=limit_slices)
    predictor, facts = load_predictor(sam, device=device)
    manifest = Manifest.read(data / "manifest.json")
    print(write_point_predictions(predictor, manifest, out, config, facts=facts, log=Stages().log))


@app.command("record")
def record(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="FOLDER",
            help="Folder with cases.csv and summary.json that `evaluate -o` wrote.",
            exists=True,
        ),
    ],
    network: Annotated[
        str, typer.Option("--network", help="Network of the method, such as nnunet-3d-fullres.")
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Prepared data set that was scored.", exists=True, file_okay=False),
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed of its training.")] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", min=0, help="Number of steps of its training.")
    ] = None,
    tuned: Annotated[
        int | None,
        typer.Option(
            "--tuned-parameters", min=0, help="Number of trained parameters, as its own tool counts them."
        ),
    ] = None,
    total: Annotated[
        int | None, typer.Option("--parameters", min=0, help="Number of all parameters.")
    ] = None,
    machine: Annotated[str | None, typer.Option("--machine", help="Machine of its training.")] = None,
) -> None:
    """Describe a scored method of others, so that the tables show it."""
    from autosam_edge_benchmarks.paper.record import record_baseline
    from autosam_edge_training.data import Manifest

    recorded = record_baseline(
        run,
        network=network,
        data_sha256=None if data is None else Manifest.read(data / "manifest.json").sha256,
        seed=seed,
        steps=steps,
        trainable_parameters=tuned,
        total_parameters=total,
        machine=machine,
    )
    print(f"{run / 'run.json'}: {recorded.facts.method} on {recorded.facts.dataset}")

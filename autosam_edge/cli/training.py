"""``autosam-edge data prepare``, ``train student`` and ``evaluate``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.progress import Stages
from autosam_edge.errors import InputError
from autosam_edge.session import open_session

data_app = typer.Typer(help="Bring a data set to the form that training reads.", no_args_is_help=True)
train_app = typer.Typer(help="Train a network from a recipe.", no_args_is_help=True)


def _folder(path: Path, needed: str) -> Path:
    if not (path / needed).is_file():
        raise InputError(
            "AE-INPUT-010", f"the folder has no {needed}.", remedy="Give the folder of a Decathlon-style data set, or run `data prepare`."
        )
    return path


@data_app.command("prepare")
def prepare(
    source: Annotated[Path, typer.Option("--src", help="Folder with dataset.json, imagesTr and labelsTr.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the prepared cases.")],
) -> None:
    """Bring BTCV to the model's grid: 3 mm, windowed, with the occupancy of each organ."""
    room = load_room("autosam_edge_training.data", "train")
    print(room.prepare_btcv(_folder(source, "dataset.json"), out))


@train_app.command("student")
def student(
    config: Annotated[Path, typer.Option("--config", help="Recipe, a YAML file.", exists=True, dir_okay=False)],
    data: Annotated[Path, typer.Option("--data", help="Folder that `data prepare` wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for checkpoints, metrics and weights; a run there is resumed.")],
    init: Annotated[Path | None, typer.Option("--init", help="Weights to start from; default: random.", exists=True)] = None,
) -> None:
    """Train a student without a teacher."""
    room = load_room("autosam_edge_training.train_student", "train")
    print(room.train(room.Config.read(config), _folder(data, "prepared.json"), out, init=init))


def evaluate(
    data: Annotated[Path, typer.Option("--data", help="Folder with dataset.json, imagesTr and labelsTr.")],
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    bundle: Annotated[
        Path | None, typer.Option("--bundle", help="Bundle to score. Default: the one that travels with the package.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for cases.csv and summary.json.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Dice and NSD (1, 2, 3 mm) per organ on labelled scans, on their own grid, through the runtime."""
    room = load_room("autosam_edge_training.evaluate", "train")
    if split not in ("test", "validation"):
        raise typer.BadParameter("expected test or validation", param_hint="--split")
    summary = room.evaluate(open_session(bundle), _folder(data, "dataset.json"), split, out, say=Stages().say)
    if as_json:
        print(json.dumps(summary))
        return
    table = Table(title=f"{summary['model']} on {summary['data']}", title_justify="left")
    table.add_column("organ")
    for heading in ("Dice", "NSD 1 mm", "NSD 2 mm", "NSD 3 mm"):
        table.add_column(heading, justify="right")
    for name, organ in summary["organs"].items():
        table.add_row(name, *(f"{organ[key]:.3f}" for key in ("dice", "nsd_1", "nsd_2", "nsd_3")))
    table.add_section()
    table.add_row("mean", *(f"{summary[f'mean_{key}']:.3f}" for key in ("dice", "nsd_1", "nsd_2", "nsd_3")), style="bold")
    Console(highlight=False).print(table)

"""``autosam-edge train teacher``, ``train student``, ``distill`` and ``score``."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from autosam_edge.cli.extras import load_room
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show

if TYPE_CHECKING:
    from collections.abc import Iterator

train_app = typer.Typer(help="Train a network from a recipe.", no_args_is_help=True)

# Worker processes share the scans with a fork, which only Linux does safely; the patches are the same without
# them.
_WORKERS = 1 if sys.platform == "linux" else 0

Recipe = Annotated[
    Path | None,
    typer.Option("--config", help="Recipe, a YAML file.", exists=True, dir_okay=False, show_default=False),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True, show_default=False),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder of the run; a run there goes on.", show_default=False),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Instead of the recipe's.", min=0, show_default=False)
]
Sam = Annotated[
    Path | None,
    typer.Option(
        "--sam",
        help="SAM's checkpoint, such as sam_vit_b_01ec64.pth.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Workers = Annotated[
    int,
    typer.Option("--workers", help="Processes that prepare patches while the network trains.", min=0, max=64),
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke", help="A few steps of a tiny network on phantoms; shows only that everything works."
    ),
]


@train_app.command("teacher")
def teacher(
    config: Recipe = None,
    data: Data = None,
    out: Out = None,
    sam: Sam = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the parameters of each part and train nothing.")
    ] = False,
) -> None:
    """Train the AutoSAM teacher."""
    room = load_room("autosam_edge_training.train_teacher", "train")
    if dry_run and config is None and not smoke:
        _show_parameters(room.TeacherConfig())
        return
    recipe = _recipe(room.Config, config, smoke=smoke, seed=seed)
    if dry_run:
        _show_parameters(recipe.network)
        return
    with _places(data, out, smoke=smoke) as (prepared, run, _):
        _finish(room.train(recipe, prepared, run, sam=sam, workers=workers), smoke=smoke)


@train_app.command("student")
def student(
    config: Recipe = None,
    data: Data = None,
    out: Out = None,
    extra: Annotated[
        list[Path] | None,
        typer.Option(
            "--extra-data",
            help="Another prepared folder, whose training cases join; may be given again.",
            exists=True,
            show_default=False,
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            "--init", help="Weights to start from; default: random.", exists=True, show_default=False
        ),
    ] = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
) -> None:
    """Train a student without a teacher."""
    room = load_room("autosam_edge_training.train_student", "train")
    recipe = _recipe(room.Config, config, smoke=smoke, seed=seed)
    with _places(data, out, smoke=smoke) as (prepared, run, _):
        _finish(room.train(recipe, prepared, run, extra=extra or (), init=init, workers=workers), smoke=smoke)


def distill(
    config: Recipe = None,
    data: Data = None,
    teacher: Annotated[
        Path | None,
        typer.Option(
            "--teacher",
            help="teacher.safetensors, or another student's weights.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    out: Out = None,
    weight: Annotated[
        float | None,
        typer.Option(
            "--lambda",
            help="Share of the truth in equation 2, instead of the recipe's.",
            min=0.0,
            max=1.0,
            show_default=False,
        ),
    ] = None,
    reduction: Annotated[
        str | None,
        typer.Option(
            "--reduction",
            help="Of the teacher's term, voxel or element; default: the recipe's.",
            show_default=False,
        ),
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(
            "--keep",
            help="Ask the teacher once, and keep its probabilities in this folder for this and other runs.",
            show_default=False,
        ),
    ] = None,
    sam: Sam = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
) -> None:
    """Distil a teacher into a student."""
    room = load_room("autosam_edge_training.distill", "train")
    recipe = _recipe(room.Config, config, smoke=smoke, seed=seed, weight=weight, reduction=reduction)
    if teacher is None and not smoke:
        raise typer.BadParameter("needed, unless it is a --smoke run", param_hint="--teacher")
    with _places(data, out, smoke=smoke) as (prepared, run, work):
        if teacher is None:
            teachers = load_room("autosam_edge_training.train_teacher", "train")
            teacher = teachers.train(teachers.Config.smoke_run(), prepared, work / "teacher")
        if keep is not None and not keep.exists():
            _keep(keep, teacher, prepared, sam)
        _finish(
            room.train(recipe, prepared, run, teacher=teacher, sam=sam, kept=keep, workers=workers),
            smoke=smoke,
        )


def score(
    run: Annotated[
        Path, typer.Argument(help="Folder that `train` or `distill` wrote.", exists=True, file_okay=False)
    ],
    data: Annotated[Path, typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True)],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to make: run.json, cases.csv, summary.json.")
    ],
    split: Annotated[str, typer.Option("--split", help="test or validation.")] = "test",
    labels: Annotated[
        Path | None,
        typer.Option(
            "--labels",
            help="Folder to make for the labels too, CASE.nii.gz, for figure 3.",
            show_default=False,
        ),
    ] = None,
    sam: Sam = None,
) -> None:
    """Dice and NSD of a finished run through the runtime's own pipeline, for `reproduce` and `compare`."""
    if split not in ("test", "validation"):
        raise typer.BadParameter("expected test or validation", param_hint="--split")
    room = load_room("autosam_edge_training.evaluate.score_run", "train")
    print(room.score_run(run, data, out, split=split, sam=sam, say=Stages().say))
    if labels is not None:
        print(room.predict_run(run, data, labels, split=split, sam=sam))


def _recipe(kind: Any, config: Path | None, *, smoke: bool, **changes: float | str | None) -> Any:  # noqa: ANN401  types of the training room
    """The recipe of a file, or the tiny one of a smoke run, with what the command line changes."""
    if config is None and not smoke:
        raise typer.BadParameter("needed, unless it is a --smoke run", param_hint="--config")
    room = load_room("autosam_edge_training.config", "train")
    recipe = None if config is None else room.read_config(kind, config)
    return room.with_changes(
        kind.smoke_run() if smoke else recipe,
        **{key: value for key, value in changes.items() if value is not None},
    )


@contextmanager
def _places(data: Path | None, out: Path | None, *, smoke: bool) -> Iterator[tuple[Path, Path, Path]]:
    """Data and folder of a run, and a folder that vanishes; a smoke run without the first two has them there and leaves nothing."""
    if not smoke:
        for place, option in ((data, "--data"), (out, "--out")):
            if place is None:
                raise typer.BadParameter("needed, unless it is a --smoke run", param_hint=option)
    with tempfile.TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        work = Path(folder)
        data = data or load_room("autosam_edge_training.data", "train").prepare_smoke_phantoms(work / "data")
        yield data, out or work / "run", work


def _finish(weights: Path, *, smoke: bool) -> None:
    print("the recipe runs; its weights mean nothing" if smoke else weights)


def _keep(folder: Path, teacher: Path, data: Path, sam: Path | None) -> None:
    room = load_room("autosam_edge_training.networks.teacher_cache", "train")
    prepared = load_room("autosam_edge_training.data", "train").Prepared.read(data)
    with Stages().bar("teacher") as progress:
        room.keep_probabilities(teacher, prepared, folder, sam=sam, progress=progress)


def _show_parameters(network: Any) -> None:  # noqa: ANN401  a type of the training room
    """What trains and what does not, part by part; nothing is computed and no memory is taken."""
    torch, autosam = load_room("torch", "train"), load_room("autosam_edge_training.networks.autosam", "train")
    with torch.device("meta"):
        rows = autosam.parameters_by_part(autosam.build_autosam(network))
    table = new_table(
        f"AutoSAM, ViT {network.vit if isinstance(network.vit, str) else 'of its own'}, {network.classes} classes"
    )
    for heading in ("part", "trainable", "frozen"):
        table.add_column(heading, justify="left" if heading == "part" else "right")
    for row in rows:
        table.add_row(row.part, f"{row.trainable:,}", f"{row.frozen:,}")
    table.add_section()
    trainable, frozen = sum(row.trainable for row in rows), sum(row.frozen for row in rows)
    table.add_row("all", f"{trainable:,}", f"{frozen:,}", style="bold")
    show(table)

"""``autosam-edge train teacher``, ``train student`` and ``distill``.

``torchrun -m autosam_edge train ...`` runs them in several processes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from autosam_edge.cli.options import Sam, positive_number, refuse_given, require, split_commas, weights_in
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge_training.choices import Distance, Reduction

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autosam_edge_training.networks.autosam.config import TeacherConfig
    from autosam_edge_training.train_student import Config as StudentRecipe
    from autosam_edge_training.train_teacher import Config as TeacherRecipe

app = typer.Typer(help="Train a teacher or a student.", no_args_is_help=True)

# Worker processes share the scans by fork, which is safe on Linux only. The patches do not depend on it.
_WORKERS = 1 if sys.platform == "linux" else 0
_NEEDED = "needed, unless --smoke is given"


Recipe = Annotated[
    Path | None,
    typer.Option("--config", help="Recipe of the training, a YAML file.", exists=True, dir_okay=False),
]
Data = Annotated[Path | None, typer.Option("--data", help="Folder that `data prepare` wrote.", exists=True)]
Run = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder of the run; an interrupted run in it is resumed.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Random seed. Default: the recipe's.", min=0)]
Workers = Annotated[
    int,
    typer.Option(
        "--workers", help="Number of processes that prepare patches during the training.", min=0, max=64
    ),
]
Smoke = Annotated[
    bool, typer.Option("--smoke", help="Test the installation: a few steps of a tiny network on phantoms.")
]
Extra = Annotated[
    list[Path] | None,
    typer.Option(
        "--extra-data",
        help="Folder of another prepared data set whose training cases are added; can be repeated.",
        exists=True,
    ),
]
Init = Annotated[
    Path | None,
    typer.Option(
        "--init",
        help="Weights to start from, a student.safetensors of the same network, of any spacing, or the "
        "folder of a run or bundle that holds one. Default: random weights.",
        exists=True,
        callback=weights_in,
    ),
]


C = TypeVar("C", "StudentRecipe", "TeacherRecipe")


@app.command("teacher")
def teacher(
    context: typer.Context,
    config: Recipe = None,
    data: Data = None,
    out: Run = None,
    sam: Sam = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the number of parameters of each part; train nothing.")
    ] = False,
) -> None:
    """Train the AutoSAM teacher."""
    _require_paths(context, config, data, out, smoke=smoke or dry_run)
    from autosam_edge_training import train_teacher
    from autosam_edge_training.networks.autosam.config import TeacherConfig

    if dry_run and config is None and not smoke:
        _show_parameters(TeacherConfig())
        return
    recipe = _recipe(train_teacher.Config, config, smoke=smoke, seed=seed)
    if dry_run:
        _show_parameters(recipe.network)
        return
    with _folders(data, out) as (prepared, run, _):
        _show_weights(
            train_teacher.train(recipe, prepared, run, sam=sam, workers=0 if smoke else workers), smoke=smoke
        )


@app.command("student")
def student(
    context: typer.Context,
    config: Recipe = None,
    data: Data = None,
    out: Run = None,
    extra: Extra = None,
    init: Init = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
) -> None:
    """Train a student on labels alone."""
    _require_paths(context, config, data, out, smoke=smoke)
    from autosam_edge_training import train_student

    recipe = _recipe(train_student.Config, config, smoke=smoke, seed=seed)
    with _folders(data, out) as (prepared, run, _):
        ahead = 0 if smoke else workers
        weights = train_student.train(recipe, prepared, run, extra=extra or (), init=init, workers=ahead)
        _show_weights(weights, smoke=smoke)


@app.command("average")
def average(
    students: Annotated[
        list[Path],
        typer.Argument(
            metavar="WEIGHTS",
            help="Two or more student.safetensors of one network, trained on from each other.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="File to write, student.safetensors.")],
    shares: Annotated[
        str | None, typer.Option("--shares", help="Share of each, such as `0.5,0.3,0.2`. Default: equal.")
    ] = None,
) -> None:
    """Average the weights of students that were trained on from each other."""
    if len(students) < 2:
        raise typer.BadParameter("give two or more files", param_hint="WEIGHTS")
    parts: tuple[float, ...] = (1.0,) * len(students)
    if shares is not None:
        expected = f"{len(parts)} numbers above 0 with commas, one for each file"
        parts = split_commas(shares, positive_number, option="--shares", expected=expected, count=len(parts))
    from autosam_edge_training.networks.average import average_students

    average_students(out, students, parts)
    print(out)


Teachers = Annotated[
    list[Path] | None,
    typer.Option(
        "--teacher",
        help="Weights of the teacher: teacher.safetensors, or the weights of another student; repeat it for "
        "the mean of several. Or one folder that another tool wrote (docs/any-teacher.md). A folder, several "
        "teachers, and teachers of another spacing need --cache.",
        exists=True,
    ),
]
WeightOption = Annotated[
    float | None,
    typer.Option(
        "--lambda",
        help="Weight of the labels in the loss (equation 2), 0 to 1. Default: the recipe's.",
        min=0.0,
        max=1.0,
    ),
]
ReductionOption = Annotated[
    Reduction | None, typer.Option("--reduction", help="Mean of the squared distance. Default: the recipe's.")
]
DistanceOption = Annotated[
    Distance | None,
    typer.Option(
        "--distance",
        help="Loss between student and teacher: squared distance (the paper's), Kullback-Leibler divergence, "
        "or the loss of the labels with the teacher's probabilities in their place. Default: the recipe's.",
    ),
]
Cache = Annotated[
    Path | None,
    typer.Option(
        "--cache",
        help="Folder of cached teacher probabilities, for students of any spacing. A run adds the cases that "
        "it lacks.",
    ),
]


def distill(
    context: typer.Context,
    config: Recipe = None,
    data: Data = None,
    teacher: Teachers = None,
    out: Run = None,
    extra: Extra = None,
    init: Init = None,
    weight: WeightOption = None,
    distance: DistanceOption = None,
    reduction: ReductionOption = None,
    cache: Cache = None,
    sam: Sam = None,
    seed: Seed = None,
    workers: Workers = _WORKERS,
    smoke: Smoke = False,
) -> None:
    """Distill a teacher into a student."""
    _require_paths(context, config, data, out, smoke=smoke)
    if not smoke:
        require("--teacher", teacher, _NEEDED)
    fills_cache = cache is not None and int(os.environ.get("WORLD_SIZE", "1")) == 1
    if cache is not None and not cache.exists() and not fills_cache:
        raise typer.BadParameter(
            "the folder is missing; write it first with one process, without torchrun", param_hint="--cache"
        )
    from autosam_edge_training import train_student, train_teacher

    if smoke and weight is None:
        weight = 0.5  # of the paper: the smoke run shows the teacher's term too
    changes = {"seed": seed, "weight": weight, "distance": distance, "reduction": reduction}
    recipe = _recipe(train_student.Config, config, smoke=smoke, **changes)
    with _folders(data, out) as (prepared, run, scratch):
        if not teacher:
            tiny_teacher = train_teacher.Config.smoke_run()
            teacher = [train_teacher.train(tiny_teacher, prepared, scratch / "teacher")]
        if cache is not None and fills_cache:
            _fill_cache(cache, teacher, recipe, prepared, extra or (), sam)
        weights = train_student.train(
            recipe,
            prepared,
            run,
            teachers=teacher,
            sam=sam,
            cache=cache,
            extra=extra or (),
            init=init,
            workers=0 if smoke else workers,
        )
        _show_weights(weights, smoke=smoke)


def _fill_cache(
    folder: Path,
    teachers: Sequence[Path],
    recipe: StudentRecipe,
    data: Path,
    extra: Sequence[Path],
    sam: Path | None,
) -> None:
    """Compute the teachers' probabilities that the cache lacks."""
    from autosam_edge_training.data import Prepared
    from autosam_edge_training.networks.foreign_teacher import cache_foreign_teacher
    from autosam_edge_training.networks.teacher_cache import cache_probabilities
    from autosam_edge_training.recipe_parts.setup import training_parts

    parts = training_parts(recipe, Prepared.read(data), extra)
    with Stages().bar("teacher") as progress:
        if len(teachers) == 1 and teachers[0].is_dir():
            cache_foreign_teacher(teachers[0], parts, folder, on_step=progress)
        else:
            cache_probabilities(teachers, parts, folder, sam=sam, progress=progress)


def _require_paths(
    context: typer.Context, config: Path | None, data: Path | None, out: Path | None, *, smoke: bool
) -> None:
    """Refuse a run without these options, unless it is a smoke run, which prepares no patches ahead."""
    if smoke:
        refuse_given(context, {"workers"}, "has no effect with --smoke or --dry-run")
    else:
        for option, path in (("--config", config), ("--data", data), ("--out", out)):
            require(option, path, _NEEDED)


def _recipe(kind: type[C], config: Path | None, *, smoke: bool, **changes: float | str | None) -> C:
    """The recipe of a file, or the tiny one of a smoke run, with the changes of the command line."""
    from autosam_edge_training.config import read_config, with_changes

    recipe = None if config is None else read_config(kind, config)  # a smoke run checks the file too
    given = {key: value for key, value in changes.items() if value is not None}
    return with_changes(kind.smoke_run() if smoke else require("--config", recipe, _NEEDED), **given)


@contextmanager
def _folders(data: Path | None, out: Path | None) -> Iterator[tuple[Path, Path, Path]]:
    """Yield (data, run folder, scratch folder); what a smoke run is not given lies in the scratch folder."""
    with tempfile.TemporaryDirectory(prefix="autosam-edge-smoke-") as folder:
        scratch = Path(folder)
        if data is None:
            from autosam_edge_training.data import prepare_smoke_phantoms

            data = prepare_smoke_phantoms(scratch / "data")
        yield data, out or scratch / "run", scratch


def _show_weights(weights: Path, *, smoke: bool) -> None:
    """Print the result, from one process only."""
    if os.environ.get("RANK", "0") == "0":
        print("the recipe runs; its weights mean nothing" if smoke else weights)


def _show_parameters(network: TeacherConfig) -> None:
    """Show what is trained and what is frozen, part by part; no memory is taken for the weights."""
    import torch

    from autosam_edge_training.networks.autosam.build import build_autosam
    from autosam_edge_training.networks.autosam.trainables import parameters_by_part

    with torch.device("meta"):
        rows = parameters_by_part(build_autosam(network))
    vit = network.vit if isinstance(network.vit, str) else "of its own"
    table = new_table(f"AutoSAM, ViT {vit}, {network.classes} classes", "part", "trainable", "frozen")
    for row in rows:
        table.add_row(row.part, f"{row.trainable:,}", f"{row.frozen:,}")
    table.add_section()
    trainable, frozen = sum(row.trainable for row in rows), sum(row.frozen for row in rows)
    table.add_row("all", f"{trainable:,}", f"{frozen:,}", style="bold")
    show(table)

"""``autosam-edge evaluate`` and ``autosam-edge compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from autosam_edge.atomic_files import write_files
from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import AsJson, one_of
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.session import open_session
from autosam_edge.write_results import check_writable


def evaluate(
    data: Annotated[
        Path,
        typer.Option("--data", help="Folder that `data prepare` wrote; the files it was made of are read."),
    ],
    split: Annotated[str, typer.Option("--split", help="test, validation or training.")] = "test",
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="Bundle to score. Default: the one that travels with the package."),
    ] = None,
    predictions: Annotated[
        Path | None,
        typer.Option(
            "--predictions",
            help="Score the NIfTI files of any tool instead: one per case, named by the case or its image, with the data set's numbers.",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="Name in the tables. Default: the model's name, or that of the folder of predictions.",
        ),
    ] = None,
    empty: Annotated[
        str,
        typer.Option(
            "--empty",
            help="An organ that the truth lacks: skip it, or challenge: 1 if it was not found either, else 0.",
        ),
    ] = "skip",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for cases.csv, summary.json and summary.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Dice and NSD (1, 2, 3 mm) per organ on labelled scans, on their own grid."""
    room, data_room = (
        load_room("autosam_edge_training.evaluate", "train"),
        load_room("autosam_edge_training.data", "train"),
    )
    one_of("--split", split, data_room.SPLITS)
    one_of("--empty", empty, room.EMPTY_RULES)
    if bundle is not None and predictions is not None:
        raise typer.BadParameter("give a bundle or predictions, not both", param_hint="--bundle")
    if out is not None:
        check_writable(out)
    prepared = data_room.Prepared.read(data)
    stages = Stages()
    with stages.bar("evaluate") as progress:
        options = {"method": method, "empty": empty, "say": stages.say, "progress": progress}
        if predictions is None:
            scores, summary = room.evaluate_session(open_session(bundle), prepared, split, **options)
        else:
            scores, summary = room.evaluate_folder(predictions, prepared, split, **options)
    if out is not None:
        room.write_results(out, scores, summary)
    if as_json:
        print(json.dumps(summary))
        return
    _show_summary(summary)


def _show_summary(summary: dict[str, Any]) -> None:
    metrics = ("dice", "nsd_1", "nsd_2", "nsd_3")
    table = new_table(f"{summary['method']} on {summary['data']}")
    table.add_column("organ", no_wrap=True)
    for heading in ("Dice", "NSD 1 mm", "NSD 2 mm", "NSD 3 mm", "cases"):
        table.add_column(heading, justify="right")
    for name, organ in summary["organs"].items():
        table.add_row(name, *(f"{organ[metric]:.3f}" for metric in metrics), str(organ["cases"]))
    table.add_section()
    means = [summary[f"mean_{metric}"] for metric in metrics]
    table.add_row(
        "mean",
        *("n/a" if mean is None else f"{mean:.3f}" for mean in means),
        str(len(summary["cases"])),
        style="bold",
    )
    show(table)


def compare(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="OURS OTHER...",
            help="cases.csv of our method, then of the others.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    unit: Annotated[
        str, typer.Option("--unit", help="What is paired: case_organ, or case (mean over its organs).")
    ] = "case_organ",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for compare.csv, compare.json and compare.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Is our method better? Wilcoxon's signed-rank test, paired, two-sided, against each of the others."""
    room = load_room("autosam_edge_training.evaluate", "train")
    one_of("--unit", unit, room.UNITS)
    if len(tables) < 2:
        raise typer.BadParameter("give at least two tables", param_hint="OURS OTHER...")
    result = room.compare_methods(tables, unit=unit)
    if out is not None:
        texts = {
            "csv": room.comparison_csv(result),
            "json": json.dumps(result, indent=1) + "\n",
            "md": room.comparison_markdown(result),
        }
        write_files({out / f"compare.{suffix}": text.encode() for suffix, text in texts.items()})
    if as_json:
        print(json.dumps(result))
        return
    _show_comparison(result)


def _show_comparison(result: dict[str, Any]) -> None:
    table = new_table(f"{result['ours']} on {result['dataset']}, paired by {result['unit']}")
    for heading in ("metric", "against"):
        table.add_column(heading, no_wrap=True)
    for heading in ("ours", "other", "pairs", "zeros", "p", "p, Holm"):
        table.add_column(heading, justify="right")
    for c in result["comparisons"]:
        star = "*" if result["better_than_all"][c["metric"]] else ""
        means = f"{c['mean_ours']:.4f}", f"{c['mean_other']:.4f}"
        table.add_row(
            c["metric"] + star,
            c["other"],
            *means,
            str(c["n"]),
            str(c["zeros"]),
            f"{c['p']:.3g}",
            f"{c['p_holm']:.3g}",
        )
    show(table)
    for warning in result["warnings"]:
        print(f"note: {warning}")

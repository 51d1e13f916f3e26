"""``autosam-edge score``, ``evaluate`` and ``compare``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from autosam_edge.bundle import open_bundles
from autosam_edge.cli.options import AsJson, BundleOption, Data, FileOut, Sam, TierOption
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.session import open_session
from autosam_edge.system.atomic_files import write_file, write_files
from autosam_edge.write_results import check_writable
from autosam_edge_training.choices import AbsentOrganRule, Split, Unit

if TYPE_CHECKING:
    from autosam_edge_training.strict import JsonObject


def score(
    run: Annotated[
        Path, typer.Argument(help="Folder that `train` or `distill` wrote.", exists=True, file_okay=False)
    ],
    data: Data,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder to create for run.json, cases.csv and summary.json.")
    ],
    split: Annotated[
        Literal["test", "validation"], typer.Option("--split", help="Part of the data set to score.")
    ] = "test",
    labels: Annotated[
        Path | None,
        typer.Option("--labels", help="Folder to create for the labels, CASE.nii.gz, which figure 3 shows."),
    ] = None,
    sam: Sam = None,
) -> None:
    """Score a finished run: Dice and NSD through the pipeline of the runtime.

    `reproduce` and `compare` read the result.
    """
    from autosam_edge_training.evaluate.score_run import score_run

    print(score_run(run, data, out, split=split, sam=sam, labels=labels, log=Stages().log))
    if labels is not None:
        print(labels)


Predictions = Annotated[
    Path | None,
    typer.Option(
        "--predictions",
        help="Folder of NIfTI labels of any tool, to score instead of a bundle: one file per case, named "
        "like the case, its image or its label, with the label values of the data set.",
        exists=True,
        file_okay=False,
    ),
]
Method = Annotated[
    str | None,
    typer.Option(
        "--method", help="Name in the tables. Default: name of the model, or of the folder of predictions."
    ),
]
AbsentOrgan = Annotated[
    AbsentOrganRule,
    typer.Option(
        "--absent-organ",
        help="Score of an organ that the truth lacks: none (skip), or 1 if the prediction lacks it too "
        "and 0 otherwise (challenge).",
    ),
]
Out = Annotated[
    Path | None, typer.Option("--out", "-o", help="Folder for cases.csv, summary.json and summary.md.")
]


def evaluate(
    data: Data,
    split: Annotated[Split, typer.Option("--split", help="Part of the data set to score.")] = "test",
    bundle: BundleOption = None,
    tier: TierOption = None,
    predictions: Predictions = None,
    method: Method = None,
    absent_organ: AbsentOrgan = "skip",
    out: Out = None,
    as_json: AsJson = False,
) -> None:
    """Score a bundle, or predictions of any tool, on labeled scans.

    Dice and NSD (1, 2 and 3 mm) of each organ, on the grid of each scan. The files that the data set was
    prepared from are read.
    """
    for option, value in (("--bundle", bundle), ("--tier", tier)):
        if value is not None and predictions is not None:
            raise typer.BadParameter(f"give {option} or --predictions, not both", param_hint=option)
    if out is not None:
        check_writable(out)
    from autosam_edge_training.data import Prepared
    from autosam_edge_training.evaluate.evaluator import evaluate_method
    from autosam_edge_training.evaluate.report import write_results
    from autosam_edge_training.evaluate.seen_cases import seen_by_bundles

    prepared = Prepared.read(data)
    stages = Stages()
    bundles = () if predictions else open_bundles(bundle, tier)
    seen = seen_by_bundles(bundles, prepared, split, log=stages.log)
    with stages.bar("evaluate") as progress:
        scores, summary = evaluate_method(
            predictions or open_session(bundle, tier=tier),
            prepared,
            split,
            method=method,
            absent_organ=absent_organ,
            seen=seen,
            log=stages.log,
            progress=progress,
        )
    if out is not None:
        write_results(out, scores, summary)
    if as_json:
        print(json.dumps(summary))
        return
    _show_summary(summary)


def _show_summary(summary: JsonObject) -> None:
    from autosam_edge_training.evaluate.report import remarks, table_rows
    from autosam_edge_training.evaluate.scores import HEADINGS

    title = f"{summary['method']} on {summary['data']}"
    table = new_table(title, "organ", *HEADINGS, "cases")
    *organs, mean = table_rows(summary)
    for row in organs:
        table.add_row(*row)
    table.add_section()
    table.add_row(*mean, style="bold")
    show(table)
    for remark in remarks(summary):
        print(f"note: {remark}")


def fit_decision_weights(
    data: Data,
    out: Annotated[Path, FileOut(help="JSON file for the weights and their figures.")],
    split: Annotated[
        Literal["validation", "training"], typer.Option("--split", help="Part of the data set to fit on.")
    ] = "validation",
    bundle: BundleOption = None,
) -> None:
    """Fit how much each organ's probability counts, on validation cases.

    Each fit leaves one case out; each organ gets its smallest weight of all fits. `export
    --decision-weights` puts them into a bundle.
    """
    from autosam_edge_training.data import Prepared
    from autosam_edge_training.evaluate.decision_weights import fit_session
    from autosam_edge_training.evaluate.seen_cases import seen_by_bundles

    prepared, log = Prepared.read(data), Stages().log
    seen = seen_by_bundles(open_bundles(bundle), prepared, split, log=log)
    fitted = fit_session(open_session(bundle), prepared, split, log=log)
    if seen:
        fitted["seen"] = seen
    write_file((json.dumps(fitted, indent=1) + "\n").encode(), out)
    title = f"{fitted['model']} on {fitted['data']}, on the model's grid"
    table = new_table(title, "organ", "weight", "Dice before", "Dice after")
    for organ, before in fitted["without"].items():
        weight = fitted["decision_weights"].get(organ, 1.0)
        table.add_row(organ, f"{weight:g}", f"{before:.3f}", f"{fitted['fitted'][organ]:.3f}")
    table.add_section()
    means = fitted["mean_dice"]
    table.add_row("mean", "", f"{means['without']:.3f}", f"{means['fitted']:.3f}", style="bold")
    table.add_row(
        "mean, each case with the weights of the others",
        "",
        f"{means['held_out_without']:.3f}",
        f"{means['held_out_fitted_on_others']:.3f}",
    )
    show(table)


def compare(
    tables: Annotated[
        list[Path],
        typer.Argument(
            metavar="OURS OTHER...",
            help="Tables of two or more methods (cases.csv): our method first.",
            exists=True,
            dir_okay=False,
        ),
    ],
    unit: Annotated[
        Unit, typer.Option("--unit", help="What is paired: each organ of a case, or the mean of a case.")
    ] = "case_organ",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for compare.csv, compare.json and compare.md.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Test whether our method is better than others.

    Wilcoxon's signed-rank test, paired and two-sided, against each of the other methods.
    """
    if len(tables) < 2:
        raise typer.BadParameter("give at least two tables", param_hint="OURS OTHER...")
    from autosam_edge_training.evaluate.significance import (
        compare_methods,
        comparison_csv,
        comparison_markdown,
    )

    result = compare_methods(tables, unit=unit)
    if out is not None:
        texts = {
            "csv": comparison_csv(result),
            "json": json.dumps(result, indent=1) + "\n",
            "md": comparison_markdown(result),
        }
        write_files({out / f"compare.{suffix}": text.encode() for suffix, text in texts.items()})
    if as_json:
        print(json.dumps(result))
        return
    _show_comparison(result)


def _show_comparison(result: JsonObject) -> None:
    from autosam_edge_training.evaluate.significance import MEANS

    words = "metric", "against"
    numbers = *MEANS, "pairs", "zeros", "p", "p, Holm"
    title = f"{result['ours']} on {result['dataset']}, paired by {result['unit'].replace('_', ' and ')}"
    table = new_table(title, *words, *numbers, words=words)
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

"""``autosam-edge reproduce``: the paper's tables and figures beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from autosam_edge.cli.options import AsJson, named_paths, one_of, refuse_given, require, split_commas
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.labels import label_table
from autosam_edge.report.montage import draw_montage
from autosam_edge.system.atomic_files import write_file
from autosam_edge_benchmarks.choices import Dataset, Exhibit

if TYPE_CHECKING:
    from autosam_edge.report.montage import MontageCase
    from autosam_edge_benchmarks.paper.tables import Table

_DATASETS: tuple[Dataset, ...] = get_args(Dataset)
_TEXT_COLUMNS = 3  # row, data set, value; numbers follow
_OF_FIGURE3, _OF_TABLES = {"data", "predictions", "cases"}, {"results", "dataset"}
_UNUSED = {"figure1": {*_OF_FIGURE3, *_OF_TABLES, "out"}, "figure3": _OF_TABLES}
_RUNS = Path("benchmarks/results/runs")
_FIGURE1 = (
    "it shows no measurement, only SAM's features of organs (t-SNE), and which features is not "
    "known here; it is not drawn."
)


ExhibitName = Annotated[Exhibit, typer.Argument(metavar="EXHIBIT", help="Table or figure of the paper.")]
DatasetOption = Annotated[
    str, typer.Option("--dataset", metavar="NAME,...", help="Data sets: btcv, amos, or both.")
]
Smoke = Annotated[
    bool,
    typer.Option(
        "--smoke",
        help="Test the installation: all steps on phantoms with tiny networks; the numbers mean nothing.",
    ),
]
DataOption = Annotated[
    Path | None, typer.Option("--data", help="Figure 3: folder that `data prepare` wrote.", exists=True)
]
Predictions = Annotated[
    list[str] | None,
    typer.Option(
        "--predictions",
        metavar="NAME=FOLDER",
        help="Figure 3: method and its folder of CASE.nii.gz; once for each method.",
    ),
]
Cases = Annotated[
    str | None,
    typer.Option(
        "--cases", metavar="NAME,...", help="Figure 3: cases. Default: the first two of the test split."
    ),
]
Results = Annotated[
    Path | None,
    typer.Option("--results", help=f"Folder of scored runs. Default: {_RUNS}.", exists=True, file_okay=False),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="Folder for the table (Markdown, CSV, JSON) and for pictures."),
]


def reproduce(
    context: typer.Context,
    exhibit: ExhibitName,
    dataset: DatasetOption = "btcv,amos",
    smoke: Smoke = False,
    results: Results = None,
    data: DataOption = None,
    predictions: Predictions = None,
    cases: Cases = None,
    as_json: AsJson = False,
    out: Out = None,
) -> None:
    """Show the paper's values beside ours; `n/a` where no run was scored."""
    datasets = split_commas(
        dataset, one_of(_DATASETS), option="--dataset", expected="btcv, amos, or both with a comma"
    )
    unused = _OF_FIGURE3 | _OF_TABLES if smoke else _UNUSED.get(exhibit, _OF_FIGURE3)
    refuse_given(context, unused, f"has no effect on {exhibit}{' with --smoke' if smoke else ''}")
    if exhibit == "figure1":
        absent = {"exhibit": exhibit, "ours": None, "reason": _FIGURE1}
        print(json.dumps(absent) if as_json else f"figure1: n/a: {_FIGURE1}")
        return
    if exhibit == "figure3":
        _figure3(data, predictions or [], cases, out, smoke=smoke, as_json=as_json)
        return
    if smoke:
        from autosam_edge_benchmarks.paper.smoke import smoke_table

        table = smoke_table(exhibit, log=Stages().log)
    else:
        from autosam_edge_benchmarks.paper.specs import table_spec
        from autosam_edge_benchmarks.paper.tables import build_table

        if results is None and not _RUNS.is_dir():
            Stages().log(f"note: the folder {_RUNS} is not here, so no run is shown; give --results")
        table = build_table(table_spec(exhibit), results or _RUNS, datasets=datasets)
    if out is not None:
        _write_table(table, out, draw=exhibit == "figure4")
    _show_table(table, as_json=as_json)


def _write_table(table: Table, out: Path, *, draw: bool) -> None:
    """Write the files of a table; with ``draw`` the bars too."""
    from autosam_edge_benchmarks.paper.figures import draw_bars
    from autosam_edge_benchmarks.paper.render import write_table

    written = [*write_table(table, out)]
    if draw:
        picture = written[0].with_suffix(".png")
        draw_bars(table, picture)
        written.append(picture)
    _log_written(written)


def _show_table(table: Table, *, as_json: bool) -> None:
    from autosam_edge_benchmarks.paper import render

    if as_json:
        print(json.dumps(render.as_dict(table)))
        return
    headings = render.headings(table)
    shown = new_table(table.title, *headings, words=headings[:_TEXT_COLUMNS])
    before = ""
    for title, *cells in render.text_rows(table):
        shown.add_row("" if title == before else title, *cells)
        before = title
    show(shown)
    for note in render.footnotes(table):
        print(note)


def _figure3(
    data: Path | None,
    predictions: list[str],
    cases: str | None,
    out: Path | None,
    *,
    smoke: bool,
    as_json: bool,
) -> None:
    """Draw the truth and the methods side by side."""
    out = require("--out", out, "figure 3 is a picture and needs a folder")
    if not smoke:
        data = require("--data", data, "figure 3 shows scans and needs the data set")
    if data is None or smoke:
        from autosam_edge_benchmarks.paper.smoke import smoke_montage
        from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE

        picture = out / "figure3-smoke.png"
        with smoke_montage(log=Stages().log) as (montage, table):
            write_file(draw_montage(montage, table, note=SMOKE_TITLE), picture)
    else:
        from autosam_edge_benchmarks.paper.figures import read_montage
        from autosam_edge_training.data import Manifest

        picture = out / "figure3.png"
        manifest = Manifest.read(data / "manifest.json")
        folders = named_paths("--predictions", predictions, folders=True)
        names = split_commas(cases, str, option="--cases", expected="cases with commas") if cases else None
        montage = read_montage(manifest, names, folders)
        write_file(draw_montage(montage, label_table(manifest.labels)), picture)
    _show_figure3(montage, picture, smoke=smoke, as_json=as_json)


def _show_figure3(montage: list[MontageCase], picture: Path, *, smoke: bool, as_json: bool) -> None:
    shown = {
        case.name: {method: labels is not None for method, labels in [*case.found.items()][1:]}
        for case in montage
    }
    if as_json:
        print(json.dumps({"exhibit": "figure3", "smoke": smoke, "picture": str(picture), "cases": shown}))
        return
    _log_written([picture])
    for name, methods in shown.items():
        words = (f"{method}: {'shown' if found else 'n/a'}" for method, found in methods.items())
        print(name, *words, sep="\t")


def _log_written(paths: list[Path]) -> None:
    for path in paths:
        Stages().log(f"wrote {path}")

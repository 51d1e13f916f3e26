"""``autosam-edge reproduce``: the paper's tables and figures beside ours."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from autosam_edge.atomic_files import write_file
from autosam_edge.cli.extras import load_room
from autosam_edge.cli.options import AsJson, named_paths, one_of
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show

_TEXT_COLUMNS = 3  # row, data set, value; numbers follow
_ROOM = "autosam_edge_benchmarks.paper"
_FIGURE1 = "it shows no measurement, only how SAM's features of organs lie (t-SNE), and what was embedded is not known here; it is not drawn."


def reproduce(
    exhibit: Annotated[
        str,
        typer.Argument(
            help="table1, table2, table3, table4, figure1, figure3 or figure4.", show_default=False
        ),
    ],
    dataset: Annotated[
        str, typer.Option("--dataset", help="btcv, amos, or both with a comma.")
    ] = "btcv,amos",
    smoke: Annotated[
        bool,
        typer.Option(
            "--smoke", help="Run the whole path on phantoms with tiny networks; the figures mean nothing."
        ),
    ] = False,
    results: Annotated[Path, typer.Option("--results", help="Folder with scored runs.")] = Path(
        "benchmarks/results/runs"
    ),
    data: Annotated[
        Path | None, typer.Option("--data", help="Figure 3: folder that `data prepare` wrote.", exists=True)
    ] = None,
    predictions: Annotated[
        list[str] | None,
        typer.Option(
            "--predictions",
            help="Figure 3: NAME=FOLDER with CASE.nii.gz; once per method.",
            show_default=False,
        ),
    ] = None,
    cases: Annotated[
        str | None,
        typer.Option(
            "--cases", help="Figure 3: cases, with commas. Default: the first two of the test split."
        ),
    ] = None,
    as_json: AsJson = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the table as Markdown, CSV, JSON and for pictures."),
    ] = None,
) -> None:
    """Set the paper's values beside ours; a run that is missing is `n/a`, never a number."""
    paper = load_room(f"{_ROOM}.published", "train")
    one_of("EXHIBIT", exhibit, paper.EXHIBITS)
    datasets = dataset.split(",")
    for name in datasets:
        one_of("--dataset", name, paper.DATASETS)
    if exhibit == "figure1":
        print(
            json.dumps({"exhibit": exhibit, "ours": None, "reason": _FIGURE1})
            if as_json
            else f"figure1: n/a: {_FIGURE1}"
        )
    elif exhibit == "figure3":
        _figure3(data, predictions or [], cases, out, smoke=smoke, as_json=as_json)
    else:
        if smoke:
            table = load_room(f"{_ROOM}.smoke", "train").smoke_table(exhibit, _tiny(), say=Stages().say)
        else:
            spec = load_room(f"{_ROOM}.specs", "train").table_spec(exhibit)
            table = load_room(f"{_ROOM}.tables", "train").build_table(spec, results, datasets=datasets)
        _table(table, out, draw=exhibit == "figure4", as_json=as_json)


def _table(table: Any, out: Path | None, *, draw: bool, as_json: bool) -> None:  # noqa: ANN401  a type of the training room
    """Show a table and write its files; with ``draw`` the bars too."""
    render = load_room(f"{_ROOM}.render", "train")
    if out is not None:
        written = [*render.write_table(table, out)]
        if draw:
            picture = written[0].with_suffix(".png")
            load_room(f"{_ROOM}.figures", "train").draw_bars(table, picture)
            written.append(picture)
        _say_written(written)
    if as_json:
        print(json.dumps(render.as_dict(table)))
        return
    shown = new_table(table.title)
    for number, heading in enumerate(render.headings(table)):
        shown.add_column(
            heading, justify="left" if number < _TEXT_COLUMNS else "right", no_wrap=number < _TEXT_COLUMNS
        )
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
    """The montage of truth and methods."""
    if out is None:
        raise typer.BadParameter("figure 3 is a picture and needs a folder", param_hint="--out")
    from autosam_edge.report.montage import draw_montage

    picture = out / ("figure3-smoke.png" if smoke else "figure3.png")
    if smoke:
        with load_room(f"{_ROOM}.smoke", "train").smoke_montage(_tiny(), say=Stages().say) as (
            montage,
            table,
        ):
            note = load_room(f"{_ROOM}.tables", "train").SMOKE_TITLE
            write_file(draw_montage(montage, table, note=note), picture)
    else:
        if data is None:
            raise typer.BadParameter("figure 3 shows scans and needs the data set", param_hint="--data")
        manifest = load_room("autosam_edge_training.data", "train").Manifest.read(data / "manifest.json")
        folders = named_paths("--predictions", predictions, folders=True)
        montage = load_room(f"{_ROOM}.figures", "train").read_montage(
            manifest, cases.split(",") if cases else None, folders
        )
        table = load_room("autosam_edge.label_table", "train").label_table(manifest.labels)
        write_file(draw_montage(montage, table), picture)
    shown = {
        case.name: {method: labels is not None for method, labels in [*case.found.items()][1:]}
        for case in montage
    }
    if as_json:
        print(json.dumps({"exhibit": "figure3", "smoke": smoke, "picture": str(picture), "cases": shown}))
        return
    _say_written([picture])
    for name, methods in shown.items():
        print(
            name, *(f"{method}: {'shown' if there else 'n/a'}" for method, there in methods.items()), sep="\t"
        )


def _tiny() -> Any:  # noqa: ANN401  a type of the training room
    return load_room(f"{_ROOM}.tiny", "train").RECIPES


def _say_written(paths: list[Path]) -> None:
    for path in paths:
        Stages().say(f"wrote {path}")

"""``autosam-edge bench`` itself, and ``bench report``."""

from __future__ import annotations

import json
import tempfile
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from autosam_edge.bundle import open_bundle
from autosam_edge.cli.extras import needs
from autosam_edge.cli.options import (
    ENGINE_NAMES,
    AsJson,
    BundleOption,
    EngineName,
    TierOption,
    refuse_given,
    split_commas,
)
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_table, show
from autosam_edge.engines.selection import rank_artifacts, select_artifact
from autosam_edge.system.machine import available_cores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.bundle import Bundle
    from autosam_edge.manifest import Artifact
    from autosam_edge_benchmarks.rows.row import BenchRow

_SCORED = Path("benchmarks/results/btcv_test/summary.json")


Rows = Annotated[
    Path | None,
    typer.Option(
        "--rows",
        help="Folder for the rows; the same command later goes on where it was stopped.",
        file_okay=False,
    ),
]
ScanFolder = Annotated[
    Path | None,
    typer.Option("--scan", metavar="DICOM_FOLDER", help="CT series. Default: a phantom.", exists=True),
]
Runtime = Annotated[
    EngineName | None,
    typer.Option(
        "--engine", metavar="NAME", help=f"Inference engine: {ENGINE_NAMES}. Default: each that runs here."
    ),
]
NumberFormat = Annotated[
    str | None, typer.Option("--precision", help="Number format, such as fp32. Default: each.")
]
ThreadCounts = Annotated[
    str | None, typer.Option("--threads", metavar="N,...", help="Numbers of threads. Default: all cores.")
]
Slices = Annotated[
    str, typer.Option("--slices", metavar="N,...", help="Slices of the whole scans; they are repeated.")
]
Repeats = Annotated[
    int, typer.Option("--repeats", min=1, help="Number of repeats; with fewer than 3, no row is stable.")
]
Minutes = Annotated[
    float, typer.Option("--minutes", min=0, help="Minutes of tiles without a pause; 0 leaves them out.")
]
WithRoofline = Annotated[
    bool, typer.Option("--roofline", help="Compare each tile with the peaks of this machine.")
]
Scored = Annotated[
    list[Path] | None,
    typer.Option(
        "--scored",
        metavar="SUMMARY.json",
        help="Result of `evaluate`, for the Dice; once for each artifact.",
        exists=True,
        dir_okay=False,
    ),
]
MachineName = Annotated[str | None, typer.Option("--name", help="Name of this machine, for the rows.")]
Force = Annotated[
    bool, typer.Option("--force", help="Measure a busy machine too; the rows are marked as noisy.")
]


def bench(
    context: typer.Context,
    rows: Rows = None,
    bundle: BundleOption = None,
    tier: TierOption = None,
    scan: ScanFolder = None,
    engine: Runtime = None,
    precision: NumberFormat = None,
    threads: ThreadCounts = None,
    slices: Slices = "160,320,807",
    repeats: Repeats = 3,
    minutes: Minutes = 1.0,
    roofline: WithRoofline = False,
    scored: Scored = None,
    name: MachineName = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure time and memory of every artifact on this machine; a busy machine is refused."""
    if context.invoked_subcommand is not None:
        where = context.invoked_subcommand
        refuse_given(
            context, context.params, f"has no effect before {where}; give its options behind {where}"
        )
        return
    whole = "whole numbers above 0 with commas, such as 1,2"
    counts = split_commas(slices, _positive, option="--slices", expected=whole)
    numbers = split_commas(threads or str(available_cores()), _positive, option="--threads", expected=whole)
    if max(numbers) > (cores := available_cores()):
        raise typer.BadParameter(
            f"{max(numbers)} threads are too many, expected at most {cores}, the cores for this process",
            param_hint="--threads",
        )
    opened = open_bundle(bundle, tier=tier)
    artifacts = _artifacts(opened, engine, precision)
    with needs("bench"):
        from autosam_edge_benchmarks.rows.measure import measure
        from autosam_edge_benchmarks.rows.plan import Plan
    if roofline:
        with needs("export"):
            import onnx  # noqa: F401  a child process needs it
    if scored is None:
        scored = [_SCORED] if _SCORED.is_file() else []
    plan = Plan(
        opened,
        artifacts,
        tuple(dict.fromkeys(numbers)),
        tuple(sorted(set(counts))),
        scan,
        repeats,
        minutes,
        tuple(scored),
        name,
        roofline=roofline,
        force=force,
        tier=tier,
    )
    with nullcontext(rows) if rows is not None else tempfile.TemporaryDirectory() as folder:
        found = measure(plan, Path(str(folder)), log=Stages().log)
    _show(found, as_json=as_json)


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _artifacts(bundle: Bundle, engine: str | None, precision: str | None) -> tuple[Artifact, ...]:
    """Every artifact that runs here; where none does, or the one that is named does not, it is refused."""
    select_artifact(bundle, engine, precision)
    return tuple(
        choice.artifact
        for choice in rank_artifacts(bundle.manifest)
        if choice.usable
        and engine in (None, choice.artifact.target)
        and precision in (None, choice.artifact.precision)
    )


def _show(rows: Sequence[BenchRow], *, as_json: bool) -> None:
    from autosam_edge_benchmarks.rows.table import COLUMNS, cells, notes, where_time_goes

    if as_json:
        print(json.dumps({"rows": [asdict(row) for row in rows]}))
        return
    title = f"{rows[0].artifact.model} on {rows[0].device.processor}"
    table = new_table(title, *COLUMNS, words=("artifact", "timing"))
    for row in rows:
        table.add_row(*cells(row))
    show(table)
    for line in (*notes(rows), *where_time_goes(rows)):
        print(line)


def report(
    rows: Annotated[
        Path, typer.Argument(metavar="ROWS", help="Folder of stored rows.", exists=True, file_okay=False)
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Web page; one file.")],
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown",
            help="Page whose part between the marks of `bench` becomes the table.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    peers: Annotated[
        Path | None,
        typer.Option(
            "--peers", metavar="PEERS.json", help="Result of `bench peers`.", exists=True, dir_okay=False
        ),
    ] = None,
) -> None:
    """Draw stored rows as one web page: tables, latency, Dice, stages, sustained work, other tools."""
    with needs("train"):
        from autosam_edge_benchmarks.rows.report import write_report

    count = write_report(rows, out, markdown, peers)
    print(f"{out}: {count} row{'s' * (count != 1)}")

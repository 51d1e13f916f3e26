"""``autosam-edge batch``."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from autosam_edge import error_codes
from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.job import Settings
from autosam_edge.cli import options
from autosam_edge.cli.extras import needs
from autosam_edge.cli.progress import Stages
from autosam_edge.cli.tables import new_console
from autosam_edge.error_codes import BATCH_LIST_INVALID, SCANS_FAILED
from autosam_edge.errors import ErrorCode
from autosam_edge.read_choices import ReadChoices
from autosam_edge.read_scan import input_path
from autosam_edge.system.machine import available_cores

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="INPUT...",
        help="Folders with scans at any depth; scans in one file; a CSV file with a column `path` or "
        "`series`; a text file with a series in each line.",
        show_default=False,
    ),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="Processes of this computer. Default: one for two cores."),
]
Retry = Annotated[
    list[str] | None,
    typer.Option("--retry", metavar="CODE", help="Segment scans again that failed with this code."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Segment no more scans than this.")]
Part = Annotated[
    str | None,
    typer.Option(
        "--part",
        metavar="I/N",
        help="Segment part I of N, such as 3/10, where several computers share the folders.",
    ),
]
Scheduler = Annotated[
    str | None,
    typer.Option("--scheduler", help="Address of a Dask scheduler, whose workers segment the scans."),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Index the inputs and count the scans; segment none.")
]
ShowPaths = Annotated[
    bool,
    typer.Option("--show-paths", help="Add the paths of the scans to the table; they may name patients."),
]
ThreadsOfWorker = Annotated[
    int | None,
    typer.Option(
        "--threads",
        min=1,
        help="Threads of each worker's engine. Default: an equal share of the cores; 1 with --scheduler.",
    ),
]
MemoryOfAll = Annotated[
    float | None,
    typer.Option(
        "--max-memory",
        metavar="MB",
        parser=options.megabytes,
        help="Memory limit of all workers together, MB; with --scheduler, of each worker.",
    ),
]


def batch(
    context: typer.Context,
    inputs: Inputs,
    out: options.Out,
    workers: Workers = None,
    retry: Retry = None,
    limit: Limit = None,
    part: Part = None,
    scheduler: Scheduler = None,
    dry_run: DryRun = False,
    show_paths: ShowPaths = False,
    bundle: options.BundleOption = None,
    tier: options.TierOption = None,
    engine: options.Engine = None,
    precision: options.Precision = None,
    threads: ThreadsOfWorker = None,
    max_memory: MemoryOfAll = None,
    formats: options.Formats = None,
    pseudonymize: options.Pseudonymize = False,
    allow_gap: options.AllowGap = False,
    assume_hu: options.AssumeHu = False,
    ignore_frame_of_reference: options.IgnoreFrameOfReference = False,
    accept_implausible: options.AcceptImplausible = False,
    as_json: options.AsJson = False,
) -> None:
    """Label the organs of many CT scans: a folder for each, one table, one page.

    The same command again goes on where the last one stopped.
    """
    if scheduler:
        options.refuse_given(context, {"workers"}, "has no effect with --scheduler")
    count = 1 if scheduler else workers or max(1, available_cores() // 2)
    settings = Settings(
        bundle=bundle,
        tier=tier,
        engine=engine,
        precision=precision,
        threads=threads or (1 if scheduler else max(1, available_cores() // count)),
        max_memory_mb=max_memory and max_memory / count,
        formats=options.chosen_formats(formats),
        choices=ReadChoices(allow_gap, assume_hu, ignore_frame_of_reference),
        accept_implausible=accept_implausible,
        pseudonymize=pseudonymize,
    )
    stages = Stages()
    if scheduler and not dry_run:
        from autosam_edge.batch.cluster import has_workers

        with needs("dask"):
            if not has_workers(scheduler):
                stages.log("waiting for workers: the scheduler has none yet")
    whole = Batch([*map(input_path, inputs)], out, settings, Selection(_declared(retry), limit, _part(part)))
    with stages.stage("index"):
        whole.update_index()
        whole.require_scans()
    todo = [] if dry_run else whole.todo()
    stages.log(f"{len(whole.jobs)} scans, {len(todo)} to segment")
    started = time.perf_counter()
    with stages.bar("segment") as progress:
        for done, _ in enumerate(whole.run(todo, workers=count, scheduler=scheduler) if todo else (), 1):
            progress(done, len(todo))
    counts = whole.finish(show_paths=show_paths, write=not dry_run)
    seconds = time.perf_counter() - started
    _report(counts, len(todo), len(whole.passed_over()), seconds, out, as_json=as_json)
    if whole.not_found:
        raise BATCH_LIST_INVALID(
            f"{whole.not_found} series of the lists are in none of the folders.",
            remedy="Give the folders that hold them, or take them off the lists.",
        )


def _report(
    counts: dict[str, int], segmented: int, passed_over: int, seconds: float, out: Path, *, as_json: bool
) -> None:
    """Print what is done; failed scans end the command with an error."""
    minutes = seconds / 60
    if as_json:
        report = {**counts, "passed_over": passed_over, "segmented": segmented, "minutes": round(minutes, 3)}
        print(json.dumps({**report, "out": os.fspath(out)}))
    else:
        rate = f", {segmented / minutes:.1f} scans a minute" if segmented else ""
        console = new_console()
        console.print(", ".join(f"{number} {state}" for state, number in counts.items()) + rate)
        if passed_over:
            console.print(f"{passed_over} series of fewer than three slices passed over")
        if (out / "index.html").exists():  # a dry run writes none
            console.print(str(out / "index.html"), markup=False, soft_wrap=True)
    if counts["failed"]:
        raise SCANS_FAILED(f"{counts['failed']} of {sum(counts.values())} scans failed.")


def _declared(codes: list[str] | None) -> frozenset[str]:
    known = {value.code for value in vars(error_codes).values() if isinstance(value, ErrorCode)}
    given = frozenset(code.upper() for code in codes or ())
    if unknown := sorted(given - known):
        raise typer.BadParameter(
            f"{unknown[0]!r} is no code of an error, such as AE-DICOM-016", param_hint="--retry"
        )
    return given


def _part(text: str | None) -> tuple[int, int]:
    try:
        index, count = map(int, (text or "1/1").split("/"))
    except ValueError:
        index, count = 0, 0
    if not 1 <= index <= count:
        raise typer.BadParameter("expected I/N with I from 1 to N, such as 3/10", param_hint="--part")
    return index, count

"""The measurement: steps in turns, each in a process of its own and kept in a journal, then one row each."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autosam_edge.error_codes import OUTPUT_OCCUPIED
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.strict_json import build, parse_json
from autosam_edge.system.atomic_files import write_file
from autosam_edge.system.clock import CpuWatch, doubt, today
from autosam_edge_benchmarks.error_codes import MACHINE_DISTURBED, PROCESS_FAILED, ROW_INVALID
from autosam_edge_benchmarks.last_line import last_line
from autosam_edge_benchmarks.rows.device import after, describe_device, require_ready
from autosam_edge_benchmarks.rows.figures import Roofline
from autosam_edge_benchmarks.rows.plan import PHANTOM_SHAPE, Done, Plan, Step
from autosam_edge_benchmarks.rows.probe import TimedTiles
from autosam_edge_benchmarks.rows.row import BenchRow, read_row
from autosam_edge_benchmarks.rows.sizes import read_scored
from autosam_edge_benchmarks.rows.summary import make_row
from autosam_edge_benchmarks.rows.whole_scan import repeat_series, run_once, series_files

TILES = 15
"""Timed tiles of each repeat; three repeats are enough for a p90."""
_ATTEMPTS, _PAUSE_S = 3, 20.0
_PHANTOM_MM = (2.0, 0.8, 0.8)
_Result = dict[str, Any]  # what a step saw, by the field of Done that holds it


def measure(plan: Plan, folder: Path, *, log: Callable[[str], None] = lambda _: None) -> list[BenchRow]:
    """Measure what the journal in a folder lacks, and write one file for each row.

    Args:
        folder: Folder of the rows and of the journal; created if it is missing.

    Raises:
        OutputError: The folder holds a row of another model that would be replaced (AE-OUTPUT-002).
        BenchError: The scan is no series (AE-BENCH-008), a file is no row, journal or result
            of `evaluate` (-003), the machine is not ready (-001), or it was disturbed
            (-002) or a process failed (-006, with the last line of its standard error), in which case the
            finished steps are kept.
    """
    # What cannot be used is refused before an hour of tiles, not after it.
    if plan.scan is not None:
        series_files(plan.scan)
    for summary in plan.scored:
        read_scored(summary)
    for threads in plan.threads:
        for artifact in plan.artifacts:
            _keep_other_models(folder / _file_name(artifact.name, threads), plan.bundle.manifest.name)
    device, hogs = describe_device(plan.name)
    reasons = tuple(require_ready(device, hogs, force=plan.force))
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / f"journal-{plan.identity(device)}.jsonl"
    finished = read_journal(journal)
    # The next line would run into one that was cut off.
    write_file("".join(map(_line, finished)).encode(), journal)
    done = {
        found.step: found
        for found in finished
        if plan.force or not (found.reasons or doubt(found.others_cores))
    }
    steps = list(plan.steps())
    with tempfile.TemporaryDirectory() as scratch:
        scans: dict[str, Path] = {}
        for number, step in enumerate(steps, start=1):
            if step in done:
                continue
            log(f"{number} of {len(steps)}: {step.artifact}, {step.threads} threads, {step.what}")
            for count in plan.slices_of(step):
                if str(count) not in scans:
                    scans[str(count)] = _series(plan.scan, Path(scratch), count)
            result, others_cores = _undisturbed(lambda: _run(plan, step, scans), force=plan.force)  # noqa: B023
            done[step] = Done(step, others_cores, reasons, today(), device, **result)
            with journal.open("a") as file:
                file.write(_line(done[step]))
    during = [found.others_cores for found in done.values() if found.others_cores is not None]
    latest = [*done.values()][-1]  # of a run that measured nothing anew, that of the run before
    seen = dataclasses.replace(latest.device, name=plan.name or latest.device.name)
    device = after(seen, max(during, default=None))
    rows = []
    for threads in plan.threads:
        for artifact in plan.artifacts:
            mine = [done[s] for s in steps if (s.artifact, s.threads) == (artifact.name, threads)]
            row = make_row(plan, artifact, device, mine)
            write_row(row, folder)
            rows.append(row)
    return rows


def read_journal(path: Path) -> list[Done]:
    """The steps that were finished; none if there is no journal. A line that was cut off is left out."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        return [build(Done, parse_json(line), "journal") for line in lines]
    except ValueError as error:
        raise ROW_INVALID(
            f"{path.name} holds a line that is no step of a measurement: {error}.",
            remedy="Remove the file, so that its steps are measured again.",
        ) from error


def _line(found: Done) -> str:
    return json.dumps(asdict(found)) + "\n"


def write_row(row: BenchRow, folder: Path) -> None:
    """Write a row into a file that is named after its artifact and its number of threads."""
    name = _file_name(f"{row.artifact.form}/{row.artifact.precision}", row.placement.threads)
    write_file((json.dumps(asdict(row), indent=1) + "\n").encode(), folder / name)


def _file_name(artifact: str, threads: int | None) -> str:
    return f"{artifact.replace('/', '-')}-{threads}.json"


def _keep_other_models(path: Path, model: str) -> None:
    if path.exists() and (other := read_row(path).artifact.model) != model:
        raise OUTPUT_OCCUPIED(
            f"{path.name} holds a row of the model {other}, not of {model}.",
            remedy="Give the rows of each model a folder of their own.",
        )


def _undisturbed(run: Callable[[], _Result], *, force: bool) -> tuple[_Result, float | None]:
    """The result of a step, repeated where other programs disturbed it, and the cores that they used."""
    for attempt in range(_ATTEMPTS):
        watch = CpuWatch()
        result, others_cores = run(), watch.others_cores()
        reason = doubt(others_cores)
        if not reason or force:
            return result, others_cores
        if attempt + 1 < _ATTEMPTS:
            time.sleep(_PAUSE_S)
    raise MACHINE_DISTURBED(reason)


def _run(plan: Plan, step: Step, scans: dict[str, Path]) -> _Result:
    bundle = plan.bundle.path
    if step.what.isdecimal():
        target, _, precision = step.artifact.partition("/")
        run = run_once(
            scans[step.what], model=plan.model, engine=target, precision=precision, threads=step.threads
        )
        return {"scan": run}
    if step.what.startswith("roofline"):
        first = "".join(str(scans[str(count)]) for count in plan.slices_of(step))
        told = _in_process("roofline", bundle, step, first)
        return {"roofline": build(Roofline, told, "roofline")}
    seconds = 60.0 * plan.minutes if step.what == "sustained" else 0.0
    told = _in_process("probe", bundle, step, TILES, seconds)
    return {"tiles": build(TimedTiles, told, "probe")}


def _in_process(module: str, bundle: Path, step: Step, *more: object) -> object:
    """What a module of this package prints in a process of its own, as JSON types."""
    name = f"{__package__}.{module}"
    command = [sys.executable, "-m", name, str(bundle), step.artifact, str(step.threads), *map(str, more)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if finished.returncode != 0:
        raise PROCESS_FAILED(last_line(finished.stderr))
    return parse_json(finished.stdout.encode())


def _series(scan: Path | None, scratch: Path, count: int) -> Path:
    """A series of so many slices; a series of another number is repeated."""
    source = scan or scratch / "phantom"
    if not source.exists():
        phantom = make_phantom(spacing_mm=_PHANTOM_MM, shape=PHANTOM_SHAPE)
        write_dicom_series(phantom.volume, source)
    folder = scratch / str(count)
    folder.mkdir()
    repeat_series(source, folder, count)
    return folder

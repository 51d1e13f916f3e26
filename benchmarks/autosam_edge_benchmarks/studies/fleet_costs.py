"""What a scan costs a batch beside its inference: thousands of tiny series."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

from autosam_edge.batch.index import Index
from autosam_edge_benchmarks.studies.fleet_inputs import TINY_SLICES, make_tiny
from autosam_edge_benchmarks.studies.fleet_runs import STAND_IN, run_batch

_WORKERS = 2
_OPTIONS = ("--workers", _WORKERS, "--format", "json")
_POINTS = 10


def measure_costs(root: Path, count: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Index and segment tiny series, with a formula in the place of the network, in two workers.

    Args:
        root: Folder for inputs and results.
        count: Number of series of three slices of 8 x 8 pixels.
        log: Function that is called with one line for each step.

    Returns:
        Milliseconds for a file of the index, new and known; those of a worker for a job; seconds of a command
        that finds everything done; bytes of index and record; and the memory of both processes over time, MB.
    """
    source, out = root / "tiny", root / "out"
    make_tiny(source, count)
    log(f"{count} series of {TINY_SLICES} files")
    files = TINY_SLICES * count
    index_ms = {}
    with closing(Index(root / "index.sqlite")) as index:
        for name in ("new", "known"):
            started = time.perf_counter()
            index.update([source])
            index_ms[name] = round(1000 * (time.perf_counter() - started) / files, 3)
        started = time.perf_counter()
        jobs = sum(1 for _ in index.jobs())
        listed_ms = 1000 * (time.perf_counter() - started) / jobs
    log(f"index: {index_ms} ms a file, {listed_ms:.3f} ms a job to list")
    first = run_batch(STAND_IN, source, out, _OPTIONS)
    log(f"{first.seconds:.0f} s: {first.report}")
    again = run_batch(STAND_IN, source, out, _OPTIONS)
    return {
        "jobs": jobs,
        "files": files,
        "index_ms_per_file": index_ms,
        "list_ms_per_job": round(listed_ms, 3),
        "workers": _WORKERS,
        "job_ms": round(60_000 * _WORKERS * first.report["minutes"] / jobs, 2),
        "whole_command_s": round(first.seconds, 1),
        "same_command_again_s": round(again.seconds, 1),
        "index_bytes_per_file": round((root / "index.sqlite").stat().st_size / files),
        "record_bytes_per_job": round((out / "audit.jsonl").stat().st_size / jobs),
        "worker_mb": _over_time(first.worker_mb),
        "parent_mb": _over_time(first.parent_mb),
    }


def _over_time(values: Sequence[float]) -> list[int]:
    """The largest value of each tenth of the time."""
    edges = [len(values) * point // _POINTS for point in range(_POINTS + 1)]
    return [round(max(values[start : max(stop, start + 1)])) for start, stop in pairwise(edges)]

"""Many scans through ``batch``: the same results from every way to run it, speed, memory, kills and costs."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from autosam_edge_benchmarks.choices import FleetPart
from autosam_edge_benchmarks.error_codes import STUDY_FAILED
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.fleet_costs import measure_costs
from autosam_edge_benchmarks.studies.fleet_inputs import make_broken, make_sound
from autosam_edge_benchmarks.studies.fleet_kills import kill_batches
from autosam_edge_benchmarks.studies.fleet_runs import OPTIONS, REAL, Run, digest, failed_codes, run_batch

_ALONE = 10  # scans that `segment` gets one by one


def measure_part(
    part: FleetPart,
    *,
    count: int = 200,
    kills: int = 20,
    tiny: int = 10_000,
    scan: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Measure one part.

    Args:
        part: ``one-worker``, ``two-workers`` and ``dask`` (two worker processes) segment the same series;
            ``shell-loop`` gives ten of them to `segment`, one by one; ``kills`` is
            :func:`~autosam_edge_benchmarks.studies.fleet_kills.kill_batches`, ``tiny``
            :func:`~autosam_edge_benchmarks.studies.fleet_costs.measure_costs`.
        count: Number of series, ten of them broken.
        kills: Number of kills.
        tiny: Number of tiny series.
        scan: Folder of a real CT series; every second series is a part of it. None uses phantoms only.
        log: Function that is called with one line for each step.

    Raises:
        BenchError: A table differs, a scan was lost or done twice, or a broken scan has not its code
            (AE-BENCH-009).
    """
    result = new_result(f"fleet {part}")
    with tempfile.TemporaryDirectory(prefix="autosam-edge-fleet-") as folder:
        root = Path(folder)
        if part == "kills":
            figures = kill_batches(root, kills, log)
        elif part == "tiny":
            figures = measure_costs(root, tiny, log)
        else:
            figures = _measure_way(part, root, count, scan, log)
    return {**result, **figures}


def check_same(parts: Mapping[str, Result]) -> None:
    """Compare the ways that were measured.

    Args:
        parts: Results by part.

    Raises:
        BenchError: Two ways gave other tables or other files of the same series (AE-BENCH-009).
    """
    digests = {name: found["results_sha256"] for name, found in parts.items() if "results_sha256" in found}
    if len(set(digests.values())) > 1:
        raise STUDY_FAILED(f"the results of {', '.join(digests)} differ.")


def _measure_way(
    part: FleetPart, root: Path, count: int, scan: Path | None, log: Callable[[str], None]
) -> dict[str, Any]:
    source, out = root / "in", root / "out"
    make_sound(source, (_ALONE if part == "shell-loop" else count - 10), scan)
    log("the series are made")
    if part == "shell-loop":
        return _alone(source, out)
    expected = make_broken(source)
    if part == "dask":
        run = _on_dask(source, out)
    else:
        run = run_batch(REAL, source, out, ["--workers", "1" if part == "one-worker" else "2"])
    codes = failed_codes(out)
    if codes != Counter(expected.values()):
        raise STUDY_FAILED(f"the broken scans fail with {dict(codes)}, expected {expected}.")
    return {
        "scans": count,
        "real": scan is not None,
        "broken": expected,
        **run.figures(),
        "results_sha256": digest(out),
    }


def _on_dask(source: Path, out: Path) -> Run:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        return run_batch(REAL, source, out, ["--scheduler", cluster.scheduler_address])


def _alone(source: Path, out: Path) -> dict[str, float]:
    """What a loop of the shell over ``segment`` takes."""
    series = sorted(source.iterdir())
    started = time.perf_counter()
    for folder in series:
        command = [sys.executable, "-m", REAL, "segment", folder, "-o", out / folder.name, *OPTIONS]
        subprocess.run(list(map(str, command)), capture_output=True, check=True)  # noqa: S603  ours
    seconds = time.perf_counter() - started
    return {"scans": len(series), "scans_per_minute": round(60 * len(series) / seconds, 1)}

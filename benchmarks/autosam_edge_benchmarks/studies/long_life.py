"""Many scans through one session: resident memory, open files and threads after each."""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge.session import Session
from autosam_edge.system.memory import resident_mb
from autosam_edge.write_results import write
from autosam_edge_benchmarks.error_codes import STUDY_FAILED
from autosam_edge_benchmarks.result_header import Result, new_result

MAX_GROWTH_PERCENT = 2.0
_SHAPES = ((22, 36, 36), (26, 40, 40), (30, 44, 44))  # one tile each, so that a scan takes a second
_SETTLING = 0.1  # part of the scans after which caches are filled, ...
_FEWEST_SETTLING = 2 * len(_SHAPES)  # ... but at least two scans of each size


def measure_long_life(scans: int, session: Session, *, log: Callable[[str], None] = lambda _: None) -> Result:
    """Read, segment and write phantoms of three sizes in turn, into one folder.

    Args:
        scans: Number of scans; fewer than 18 say nothing about memory.
        session: Session that segments all of them.
        log: Function that is called with one line for every tenth scan.

    Returns:
        ``resident_mb`` after each scan; ``growth_percent``, the median of the last tenth of the scans, at
        least six, against that of the second tenth, negative where memory has shrunk; open
        ``descriptors`` and ``threads`` at the end.

    Raises:
        BenchError: Memory has grown by more than 2 %, or there are more descriptors or threads than after the
            first tenth (AE-BENCH-009).
    """
    result = new_result("long life")
    part = max(_FEWEST_SETTLING, round(scans * _SETTLING))
    memory: list[float] = []
    counts: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as folder:
        series = [Path(folder) / f"scan{seed}" for seed in range(len(_SHAPES))]
        for seed, path in enumerate(series):
            phantom = make_phantom(seed, spacing_mm=(8.0, 6.0, 6.0), shape=_SHAPES[seed])
            write_dicom_series(phantom.volume, path, seed=seed)
        for number in range(scans):
            volume = read(series[number % len(series)])
            write(volume, session.segment(volume), Path(folder) / "out", accept_implausible=True)
            del volume
            memory.append(resident_mb())
            counts.append((_descriptors(), threading.active_count()))
            if number % 10 == 0:
                log(f"scan {number}: {memory[-1]:.1f} MB, {counts[-1][0]} descriptors")
    first, last = statistics.median(memory[part : 2 * part]), statistics.median(memory[-part:])
    growth = 100 * (last / first - 1)
    if growth > MAX_GROWTH_PERCENT:
        raise STUDY_FAILED(f"memory has grown by {growth:.1f} %.")
    if any(now > before for now, before in zip(counts[-1], counts[part], strict=True)):
        raise STUDY_FAILED(f"(descriptors, threads) were {counts[part]} and are {counts[-1]}.")
    return {
        **result,
        "scans": scans,
        "engine": dict(session.engine.description),
        "growth_percent": round(growth, 3),
        "descriptors": counts[-1][0],
        "threads": counts[-1][1],
        "resident_mb": [round(value, 1) for value in memory],
    }


def _descriptors() -> int:
    """Open file descriptors of this process; 0 where the system does not list them (Windows)."""
    listing = next((place for place in map(Path, ("/proc/self/fd", "/dev/fd")) if place.is_dir()), None)
    return sum(1 for _ in listing.iterdir()) if listing else 0

"""Segmentation as a user runs it: one process from command to files, its time and its memory."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypedDict

import pydicom
from pydicom.uid import generate_uid

from autosam_edge_benchmarks.result_header import Result, new_result


class SegmentRun(TypedDict):
    """One run of ``autosam-edge segment``: total time, peak memory, and what its own report says."""

    wall_s: float
    peak_rss_mb: float
    scan: dict[str, list[float]]
    timings_s: dict[str, float]
    model: str
    engine: str
    precision: str


def run_once(
    source: Path, *, bundle: Path | None = None, engine: str | None = None, threads: int | None = None
) -> SegmentRun:
    """Segment a scan in a new process.

    Args:
        bundle: Bundle to run; None for the default one.
        engine: Name of the engine; None for the best one.
        threads: Number of threads of the engine; None for its default.

    Returns:
        ``wall_s`` from start to exit, ``peak_rss_mb`` as the operating system reports it, and parts of the
        command's own report. The scan is described by shape and spacing, because its name may be a patient's.

    Raises:
        RuntimeError: The command failed; the message is the last line of its standard error.
    """
    given = {"--bundle": bundle, "--engine": engine, "--threads": threads}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "stdout", Path(folder) / "stderr"
        segment = ["segment", str(source), "-o", str(Path(folder) / "out"), "--json", *options]
        started = time.perf_counter()
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(  # noqa: S603  our own command line
                [sys.executable, "-m", "autosam_edge", *segment], stdout=stdout, stderr=stderr
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started
        if process.returncode != 0:
            raise RuntimeError((log.read_text().strip().splitlines() or ["no message"])[-1])
        report = json.loads(out.read_text())
    return {
        "wall_s": wall_s,
        "peak_rss_mb": usage.ru_maxrss / (1024.0**2 if sys.platform == "darwin" else 1024.0),
        "scan": report["scan"],
        "timings_s": report["timings_s"],
        "model": report["provenance"]["model"],
        "engine": report["provenance"]["engine"],
        "precision": report["provenance"]["precision"],
    }


def measure_segment(
    source: Path,
    *,
    repeats: int = 5,
    bundle: Path | None = None,
    engine: str | None = None,
    threads: int | None = None,
) -> Result:
    """Segment a scan several times.

    Args:
        bundle: Bundle to run; None for the default one.
        engine: Name of the engine; None for the best one.
        threads: Number of threads of the engine; None for its default.

    Returns:
        Median times, the largest peak memory, and every run.
    """
    result = new_result("segment")
    runs = [run_once(source, bundle=bundle, engine=engine, threads=threads) for _ in range(repeats)]
    stages = runs[0]["timings_s"]
    return {
        **result,
        "model": runs[0]["model"],
        "engine": runs[0]["engine"],
        "precision": runs[0]["precision"],
        "scan": runs[0]["scan"],
        "wall_s": statistics.median(run["wall_s"] for run in runs),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "stages_s": {name: statistics.median(run["timings_s"][name] for run in runs) for name in stages},
        "runs": runs,
    }


def measure_growth(
    source: Path,
    slices: Sequence[int],
    *,
    bundle: Path | None = None,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Measure the peak memory for scans of more and more slices, made by repeating a series.

    Args:
        slices: Numbers of slices, in rising order.
        bundle: Bundle to run; None for the default one.

    Returns:
        ``runs`` with ``slices`` and ``peak_rss_mb``; ``growth`` from each run to the next: MB per slice, and
        the part of it that the input (int16) and output (uint8) arrays take.
    """
    result = new_result("memory growth")
    peaks: list[float] = []
    runs = []
    pixels = 0
    for count in slices:
        with tempfile.TemporaryDirectory() as folder:
            pixels = repeat_series(source, Path(folder), count)
            run = run_once(Path(folder), bundle=bundle)
        peak_mb, wall_s = run["peak_rss_mb"], run["wall_s"]
        peaks.append(peak_mb)
        runs.append({"slices": count, "scan": run["scan"], "peak_rss_mb": peak_mb, "wall_s": wall_s})
        log(f"{count} slices: {peak_mb:.0f} MB, {wall_s:.1f} s")
    growth = [
        {
            "from": low,
            "to": high,
            "mb_per_slice": (peak_high - peak_low) / (high - low),
            "arrays_mb_per_slice": pixels * 3 / 1024.0**2,
        }
        for (low, peak_low), (high, peak_high) in itertools.pairwise(zip(slices, peaks, strict=True))
    ]
    return {**result, "runs": runs, "growth": growth}


def repeat_series(source: Path, folder: Path, count: int) -> int:
    """Write a DICOM series of ``count`` slices by repeating another one along its normal.

    Returns:
        Number of pixels per slice.
    """
    files = sorted(
        (p for p in source.iterdir() if p.suffix == ".dcm"),
        key=lambda p: float(_header(p).ImagePositionPatient[2]),
    )
    first, second = _header(files[0]), _header(files[1])
    step = float(second.ImagePositionPatient[2]) - float(first.ImagePositionPatient[2])
    series = generate_uid(entropy_srcs=[str(first.SeriesInstanceUID), str(count)])
    for index in range(count):
        dataset = pydicom.dcmread(files[index % len(files)])
        x, y, _ = dataset.ImagePositionPatient
        dataset.ImagePositionPatient = [x, y, float(first.ImagePositionPatient[2]) + index * step]
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / f"{index:05d}.dcm")
    return int(first.Rows) * int(first.Columns)


def _header(path: Path) -> pydicom.Dataset:
    return pydicom.dcmread(path, stop_before_pixels=True)

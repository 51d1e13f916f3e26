"""The main job as a user runs it: one process from command to files, timed and weighed from outside."""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pydicom
from pydicom.uid import generate_uid

from autosam_edge_benchmarks.result_header import new_report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COMMAND = "import autosam_edge.cli as c; c.main()"


def run_once(
    source: Path, *, bundle: Path | None = None, engine: str | None = None, threads: int | None = None
) -> dict[str, Any]:
    """Segment a scan in a process of its own.

    Returns:
        ``wall_s`` from start to exit, ``peak_rss_mb`` as the kernel saw it, and the command's own ``scan``
        and ``timings_s``.

    Raises:
        RuntimeError: The command failed; its last line is in the message.
    """
    given = {"--bundle": bundle, "--engine": engine, "--threads": threads}
    options = [part for name, value in given.items() if value is not None for part in (name, str(value))]
    with tempfile.TemporaryDirectory() as folder:
        out, log = Path(folder) / "stdout", Path(folder) / "stderr"
        command = [
            sys.executable,
            "-c",
            _COMMAND,
            "segment",
            str(source),
            "-o",
            str(Path(folder) / "out"),
            "--json",
            *options,
        ]
        started = time.perf_counter()
        with out.open("wb") as stdout, log.open("wb") as stderr:
            process = subprocess.Popen(command, stdout=stdout, stderr=stderr)  # noqa: S603  our own command line
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        wall_s = time.perf_counter() - started
        if process.returncode != 0:
            raise RuntimeError((log.read_text().strip().splitlines() or ["no message"])[-1])
        report = json.loads(out.read_text())
    scale = 1024.0**2 if sys.platform == "darwin" else 1024.0
    return {
        "wall_s": wall_s,
        "peak_rss_mb": usage.ru_maxrss / scale,
        "scan": report["scan"],  # its shape and not its name, which may be a patient's
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
) -> dict[str, Any]:
    """Run the main job several times; medians, and every run beside them."""
    report = new_report("segment")
    runs = [run_once(source, bundle=bundle, engine=engine, threads=threads) for _ in range(repeats)]
    stages = {
        name: statistics.median(run["timings_s"][name] for run in runs) for name in runs[0]["timings_s"]
    }
    return {
        **report,
        **{key: runs[0][key] for key in ("model", "engine", "precision", "scan")},
        "wall_s": statistics.median(run["wall_s"] for run in runs),
        "peak_rss_mb": max(run["peak_rss_mb"] for run in runs),
        "stages_s": stages,
        "runs": runs,
    }


def measure_growth(
    source: Path,
    slices: Sequence[int],
    *,
    bundle: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Peak memory on a series repeated to more and more slices.

    Returns:
        ``runs`` with ``slices`` and ``peak_rss_mb``, and between neighbors the growth per slice beside what
        the input (int16) and output (uint8) arrays themselves take.
    """
    report = new_report("memory growth")
    runs: list[dict[str, Any]] = []
    pixels = 0
    for count in slices:
        with tempfile.TemporaryDirectory() as folder:
            pixels = repeat_series(source, Path(folder), count)
            run = run_once(Path(folder), bundle=bundle)
        runs.append({"slices": count, **{key: run[key] for key in ("scan", "peak_rss_mb", "wall_s")}})
        say(f"{count} slices: {run['peak_rss_mb']:.0f} MB, {run['wall_s']:.1f} s")
    growth = [
        {
            "from": a["slices"],
            "to": b["slices"],
            "mb_per_slice": (b["peak_rss_mb"] - a["peak_rss_mb"]) / (b["slices"] - a["slices"]),
            "arrays_mb_per_slice": pixels * 3 / 1024.0**2,
        }
        for a, b in itertools.pairwise(runs)
    ]
    return {**report, "runs": runs, "growth": growth}


def repeat_series(source: Path, folder: Path, count: int) -> int:
    """Write ``count`` slices by repeating a DICOM series along its normal; returns the pixels per slice."""
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

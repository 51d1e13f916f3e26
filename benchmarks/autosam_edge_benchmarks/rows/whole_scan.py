"""Segmentation as a user runs it: one process from command to files, its time and its memory."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid
from pydicom.valuerep import DS

from autosam_edge.system.file_hash import file_digest
from autosam_edge_benchmarks.error_codes import PROCESS_FAILED, SERIES_MISSING
from autosam_edge_benchmarks.last_line import last_line
from autosam_edge_benchmarks.rows.energy import joules, used

MEMORY_METHOD = "largest resident set of each process by itself: VmHWM on Linux, ru_maxrss elsewhere"


@dataclass(frozen=True)
class ScanRun:
    """One run of ``autosam-edge segment``.

    Args:
        shape: Slices, rows and columns of the scan, voxels.
        spacing_mm: Spacing (D, H, W), mm.
        wall_s: Time from start to exit, s.
        peak_mb: Largest resident set, MB.
        joules: Energy of the run, J.
        stages_s: Time of each stage by the command's own report, s.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    wall_s: float
    peak_mb: float
    joules: float | None
    stages_s: dict[str, float]


def run_once(source: Path, *, model: tuple[str, str], engine: str, precision: str, threads: int) -> ScanRun:
    """Segment a scan in a new process.

    Args:
        model: Option of ``segment`` that names the model, and its value.

    Raises:
        BenchError: The command failed (AE-BENCH-006); the message is the last line of its standard error.
    """
    program = [sys.executable, "-m", "autosam_edge", "segment", str(source)]
    options = [*model, "--engine", engine, "--precision", precision]
    # A repeated series is no abdomen; the verdict changes nothing of the work.
    options += ["--threads", str(threads), "--accept-implausible", "--json"]
    with tempfile.TemporaryDirectory() as folder:
        command = [*program, "-o", f"{folder}/out", *options]
        before, started = joules(), time.perf_counter()
        finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        wall_s, after = time.perf_counter() - started, joules()
    if finished.returncode != 0:
        raise PROCESS_FAILED(last_line(finished.stderr))
    report = json.loads(finished.stdout)
    return ScanRun(
        shape=tuple(report["scan"]["shape_dhw"]),
        spacing_mm=tuple(report["scan"]["spacing_dhw_mm"]),
        wall_s=round(wall_s, 3),
        peak_mb=report["peak_rss_mb"],  # not by wait4: Linux's ru_maxrss starts at the peak of this process
        joules=used(before, after),
        stages_s=report["timings_s"],
    )


def repeat_series(source: Path, folder: Path, count: int) -> None:
    """Write a DICOM series of ``count`` slices by repeating another one along its normal."""
    files = series_files(source)
    first = _header(files[0])
    row, column = np.reshape(np.asarray(first.ImageOrientationPatient, dtype=np.float64), (2, 3))
    places = {file: np.asarray(_header(file).ImagePositionPatient, dtype=np.float64) for file in files}
    files.sort(key=lambda file: float(np.cross(row, column) @ places[file]))
    start, step = places[files[0]], places[files[1]] - places[files[0]]
    series = generate_uid(entropy_srcs=[str(first.SeriesInstanceUID), str(count)])
    for index in range(count):
        dataset = pydicom.dcmread(files[index % len(files)])
        dataset.ImagePositionPatient = [DS(value, auto_format=True) for value in start + index * step]
        dataset.SeriesInstanceUID = series
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[series, str(index)])
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.InstanceNumber = index + 1
        dataset.save_as(folder / f"{index:05d}.dcm")


def series_files(source: Path) -> list[Path]:
    """The slices of a folder, whatever the ending of their names.

    Raises:
        BenchError: It is no folder, or has fewer than two slices (AE-BENCH-008).
    """
    inside = source.iterdir() if source.is_dir() else ()
    files = [path for path in inside if path.is_file() and "ImagePositionPatient" in _header(path)]
    if len(files) < 2:
        raise SERIES_MISSING(f"{source.name} holds {len(files)} slices of a series, expected at least two.")
    return files


def scan_digest(scan: Path) -> str:
    """Ten digits that tell a scan from others by the content of its files; they hold no name."""
    files = scan.rglob("*") if scan.is_dir() else (scan,)
    digests = sorted(file_digest(path) for path in files if path.is_file())
    return hashlib.sha256("".join(digests).encode()).hexdigest()[:10]


def _header(path: Path) -> pydicom.Dataset:
    """The elements before the pixels; none of another file."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=True)
    except InvalidDicomError:
        return pydicom.Dataset()

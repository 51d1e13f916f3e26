"""Runs of ``autosam-edge batch`` in a process of their own, with their memory, and what they leave."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from autosam_edge_benchmarks.error_codes import STUDY_FAILED

REAL, STAND_IN = "autosam_edge", "autosam_edge_benchmarks.stand_in"
"""Programs: the command line, and the same with a formula in the place of the network."""
OPTIONS = ("--engine", "onnx", "--accept-implausible", "--json", "--threads", "1")
_SAMPLE_S = 0.2


@dataclass(frozen=True)
class Run:
    """A run of a batch that came to its end.

    Args:
        report: What the command printed with ``--json``.
        seconds: Time from the start of the program to its end.
        parent_mb: Resident memory of the command at each look, MB.
        worker_mb: That of its largest worker at each look, MB.
    """

    report: dict[str, float]
    seconds: float
    parent_mb: list[float]
    worker_mb: list[float]

    def figures(self) -> dict[str, float]:
        """Scans a minute and peak memory."""
        scans = self.report["done"] + self.report["failed"]
        return {
            "scans_per_minute": round(60 * scans / self.seconds, 1),
            "peak_worker_mb": round(max(self.worker_mb)),
            "peak_parent_mb": round(max(self.parent_mb)),
        }


def start_batch(program: str, source: Path, out: Path, options: Sequence[object]) -> subprocess.Popen[str]:
    """Start a batch.

    Args:
        program: :data:`REAL` or :data:`STAND_IN`.
        source: Folder with the scans.
        out: Folder for the results.
        options: Further options of the command.
    """
    command = [sys.executable, "-m", program, "batch", source, "-o", out, *OPTIONS, *options]
    return subprocess.Popen(  # noqa: S603  our own command
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def run_batch(program: str, source: Path, out: Path, options: Sequence[object]) -> Run:
    """Run a batch to its end; see :func:`start_batch`. Workers of Dask that this process has count too."""
    started = time.perf_counter()
    parent_mb, worker_mb = [0.0], [0.0]
    with start_batch(program, source, out, options) as process:
        while process.poll() is None:
            others = [0.0]
            for one in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    (parent_mb if one.pid == process.pid else others).append(one.memory_info().rss / 1e6)
            worker_mb.append(max(others))
            time.sleep(_SAMPLE_S)
        seconds = time.perf_counter() - started
        text, _ = process.communicate()
    if not text:
        raise STUDY_FAILED(f"the batch ended with code {process.returncode} and no report.")
    return Run(json.loads(text), seconds, parent_mb, worker_mb)


def failed_codes(out: Path) -> Counter[str]:
    """Number of failed scans by code, from the table of a batch."""
    return Counter(row["code"] for row in _table(out) if row["state"] == "failed")


def digest(out: Path) -> str:
    """Hash of the table and of every result of every scan.

    Ids that come from paths (of zip and NIfTI files and of folders without a scan) and the stamps of the
    files are left out: they differ from folder to folder.
    """
    lines = []
    for row in _table(out):
        if row["state"] == "failed":
            del row["scan"]
        lines.append(json.dumps(row))
    whole = hashlib.sha256("\n".join(sorted(lines)).encode())
    for path in sorted((out / "scans").rglob("*")):
        if path.is_file() and path.name != "source.txt":
            whole.update(f"{path.relative_to(out)}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def _table(out: Path) -> list[dict[str, str]]:
    with (out / "organs.csv").open(newline="") as file:
        return list(csv.DictReader(file))

"""Many scans through ``batch``: the same table from every way to run it, speed, memory, and kills."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.fleet_inputs import make_broken, make_sound, make_tiny

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_COMMAND = (sys.executable, "-m", "autosam_edge")
_OPTIONS = ("--engine", "onnx", "--accept-implausible", "--json", "--threads", "1")
_ALONE = 10  # scans that `segment` gets one by one
_SAMPLE_S = 0.2


class FleetError(Exception):
    """A table differs, a scan was lost or done twice, or a broken scan has not its code."""


def measure_fleet(
    count: int = 200, kills: int = 20, tiny: int = 10_000, *, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Run a batch with one worker, two workers and Dask, then with kills, then with jobs without inference.

    Args:
        count: Number of series, ten of them broken.
        kills: Number of kills at random moments, of a worker or of the whole command by turns.
        tiny: Number of series of three slices of air.
        log: Function that is called with one line for each part.

    Returns:
        Scans a minute and peak memory by way, seconds for the index, milliseconds for a job without
        inference, and the number of kills.

    Raises:
        FleetError: See the class.
    """
    result = new_result("fleet")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        source = root / "in"
        make_sound(source, count - 10)
        expected = make_broken(source)
        ways: dict[str, dict[str, float]] = {}
        for name, options in {"one worker": ["--workers", "1"], "two workers": ["--workers", "2"]}.items():
            ways[name] = _timed(source, root / name, options)
            log(f"{name}: {ways[name]}")
        ways["Dask, two workers"] = _on_dask(source, root / "dask")
        log(f"Dask, two workers: {ways['Dask, two workers']}")
        outs = [root / "one worker", root / "two workers", root / "dask"]
        if len({_digest(out) for out in outs}) != 1:
            raise FleetError("the results of one worker, two workers and Dask differ")
        codes = _codes(outs[0])
        if codes != Counter(expected.values()):
            raise FleetError(f"the broken scans fail with {dict(codes)}, expected {expected}")
        ways["segment, one after the other"] = _alone(source, root / "alone")
        log(f"segment, one after the other: {ways['segment, one after the other']}")
        found = _kill(source, root / "killed", kills)
        if _digest(root / "killed") != _digest(outs[0]):
            raise FleetError("the results after the kills differ")
        log(f"kills: {found}")
        for out in (*outs, root / "killed", source):
            shutil.rmtree(out)
        jobs = _tiny(root, tiny)
        log(f"tiny jobs: {jobs}")
    return {**result, "scans": count, "broken": len(expected), "ways": ways, "kills": found, "tiny": jobs}


def _start(source: Path, out: Path, options: Sequence[object]) -> subprocess.Popen[str]:
    command = [*_COMMAND, "batch", source, "-o", out, *_OPTIONS, *options]
    return subprocess.Popen(  # noqa: S603  our own command
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )


def _timed(source: Path, out: Path, options: Sequence[object]) -> dict[str, float]:
    """Run a batch to its end; scans a minute, and the largest memory of a worker and of the parent."""
    started = time.perf_counter()
    process = _start(source, out, options)
    peaks = {"parent": 0.0, "worker": 0.0}
    while process.poll() is None:
        for one in psutil.Process().children(recursive=True):  # those of a Dask cluster too
            with suppress(psutil.NoSuchProcess):
                key = "parent" if one.pid == process.pid else "worker"
                peaks[key] = max(peaks[key], one.memory_info().rss / 1e6)
        time.sleep(_SAMPLE_S)
    seconds = time.perf_counter() - started
    report = json.loads(process.stdout.read()) if process.stdout else {}
    scans = report["done"] + report["failed"]
    return {
        "scans_per_minute": round(60 * scans / seconds, 1),
        "peak_worker_mb": round(peaks["worker"]),
        "peak_parent_mb": round(peaks["parent"]),
    }


def _on_dask(source: Path, out: Path) -> dict[str, float]:
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        return _timed(source, out, ["--scheduler", cluster.scheduler_address])


def _alone(source: Path, out: Path) -> dict[str, float]:
    """What a loop of the shell over ``segment`` takes."""
    series = sorted(source.glob("series*"))[:_ALONE]
    started = time.perf_counter()
    for folder in series:
        command = [*_COMMAND, "segment", folder, "-o", out / folder.name, *_OPTIONS]
        subprocess.run(list(map(str, command)), capture_output=True, check=True)  # noqa: S603  ours
    return {"scans_per_minute": round(60 * len(series) / (time.perf_counter() - started), 1)}


def _kill(source: Path, out: Path, kills: int) -> dict[str, int]:
    """Kill at random moments and start again until everything is done, each scan once."""
    rng, killed = random.Random(0), Counter[str]()  # noqa: S311  moments, no secrets
    while True:
        process = _start(source, out, ["--workers", "2"])
        if sum(killed.values()) == kills:
            process.wait()
            break
        try:
            process.wait(rng.uniform(3.0, 12.0))
        except subprocess.TimeoutExpired:
            parent = psutil.Process(process.pid)
            workers = [child for child in parent.children() if "spawn_main" in " ".join(child.cmdline())]
            if workers and sum(killed.values()) % 2:
                killed["worker"] += 1
                rng.choice(workers).kill()
                time.sleep(rng.uniform(0.5, 2.0))
            killed["command"] += 1
            process.kill()
            process.wait()
            _wait_for_end(workers)
        else:  # it was done before the next kill: begin again with another folder
            shutil.rmtree(out)
    lines = [json.loads(line) for line in (out / "audit.jsonl").read_text().splitlines()]
    inputs = Counter(line["input"] for line in lines if "input" in line)
    done = sum(1 for _ in (out / "scans").iterdir())
    if len(inputs) != done or list((out / ".work").iterdir()):
        raise FleetError(f"{done} scans are done, {len(inputs)} stand in the record, or something was left")
    return {**killed, "scans that ran again after a kill": sum(inputs.values()) - done}


def _wait_for_end(processes: Sequence[psutil.Process]) -> None:
    """Workers notice the end of their parent when the scan in hand is done."""
    psutil.wait_procs(processes, timeout=60)


def _tiny(root: Path, count: int) -> dict[str, Any]:
    source, out = root / "tiny", root / "tiny-out"
    make_tiny(source, count)
    started = time.perf_counter()
    _start(source, out, ["--dry-run"]).communicate()
    index_s = time.perf_counter() - started
    half = _timed(source, out, ["--workers", "1", "--limit", count // 2, "--format", "json"])
    whole = _timed(source, out, ["--workers", "1", "--format", "json"])
    return {
        "jobs": count,
        "files": 3 * count,
        "index_s": round(index_s, 1),
        "index_ms_per_file": round(1000 * index_s / (3 * count), 2),
        "first_half": half,
        "second_half": whole,
    }


def _codes(out: Path) -> Counter[str]:
    with (out / "organs.csv").open(newline="") as file:
        return Counter(row["code"] for row in csv.DictReader(file) if row["state"] == "failed")


def _digest(out: Path) -> str:
    """Hash of the table and of every file of every scan."""
    digest = hashlib.sha256()
    for path in sorted([out / "organs.csv", *(out / "scans").rglob("*")]):
        if path.is_file():
            digest.update(f"{path.relative_to(out)}\0".encode() + path.read_bytes())
    return digest.hexdigest()

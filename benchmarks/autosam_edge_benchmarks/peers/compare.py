"""Time and memory of the same scan by this program and by other tools, in turns."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import psutil

from autosam_edge.bundle import Tier, bundles_of_package, default_bundle_path, open_bundle
from autosam_edge.engines.selection import select_artifact
from autosam_edge.read_scan import read
from autosam_edge_benchmarks.last_line import last_line
from autosam_edge_benchmarks.peers import nnunet_pipeline
from autosam_edge_benchmarks.result_header import Result, new_result

MEMORY_METHOD = (
    "resident set of the process; with children the sum of all, with shared pages counted once (PSS); "
    "looked at ten times a second"
)
_PACKAGES = {"nnunet": "nnunetv2", "totalsegmentator": "totalsegmentator"}


@dataclass
class Peer:
    """One way to segment the scan.

    Args:
        name: Name for the table.
        weights: Network and weights in words.
        command: Command line; ``{out}`` stands for the output folder.
        reason: Why it cannot run here; empty if it can.
    """

    name: str
    weights: str
    command: list[str]
    reason: str = ""
    seconds: list[float] = field(default_factory=list)
    peak_mb: list[float] = field(default_factory=list)


def compare(
    scan: Path, environment: Path, *, repeats: int, threads: int, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Run every tool ``repeats`` times, each repeat all tools in turn.

    Args:
        scan: Folder of a DICOM series.
        environment: Folder for the environment of nnU-Net and TotalSegmentator; made when absent (needs the
            package index and 3 to 8 GB).
        repeats: Runs of each tool.
        threads: Threads of each tool.
        log: Function that is called with a line for each run.

    Returns:
        For each tool every time and peak, their medians, and these as multiples of this program's, if it ran.
    """
    result = new_result("peers")
    peers = [*_own(scan, threads), *_monai(scan, threads), *_nnunet(scan, environment, threads, log)]
    for repeat in range(repeats):
        for peer in peers:
            if not peer.reason:
                _run(peer)
                told = peer.reason or f"{peer.seconds[-1]:.1f} s, {peer.peak_mb[-1]:.0f} MB"
                log(f"{repeat + 1} of {repeats}: {peer.name}: {told}")
    own = peers[0]
    return {
        **result,
        "scan": read(scan).grid.described(),
        "threads": threads,
        "memory_method": MEMORY_METHOD,
        "tools": [_entry(peer, own) for peer in peers],
    }


def _entry(peer: Peer, own: Peer) -> Result:
    entry: Result = {"name": peer.name, "weights": peer.weights, "reason": peer.reason or None}
    if not peer.seconds:
        return entry
    seconds, peak = statistics.median(peer.seconds), statistics.median(peer.peak_mb)
    entry |= {
        "seconds": [round(value, 2) for value in peer.seconds],
        "peak_mb": [round(value) for value in peer.peak_mb],
        "median_s": round(seconds, 2),
        "median_mb": round(peak),
    }
    if own.seconds:
        entry["times_slower"] = round(seconds / statistics.median(own.seconds), 2)
        entry["times_memory"] = round(peak / statistics.median(own.peak_mb), 2)
    return entry


def _own(scan: Path, threads: int) -> list[Peer]:
    """Both tiers in the engines that run here, each in the number format that ``segment`` selects."""
    paths = bundles_of_package()
    choices: tuple[tuple[Tier, str, str], ...] = (
        ("fast", "openvino", "OpenVINO"),
        ("fast", "onnx", "ONNX Runtime"),
        ("standard", "openvino", "OpenVINO"),
    )
    peers = []
    for tier, engine, title in choices:
        bundle = open_bundle(paths[tier])
        options = ["--tier", tier, "--engine", engine, "--threads", str(threads)]
        peers.append(
            Peer(
                f"autosam-edge --tier {tier}, {title} {select_artifact(bundle, engine).precision}",
                f"{bundle.model.name} {bundle.model.version}, a student of this project",
                [sys.executable, "-m", "autosam_edge", "segment", str(scan), "-o", "{out}/own", *options],
            )
        )
    return peers


def _monai(scan: Path, threads: int) -> list[Peer]:
    module = "autosam_edge_benchmarks.peers.monai_pipeline"
    program = [sys.executable, "-m", module, str(default_bundle_path()), str(scan)]
    return [
        Peer(
            f"MONAI, {words}",
            "the same weights as --tier fast",
            [*program, "{out}/monai.nii.gz", engine, str(threads)],
        )
        for words, engine in (("PyTorch", "torch"), ("ONNX Runtime fp32", "onnx"))
    ]


def _nnunet(scan: Path, environment: Path, threads: int, log: Callable[[str], None]) -> list[Peer]:
    reason = _prepare(environment, log)
    program = [str(_python(environment)), nnunet_pipeline.__file__]
    versions = {} if reason else _versions(environment)
    return [
        Peer(
            f"{name} {versions.get(tool, '')}".strip(),
            f"TotalSegmentator's 3 mm network, {nnunet_pipeline.CLASSES[tool]} classes, random weights",
            [*program, tool, str(environment / "models"), str(scan), "{out}/peer.nii.gz", str(threads)],
            reason,
        )
        for name, tool in (("nnU-Net", "nnunet"), ("TotalSegmentator --fast", "totalsegmentator"))
    ]


def _prepare(environment: Path, log: Callable[[str], None]) -> str:
    """Make the environment and the models; the reason in words if that is not possible."""
    python = str(_python(environment))
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    torch = f"torch=={version('torch').split('+')[0]}"
    steps = [
        [sys.executable, "-m", "venv", str(environment)],
        [*pip, torch],  # first, so that the same build as here is taken
        [*pip, torch, *_PACKAGES.values()],
    ]
    done = environment / "packages-installed"
    try:
        if not done.is_file():
            log(f"installing {' and '.join(_PACKAGES.values())}")
            for step in steps:
                subprocess.run(step, check=True, capture_output=True, text=True)  # noqa: S603
            done.touch()
        prepare = [python, nnunet_pipeline.__file__, "prepare", str(environment / "models")]
        subprocess.run(prepare, check=True, capture_output=True, text=True)  # noqa: S603
    except subprocess.CalledProcessError as error:
        return f"cannot be installed here: {last_line(error.stderr)}"
    return ""


def _python(environment: Path) -> Path:
    return environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _versions(environment: Path) -> dict[str, str]:
    code = "import sys; from importlib.metadata import version; print(*map(version, sys.argv[1:]))"
    command = [str(_python(environment)), "-c", code, *_PACKAGES.values()]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()  # noqa: S603
    return dict(zip(_PACKAGES, found, strict=True))


def _run(peer: Peer) -> None:
    """Run a tool once; if it fails, the last line of its errors is the reason, and it does not run again."""
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as errors:
        command = [part.replace("{out}", folder) for part in peer.command]
        started, peak = time.perf_counter(), 0.0
        with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=errors) as process:
            while process.poll() is None:
                peak = max(peak, _resident_mb(process))
                time.sleep(0.1)
        seconds = time.perf_counter() - started
        if process.returncode != 0:
            errors.seek(0)
            said = last_line(errors.read().decode(errors="replace"))
            peer.reason = f"failed with exit code {process.returncode}: {said}"
            return
    peer.seconds.append(seconds)
    peer.peak_mb.append(peak)


def _resident_mb(process: psutil.Popen) -> float:
    try:
        alone = not (children := process.children(recursive=True))
        return float(sum(_resident(one, alone=alone) for one in (process, *children))) / 1e6
    except psutil.NoSuchProcess:  # one of them has just ended
        return 0.0


def _resident(process: psutil.Process, *, alone: bool) -> int:
    """Bytes; a page that several processes share counts in part, where the system tells it (Linux)."""
    if alone or not psutil.LINUX:
        return int(process.memory_info().rss)
    return int(process.memory_full_info().pss)

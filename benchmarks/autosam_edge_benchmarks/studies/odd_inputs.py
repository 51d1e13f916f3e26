"""Whether ``segment --max-memory`` holds its limit on odd inputs, seen from outside of the process."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.odd_input_files import ODD_INPUTS

ALLOWED = 1.1
"""Peak memory, in parts of the limit, up to which the limit counts as held."""
_SAMPLE_S = 0.01
_TIMEOUT_S = 900.0  # a run that takes longer counts as hung and is ended
_CODE = re.compile(r"AE-[A-Z]+-\d+")


def measure_odd_inputs(
    limit_mb: int = 800,
    *,
    scale: float = 1.0,
    earlier: Result | None = None,
    save: Callable[[Result], None] = lambda _: None,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Segment odd inputs, each in a process of its own.

    Args:
        limit_mb: Limit that the command is given, MB.
        scale: Size of the inputs in parts of their full size, above 0 up to 1.
        earlier: Result of an earlier call, whose inputs are not measured again.
        save: Function that is called with the result after each input.
        log: Function that receives one line per input.

    Returns:
        ``inputs`` with ``input``, ``exit_code``, ``outcome`` (a code, ``written`` or ``hung or died``),
        ``peak_mb`` and ``seconds``; ``held``: whether each peak is at most 1.1 times the limit.
    """
    result = earlier or {**new_result("odd inputs"), "limit_mb": limit_mb, "scale": scale, "inputs": []}
    rows = result["inputs"]
    for name in [name for name in ODD_INPUTS if name not in {row["input"] for row in rows}]:
        with tempfile.TemporaryDirectory() as folder:
            source = ODD_INPUTS[name](Path(folder), scale)
            row = {"input": name, **_run(source, Path(folder) / "out", limit_mb)}
        rows.append(row)
        result["held"] = all(row["peak_mb"] <= ALLOWED * limit_mb for row in rows)
        save(result)
        log(f"{name}: {row['outcome']}, {row['peak_mb']:.0f} MB, {row['seconds']:.1f} s")
    return result


def _run(source: Path, out: Path, limit_mb: int) -> Result:
    command = ["segment", str(source), "-o", str(out), "--max-memory", str(limit_mb), "--accept-implausible"]
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as stderr:
        process = psutil.Popen(
            [sys.executable, "-m", "autosam_edge", *command], stdout=subprocess.DEVNULL, stderr=stderr
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, _resident(process))
            if time.perf_counter() - started > _TIMEOUT_S:
                process.kill()
                process.wait()
                break
            time.sleep(_SAMPLE_S)
        seconds = time.perf_counter() - started
        stderr.seek(0)
        found = _CODE.findall(stderr.read())
    refused = [code for code in found if not code.startswith("AE-WARN")]
    return {
        "exit_code": process.returncode,
        "outcome": "written" if process.returncode == 0 else refused[-1] if refused else "hung or died",
        "peak_mb": round(peak / 1024**2, 1),
        "seconds": round(seconds, 2),
    }


def _resident(process: psutil.Popen) -> int:
    """Resident bytes of a process and of all that it started."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total

"""What artifacts cost: memory and loading in a process of their own, time of a tile side by side in one run."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autosam_edge_export.error_codes import ARTIFACT_FAILS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt

    from autosam_edge.engines.engine import Engine

_PROBE = """
import json, pathlib, sys, time
import numpy as np
from autosam_edge.bundle import read_files
from autosam_edge.engines.selection import engine_class, make_engine
from autosam_edge.memory import peak_mb, resident_mb
path, target, precision, *patch = sys.argv[1:]
engine_class(target)
tile = np.zeros([int(side) for side in patch], dtype=np.float32)
before, started = resident_mb(), time.perf_counter()
engine = make_engine(target, read_files(pathlib.Path(path)), sha256="", precision=precision)
load_s = time.perf_counter() - started
for _ in range(2):
    engine.run(tile)
print(json.dumps({"working_set_mb": peak_mb() - before, "peak_rss_mb": peak_mb(), "load_s": load_s}))
"""


@dataclass(frozen=True)
class Cost:
    """Of one artifact.

    Args:
        working_set_mb: Peak resident memory that loading it and running two tiles adds, MB.
        peak_rss_mb: Of that whole process, MB.
        load_s: Reading the file and making the engine ready, s.
    """

    working_set_mb: float
    peak_rss_mb: float
    load_s: float


def measure_cost(model: Path, target: str, precision: str, patch: tuple[int, int, int]) -> Cost:
    """Load an artifact and run two tiles in a fresh process.

    Args:
        model: The file or folder.
        target: Which engine.
        precision: As the manifest names it.
        patch: Tile (D, H, W).

    Raises:
        ExportError: It does not run (AE-EXPORT-005).
    """
    command = [sys.executable, "-c", _PROBE, str(model), target, precision, *map(str, patch)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own interpreter and probe
    if finished.returncode != 0:
        raise ARTIFACT_FAILS(f"{target}/{precision} does not run: {_reason(finished)}")
    return Cost(**{key: round(value, 3) for key, value in json.loads(finished.stdout).items()})


def _reason(finished: subprocess.CompletedProcess[str]) -> str:
    """Why a probe ended: what its error says, without the error's name and remedy."""
    if finished.returncode < 0:
        return f"it was stopped by signal {-finished.returncode}; 9 is what a system does that runs out of memory."
    last = (finished.stderr.strip().splitlines() or ["it said nothing."])[-1]
    return last.partition("Error: ")[2].partition(" Remedy: ")[0] or last


def time_tiles(
    engines: Mapping[str, Engine], tile: npt.NDArray[np.float32], rounds: int = 5
) -> dict[str, float]:
    """Median time of a tile of each engine, ms; the engines take turns, so that a busy moment meets all."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    for engine in engines.values():
        engine.run(tile)
    for _ in range(rounds):
        for name, engine in engines.items():
            started = time.perf_counter()
            engine.run(tile)
            taken[name].append(1000.0 * (time.perf_counter() - started))
    return {name: round(statistics.median(values), 1) for name, values in taken.items()}

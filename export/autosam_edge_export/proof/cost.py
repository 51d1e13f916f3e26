"""Cost of artifacts: memory and loading time, each in a fresh process; time of a tile, all in one run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.engines.engine import Engine
from autosam_edge.system.clock import Timing, time_in_turns
from autosam_edge_export.error_codes import ARTIFACT_FAILS

_PROBE = """
import json, pathlib, sys, time
import numpy as np
from autosam_edge.bundle import read_files
from autosam_edge.engines.selection import engine_class, make_engine
from autosam_edge.system.memory import peak_mb, resident_mb
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
    """Memory and loading time of one artifact.

    Args:
        working_set_mb: Peak resident memory that loading the artifact and running two tiles adds, MB.
        peak_rss_mb: Peak resident memory of that whole process, MB.
        load_s: Time to read the file and to make the engine ready, s.
    """

    working_set_mb: float
    peak_rss_mb: float
    load_s: float


@dataclass(frozen=True)
class ArtifactCost(Cost):
    """Memory, loading time and time of a tile.

    Args:
        working_set_mb, peak_rss_mb, load_s: See :class:`Cost`.
        tile_ms: Median time of a tile, ms.
    """

    tile_ms: float


def measure_cost(model: Path, target: str, precision: str, patch: tuple[int, int, int]) -> Cost:
    """Load an artifact and run two tiles in a fresh process.

    Args:
        patch: Sides of a tile (D, H, W), voxels.

    Raises:
        ExportError: The artifact does not run (AE-EXPORT-005).
    """
    command = [sys.executable, "-c", _PROBE, str(model), target, precision, *map(str, patch)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    if finished.returncode != 0:
        raise ARTIFACT_FAILS(f"{target}/{precision} does not run: {_reason(finished)}")
    return Cost(**{key: round(value, 3) for key, value in json.loads(finished.stdout).items()})


def _reason(finished: subprocess.CompletedProcess[str]) -> str:
    """Why a probe failed: the message of its error, without the error's class and remedy."""
    if finished.returncode < 0:
        return (
            f"its process was stopped by signal {-finished.returncode}; "
            "signal 9 usually means that the system ran out of memory."
        )
    last = (finished.stderr.strip().splitlines() or ["its process ended without a message."])[-1]
    return last.partition("Error: ")[2].partition(" Remedy: ")[0] or last


def time_tiles(engines: Mapping[str, Engine], tile: npt.NDArray[np.float32], rounds: int = 5) -> Timing:
    """Time a tile in each engine by :func:`~autosam_edge.system.clock.time_in_turns`.

    Args:
        tile: Tile (D, H, W) to run, HU.
    """
    return time_in_turns({name: partial(engine.run, tile) for name, engine in engines.items()}, rounds)

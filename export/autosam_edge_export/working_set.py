"""What an artifact takes in memory, measured in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from autosam_edge.errors import ExportError

if TYPE_CHECKING:
    from pathlib import Path

_PROBE = """
import sys, pathlib
import numpy as np
from autosam_edge.engines.onnx_engine import OnnxEngine
from autosam_edge.memory import peak_mb, resident_mb
model = pathlib.Path(sys.argv[1]).read_bytes()
tile = np.zeros(tuple(int(side) for side in sys.argv[2].split(",")), dtype=np.float32)
before = resident_mb()
engine = OnnxEngine(model, sha256="", precision="")
for _ in range(2):
    engine.run(tile)
print(peak_mb() - before)
"""


def measure_working_set_mb(artifact: Path, patch: tuple[int, int, int]) -> float:
    """Peak resident memory that loading the artifact and running two tiles adds, MB.

    Raises:
        ExportError: The artifact does not run (AE-EXPORT-005).
    """
    command = [sys.executable, "-c", _PROBE, str(artifact), ",".join(str(side) for side in patch)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  our own interpreter and probe
    if finished.returncode != 0:
        reason = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise ExportError("AE-EXPORT-005", f"the artifact does not run: {reason}", remedy="Export it again with the pinned versions.")
    return round(float(finished.stdout), 1)

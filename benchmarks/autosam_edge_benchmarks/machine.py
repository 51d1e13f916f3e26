"""What a figure was measured on: no host name, no user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import psutil


def new_report(benchmark: str) -> dict[str, Any]:
    """The head of every result: what, when, where; made before the work, so that it shows the load the work met."""
    return {"benchmark": benchmark, "date": datetime.now(timezone.utc).date().isoformat(), "machine": describe_machine()}


def describe_machine() -> dict[str, Any]:
    """Processor, cores, memory, system and the versions that matter."""
    cpu = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in lines.items()}
        cpu = f"{named.get('model name', cpu)} (family {named.get('cpu family', '?')}, model {named.get('model', '?')})"
    packages = ("autosam-edge", "numpy", "onnxruntime", "openvino", "torch", "pydicom", "highdicom")
    installed = {name: found.version for name in packages for found in importlib.metadata.Distribution.discover(name=name)}
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1024**3, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": installed,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "load_average_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }

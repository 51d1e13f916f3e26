"""Description of the machine for measurements, without host and user names."""

from __future__ import annotations

import importlib.metadata
import math
import os
import platform
import sys
from pathlib import Path

from autosam_edge.system.memory import mb_in

_PACKAGES = ("autosam-edge", "numpy", "onnxruntime", "openvino", "torch", "monai", "pydicom", "highdicom")
_NO_LIMIT_MB = 2**40  # older control groups have no word for it, only a number beyond every machine


def describe_machine() -> dict[str, object]:
    """Processor, cores, memory, system and the versions that matter."""
    installed = {
        name: found.version
        for name in _PACKAGES
        for found in importlib.metadata.Distribution.discover(name=name)
    }
    return {
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": installed,
        "openblas_coretype": os.environ.get("OPENBLAS_CORETYPE", ""),
        "load_average_at_start": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def available_cores() -> int:
    """Cores that this process may use: those it is bound to, and no more than its control group allows.

    A browser's Python has one thread.
    """
    if sys.platform in ("emscripten", "wasi"):
        return 1
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    cores = bound or os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cpu_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that the control group of a container allows, None if it sets no limit (Linux)."""
    both, limit, period = root / "cpu.max", root / "cpu/cpu.cfs_quota_us", root / "cpu/cpu.cfs_period_us"
    try:
        words = both.read_text().split() if both.exists() else [limit.read_text(), period.read_text()]
        quota, length = (float(word) for word in words)
    except (OSError, ValueError):  # no control groups, or "max"
        return None
    return quota / length if quota > 0 and length > 0 else None


def memory_limit_mb(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Memory that the control group of a container allows, MB, None if it sets no limit (Linux)."""
    newer, older = root / "memory.max", root / "memory/memory.limit_in_bytes"
    try:
        limit_mb = float((newer if newer.exists() else older).read_text()) / 2**20
    except (OSError, ValueError):  # no control groups, or "max"
        return None
    return limit_mb if limit_mb < _NO_LIMIT_MB else None


def machine_in_words(accelerator: str = "") -> str:
    """Describe the machine in one line for a table.

    Args:
        accelerator: Name of the GPU that did the work; empty for the processor.
    """
    memory_gb = _memory_gb()
    memory = f", {memory_gb:g} GB" if memory_gb else ""
    return accelerator or f"{os.cpu_count()} cores, {_processor()}{memory}"


def _processor() -> str:
    """Name, family and model of the processor on Linux on x86, else the architecture."""
    info = Path("/proc/cpuinfo")
    first = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    named = {
        key.strip(): value.strip() for key, value in (line.split(":", 1) for line in first if ":" in line)
    }
    if "model name" not in named:
        return platform.processor() or platform.machine()
    return f"{named['model name']} (family {named.get('cpu family', '?')}, model {named.get('model', '?')})"


def _memory_gb() -> float | None:
    """Memory of the machine, GB; None on Windows, which does not report it."""
    if not hasattr(os, "sysconf"):
        return None
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3, 1)


def available_memory_gb() -> float | None:
    """Memory that programs can still take, GB; None where the system does not tell it."""
    free_mb = mb_in("/proc/meminfo", "MemAvailable")
    return None if free_mb is None else round(free_mb / 1024, 1)

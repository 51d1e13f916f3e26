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
_CONTROL_GROUPS, _OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
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
    """Cores that this process may use: those it is bound to, and no more than its control groups allow.

    A browser's Python has one thread.
    """
    if sys.platform in ("emscripten", "wasi"):
        return 1
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    cores = bound or os.cpu_count() or 1
    quota = _cpu_quota()
    return max(1, cores if quota is None else min(cores, math.ceil(quota)))


def _cpu_quota(root: Path = _CONTROL_GROUPS, own: Path = _OWN_GROUPS) -> float | None:
    """Cores that the control groups of this process allow, None if none sets a limit (Linux)."""
    quotas = []
    for folder in _control_groups("cpu", root, own):
        newer, limit, period = (folder / f"cpu.{name}" for name in ("max", "cfs_quota_us", "cfs_period_us"))
        try:
            words = newer.read_text().split() if newer.exists() else [limit.read_text(), period.read_text()]
            quota, length = (float(word) for word in words)
        except (OSError, ValueError):  # no such group, or "max"
            continue
        if quota > 0 and length > 0:
            quotas.append(quota / length)
    return min(quotas, default=None)


def memory_limit_mb(root: Path = _CONTROL_GROUPS, own: Path = _OWN_GROUPS) -> float | None:
    """Memory that the control groups of this process allow, MB, None if none sets a limit (Linux)."""
    limits_mb = []
    for folder in _control_groups("memory", root, own):
        newer, older = folder / "memory.max", folder / "memory.limit_in_bytes"
        try:
            limits_mb.append(float((newer if newer.exists() else older).read_text()) / 2**20)
        except (OSError, ValueError):  # no such group, or "max"
            continue
    return min((limit_mb for limit_mb in limits_mb if limit_mb < _NO_LIMIT_MB), default=None)


def _control_groups(controller: str, root: Path, own: Path) -> list[Path]:
    """Folders of the control groups that hold this process, of both versions (Linux).

    A job of SLURM or a unit of systemd is a group within others, each with a limit. In a container, the
    outermost group is its own, and the file ``own`` may name groups of the host, which are not there.
    """
    tops = {"": root, controller: root / controller}
    folders = [*tops.values()]
    for line in os.fsdecode(own.read_bytes()).splitlines() if own.exists() else ():
        _, controllers, group = line.split(":", 2)  # version 2 names no controllers
        for top in (tops[name] for name in controllers.split(",") if name in tops):
            inner = top / group.lstrip("/")
            folders += [folder for folder in (inner, *inner.parents) if top in folder.parents]
    return folders


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

"""Resident memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_mb() -> float:
    """Resident memory now, MB; the peak so far where the system does not tell the present."""
    return _status_mb("VmRSS") or peak_mb()


def peak_mb() -> float:
    """Largest resident memory so far, MB; 0 where the system does not tell (Windows)."""
    # Linux's ru_maxrss remembers the parent's memory across exec; VmHWM is this program's own.
    if high_water := _status_mb("VmHWM"):
        return high_water
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024.0**2 if sys.platform == "darwin" else peak / 1024.0


def _status_mb(field: str) -> float:
    """A figure of /proc/self/status, MB; 0 where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0.0
    line = next((line for line in status.read_text().splitlines() if line.startswith(f"{field}:")), "")
    return float(line.split()[1]) / 1024.0 if line else 0.0

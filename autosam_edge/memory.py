"""Resident memory of this process."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_mb() -> float:
    """Resident memory now, MB; the peak so far where the system does not tell the present."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        import resource

        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1024.0**2
    return peak_mb()


def peak_mb() -> float:
    """Largest resident memory so far, MB; 0 where the system does not tell (Windows)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024.0**2 if sys.platform == "darwin" else peak / 1024.0

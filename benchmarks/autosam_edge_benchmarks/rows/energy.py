"""Energy of the processor's packages, where Linux tells it (powercap, RAPL)."""

from __future__ import annotations

import re
from pathlib import Path

_POWERCAP = Path("/sys/class/powercap")
_PACKAGE = re.compile(r"(intel|amd)-rapl:\d+")
METHOD = "RAPL, energy of the processor's packages (Linux powercap)"
UNKNOWN = "this system does not tell it"


def joules() -> float | None:
    """Energy that all packages took since an unknown start, J; None where it cannot be read.

    The counter starts again after some minutes to hours; a difference below zero is not known.
    """
    if not _POWERCAP.is_dir():
        return None
    packages = [zone / "energy_uj" for zone in _POWERCAP.iterdir() if _PACKAGE.fullmatch(zone.name)]
    try:
        return sum(int(file.read_text()) for file in packages) / 1e6 if packages else None
    except PermissionError:  # only root may read it since CVE-2020-8694
        return None


def used(before: float | None, after: float | None) -> float | None:
    """Energy between two readings, J; None if it is not known."""
    return None if before is None or after is None or after < before else after - before

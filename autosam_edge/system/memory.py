"""Resident memory of this process, and a budget for it."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from numbers import Real
from pathlib import Path

from autosam_edge.error_codes import BUDGET_TOO_SMALL, MEMORY_UNKNOWN

_STATUS = "/proc/self/status"


@dataclass(frozen=True)
class MemoryBudget:
    """Memory of the engine, and the limit for the whole process.

    Args:
        working_set_mb: Memory of the engine for its weights and one tile, MB; None if it was not measured.
        max_mb: Largest resident memory of the process, MB; None for no limit.

    Raises:
        BudgetError: There is a limit, but the memory of the engine is not known (AE-MEMORY-002).
        ValueError: The limit is not a number above 0.
    """

    working_set_mb: float | None
    max_mb: float | None = None

    def __post_init__(self) -> None:
        if self.max_mb is not None:
            require_above_0("max_memory_mb", self.max_mb, "MB")
        if self.working_set_mb is None and self.max_mb is not None:
            raise MEMORY_UNKNOWN("the memory of this artifact is not known, so no limit can be kept.")

    def beside(self, other: MemoryBudget) -> MemoryBudget:
        """The budget of a process that holds the engine of another one, too."""
        return MemoryBudget((self.working_set_mb or 0.0) + (other.working_set_mb or 0.0), self.max_mb)

    def require(self, peak_mb: float) -> None:
        """Refuse a run that would take more than the limit.

        Args:
            peak_mb: Predicted peak resident memory of the process, MB.

        Raises:
            BudgetError: The limit is smaller (AE-MEMORY-001); the message names the smallest that works.
        """
        if self.max_mb is not None and peak_mb > self.max_mb:
            raise BUDGET_TOO_SMALL(
                f"this scan needs about {math.ceil(peak_mb)} MB, the limit is {math.floor(self.max_mb)} MB.",
                remedy=f"Give `max_memory_mb={math.ceil(peak_mb)}` or more, or fewer slices; "
                '`tier="fast"` needs less memory than `tier="standard"`.',
            )


def require_room(more_mb: float, max_memory_mb: float | None, *, what: str = "the volume") -> None:
    """Refuse what would exceed the limit, before it is read.

    Args:
        more_mb: Memory that it takes beyond what the process holds now, MB.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.
        what: What takes the memory, for the message.

    Raises:
        BudgetError: The limit is smaller than that and what the process holds now (AE-MEMORY-001).
        ValueError: The limit is not a number above 0.
    """
    if max_memory_mb is None:
        return
    require_above_0("max_memory_mb", max_memory_mb, "MB")
    needed_mb = resident_mb() + more_mb
    if needed_mb > max_memory_mb:
        raise BUDGET_TOO_SMALL(
            f"{what} alone needs about {math.ceil(needed_mb)} MB with what the program holds, "
            f"the limit is {math.floor(max_memory_mb)} MB.",
            remedy=f"Give more than `max_memory_mb={math.ceil(needed_mb)}`: the run needs memory too.",
        )


def require_above_0(name: str, value: object, unit: str) -> None:
    """Refuse the value of an argument that is no finite number above 0.

    Raises:
        ValueError: It is such a value.
    """
    try:
        number = math.nan if isinstance(value, bool) or not isinstance(value, Real) else float(value)
    except OverflowError:
        number = math.inf
    if not 0 < number < math.inf:
        raise ValueError(f"`{name}` is {value!r}, expected a finite number of {unit} above 0")


def resident_mb() -> float:
    """Resident memory now, MB; the peak so far where the system does not tell the present."""
    return mb_in(_STATUS, "VmRSS") or peak_mb()


def peak_mb() -> float:
    """Largest resident memory so far, MB; 0 where the system does not tell (Windows, browsers)."""
    # Linux's ru_maxrss remembers the parent's memory across exec; VmHWM is this program's own.
    if own := mb_in(_STATUS, "VmHWM"):
        return own
    try:
        import resource
    except ImportError:  # Windows and browsers
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024.0**2 if sys.platform == "darwin" else peak / 1024.0


def mb_in(file: str, field: str) -> float | None:
    """A figure that a file of Linux's /proc gives in kB, in MB; None where there is none."""
    lines = Path(file).read_text().splitlines() if Path(file).exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:")), None)

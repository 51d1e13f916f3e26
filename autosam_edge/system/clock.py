"""Today's date, and the clock of every timing: work in turns, and what other programs took meanwhile."""

from __future__ import annotations

import os
import statistics
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

QUIET_SHARE = 0.1
"""Largest share of the cores that other programs may use before a timing is not to be trusted."""
_STAT = Path("/proc/stat")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal: proc(5)


@contextmanager
def timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds of a block to those under a name; a block that raises adds none."""
    started = time.perf_counter()
    yield
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - started


@dataclass(frozen=True)
class Timing:
    """Times of work that was done in turns.

    Args:
        samples_ms: Time of each run by the name of the work, ms.
        others_cores: Cores that other programs used meanwhile, 0 to the number of cores; None where the
            system does not tell.
    """

    samples_ms: dict[str, tuple[float, ...]]
    others_cores: float | None

    def median_ms(self, name: str) -> float:
        """Median time of one work, ms."""
        return statistics.median(self.samples_ms[name])


def today() -> str:
    """Day in ISO form, UTC."""
    return datetime.now(timezone.utc).date().isoformat()


class CpuWatch:
    """Counts the processor time of other programs from now on (Linux)."""

    def __init__(self) -> None:
        self._since = time.perf_counter(), _others_s()

    def others_cores(self) -> float | None:
        """Cores that other programs used on average since the start; None where the system does not tell.

        A child of this process counts as other until it was waited for.
        """
        (began, before), now = self._since, _others_s()
        if before is None or now is None:
            return None
        return round(max(0.0, now - before) / max(time.perf_counter() - began, 1e-3), 2)


def time_in_turns(work: Mapping[str, Callable[[], object]], rounds: int) -> Timing:
    """Time several pieces of work; they take turns, so that a busy moment slows all of them.

    Args:
        work: Functions by name. Each runs once before the first round, which is not counted.
        rounds: Number of timed runs of each.
    """
    taken: dict[str, list[float]] = {name: [] for name in work}
    for run in work.values():
        run()
    watch = CpuWatch()
    for _ in range(rounds):
        for name, run in work.items():
            started = time.perf_counter()
            run()
            taken[name].append(1000.0 * (time.perf_counter() - started))
    return Timing({name: tuple(samples) for name, samples in taken.items()}, watch.others_cores())


def doubt(others_cores: float | None) -> str:
    """Reason why a timing is not to be trusted, one sentence; empty if nothing speaks against it."""
    cores = os.cpu_count() or 1
    if others_cores is None or others_cores <= QUIET_SHARE * cores:
        return ""
    return f"The times are not to be trusted: other programs used {others_cores:.1f} of {cores} cores."


def _others_s() -> float | None:
    """Processor time of all programs but this one and its finished children since the start, s."""
    if not _STAT.exists():
        return None
    ticks = [int(word) for word in _STAT.read_text().partition("\n")[0].split()[1:]]
    own = os.times()
    busy = sum(ticks[index] for index in _BUSY) / os.sysconf("SC_CLK_TCK")
    return busy - (own.user + own.system + own.children_user + own.children_system)

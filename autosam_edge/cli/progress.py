"""Progress on stderr, with the time left."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Stages:
    """Names each stage of a run on stderr and keeps its seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._console = Console(file=sys.stderr, highlight=False)

    def log(self, line: str) -> None:
        """One line on stderr."""
        self._console.print(line, markup=False)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage and say how long it took."""
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started
        self.log(f"{name:<12}{self.seconds[name]:6.1f} s")

    @contextmanager
    def bar(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """A bar over a known number of steps; a plain line where stderr is not a terminal."""
        with self.stage(name):
            if not self._console.is_terminal:
                yield lambda _done, _total: None
                return
            columns = (
                TextColumn("{task.description:<11}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("so far,"),
                TimeRemainingColumn(),
                TextColumn("left"),
            )
            with Progress(*columns, console=self._console, transient=True) as progress:
                task = progress.add_task(name, total=None)
                yield lambda done, total: progress.update(task, completed=done, total=total)

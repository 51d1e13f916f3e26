"""Threads that share work; NumPy, zlib and Pillow compute outside of the interpreter's lock."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ThreadTeam:
    """The calling thread and its helpers; a team of one starts no thread, as in a browser.

    Args:
        threads: Number of threads, 1 or more.
    """

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads
        self._helpers = ThreadPoolExecutor(threads) if threads > 1 else None

    def run(self, *tasks: Callable[[], None]) -> None:
        """Run tasks that do not depend on each other; all have ended when it returns or raises.

        The calling thread only waits: an interrupt, which lands there, never breaks what a task does, such as
        an import for which another task would wait without end.

        Raises:
            Exception: What a task raised.
        """
        if self._helpers is None:
            for task in tasks:
                task()
        else:
            self._beside(lambda: None, tasks)

    def divide(self, work: Callable[[int, int], None], start: int, stop: int) -> None:
        """Run ``work(first, last)`` on one part ``[first, last)`` of ``[start, stop)`` for each thread.

        The calling thread takes a part too: a thread more would take memory of its own.

        Raises:
            Exception: What a part raised.
        """
        parts = max(1, min(self._threads, stop - start))
        ends = [start + (stop - start) * part // parts for part in range(parts + 1)]
        *others, own = (partial(work, first, last) for first, last in pairwise(ends))
        self._beside(own, others)

    def _beside(self, own: Callable[[], None], others: Sequence[Callable[[], None]]) -> None:
        """Run a task here, and the others in helpers at the same time."""
        futures: list[Future[None]] = []
        try:
            if self._helpers is not None:
                futures.extend(map(self._helpers.submit, others))
            own()
            wait(futures)
        finally:
            wait(futures)  # again after an interrupt
        for future in futures:
            future.result()

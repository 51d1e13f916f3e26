"""Processes of this computer that segment the scans of a batch, each with a model of its own."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from threading import Thread
from typing import TYPE_CHECKING

from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.job import Fault
from autosam_edge.error_codes import WORKER_DIED
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.stop_signals import SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from multiprocessing.connection import Connection
    from pathlib import Path

    from autosam_edge.batch.job import Job, Settings

_MAX_DEATHS = 2  # of workers over one scan; the first may be the fault of another program


@dataclass(frozen=True)
class _Death:
    """The end of a process that had a scan in hand, with its exit code."""

    code: int | None


class _Worker:
    """One process and the scan that it has in hand."""

    def __init__(self, root: Path, settings: Settings, job: Job) -> None:
        context = multiprocessing.get_context("spawn")  # engines have threads, which do not survive a fork
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, root, settings), daemon=True)
        self.process.start()
        atexit.register(self.process.kill)  # Python would wait for it: it ignores SIGTERM
        theirs.close()
        self.take(job)

    def take(self, job: Job) -> None:
        """Give it the next scan."""
        self.job = job
        with suppress(OSError):  # it has died since its last answer, which `answer` finds
            self.connection.send(job)

    def answer(self) -> tuple[int, int] | Fault | AutosamEdgeError | _Death | None:
        """What came of the scan, or before that the tiles done and the tiles in all."""
        try:
            answer: tuple[int, int] | Fault | AutosamEdgeError | None = self.connection.recv()
        except (EOFError, OSError):  # the connection ended, or was reset
            self.end()
            return _Death(self.process.exitcode)
        return answer

    def end(self) -> None:
        """End the process, at once if it works."""
        self.process.kill()
        self.process.join()
        atexit.unregister(self.process.kill)
        self.connection.close()  # last: while it works, it tells of each tile


def segment_in_processes(
    jobs: Iterable[Job],
    root: Path,
    settings: Settings,
    count: int,
    on_tile: Callable[[Job, int, int], None] | None = None,
) -> Iterator[tuple[Job, Fault | None]]:
    """Segment scans; results are given as they come, in no order.

    A scan over which two workers died, as by the memory of the computer or by a crash of a native library,
    fails; all others go on.

    Args:
        count: Number of processes.
        on_tile: Function that is called with the scan, the tiles done and the tiles in all after each tile.

    Yields:
        Each scan, and its error or None.

    Raises:
        AutosamEdgeError: The model cannot be loaded, or the record or an error cannot be written.
    """
    queue, workers, deaths = deque(jobs), list[_Worker](), Counter[str]()
    try:
        while queue or workers:
            while queue and len(workers) < count:
                workers.append(_Worker(root, settings, queue.popleft()))
            ready = wait([worker.connection for worker in workers])
            for worker in [worker for worker in workers if worker.connection in ready]:
                job = worker.job
                answer = worker.answer()
                if isinstance(answer, AutosamEdgeError):
                    raise answer
                if isinstance(answer, tuple):
                    if on_tile is not None:
                        on_tile(job, *answer)
                    continue
                if isinstance(answer, _Death):
                    workers.remove(worker)
                    deaths[job.id] += 1
                    if deaths[job.id] < _MAX_DEATHS:
                        queue.append(job)
                        continue
                    died = WORKER_DIED(f"{_MAX_DEATHS} processes died over it, with code {answer.code}.")
                    answer = Fault.of(died)
                    BatchFolder(root).set_fault(job, answer)
                elif queue:
                    worker.take(queue.popleft())
                else:
                    worker.end()
                    workers.remove(worker)
                yield job, answer
    finally:
        for worker in workers:
            worker.end()


def _work(connection: Connection, root: Path, settings: Settings) -> None:
    """Segment what comes through the connection until it is closed."""
    for name in SIGNALS:  # Ctrl-C and the stop of a service go to all; the parent ends the workers
        if (number := getattr(signal, name, None)) is not None:
            signal.signal(number, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()
    from autosam_edge.batch.scan import Scanner

    def on_tile(*tiles: int) -> None:
        with suppress(OSError):  # nobody listens any more, which is no fault of the scan
            connection.send(tiles)

    try:
        scanner = Scanner(BatchFolder(root), settings)
        while True:
            connection.send(scanner.segment(connection.recv(), on_tile))
    except AutosamEdgeError as error:  # the model cannot be loaded, or nothing can be recorded
        connection.send(error)
    except (EOFError, BrokenPipeError):
        return


def _end_with_parent() -> None:
    """End this process at once when its parent was killed: the next command sweeps its unfinished folders."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a worker
    wait([parent.sentinel])
    os._exit(1)

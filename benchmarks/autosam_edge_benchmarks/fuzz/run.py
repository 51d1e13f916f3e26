"""Fuzzed inputs in processes that a watchdog ends; what became of them, counted."""

from __future__ import annotations

import multiprocessing
import queue
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil

from autosam_edge_benchmarks.fuzz.kinds import KINDS, Kind
from autosam_edge_benchmarks.fuzz.worker import Outcome, try_input, work, write_input
from autosam_edge_benchmarks.result_header import Result, new_result

FAILURES = ("untyped", "wrong", "hung", "large", "died")
"""Results that no input may have."""
HUNG_S, LARGE_MB = 20.0, 2000.0
_STEP_S, _START_S = 0.1, 300.0
_BATCH = 200
_Batch = tuple[str, "Kind", range]


def fuzz(
    inputs: int,
    *,
    earlier: Result | None = None,
    kinds: Mapping[str, Kind] = KINDS,
    jobs: int = 1,
    hung_s: float = HUNG_S,
    large_mb: float = LARGE_MB,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Read damaged inputs of every kind.

    Args:
        inputs: Number of inputs, shared evenly between the kinds.
        earlier: Result of a run over the same kinds, which goes on after its last input; None starts with
            input 0. The same number gives the same input.
        hung_s: Seconds after which an input counts as hung; its process is ended.
        large_mb: Resident memory of a process, MB, at which it is ended.

    Returns:
        ``kinds``: for each, the number of inputs by their result, ``contained`` failures of child processes,
        seconds, the slowest input and the largest memory; ``failures``: result and place of every input that
        failed, named ``KIND:NUMBER``; ``counts`` of all kinds. ``end`` is the number after the last input of
        each kind.
    """
    if earlier and set(earlier["kinds"]) != set(kinds):
        raise ValueError("the earlier run has other kinds")
    result = new_result("fuzz")
    first = earlier["end"] if earlier else 0
    share = -(-inputs // len(kinds))
    batches: queue.SimpleQueue[_Batch] = queue.SimpleQueue()
    for start in range(first, first + share, _BATCH):
        for name, kind in kinds.items():
            batches.put((name, kind, range(start, min(start + _BATCH, first + share))))
    outcomes: dict[str, list[Outcome]] = {name: [] for name in kinds}
    started = time.perf_counter()
    with ThreadPoolExecutor(jobs) as pool:
        for done in [
            pool.submit(_drain, batches, outcomes, _Worker(hung_s, large_mb), log) for _ in range(jobs)
        ]:
            done.result()
    found = {
        **result,
        "first": first,
        "end": first + share,
        "jobs": jobs,
        "seconds": round(time.perf_counter() - started, 1),
        "counts": _counts([one for found in outcomes.values() for one in found]),
        "kinds": {name: _row(found) for name, found in outcomes.items()},
        "failures": [
            {"input": f"{name}:{one.number}", "result": one.result, "place": one.place}
            for name, found in outcomes.items()
            for one in sorted(found)
            if one.result in FAILURES
        ],
    }
    return _joined(earlier, found) if earlier else found


def _drain(
    batches: queue.SimpleQueue[_Batch],
    outcomes: dict[str, list[Outcome]],
    worker: _Worker,
    log: Callable[[str], None],
) -> None:
    """Let one process read batches until none is left."""
    with worker:
        while True:
            try:
                name, kind, numbers = batches.get_nowait()
            except queue.Empty:
                return
            found = list(worker.outcomes(name, kind, numbers))
            outcomes[name] += found
            log(f"{name} {numbers.start}: {dict(Counter(one.result for one in found))}")


def _joined(before: Result, after: Result) -> Result:
    """One result of two runs, of which the second goes on where the first ended."""
    names = ("seconds", "counts", "kinds", "failures")
    return {**after, "first": before["first"], **{name: _sum(before[name], after[name]) for name in names}}


def _sum(before: Any, after: Any, name: str = "") -> Any:  # noqa: ANN401  JSON's types
    """Numbers and lists added, key by key; of the slowest input and the largest memory the larger."""
    if isinstance(before, dict):
        keys = dict.fromkeys((*before, *after))
        return {key: _sum(before.get(key, 0), after.get(key, 0), key) for key in keys}
    if name in ("slowest_s", "peak_mb"):
        return max(before, after)
    return round(before + after, 1) if isinstance(before, float) else before + after


def again(text: str, folder: Path | None = None, kinds: Mapping[str, Kind] = KINDS) -> tuple[str, str]:
    """Make one input again, and read it in this process.

    Args:
        text: ``KIND:NUMBER``.
        folder: Folder that receives its files; None keeps none.

    Returns:
        Result and place, see :class:`~autosam_edge_benchmarks.fuzz.worker.Outcome`.

    Raises:
        ValueError: There is no such kind, or no number.
    """
    name, _, number = text.partition(":")
    if name not in kinds or not number.isdecimal():
        raise ValueError(f"{text} is no input; expected KIND:NUMBER with one of: {', '.join(kinds)}")
    with tempfile.TemporaryDirectory() as temporary:
        place = write_input(kinds[name].make(name, int(number)), folder or Path(temporary))
        return try_input(kinds[name], place)


def _row(outcomes: Sequence[Outcome]) -> Result:
    results = Counter(one.result for one in outcomes)
    return {
        **_counts(outcomes),
        "codes": {code: count for code, count in sorted(results.items()) if code.startswith("AE-")},
        "seconds": round(sum(one.seconds for one in outcomes), 1),
        "slowest_s": round(max(one.seconds for one in outcomes), 4),
        "peak_mb": max(one.peak_mb for one in outcomes),
    }


def _counts(outcomes: Sequence[Outcome]) -> Result:
    results = Counter(one.result for one in outcomes)
    return {
        "inputs": len(outcomes),
        "read": results["read"],
        "refused": sum(count for code, count in results.items() if code.startswith("AE-")),
        **{name: results[name] for name in FAILURES},
        "contained": dict(Counter(one.contained for one in outcomes if one.contained)),
    }


class _Worker:
    """A process that reads inputs, and starts again where one hung, filled the memory or died."""

    def __init__(self, hung_s: float, large_mb: float) -> None:
        self._hung_s, self._large_mb = hung_s, large_mb
        self._folder = tempfile.TemporaryDirectory()
        self._process: Any = None
        self._connection: Connection[Any, Any]

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()
        self._folder.cleanup()

    def outcomes(self, name: str, kind: Kind, numbers: range) -> Iterator[Outcome]:
        """What became of each input."""
        while numbers:
            if self._process is None:
                self._start()
            self._connection.send((name, kind, numbers))
            for number in numbers:
                outcome = self._next(number)
                numbers = numbers[1:]
                yield outcome
                if outcome.result in ("hung", "large", "died"):
                    self._end()
                    break

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=work, args=(other, self._folder.name), daemon=True)
        self._process.start()
        other.close()
        if not self._connection.poll(_START_S) or self._connection.recv() is not None:
            raise TimeoutError("a process of Python did not start")

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._connection.close()
            self._process = None
            self._folder.cleanup()
            self._folder = tempfile.TemporaryDirectory()

    def _next(self, number: int) -> Outcome:
        started = time.perf_counter()
        process = psutil.Process(self._process.pid)
        while True:
            seconds = time.perf_counter() - started
            try:
                if self._connection.poll(_STEP_S):
                    outcome: Outcome = self._connection.recv()
                    return outcome._replace(result="large") if outcome.peak_mb > self._large_mb else outcome
                memory_mb = process.memory_info().rss / 1e6
            except (EOFError, OSError, psutil.NoSuchProcess):
                self._process.join(_STEP_S)
                return Outcome(number, "died", f"exit code {self._process.exitcode}", seconds=seconds)
            if memory_mb > self._large_mb:
                return Outcome(number, "large", seconds=seconds, peak_mb=round(memory_mb))
            if seconds > self._hung_s:
                return Outcome(number, "hung", seconds=seconds, peak_mb=round(memory_mb))

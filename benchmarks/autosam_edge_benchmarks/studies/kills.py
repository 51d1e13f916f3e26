"""What a killed run leaves: an older result, its own whole result, or none; never a mixture."""

from __future__ import annotations

import contextlib
import itertools
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path

from autosam_edge.output_formats import DEFAULT_FORMATS, FILE_NAMES
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.system.staging import sweep
from autosam_edge.system.stop_signals import MESSAGE
from autosam_edge_benchmarks.error_codes import STUDY_FAILED
from autosam_edge_benchmarks.result_header import Result, new_result

SCENES = ("new folder", "older result", "two processes")
SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP")
_FIVE = tuple(FILE_NAMES[name] for name in DEFAULT_FORMATS)
_TWO = (FILE_NAMES["nifti"], FILE_NAMES["preview"])
_MINE = "notes.txt"
# The command line, which tells when its signals are caught: before that, Python itself answers a Ctrl-C. A
# study that runs in the background or under nohup is started with two of them ignored.
_SEGMENT = """
import signal
for name in ("SIGINT", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_DFL)
from autosam_edge.system.stop_signals import catch_signals
catch_signals()
print("caught", flush=True)
from autosam_edge_benchmarks.stand_in import main
main()
"""

Files = dict[str, bytes]


def measure_kills(
    random_kills: int = 108,
    *,
    steps: Sequence[int] | None = None,
    earlier: Result | None = None,
    save: Callable[[Result], None] = lambda _: None,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Kill processes that write results, and look at their folder.

    Args:
        random_kills: Number of runs of ``segment``, with a stand-in for the network, that are killed at a
            random moment, a quarter each with SIGKILL, SIGTERM, SIGINT and SIGHUP. A run that is done before
            its moment does not count.
        steps: Changes of the disk before which a process is killed with SIGKILL; None for every one.
        earlier: Result of an earlier call, whose groups are not killed again.
        save: Function that is called with the result after each group.
        log: Function that is called with one line per group of kills.

    Returns:
        For each group the number of kills by what stood in the folder: ``older``, ``own``, ``none``, and
        ``completed``: the files of one run in part, which the next process completes.

    Raises:
        BenchError: There was a mixture, a part that nobody completes, a leftover, or a next run that failed
            (AE-BENCH-009).
    """
    result = earlier or {**new_result("kills"), "kills": 0, "groups": {}}
    groups = {f"every step, {scene}": partial(_kill_at_steps, scene, steps) for scene in SCENES}
    for at, name in enumerate(SIGNALS):
        if count := len(range(at, random_kills, len(SIGNALS))):
            groups[f"random moment, {name}"] = partial(_kill_at_random, name, count)
    for group in [group for group in groups if group not in result["groups"]]:
        found = groups[group]()
        result["kills"] += found.total()
        result["groups"][group] = dict(sorted(found.items()))
        save(result)
        log(f"{group}: {result['groups'][group]}")
    return result


def state_of(out: Path, runs: Mapping[str, Files]) -> str:
    """Whose files a folder holds: the name of a run, ``none``, or ``completed``.

    Args:
        out: The folder.
        runs: Content of each file of each run that may have written.

    Raises:
        BenchError: The files are of several runs, or a part of a run's without a plan to complete it
            (AE-BENCH-009).
    """
    found = {path.name: path.read_bytes() for path in out.glob("*") if path.name in FILE_NAMES.values()}
    if whole := [run for run, files in runs.items() if files == found]:
        return whole[0]
    if not any(found.items() <= files.items() for files in runs.values()):
        raise STUDY_FAILED(f"a mixture: {sorted(found)}.")
    if any((*out.glob(".*/removing"), *out.glob(".*/placing"))):
        return "completed"
    if found:
        raise STUDY_FAILED(f"a part: {sorted(found)}.")
    return "none"


def check_after(out: Path, runs: Mapping[str, Files]) -> str:
    """:func:`state_of`, and what the next process makes of it before it writes anything."""
    found = state_of(out, runs)
    if out.exists():
        sweep(out)
        if state_of(out, runs) == "completed":
            raise STUDY_FAILED("a part that is not completed.")
    return found


def _kill_at_steps(scene: str, steps: Sequence[int] | None) -> Counter[str]:
    runs: dict[str, Files] = {
        "older": dict.fromkeys(_FIVE, b"older"),
        "own": dict.fromkeys(_TWO, b"own"),
        "next": dict.fromkeys(_FIVE, b"next"),
    }
    found: Counter[str] = Counter()
    numbers: Iterable[int] = itertools.count(1) if steps is None else steps
    for step in numbers:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out"
            if scene != "new folder":
                _worker(out, "older", 0, _FIVE).wait()
                (out / _MINE).write_text("mine")
            rival = _worker(out, "next", 0, _FIVE) if scene == "two processes" else None
            process = _worker(out, "own", step, _TWO)
            if rival is not None and rival.wait() != 0:
                raise STUDY_FAILED(f"step {step}: the other process failed.")
            if process.wait() == 0:  # there are no more steps
                break
            state = check_after(out, runs)
            found[state if rival is None else "other" if state == "next" else state] += 1
            if _worker(out, "next", 0, _FIVE).wait() != 0 or state_of(out, runs) != "next":
                raise STUDY_FAILED(f"step {step}: the next run failed.")
            _check_clean(out, mine=scene != "new folder")
    return found


def _kill_at_random(name: str, count: int) -> Counter[str]:
    found: Counter[str] = Counter()
    draw = random.Random(name)  # noqa: S311  moments, no secrets
    with tempfile.TemporaryDirectory() as folder:
        scans = [Path(folder) / f"scan{seed}" for seed in (1, 2)]
        out, runs, lasts_s = Path(folder) / "out", dict[str, Files](), 0.0
        for number, scan in enumerate(scans):
            phantom = make_phantom(number + 1, spacing_mm=(8.0, 6.0, 6.0))
            write_dicom_series(phantom.volume, scan, seed=number + 1)
            lasts_s = _undisturbed(scan, out)
            runs[str(number)] = {path.name: path.read_bytes() for path in out.iterdir()}
        (out / _MINE).write_text("mine")
        before = "1"
        while found.total() < count:
            own = str(1 - int(before))
            process = _segment(scans[int(own)], out)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, lasts_s))
            if alive := process.poll() is None:
                process.send_signal(getattr(signal, name))
            _check_ending(process, name)
            state = check_after(out, runs)
            if process.returncode == 0 and state != own:
                raise STUDY_FAILED(f"{name}: a run says that it is done, and {state} stands there.")
            if alive:
                found["older" if state == before else "own" if state == own else state] += 1
            lasts_s = _undisturbed(scans[int(own)], out)
            if state_of(out, runs) != own:
                raise STUDY_FAILED(f"kill {found.total()} with {name}: the next run has not written.")
            _check_clean(out, mine=True)
            before = own
    return found


def _undisturbed(scan: Path, out: Path) -> float:
    """Segment a scan to the end; the seconds from the moment when signals are caught."""
    process = _segment(scan, out)
    started = time.perf_counter()
    _, told = process.communicate()
    if process.returncode != 0:
        raise STUDY_FAILED(f"an undisturbed run failed: {told[-300:]}.")
    return time.perf_counter() - started


def _check_ending(process: subprocess.Popen[str], name: str) -> None:
    """The exit code, and one line; a run that was done before the signal came has ended well."""
    number = getattr(signal, name)
    _, told = process.communicate()
    stopped = -number if name == "SIGKILL" else 128 + number
    said = told.endswith(f"{MESSAGE}\n")
    if process.returncode not in (0, stopped) or (process.returncode > 0) is not said:
        raise STUDY_FAILED(f"{name}: exit code {process.returncode}, {told[-300:]}.")


def _check_clean(out: Path, *, mine: bool) -> None:
    """Nothing hidden in the folder or beside it, and the user's file as it was."""
    hidden = [path.name for folder in (out, out.parent) for path in folder.iterdir() if path.name[0] == "."]
    if hidden:
        raise STUDY_FAILED(f"left behind: {hidden}.")
    if mine and (out / _MINE).read_text() != "mine":
        raise STUDY_FAILED("a file of the user has changed.")


def _worker(out: Path, text: str, step: int, names: Sequence[str]) -> subprocess.Popen[bytes]:
    module = "autosam_edge_benchmarks.studies.kill_worker"
    command = [sys.executable, "-m", module, str(out), text, str(step), *names]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603  our own module


def _segment(scan: Path, out: Path) -> subprocess.Popen[str]:
    """A run of the command line whose signals are caught."""
    command = [sys.executable, "-c", _SEGMENT, "segment", str(scan), "-o", str(out)]
    process = subprocess.Popen(  # noqa: S603  our own command line
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    if process.stdout.readline() != "caught\n":
        raise STUDY_FAILED(f"the program did not start: {process.communicate()[1][-300:]}.")
    return process

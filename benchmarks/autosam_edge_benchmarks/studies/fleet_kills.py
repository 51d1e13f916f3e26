"""A batch whose workers and whose command are killed at random moments: in the end each scan is done once."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from autosam_edge.audit import verify
from autosam_edge_benchmarks.error_codes import STUDY_FAILED
from autosam_edge_benchmarks.studies.fleet_inputs import make_broken, make_sound
from autosam_edge_benchmarks.studies.fleet_runs import STAND_IN, digest, run_batch, start_batch

_SOUND = 160  # enough that most moments lie among the scans, not before them
_OPTIONS = ("--workers", "2", "--format", "nifti")


def kill_batches(root: Path, kills: int, log: Callable[[str], None]) -> dict[str, Any]:
    """Kill at random moments; start the same command again, or look at what came out, by turns.

    The scans are segmented by a formula in the place of the network, so that most of the time goes into what
    a kill can harm. The command is killed and started again with the same folder; then one of its workers is
    killed, and the command ends by itself. Its folder must then hold what an undisturbed run writes.

    Args:
        root: Folder for inputs and results.
        kills: Number of kills.
        log: Function that is called with one line for each kill.

    Returns:
        Number of kills by victim, the number of scans that were done at each kill, and the number of finished
        batches and of scans that ran again.

    Raises:
        BenchError: A result differs, is missing or was left half made, or the record does not hold
            (AE-BENCH-009).
    """
    source, out = root / "in", root / "out"
    make_sound(source, _SOUND)
    make_broken(source)
    undisturbed = run_batch(STAND_IN, source, root / "whole", _OPTIONS)
    expected = digest(root / "whole")
    rng = random.Random(0)  # noqa: S311  moments, no secrets
    found: list[tuple[str, int]] = []
    batches, again = 0, 0
    while len(found) < kills or out.exists():
        with start_batch(STAND_IN, source, out, _OPTIONS) as process:
            if len(found) < kills:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(rng.uniform(0, undisturbed.seconds))
                if process.poll() is None:
                    wanted = "worker" if len(found) % 2 else "command"
                    found.append((_kill(process, wanted, rng), sum(1 for _ in (out / "scans").glob("*"))))
                    log(f"kill {len(found)} of {kills}: {found[-1][0]}, {found[-1][1]} scans were done")
            process.communicate()
        if process.returncode >= 0:  # it was not killed
            again += _check(out, expected)
            batches += 1
            shutil.rmtree(out)
    victims = [victim for victim, _ in found]
    return {
        "scans": sum(undisturbed.report[state] for state in ("done", "failed")),
        "undisturbed_s": round(undisturbed.seconds, 1),
        "kills": {victim: victims.count(victim) for victim in ("command", "worker")},
        "scans_done_at_each_kill": [done for _, done in found],
        "finished_batches": batches,
        "scans_that_ran_again": again,
    }


def _kill(process: subprocess.Popen[str], victim: str, rng: random.Random) -> str:
    """Kill a worker of a command, or the command where none is wanted or there yet; say what was killed."""
    with suppress(psutil.NoSuchProcess):
        workers = [
            child
            for child in psutil.Process(process.pid).children()
            if "spawn_main" in " ".join(child.cmdline())
        ]
        if victim == "worker" and workers:
            rng.choice(workers).kill()
            return victim
    process.kill()
    return "command"


def _check(out: Path, expected: str) -> int:
    """Compare a finished batch with an undisturbed one; return how many scans ran more than once."""
    if digest(out) != expected:
        raise STUDY_FAILED("the results after kills differ from those of an undisturbed run.")
    if left := [path.name for path in (out / ".work").iterdir()]:
        raise STUDY_FAILED(f"{len(left)} unfinished folders were left.")
    verify(out / "audit.jsonl")
    runs = defaultdict(list)
    for line in (out / "audit.jsonl").read_text().splitlines():
        entry = json.loads(line)
        if "input" in entry:
            runs[entry["input"]].append(entry["files"])
    done = sum(1 for _ in (out / "scans").iterdir())
    if len(runs) != done or any(files != found[0] for found in runs.values() for files in found):
        raise STUDY_FAILED(
            f"{done} scans are done, {len(runs)} are in the record, or two runs of one differ."
        )
    return sum(map(len, runs.values())) - done

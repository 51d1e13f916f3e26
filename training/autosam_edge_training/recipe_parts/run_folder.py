"""The folder of a run: its recipe, its metrics and its last checkpoint.

``config.json`` holds the recipe, the hash of the data, the commit, the machine. ``metrics.jsonl`` holds one
line per report, ``tensorboard/`` the same as curves. ``checkpoint.pt`` holds everything that the next step
depends on. A run that was killed resumes from its last checkpoint and ends with the same bits as an
uninterrupted run, on a CPU with the same number of threads: patches depend on their number only, and lines
after the checkpoint are dropped. Before the first step nothing but a lock is written; a refused run leaves no
folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch.utils.tensorboard import SummaryWriter

from autosam_edge import __version__
from autosam_edge.bundle import STUDENT_FILE
from autosam_edge.system.atomic_files import explained, made_folders, staged_file, write_file
from autosam_edge.system.file_lock import LockedError, waiting_lock
from autosam_edge.system.machine import describe_machine, machine_in_words
from autosam_edge.system.memory import peak_mb
from autosam_edge_training.choices import RunKind
from autosam_edge_training.data import Intensity, Prepared, Split
from autosam_edge_training.error_codes import RUN_DIFFERS, RUN_IN_USE, RUN_MISSING
from autosam_edge_training.strict import STRICT, JsonObject, as_dict, checked_dataclass, parse_json

Checkpoint = JsonObject
"""States of networks and optimizer by name, and the number of steps."""
CONFIG, CHECKPOINT, METRICS = "config.json", "checkpoint.pt", "metrics.jsonl"
TEACHER_FILE = "teacher.safetensors"
_LOCK = ".train.lock"
_WAIT_S = 10.0  # workers of a process that was killed share its lock and end up to 5 s after it
_IDENTITY = (
    "data_sha256",
    "dataset",
    "extra_data_sha256",
    "init_sha256",
    "recipe",
    "sam_sha256",
    "teacher",
    "teacher_network",
    "teacher_sha256",
)


@contextmanager
def held_folder(out: Path, fabric: Fabric) -> Iterator[None]:
    """Keep other trainings from the folder of a run while the block runs; a new one that stays empty goes.

    Raises:
        OutputError: The folder cannot be made (AE-OUTPUT-001).
        TrainingError: Another process trains in it (AE-TRAIN-031).
    """
    if not fabric.is_global_zero:  # the first process holds it for all
        fabric.barrier()
        yield
        return
    with contextlib.ExitStack() as stack:
        with explained():
            try:
                _lock(out, stack)
            except LockedError:
                raise RUN_IN_USE(f"another process trains in the folder {out.name}.") from None
        fabric.barrier()
        yield


def _lock(out: Path, stack: contextlib.ExitStack) -> None:
    """Make a folder and lock it, again where another process has just removed it, as its run was refused."""
    while True:
        stack.enter_context(made_folders(out))
        with contextlib.suppress(FileNotFoundError):
            stack.enter_context(waiting_lock(out / _LOCK, seconds=_WAIT_S))
            return


class RunFolder:
    """A new run, or one that is resumed; its caller holds the folder, see :func:`held_folder`.

    Args:
        out: The folder; a run of the same recipe on the same data is resumed.
        recipe: Kind of the run.
        identity: Further values that decide the run, such as the hash of a teacher.

    Raises:
        TrainingError: The folder holds a run of another recipe, on other data, or it is damaged
            (AE-TRAIN-002).
    """

    def __init__(
        self,
        out: Path,
        recipe: RunKind,
        config: object,
        *,
        prepared: Prepared,
        fabric: Fabric,
        identity: Mapping[str, object] | None = None,
    ) -> None:
        assert dataclasses.is_dataclass(config)
        self.out, self._fabric, self._prepared = out, fabric, prepared
        self._defaults = {
            field.name: field.default
            for field in dataclasses.fields(config)
            if field.default is not dataclasses.MISSING
        }
        self.identity: JsonObject = {
            "recipe": recipe,
            "config": as_dict(config),
            "dataset": prepared.dataset,
            "data_sha256": prepared.sha256,
            **(identity or {}),
        }
        self._console = Console(file=sys.stderr, highlight=False)
        self._writer: SummaryWriter | None = None
        self.checkpoint: Checkpoint | None = None
        if (out / CONFIG).is_file():
            self._check_identity()
            if (out / CHECKPOINT).is_file():
                self.checkpoint = self._read_checkpoint()
        self.first_step: int = self.checkpoint["step"] if self.checkpoint else 0
        fabric.barrier()  # no process reads the folder while the first one writes

    def steps(self, total: int) -> Iterator[int]:
        """Begin the run and yield the steps that are left, with a progress bar if stderr is a terminal."""
        if self._fabric.is_global_zero:
            self._keep_lines_until(self.first_step)
            if self.first_step < total:
                self._begin()
        self._taken: list[float] = []
        self._began = time.perf_counter()
        columns = (
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        shown = self._fabric.is_global_zero and self._console.is_terminal
        try:
            with Progress(*columns, console=self._console, transient=True, disable=not shown) as progress:
                self._progress = progress
                self._task = progress.add_task("steps", total=total, completed=self.first_step, loss="")
                for step in range(self.first_step, total):
                    yield step
                    self._end_step(step)
                    progress.update(self._task, completed=step + 1)
        finally:
            if self._writer is not None:
                self._writer.close()

    def report(self, step: int, values: Mapping[str, Any]) -> None:
        """Write what was measured after ``step`` steps, with time and memory, to the files and to stderr."""
        if not self._fabric.is_global_zero:
            return
        self._end_step(step - 1)
        # The median, as a process that was stopped for an hour has one step of an hour.
        seconds = statistics.median(self._taken)
        values = {**values, "seconds_per_step": seconds, "peak_memory_mb": peak_mb()}
        with (self.out / METRICS).open("a") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        numbers = {key: value for key, value in values.items() if isinstance(value, float)}
        assert self._writer is not None
        for key, value in numbers.items():
            self._writer.add_scalar(key, value, step)
        words = " ".join(f"{key} {value:.4g}" for key, value in numbers.items())
        self._progress.update(self._task, loss=f"loss {numbers['loss']:.4f}" if "loss" in numbers else "")
        if not self._console.is_terminal or "mean_dice" in values:
            self._console.print(f"step {step} {words}", soft_wrap=True)

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Write the checkpoint; an interrupted call leaves the previous one."""
        if self._fabric.is_global_zero:
            # By path, torch writes its name into the file.
            with staged_file(self.out / CHECKPOINT) as stage, stage.open("wb") as file:
                try:
                    torch.save({**state, "step": step}, file)
                except RuntimeError as error:
                    # On a full disk, torch's own about the end of the file hides that of the system.
                    if isinstance(error.__context__, OSError):
                        raise error.__context__ from None
                    raise
        self._fabric.barrier()

    def writes(self, weights: str) -> bool:
        """Whether this process is to write the weights at the end of the run.

        Those of a run that had ended before stay byte for byte: runs and caches name them by their hash.
        """
        return self._fabric.is_global_zero and not (self.out / weights).is_file()

    @contextmanager
    def not_counted(self) -> Iterator[None]:
        """Leave the time that the block takes out of the seconds per step."""
        began = time.perf_counter()
        yield
        self._began += time.perf_counter() - began

    def _end_step(self, step: int) -> None:
        """Keep the seconds of a step, once."""
        if len(self._taken) <= step - self.first_step:
            now = time.perf_counter()
            self._taken.append(now - self._began)
            self._began = now

    def _begin(self) -> None:
        prepared = self._prepared
        gpu = torch.cuda.get_device_name(self._fabric.device) if self._fabric.device.type == "cuda" else ""
        record = {
            **self.identity,
            "spacing_mm": prepared.spacing_mm,
            "labels": prepared.labels,
            "intensity": dataclasses.asdict(prepared.intensity),
            "split": {name: list(cases) for name, cases in prepared.split.items()},
            "processes": self._fabric.world_size,
            "threads": torch.get_num_threads(),
            "version": __version__,
            "commit": commit(),
            "machine": machine_in_words(gpu),
            "machine_details": describe_machine(),
        }
        write_file((json.dumps(record, indent=1) + "\n").encode(), self.out / CONFIG)
        for name in (STUDENT_FILE, TEACHER_FILE):  # of a run that ended here before this one
            (self.out / name).unlink(missing_ok=True)
        self._writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first_step + 1)

    def _check_identity(self) -> None:
        found, given = as_dict(read_run_record(self.out)), self.identity
        other = [key for key in _IDENTITY if (given.get(key) or None) != (found[key] or None)]
        # A key that a recipe did not have yet when the run began has its default.
        recipes = {**self._defaults, **found["config"]}, given["config"]
        other += [
            f"config.{key}"
            for key in sorted(recipes[0].keys() | recipes[1].keys())
            if recipes[0].get(key) != recipes[1].get(key)
        ]
        if other:
            raise RUN_DIFFERS(f"the folder {self.out.name} holds a run that differs in {', '.join(other)}.")

    def _read_checkpoint(self) -> Checkpoint:
        with self.using_checkpoint():
            checkpoint: Checkpoint = torch.load(self.out / CHECKPOINT, weights_only=True, map_location="cpu")
            checkpoint["step"] += 0  # raises if this is not the checkpoint of a run
        return checkpoint

    @contextmanager
    def using_checkpoint(self) -> Iterator[None]:
        """Refuse a checkpoint that the block cannot use, as damaged (AE-TRAIN-002)."""
        try:
            yield
        except Exception as error:  # torch raises whatever its readers raise on a damaged file
            raise RUN_DIFFERS(
                f"the checkpoint in {self.out.name} is damaged ({type(error).__name__}).",
                remedy="Delete checkpoint.pt to begin again, or give a new folder.",
            ) from error

    def _keep_lines_until(self, step: int) -> None:
        path = self.out / METRICS
        if path.is_file():
            try:
                # A line without an end was being written when the process was killed, after its checkpoint.
                whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
                kept = [line for line in whole if json.loads(line)["step"] <= step]
            except (ValueError, KeyError, TypeError) as error:
                raise RUN_DIFFERS(
                    f"{METRICS} in {self.out.name} is damaged ({type(error).__name__}).",
                    remedy=f"Delete {METRICS} to go on without its lines, or give a new folder.",
                ) from error
            write_file("".join(kept).encode(), path)


@checked_dataclass(config=STRICT)
class RunRecord:
    """Content of ``config.json``.

    Args:
        spacing_mm: Voxel spacing of the grid (D, H, W), mm.
        commit: Commit of the code; None outside of a checkout.
        extra_data_sha256: SHA-256 of each further data set.
        init_sha256: SHA-256 of the weights that the run started from; None where they were random.
        teacher_network, teacher_sha256, teacher: Teacher of a distilled student, see
            :class:`~autosam_edge_training.networks.checkpoint_metadata.TeacherRecord`.
        sam_sha256: SHA-256 of the SAM file that a teacher started from.
    """

    recipe: RunKind
    config: JsonObject
    dataset: str
    data_sha256: str
    spacing_mm: tuple[float, float, float]
    labels: tuple[str, ...]
    intensity: Intensity
    split: dict[Split, tuple[str, ...]]
    processes: int
    threads: int
    version: str
    commit: str | None
    machine: str
    machine_details: dict[str, object]
    extra_data_sha256: tuple[str, ...] = ()
    init_sha256: str | None = None
    teacher_network: str | None = None
    teacher_sha256: str | None = None
    teacher: str | None = None
    sam_sha256: str | None = None


def read_run_record(run: Path) -> RunRecord:
    """Read ``config.json`` of a run.

    Raises:
        TrainingError: It is missing or damaged (AE-TRAIN-003).
    """
    try:
        return parse_json(RunRecord, (run / CONFIG).read_bytes())
    except OSError as error:
        raise RUN_MISSING(f"{run.name} is not the folder of a run: config.json is missing.") from error
    except ValueError as error:
        raise RUN_MISSING(f"{run.name} is not the folder of a run: config.json: {error}.") from error


def commit() -> str | None:
    """Git commit of this checkout, with ``+`` if there are uncommitted changes; None outside a checkout."""
    here = Path(__file__).parent
    if "site-packages" in here.parts:
        return None  # a checkout around an environment belongs to another project
    try:
        found = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],  # noqa: S607  whichever git is there
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None

"""The folder of a run: what decided it, what it measured, and where it can go on.

``config.json`` the recipe, the data's hash, the commit and the machine; ``metrics.jsonl`` a line per report
and ``tensorboard/`` the same as curves; ``checkpoint.pt`` all that the next step depends on. A run that is
killed goes on from its last checkpoint as if nothing had been, bit for bit on a CPU with the same number of
threads: patches depend on their number only, and lines beyond the checkpoint are dropped. Nothing is written
before the first step, so a run that is refused leaves no folder.
"""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
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
from autosam_edge.atomic_files import staged_file, write_file
from autosam_edge.machine import describe_machine, machine_in_words
from autosam_edge_training.config import as_dict
from autosam_edge_training.error_codes import RUN_DIFFERS, RUN_MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lightning_fabric import Fabric

    from autosam_edge_training.data import Prepared

CONFIG, CHECKPOINT, METRICS = "config.json", "checkpoint.pt", "metrics.jsonl"


class RunFolder:
    """A run that begins or goes on.

    Args:
        out: The folder; a run of the same recipe on the same data there goes on.
        recipe: ``student``, ``teacher`` or ``distill``.
        config: Its checked dataclass.
        prepared: The data.
        fabric: Only its first process writes.
        facts: What else decides the run, such as the hash of a teacher.

    Raises:
        TrainingError: The folder holds a run of another recipe, on other data, or its checkpoint is damaged
            (AE-TRAIN-002).
    """

    def __init__(
        self,
        out: Path,
        recipe: str,
        config: Any,  # noqa: ANN401  any recipe's
        *,
        prepared: Prepared,
        fabric: Fabric,
        facts: Mapping[str, Any] | None = None,
    ) -> None:
        self.out, self._fabric, self._prepared = out, fabric, prepared
        self.identity = {
            "recipe": recipe,
            "config": as_dict(config),
            "dataset": prepared.dataset,
            "data_sha256": prepared.sha256,
            **(facts or {}),
        }
        self._console = Console(file=sys.stderr, highlight=False)
        self._writer: SummaryWriter | None = None
        self.checkpoint: dict[str, Any] | None = None
        if (out / CONFIG).is_file():
            self._check_identity()
            if (out / CHECKPOINT).is_file():
                self.checkpoint = self._read_checkpoint()
        self.first_step: int = self.checkpoint["step"] if self.checkpoint else 0
        fabric.barrier()  # nobody looks into the folder while the first process writes

    def steps(self, total: int) -> Iterator[int]:
        """Begin, and give the steps that are left, from 0 in a new run, with a bar on stderr where that is a terminal."""
        if self._fabric.is_global_zero:
            self._begin()
        columns = (
            TextColumn("step"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[loss]}"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        shown = self._fabric.is_global_zero and self._console.is_terminal
        try:
            with Progress(*columns, console=self._console, transient=True, disable=not shown) as progress:
                self._progress, self._task = (
                    progress,
                    progress.add_task("steps", total=total, completed=self.first_step, loss=""),
                )
                for step in range(self.first_step, total):
                    yield step
                    progress.update(self._task, completed=step + 1)
        finally:
            if self._writer is not None:
                self._writer.close()

    def report(self, step: int, values: Mapping[str, Any]) -> None:
        """Note what was measured after ``step`` steps: a line, curves, and a line on stderr."""
        if not self._fabric.is_global_zero:
            return
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
        """Keep all that the next step depends on; an interrupted save leaves the last one."""
        if self._fabric.is_global_zero:
            with (
                staged_file(self.out / CHECKPOINT) as stage,
                stage.open("wb") as file,
            ):  # by path, torch writes its name into the file
                torch.save({**state, "step": step}, file)
        self._fabric.barrier()

    def _begin(self) -> None:
        prepared = self._prepared
        self.out.mkdir(parents=True, exist_ok=True)
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
        self._keep_lines_until(self.first_step)
        self._writer = SummaryWriter(str(self.out / "tensorboard"), purge_step=self.first_step + 1)

    def _check_identity(self) -> None:
        found = read_run_config(self.out)
        other = sorted(
            key for key, value in self.identity.items() if key != "config" and found.get(key) != value
        )
        configs = found.get("config", {}), self.identity["config"]
        other += sorted(
            f"config.{key}"
            for key in configs[0].keys() | configs[1].keys()
            if configs[0].get(key) != configs[1].get(key)
        )
        if other:
            raise RUN_DIFFERS(f"the folder {self.out.name} holds a run that differs in {', '.join(other)}.")

    def _read_checkpoint(self) -> dict[str, Any]:
        try:
            checkpoint: dict[str, Any] = torch.load(
                self.out / CHECKPOINT, weights_only=True, map_location="cpu"
            )
            checkpoint["step"] += 0  # a number, or this is no checkpoint of a run
        except Exception as error:  # torch raises whatever its readers raise on a damaged file
            raise RUN_DIFFERS(
                f"the checkpoint in {self.out.name} is damaged ({type(error).__name__}).",
                remedy="Delete checkpoint.pt to begin again, or give a new folder.",
            ) from error
        return checkpoint

    def _keep_lines_until(self, step: int) -> None:
        path = self.out / METRICS
        if path.is_file():
            # What has no end was being written by a process that was killed, after its last checkpoint.
            whole = [line for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
            write_file("".join(line for line in whole if json.loads(line)["step"] <= step).encode(), path)


def read_run_config(run: Path) -> dict[str, Any]:
    """What ``config.json`` of a run says.

    Raises:
        TrainingError: There is none, or it is damaged (AE-TRAIN-003).
    """
    try:
        record: dict[str, Any] = json.loads((run / CONFIG).read_bytes())
    except (OSError, ValueError) as error:
        raise RUN_MISSING(
            f"{run.name} is not the folder of a run: config.json is missing or damaged."
        ) from error
    return record


def commit() -> str | None:
    """Of the project that runs, with a + where files were changed; None outside of a git checkout."""
    here = Path(__file__).parent
    if "site-packages" in here.parts:
        return None  # a checkout around an environment is another project's
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],  # noqa: S607  whichever git is there
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip() or None

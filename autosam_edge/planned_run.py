"""Planned runs of a volume: of one model, and of a model behind a coarse one that finds the organs."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from autosam_edge.pipeline.body_box import organ_box
from autosam_edge.pipeline.run import TileRun
from autosam_edge.system.machine import available_cores, memory_limit_mb
from autosam_edge.warning_codes import OF_THE_VERDICT, TIME_WAS_SHORT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextlib import AbstractContextManager

    from autosam_edge.engines.engine import Engine
    from autosam_edge.geometry import Box
    from autosam_edge.model import Model
    from autosam_edge.pipeline.run import OnRows, Progress
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.system.memory import MemoryBudget
    from autosam_edge.verdict import Plausibility
    from autosam_edge.volume import Segmentation, Volume

# Of NumPy's work beside the network. It waits for memory, so that more threads bring less and less.
_MOST_THREADS = 4


class PlannedRun(TileRun):
    """The planned run of one volume on a session's engine; :meth:`Session.plan` makes it.

    Args:
        model: Input contract, labels and identity of the network.
        engine: Engine that computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of the engine and the limit, see :class:`~autosam_edge.pipeline.run.TileRun`, also for
            the attributes and errors.
        part: Part of the canonical scan to label, see there; None labels the whole body.
        lock: Lock that all runs on the engine share; None if there is no other run.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        volume: Volume,
        memory: MemoryBudget | None = None,
        part: Box | None = None,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        named = engine.description["threads"]
        threads = int(named) if named.isdigit() else available_cores()
        super().__init__(model, volume, memory, part, threads=min(threads, _MOST_THREADS))
        self._engine = engine
        self._lock = lock or threading.RLock()

    @property
    def summary(self) -> str:
        """Tiles, voxels and memory of the run in one line."""
        shape = "x".join(map(str, self.model_shape))
        limit_mb = memory_limit_mb()
        short = limit_mb is not None and self.peak_mb > limit_mb
        more = f", more than the {limit_mb:.0f} MB that this container or job allows" if short else ""
        return f"{self.tiles} tiles on {shape} voxels, about {self.peak_mb:.0f} MB{more}"

    def execute(self, *, progress: Progress | None = None, on_rows: OnRows | None = None) -> Segmentation:
        """Run the plan; possible once. It waits until no other run holds the engine.

        Args:
            progress: Function that is called with (tiles done, tiles in all) after each tile. An exception
                that it raises stops the run; nothing is left behind.
            on_rows: Function that is called with the network's probabilities on the model's grid, block by
                block, see :meth:`~autosam_edge.pipeline.run.TileRun.steps`.

        Returns:
            Labels on the volume's own grid.

        Raises:
            RuntimeError: The run was started before.
            EngineError: The engine failed or gave values that are not finite.
        """
        with self._lock:
            return self._execute(progress, on_rows)

    def _execute(self, progress: Progress | None, on_rows: OnRows | None = None) -> Segmentation:
        steps = self.steps(self._engine.description, progress=progress, on_rows=on_rows)
        try:
            tile = next(steps)
            while True:
                tile = steps.send(self._engine.run(tile))
        except StopIteration as finished:
            segmentation: Segmentation = finished.value
            return segmentation


class _OutOfTimeError(Exception):
    """The finer model would end after the deadline."""


@dataclass(frozen=True)
class _Found:
    """What a coarse model found.

    Args:
        part: Part of the canonical scan to label; None for the whole body.
        record: What the provenance says of the coarse run.
        plausibility: Verdict on the coarse labels.
        doubts: Warnings that belong to the verdict; each names the coarse model.
        result: The labels, if they are to be kept; otherwise their memory is free before the fine model runs.
    """

    part: Box | None
    record: dict[str, object]
    plausibility: Plausibility | None
    doubts: tuple[ScanWarning, ...]
    result: Segmentation | None


class CoarseToFineRun(PlannedRun):
    """The planned run of a model on the part of the scan where a coarse model found organs.

    It is planned, and its memory is predicted, for the whole body, which it falls back to: where the coarse
    model found nothing or its labels are implausible, and where an organ reaches a side of the part. A model
    without limits of plausibility gets the verdict of the coarse model.

    Args:
        model: Input contract, labels and identity of the network.
        engine: Engine that computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of both engines, and of the coarse labels if they are kept, and the limit.
        coarse: Planned run of the coarse model on the same volume.
        time_budget_s: Seconds for both models, see :class:`~autosam_edge.session.Session`.
        lock: As for :class:`PlannedRun`.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        volume: Volume,
        memory: MemoryBudget | None,
        coarse: PlannedRun,
        time_budget_s: float | None = None,
        lock: AbstractContextManager[object] | None = None,
    ) -> None:
        super().__init__(model, engine, volume, memory, lock=lock)
        self._coarse, self._time_budget_s = coarse, time_budget_s
        self.peak_mb = max(self.peak_mb, coarse.peak_mb)

    @property
    def summary(self) -> str:
        """Tiles, voxels and memory of both runs in one line."""
        return f"{self._coarse.tiles} coarse tiles, then at most {super().summary}"

    def _execute(self, progress: Progress | None, on_rows: OnRows | None = None) -> Segmentation:
        """Find the organs with the coarse model, then label them.

        Args:
            progress: Function that is called with (tiles done, tiles in all) of both models after each tile.
                The tiles in all are those for the whole body until the organs are found, and fewer then.
            on_rows: As for :meth:`PlannedRun.execute`. It asks for the probabilities in ``box``, so that the
                coarse model is not used.

        Returns:
            Labels on the volume's own grid: those of the coarse model, with a warning, if the time budget is
                too short for the fine one.
        """
        if on_rows is not None:
            return super()._execute(progress, on_rows)
        started = time.perf_counter()
        found = self._find(_counted(progress, 0, self.tiles))
        found_s = time.perf_counter() - started
        deadline = math.inf if self._time_budget_s is None else started + self._time_budget_s
        try:
            segmentation, region, lost_s = self._label(found, progress, deadline)
        except _OutOfTimeError:
            assert found.result is not None, "without a time budget there is no deadline"
            short = TIME_WAS_SHORT(
                f"The model {self._model.name} would have taken longer than the time budget of "
                f"{self._time_budget_s:g} s; the labels are those of the faster {found.record['model']}."
            )
            lost_s = time.perf_counter() - started - found_s
            return replace(
                found.result,
                warnings=(*found.result.warnings, short),
                timings_s={**found.result.timings_s, "stopped_run": lost_s},
            )
        made_by = segmentation.provenance
        if segmentation.plausibility is None:
            warnings = (*segmentation.warnings, *found.doubts)
            segmentation = replace(segmentation, plausibility=found.plausibility, warnings=warnings)
        parameters = {**made_by.parameters, "region": region, "coarse": found.record}
        return replace(
            segmentation,
            provenance=replace(made_by, parameters=parameters),
            timings_s={"find_organs": found_s + lost_s, **segmentation.timings_s},
        )

    def _label(
        self, found: _Found, progress: Progress | None, deadline: float
    ) -> tuple[Segmentation, str, float]:
        """Run the fine model on the part that was found, and on the whole body where that is not enough.

        Returns:
            Labels, what was labeled (``organs`` or ``body``), and the seconds of a run on a part that turned
                out to be too small.

        Raises:
            _OutOfTimeError: It would end after the deadline, of ``time.perf_counter``.
        """
        done, lost_s = self._coarse.tiles, 0.0
        if found.part is not None:
            started = time.perf_counter()
            # It has no limit of its own: it takes less than the whole body, which the plan allowed.
            run = PlannedRun(self._model, self._engine, self._volume, part=found.part)
            segmentation = run._execute(_in_time(_counted(progress, done), deadline))
            if not run.cuts(segmentation.labels):
                return segmentation, "organs", lost_s
            done, lost_s = done + run.tiles, time.perf_counter() - started
        segmentation = super()._execute(_in_time(_counted(progress, done), deadline))
        return segmentation, "body", lost_s

    def _find(self, progress: Progress | None) -> _Found:
        """Run the coarse model."""
        labels = self._coarse.execute(progress=progress)
        grid, made_by = labels.grid, labels.provenance
        part = organ_box(grid.orientation.to_canonical(labels.labels), grid.canonical)
        found = "organs" if part else "nothing"
        if labels.verdict == "implausible":
            part, found = None, "implausible labels"
        record: dict[str, object] = {
            "found": found,
            "model": made_by.model,
            "model_version": made_by.model_version,
            "model_sha256": made_by.model_sha256,
            "artifact_sha256": made_by.artifact_sha256,
            "tiles": made_by.parameters["tiles"],
            "tiles_of_air": made_by.parameters["tiles_of_air"],
        }

        def named(warnings: Iterable[ScanWarning]) -> tuple[ScanWarning, ...]:
            """The warnings with the model to whose labels their numbers belong."""
            said = f"Labels of the coarse model {made_by.model}: "
            return tuple(replace(warning, message=said + warning.message) for warning in warnings)

        judged = labels.plausibility and replace(
            labels.plausibility, reasons=named(labels.plausibility.reasons)
        )
        doubts = named(warning for warning in labels.warnings if warning.code in OF_THE_VERDICT)
        kept = None if self._time_budget_s is None else labels
        return _Found(part, record, judged, doubts, kept)


def _counted(progress: Progress | None, before: int, after: int = 0) -> Progress:
    """Progress of one of several runs, with the tiles of those before and after it."""

    def count(done: int, tiles: int) -> None:
        if progress is not None:
            progress(before + done, before + tiles + after)

    return count


def _in_time(progress: Progress, deadline: float) -> Progress:
    """Progress that stops a run as soon as its tiles, at their pace so far, would end after the deadline.

    Raises:
        _OutOfTimeError: The deadline is over already.
    """
    started = time.perf_counter()
    if started > deadline:
        raise _OutOfTimeError

    def watch(done: int, tiles: int) -> None:
        now = time.perf_counter()
        if now + (now - started) / done * (tiles - done) > deadline:
            raise _OutOfTimeError
        progress(done, tiles)

    return watch

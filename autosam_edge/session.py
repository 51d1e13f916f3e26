"""Segmentation of a volume: labels on the volume's own grid, in bounded memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.bundle import Bundle, open_bundles
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import select_artifact
from autosam_edge.memory import MemoryBudget
from autosam_edge.pipeline.body_box import organ_box
from autosam_edge.pipeline.run import TileRun
from autosam_edge.warning_codes import OF_THE_VERDICT

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.bundle import Tier
    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import Model
    from autosam_edge.pipeline.body_box import Box
    from autosam_edge.pipeline.slab import FloatArray
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.verdict import Plausibility
    from autosam_edge.volume import Segmentation, Volume


class PlannedRun(TileRun):
    """The planned run of one volume on a session's engine; :meth:`Session.plan` makes it.

    Args:
        model: Input contract, labels and identity of the network.
        engine: Engine that computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of the engine and the limit, see :class:`~autosam_edge.pipeline.run.TileRun`, also for
            the attributes and errors.
        part: Part of the canonical scan to label, see there; None labels the whole body.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        volume: Volume,
        memory: MemoryBudget | None = None,
        part: Box | None = None,
    ) -> None:
        super().__init__(model, volume, memory, part)
        self._engine = engine

    @property
    def summary(self) -> str:
        """Tiles, voxels and memory of the run in one line."""
        shape = "x".join(map(str, self.model_shape))
        return f"{self.tiles} tiles on {shape} voxels, about {self.peak_mb:.0f} MB"

    def execute(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        on_rows: Callable[[FloatArray], None] | None = None,
    ) -> Segmentation:
        """Run the plan; possible once.

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
        steps = self.steps(self._engine.description, progress=progress, on_rows=on_rows)
        try:
            tile = next(steps)
            while True:
                tile = steps.send(self._engine.run(tile))
        except StopIteration as finished:
            segmentation: Segmentation = finished.value
            return segmentation


@dataclass(frozen=True)
class _Found:
    """What a coarse model found. It holds no labels: their memory is free before the fine model runs.

    Args:
        part: Part of the canonical scan to label; None for the whole body.
        record: What the provenance says of the coarse run.
        doubts: Warnings that belong to the verdict.
    """

    part: Box | None
    record: dict[str, object]
    plausibility: Plausibility | None
    doubts: tuple[ScanWarning, ...]


class CoarseToFineRun(PlannedRun):
    """The planned run of a model on the part of the scan where a coarse model found organs.

    It is planned, and its memory is predicted, for the whole body, which it falls back to: where the coarse
    model found nothing or its labels are implausible, and where an organ reaches a side of the part. A model
    without limits of plausibility gets the verdict of the coarse model.

    Args:
        model: Input contract, labels and identity of the network.
        engine: Engine that computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of both engines and the limit.
        coarse: Planned run of the coarse model on the same volume.
    """

    def __init__(
        self, model: Model, engine: Engine, volume: Volume, memory: MemoryBudget | None, coarse: PlannedRun
    ) -> None:
        super().__init__(model, engine, volume, memory)
        self._coarse = coarse
        self.peak_mb = max(self.peak_mb, coarse.peak_mb)

    @property
    def summary(self) -> str:
        """Tiles, voxels and memory of both runs in one line."""
        return f"{self._coarse.tiles} coarse tiles, then at most {super().summary}"

    def execute(
        self,
        *,
        progress: Callable[[int, int], None] | None = None,
        on_rows: Callable[[FloatArray], None] | None = None,
    ) -> Segmentation:
        """Find the organs with the coarse model, then label them; possible once.

        Args:
            progress: Function that is called with (tiles done, tiles in all) of both models after each tile.
                The tiles in all are those for the whole body until the organs are found, and fewer then.
            on_rows: As for :meth:`PlannedRun.execute`. It asks for the probabilities in ``box``, so that the
                coarse model is not used.

        Returns:
            Labels on the volume's own grid.

        Raises:
            RuntimeError: The run was started before.
            EngineError: An engine failed or gave values that are not finite.
        """
        if on_rows is not None:
            return super().execute(progress=progress, on_rows=on_rows)
        started, done = time.perf_counter(), self._coarse.tiles
        found = self._find(_counted(progress, 0, self.tiles))
        segmentation, found_s = None, time.perf_counter() - started
        if found.part is not None:
            # It has no limit of its own: it takes less than the whole body, which the plan allowed.
            run = PlannedRun(self._model, self._engine, self._volume, part=found.part)
            segmentation = run.execute(progress=_counted(progress, done))
            if run.cuts(segmentation.labels):
                segmentation, found_s = None, time.perf_counter() - started
                done += run.tiles
        region = "organs" if segmentation else "body"
        if segmentation is None:
            segmentation = super().execute(progress=_counted(progress, done))
        made_by = segmentation.provenance
        parameters = {**made_by.parameters, "region": region, "coarse": found.record}
        if segmentation.plausibility is None:
            warnings = (*segmentation.warnings, *found.doubts)
            segmentation = replace(segmentation, plausibility=found.plausibility, warnings=warnings)
        return replace(
            segmentation,
            provenance=replace(made_by, parameters=parameters),
            timings_s={"find_organs": found_s, **segmentation.timings_s},
        )

    def _find(self, progress: Callable[[int, int], None] | None) -> _Found:
        """Run the coarse model."""
        labels = self._coarse.execute(progress=progress)
        orientation, made_by = labels.grid.orientation, labels.provenance
        part = organ_box(orientation.to_canonical(labels.labels), orientation.canonical_grid(labels.grid))
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
        doubts = tuple(warning for warning in labels.warnings if warning.code in OF_THE_VERDICT)
        return _Found(part, record, labels.plausibility, doubts)


def _counted(
    progress: Callable[[int, int], None] | None, before: int, after: int = 0
) -> Callable[[int, int], None] | None:
    """Progress of one of several runs, with the tiles of those before and after it."""
    if progress is None:
        return None
    return lambda done, tiles: progress(before + done, before + tiles + after)


class Session:
    """A model and an engine that runs it; :func:`open_session` makes one from a bundle.

    Args:
        model: Input contract, labels and identity of the network, such as
            :attr:`autosam_edge.bundle.Bundle.model`.
        engine: Engine that computes the logits of one tile.
        memory: Memory of the engine and the limit; None counts nothing for the engine and sets no limit.
        coarse: Session of a faster model that finds the organs first, so that this one labels only the part
            of the scan around them; None labels the whole body.
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        *,
        memory: MemoryBudget | None = None,
        coarse: Session | None = None,
    ) -> None:
        self.model = model
        self.engine = engine
        self._memory = memory or MemoryBudget(None)
        self._coarse = coarse

    def plan(self, volume: Volume) -> PlannedRun:
        """Lay out the tiles and predict the memory.

        Args:
            volume: CT in HU, any orientation and spacing.

        Returns:
            A run that knows its ``tiles``, ``model_shape``, ``box`` and ``peak_mb``, and executes once.

        Raises:
            BudgetError: The limit is smaller than the prediction (AE-MEMORY-001); the message names the
                smallest limit that works.
        """
        if self._coarse is None:
            return PlannedRun(self.model, self.engine, volume, self._memory)
        coarse, memory = self._coarse, self._memory.beside(self._coarse._memory)
        # One part of each organ: pieces far away, which are wrong names, would make the box larger.
        finder = replace(coarse.model, one_part=tuple(label.name for label in coarse.model.labels))
        coarse_run = PlannedRun(finder, coarse.engine, volume, coarse._memory)
        return CoarseToFineRun(self.model, self.engine, volume, memory, coarse_run)

    def segment(self, volume: Volume, *, progress: Callable[[int, int], None] | None = None) -> Segmentation:
        """Label every voxel of a volume: :meth:`plan`, then :meth:`PlannedRun.execute`.

        Args:
            volume: CT in HU, any orientation and spacing.
            progress: Function that is called with (tiles done, tiles in all) after each tile. An exception
                that it raises stops the run; nothing is left behind.

        Returns:
            Labels on the volume's own grid.

        Raises:
            BudgetError: See :meth:`plan`.
            EngineError: The engine failed or gave values that are not finite.
        """
        return self.plan(volume).execute(progress=progress)


def open_session(
    bundle: str | Path | Bundle | None = None,
    *,
    tier: Tier | None = None,
    engine: str | Engine | None = None,
    precision: str | None = None,
    threads: int | None = None,
    max_memory_mb: float | None = None,
    require_signature: str | Path | None = None,
) -> Session:
    """Open a bundle and load its model into an engine.

    Args:
        bundle: Path of a folder or ``.edge`` file, an opened bundle, or None for a bundle of the package.
        tier: Tier of the package: ``fast``, or ``standard``, which labels the organs that ``fast`` finds;
            None takes the most accurate one that is installed.
        engine: ``onnx``, ``openvino``, ``executorch`` or ``coreml``, your own
            :class:`~autosam_edge.engines.engine.Engine`, which runs one model and labels the whole body, or
            None for the best engine of this device (see
            :func:`~autosam_edge.engines.selection.rank_artifacts`).
        precision: Number format of the artifact; None selects the best.
        threads: Number of threads of the engine; None uses every core.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.
        require_signature: PEM file of an Ed25519 public key whose owner must have signed the bundle; None
            asks for no signature.

    Raises:
        BundleError: The bundle is missing, altered, not valid, lacks the artifact, or is not signed with the
            key; a bundle and a tier were given (AE-BUNDLE-010), or the tier is not installed (AE-BUNDLE-011).
        MissingExtraError: A signature is required, and the extra ``[sign]`` is not installed (AE-EXTRA-001).
        BudgetError: A limit is given, but the memory of the artifact, or of your own engine, is not known
            (AE-MEMORY-002).
        EngineError: The engine is not known (AE-ENGINE-001), not installed (AE-ENGINE-006) or does not load.

    Example:
        >>> import autosam_edge
        >>> session = autosam_edge.open_session()  # doctest: +SKIP
        >>> segmentation = session.segment(autosam_edge.read("scan/"))  # doctest: +SKIP
    """
    opened, coarse = open_bundles(bundle, tier)
    if require_signature is not None:
        for held in (opened, coarse) if coarse else (opened,):
            held.require_signature(Path(require_signature))
    if engine is not None and not isinstance(engine, str):
        return Session(opened.model, engine, memory=MemoryBudget(None, max_memory_mb))

    def load(held: Bundle, finder: Session | None = None) -> Session:
        artifact = select_artifact(held, engine, precision)
        memory = MemoryBudget(artifact.working_set_mb and held.working_set_mb(artifact), max_memory_mb)
        return Session(held.model, load_engine(held, artifact, threads), memory=memory, coarse=finder)

    return load(opened, load(coarse) if coarse else None)

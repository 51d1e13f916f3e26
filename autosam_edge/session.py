"""The main job: a volume in, labels on its own grid out, in bounded memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.engines.selection import load_engine, select_artifact
from autosam_edge.memory import MemoryBudget
from autosam_edge.pipeline.run import TileRun

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import Model
    from autosam_edge.volume import Segmentation, Volume


class PlannedRun(TileRun):
    """One volume, laid out for a session's engine; :meth:`Session.plan` makes it.

    Args:
        model: What the network takes and what its outputs mean.
        engine: Computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: See :class:`~autosam_edge.pipeline.run.TileRun`, also for the attributes and errors.
    """

    def __init__(
        self, model: Model, engine: Engine, volume: Volume, memory: MemoryBudget | None = None
    ) -> None:
        super().__init__(model, volume, memory)
        self._engine = engine

    def execute(self, *, progress: Callable[[int, int], None] | None = None) -> Segmentation:
        """Run it, once.

        Args:
            progress: Called with (tiles done, tiles in all) after each tile. What it raises stops the run;
                nothing is left behind.

        Returns:
            Labels on the volume's own grid.

        Raises:
            RuntimeError: The run was started before.
            EngineError: The engine failed or gave values that are not finite.
        """
        steps = self.steps(self._engine.description, progress=progress)
        try:
            tile = next(steps)
            while True:
                tile = steps.send(self._engine.run(tile))
        except StopIteration as finished:
            segmentation: Segmentation = finished.value
            return segmentation


class Session:
    """A model and an engine that runs it; :func:`open_session` makes one from a bundle.

    Args:
        model: What the network takes and what its outputs mean, such as
            :attr:`autosam_edge.bundle.Bundle.model`.
        engine: Computes the logits of one tile.
        memory: Memory of the engine and the limit; None counts nothing for the engine and sets no limit.
    """

    def __init__(self, model: Model, engine: Engine, *, memory: MemoryBudget | None = None) -> None:
        self.model = model
        self.engine = engine
        self._memory = memory

    def plan(self, volume: Volume) -> PlannedRun:
        """Lay out the tiles and predict the memory.

        Args:
            volume: CT in HU, any orientation and spacing.

        Returns:
            A run that knows its ``tiles``, ``model_shape``, ``box`` and ``peak_mb``, and executes once.

        Raises:
            BudgetError: The budget is smaller than the prediction (AE-MEMORY-001); the message names the
                smallest that works.
        """
        return PlannedRun(self.model, self.engine, volume, self._memory)

    def segment(self, volume: Volume, *, progress: Callable[[int, int], None] | None = None) -> Segmentation:
        """Label every voxel of a volume: :meth:`plan`, then :meth:`PlannedRun.execute`.

        Args:
            volume: CT in HU, any orientation and spacing.
            progress: Called with (tiles done, tiles in all) after each tile. What it raises stops the run;
                nothing is left behind.

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
    engine: str | Engine | None = None,
    precision: str | None = None,
    threads: int | None = None,
    max_memory_mb: float | None = None,
) -> Session:
    """Open a bundle and make its engine ready.

    Args:
        bundle: Path of a folder or ``.edge`` file, an opened bundle, or None for the one that travels with
            the package.
        engine: ``onnx``, ``openvino``, ``executorch`` or ``coreml``, an
            :class:`~autosam_edge.engines.engine.Engine` of your own, or None for the best that this device
            has (:func:`~autosam_edge.engines.selection.rank_artifacts`).
        precision: Of the artifact; None takes the best.
        threads: For the engine; None uses every core.
        max_memory_mb: Budget for the resident memory of the process, MB.

    Raises:
        BundleError: The bundle is missing, altered or lacks the artifact.
        BudgetError: A budget for an artifact, or an engine of your own, whose memory is not known
            (AE-MEMORY-002).
        EngineError: The engine is not known (AE-ENGINE-001), not installed (AE-ENGINE-006) or does not load.

    Example:
        >>> import autosam_edge
        >>> session = autosam_edge.open_session()  # doctest: +SKIP
        >>> segmentation = session.segment(autosam_edge.read("scan/"))  # doctest: +SKIP
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if engine is not None and not isinstance(engine, str):
        return Session(opened.model, engine, memory=MemoryBudget(None, max_memory_mb))
    artifact = select_artifact(opened, engine, precision)
    memory = MemoryBudget(artifact.working_set_mb, max_memory_mb)
    return Session(opened.model, load_engine(opened, artifact, threads), memory=memory)

"""Segmentation of a volume: labels on the volume's own grid, in bounded memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import select_artifact
from autosam_edge.memory import MemoryBudget
from autosam_edge.pipeline.run import TileRun

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import Model
    from autosam_edge.pipeline.slab import FloatArray
    from autosam_edge.volume import Segmentation, Volume


class PlannedRun(TileRun):
    """The planned run of one volume on a session's engine; :meth:`Session.plan` makes it.

    Args:
        model: Input contract, labels and identity of the network.
        engine: Engine that computes the logits of one tile.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of the engine and the limit, see :class:`~autosam_edge.pipeline.run.TileRun`, also for
            the attributes and errors.
    """

    def __init__(
        self, model: Model, engine: Engine, volume: Volume, memory: MemoryBudget | None = None
    ) -> None:
        super().__init__(model, volume, memory)
        self._engine = engine

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


class Session:
    """A model and an engine that runs it; :func:`open_session` makes one from a bundle.

    Args:
        model: Input contract, labels and identity of the network, such as
            :attr:`autosam_edge.bundle.Bundle.model`.
        engine: Engine that computes the logits of one tile.
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
            BudgetError: The limit is smaller than the prediction (AE-MEMORY-001); the message names the
                smallest limit that works.
        """
        return PlannedRun(self.model, self.engine, volume, self._memory)

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
    engine: str | Engine | None = None,
    precision: str | None = None,
    threads: int | None = None,
    max_memory_mb: float | None = None,
    require_signature: str | Path | None = None,
) -> Session:
    """Open a bundle and load its model into an engine.

    Args:
        bundle: Path of a folder or ``.edge`` file, an opened bundle, or None for the bundle of the package.
        engine: ``onnx``, ``openvino``, ``executorch`` or ``coreml``, your own
            :class:`~autosam_edge.engines.engine.Engine`, or None for the best engine of this device (see
            :func:`~autosam_edge.engines.selection.rank_artifacts`).
        precision: Number format of the artifact; None selects the best.
        threads: Number of threads of the engine; None uses every core.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.
        require_signature: PEM file of an Ed25519 public key whose owner must have signed the bundle; None
            asks for no signature.

    Raises:
        BundleError: The bundle is missing, altered, not valid, lacks the artifact, or is not signed with the
            key.
        MissingExtraError: A signature is required, and the extra ``[sign]`` is not installed (AE-EXTRA-001).
        BudgetError: A limit is given, but the memory of the artifact, or of your own engine, is not known
            (AE-MEMORY-002).
        EngineError: The engine is not known (AE-ENGINE-001), not installed (AE-ENGINE-006) or does not load.

    Example:
        >>> import autosam_edge
        >>> session = autosam_edge.open_session()  # doctest: +SKIP
        >>> segmentation = session.segment(autosam_edge.read("scan/"))  # doctest: +SKIP
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if require_signature is not None:
        opened.require_signature(Path(require_signature))
    if engine is not None and not isinstance(engine, str):
        return Session(opened.model, engine, memory=MemoryBudget(None, max_memory_mb))
    artifact = select_artifact(opened, engine, precision)
    memory = MemoryBudget(artifact.working_set_mb and opened.working_set_mb(artifact), max_memory_mb)
    return Session(opened.model, load_engine(opened, artifact, threads), memory=memory)

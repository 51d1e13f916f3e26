"""Segmentation of a volume: labels on the volume's own grid, in bounded memory."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.bundle import Bundle, open_bundles
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import select_artifact
from autosam_edge.error_codes import TIME_BUDGET_ALONE
from autosam_edge.planned_run import CoarseToFineRun, PlannedRun
from autosam_edge.system.memory import MemoryBudget, require_above_0
from autosam_edge.volume import require_volume

if TYPE_CHECKING:
    from autosam_edge.bundle import Tier
    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import Model
    from autosam_edge.pipeline.run import Progress
    from autosam_edge.volume import Segmentation, Volume


class Session:
    """A model and an engine that runs it; :func:`open_session` makes one from a bundle.

    Several threads may share a session; its runs follow one another.

    Args:
        model: Input contract, labels and identity of the network, such as
            :attr:`autosam_edge.bundle.Bundle.model`.
        engine: Engine that computes the logits of one tile.
        memory: Memory of the engine and the limit; None counts nothing for the engine and sets no limit.
        coarse: Session of a faster model that finds the organs first, so that this one labels only the part
            of the scan around them; None labels the whole body.
        time_budget_s: Seconds for the labels of one volume, from the start of the run. If this model would
            take longer, its run is stopped, and the labels are those of ``coarse``, with a warning. None sets
            no limit. It needs ``coarse``.

    Raises:
        ValueError: The time budget is not a number above 0, or infinite.
        BundleError: A time budget without a coarse model (AE-BUNDLE-012).
    """

    def __init__(
        self,
        model: Model,
        engine: Engine,
        *,
        memory: MemoryBudget | None = None,
        coarse: Session | None = None,
        time_budget_s: float | None = None,
    ) -> None:
        if time_budget_s is not None:
            require_above_0("time_budget_s", time_budget_s, "seconds")
            if coarse is None:
                raise TIME_BUDGET_ALONE(f"a time budget was given, but the model {model.name} runs alone.")
        self.model = model
        self.engine = engine
        self._memory = memory or MemoryBudget(None)
        self._coarse = coarse
        self._time_budget_s = time_budget_s
        self._lock = threading.RLock()  # a function that watches the progress may start a run of its own

    def plan(self, volume: Volume) -> PlannedRun:
        """Lay out the tiles and predict the memory.

        Args:
            volume: CT in HU, any orientation and spacing.

        Returns:
            A run that knows its ``tiles``, ``model_shape``, ``box`` and ``peak_mb``, and executes once.

        Raises:
            BudgetError: The limit is smaller than the prediction (AE-MEMORY-001); the message names the
                smallest limit that works.
            InputError: The volume was made in Python, and no CT has its grid (AE-INPUT-015).
            TypeError: The scan is something else than a volume.
        """
        require_volume(volume)
        if self._coarse is None:
            return PlannedRun(self.model, self.engine, volume, self._memory, lock=self._lock)
        memory = self._memory.beside(self._coarse._memory)
        if self._time_budget_s is not None:  # the coarse labels are kept, one byte a voxel
            memory = memory.beside(MemoryBudget(volume.hu.size / 2**20))
        coarse = self._coarse.plan(volume)
        budget_s = self._time_budget_s
        return CoarseToFineRun(self.model, self.engine, volume, memory, coarse, budget_s, self._lock)

    def segment(self, volume: Volume, *, progress: Progress | None = None) -> Segmentation:
        """Label every voxel of a volume: :meth:`plan`, then :meth:`PlannedRun.execute`.

        Args:
            volume: CT in HU, any orientation and spacing.
            progress: Function that is called with (tiles done, tiles in all) after each tile. An exception
                that it raises stops the run; nothing is left behind.

        Returns:
            Labels on the volume's own grid.

        Raises:
            BudgetError, InputError, TypeError: See :meth:`plan`.
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
    time_budget_s: float | None = None,
) -> Session:
    """Open a bundle and load its model into an engine.

    Args:
        bundle: Path of a folder or ``.edge`` file, an opened bundle, or None for a bundle of the package.
        tier: Tier of the package: ``fast``, or ``standard``, which labels the organs that ``fast`` finds;
            None takes ``fast``.
        engine: ``onnx``, ``onnx-2d``, ``openvino``, ``executorch``, ``coreml``, ``coreml-2d`` or
            ``coreml-ios18``, your own :class:`~autosam_edge.engines.engine.Engine`, which runs one model and
            labels the whole body, or None for the best engine of this device (see
            :func:`~autosam_edge.engines.selection.rank_artifacts`).
        precision: Number format of the artifact; None selects the best.
        threads: Number of threads of the engine; None uses every core.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.
        require_signature: PEM file of an Ed25519 public key whose owner must have signed the bundle; None
            asks for no signature.
        time_budget_s: Seconds for the labels of one volume, without reading and writing. Where the tier
            ``standard`` would take longer, the labels are those of ``fast``, with a warning. Without ``tier``
            it takes ``standard``. None sets no limit.

    Raises:
        BundleError: The bundle is missing, altered, not valid, lacks the artifact, or is not signed with the
            key; a bundle and a tier were given (AE-BUNDLE-010), or the tier is not installed (AE-BUNDLE-011);
            a time budget was given for a model that runs alone (AE-BUNDLE-012).
        MissingExtraError: A signature is required, and the extra ``[sign]`` is not installed (AE-EXTRA-001).
        BudgetError: A limit is given, but the memory of the artifact, or of your own engine, is not known
            (AE-MEMORY-002).
        EngineError: The engine is not known (AE-ENGINE-001), not installed (AE-ENGINE-006) or does not load.

    Example:
        >>> import autosam_edge
        >>> session = autosam_edge.open_session()  # doctest: +SKIP
        >>> segmentation = session.segment(autosam_edge.read("scan/"))  # doctest: +SKIP
    """
    if time_budget_s is not None and bundle is None and tier is None:
        tier = "standard"
    opened, coarse = open_bundles(bundle, tier)
    if require_signature is not None:
        for held in (opened, coarse) if coarse else (opened,):
            held.require_signature(Path(require_signature))
    if engine is not None and not isinstance(engine, str):
        memory = MemoryBudget(None, max_memory_mb)
        return Session(opened.model, engine, memory=memory, time_budget_s=time_budget_s)

    def load(held: Bundle, finder: Session | None = None, budget_s: float | None = None) -> Session:
        artifact = select_artifact(held, engine, precision)
        memory = MemoryBudget(artifact.working_set_mb and held.working_set_mb(artifact), max_memory_mb)
        loaded = load_engine(held, artifact, threads)
        return Session(held.model, loaded, memory=memory, coarse=finder, time_budget_s=budget_s)

    return load(opened, load(coarse) if coarse else None, time_budget_s)

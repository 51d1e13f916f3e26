"""The main job: a volume in, labels on its own grid out, in bounded memory."""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge import __version__
from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.engines.choose import choose, load_engine
from autosam_edge.errors import BudgetError, EngineError
from autosam_edge.fragments import FragmentFilter, Removed
from autosam_edge.geometry import Orientation
from autosam_edge.memory import resident_mb
from autosam_edge.postprocess import Restorer, axis_maps
from autosam_edge.preprocess import Resampler, body_box
from autosam_edge.tiling import TilePlan, gaussian_weights
from autosam_edge.volume import RESEARCH_USE, Segmentation, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.engines.engine import Engine

_MB = 1024.0 * 1024.0
# Finished rows are normalized in small blocks, so that they are never held twice.
_ROWS_AT_ONCE = 8
# Python objects, BLAS buffers and allocator slack beyond the arrays that the plan counts; seen in benchmarks/results/memory.json.
_SLACK_MB = 60.0


@dataclass(frozen=True)
class Plan:
    """What a run will do and take, known before it starts.

    Args:
        tiles: Tiles to run; those that hold only air are skipped, so fewer may run.
        model_shape: The scan on the model's grid (D, H, W).
        box: The part of it that holds the body.
        peak_mb: Predicted peak resident memory of the process, MB.
    """

    tiles: int
    model_shape: tuple[int, int, int]
    box: tuple[slice, slice, slice]
    peak_mb: float


class Session:
    """A model made ready to run; use :func:`open_session`.

    Args:
        bundle: The opened bundle.
        engine: Runs one tile.
        working_set_mb: What the engine takes for one tile, MB; None if nobody measured it, and then there can be no budget.
        max_memory_mb: Budget for the resident memory of the process, MB, or None.

    Raises:
        BudgetError: There is a budget, but what the engine takes is not known (AE-MEMORY-002).
    """

    def __init__(self, bundle: Bundle, engine: Engine, *, working_set_mb: float | None, max_memory_mb: float | None = None) -> None:
        self.bundle = bundle
        self.engine = engine
        if working_set_mb is None and max_memory_mb is not None:
            raise BudgetError(
                "AE-MEMORY-002",
                "the memory of this artifact was not measured at export, so no budget can be promised.",
                remedy="Leave --max-memory out, or choose another artifact with --engine and --precision.",
            )
        self._working_set_mb = working_set_mb or 0.0
        self._max_memory_mb = max_memory_mb

    def plan(self, volume: Volume) -> Plan:
        """Lay out the tiles and predict the memory.

        Raises:
            BudgetError: The budget is smaller than the prediction (AE-MEMORY-001); the message names the smallest that works.
        """
        return _Run(self, volume).plan

    def segment(self, volume: Volume, *, progress: Callable[[int, int], None] | None = None) -> Segmentation:
        """Label every voxel of a volume.

        Args:
            volume: CT in HU, any orientation and spacing.
            progress: Called with (tiles done, tiles in all) after each tile. What it raises stops the run; nothing is left behind.

        Returns:
            Labels on the volume's own grid.

        Raises:
            BudgetError: See :meth:`plan`.
            EngineError: The engine failed or gave values that are not finite.
        """
        return _Run(self, volume).execute(progress)


class _Run:
    """One volume through the network. Holds the slab; never classes x volume."""

    def __init__(self, session: Session, volume: Volume) -> None:
        self.session, self.volume = session, volume
        self.contract = session.bundle.manifest.input
        self.classes = len(session.bundle.manifest.labels) + 1
        self.timings_s: dict[str, float] = {"resample": 0.0, "network": 0.0, "blend": 0.0, "restore": 0.0, "fragments": 0.0}
        self.orientation = Orientation.of(volume.grid)
        self.hu = self.orientation.to_canonical(volume.hu)
        grid = self.orientation.canonical_grid(volume.grid)
        self.resampler = Resampler(grid, self.contract.spacing_mm, self.contract.window_hu)
        with self._timed("resample"):
            self.box = body_box(self.hu, self.resampler)
        d, h, w = (part.stop - part.start for part in self.box)
        self.tiles = TilePlan((d, h, w), self.contract.patch, self.contract.overlap)
        self.plan = Plan(self.tiles.tiles, self.resampler.shape, self.box, self._peak_mb())
        budget = session._max_memory_mb
        if budget is not None and self.plan.peak_mb > budget:
            raise BudgetError(
                "AE-MEMORY-001",
                f"this scan needs about {math.ceil(self.plan.peak_mb)} MB, the budget is {math.floor(budget)} MB.",
                remedy=f"Give --max-memory {math.ceil(self.plan.peak_mb)} or more, or a bundle with a smaller patch.",
            )

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.timings_s[stage] += time.perf_counter() - started

    def _peak_mb(self) -> float:
        """What is resident now (the input among it) plus what the run will allocate at once."""
        patch_depth = self.contract.patch[0]
        _, height, width = self.tiles.padded
        plane = height * width * 4
        slab = (self.classes + 3) * patch_depth * plane  # probabilities, weights, image, and the image of the next row
        slab += 2 * _ROWS_AT_ONCE * self.classes * plane  # finished rows on their way to the output
        slab += self.classes * math.prod(self.contract.patch) * 4  # logits of the tile in flight
        output = self.volume.hu.size
        return resident_mb() + (slab + output) / _MB + self.session._working_set_mb + _SLACK_MB

    def execute(self, progress: Callable[[int, int], None] | None) -> Segmentation:
        labels = np.zeros(self.volume.shape, dtype=np.uint8)
        canonical_labels = self.orientation.to_canonical(labels)
        maps = axis_maps(self.resampler.positions, canonical_labels.shape, self.box)
        restorer = Restorer(maps, canonical_labels)
        fragments = FragmentFilter(self.tiles.shape, self._one_part())
        patch_depth, starts_d = self.tiles.patch[0], self.tiles.starts[0]
        _, height, width = self.tiles.padded
        self.slab = np.zeros((patch_depth, self.classes, height, width), dtype=np.float32)
        self.weight = np.zeros((patch_depth, height, width), dtype=np.float32)
        self.image = self._image(starts_d[0], starts_d[0] + patch_depth)
        self.kernel = gaussian_weights(self.tiles.patch)
        self.done = self.skipped = 0
        for row, start in enumerate(starts_d):
            self._run_row(progress)
            following = starts_d[row + 1] if row + 1 < len(starts_d) else start + patch_depth
            self._finish(start, following - start, (restorer, fragments))
        del self.slab, self.weight, self.image
        with self._timed("fragments"):
            removed = fragments.clean(canonical_labels, maps)
        return Segmentation(
            labels,
            self.volume.grid,
            self.session.bundle.manifest.labels,
            provenance=self._provenance(),
            timings_s=self.timings_s,
            warnings=(*self.volume.warnings, *self._describe(removed)),
        )

    def _image(self, start: int, stop: int) -> npt.NDArray[np.float32]:
        """Rows ``[start, stop)`` of the padded box, HU; air where the padding is."""
        low = self.contract.window_hu[0]
        before, sizes = self.tiles.pad_before, self.tiles.shape
        image = np.full((stop - start, *self.tiles.padded[1:]), low, dtype=np.float32)
        first, last = max(start - before[0], 0), min(stop - before[0], sizes[0])
        if last > first:
            with self._timed("resample"):
                rows = self.resampler.rows(self.hu, self.box[0].start + first, self.box[0].start + last, plane=self.box[1:])
            inside = (
                slice(first + before[0] - start, last + before[0] - start),
                *(slice(b, b + s) for b, s in zip(before[1:], sizes[1:], strict=True)),
            )
            image[inside] = rows
        return image

    def _run_row(self, progress: Callable[[int, int], None] | None) -> None:
        """All tiles that start at the slab's first row."""
        _, patch_h, patch_w = self.tiles.patch
        low = self.contract.window_hu[0]
        for h in self.tiles.starts[1]:
            for w in self.tiles.starts[2]:
                window = (slice(None), slice(h, h + patch_h), slice(w, w + patch_w))
                tile = np.ascontiguousarray(self.image[window])
                if _holds_only_air(tile, low):
                    self._add_air(window)
                else:
                    with self._timed("network"):
                        logits = self.session.engine.run(tile)
                    with self._timed("blend"):
                        self._add(logits, window)
                self.done += 1
                if progress is not None:
                    progress(self.done, self.tiles.tiles)

    def _add(self, logits: npt.NDArray[np.float32], window: tuple[slice, slice, slice]) -> None:
        """Softmax, weigh and add a tile, plane by plane so that the work stays in the cache."""
        if logits.shape != (self.classes, *self.tiles.patch):
            raise EngineError(
                "AE-ENGINE-003",
                f"the engine returned shape {logits.shape}, expected {(self.classes, *self.tiles.patch)}.",
                remedy="Use a bundle whose manifest describes its model.",
            )
        _, rows, columns = window
        self.weight[window] += self.kernel
        for depth in range(self.tiles.patch[0]):
            plane = logits[:, depth]
            probability = np.exp(plane - plane.max(axis=0))
            total = probability.sum(axis=0)
            if not np.isfinite(total).all():
                raise EngineError(
                    "AE-ENGINE-005",
                    "the network gave values that are not finite.",
                    remedy="Use the fp32 artifact, or export the bundle again.",
                )
            probability *= self.kernel[depth] / total
            self.slab[depth, :, rows, columns] += probability

    def _add_air(self, window: tuple[slice, slice, slice]) -> None:
        """A tile of nothing but air is background; the network is not asked."""
        self.skipped += 1
        self.weight[window] += self.kernel
        self.slab[:, 0, window[1], window[2]] += self.kernel

    def _finish(self, start: int, count: int, takers: tuple[Restorer, FragmentFilter]) -> None:
        """Hand over the slab's first ``count`` rows, which no later tile touches, and roll the slab on."""
        before, sizes = self.tiles.pad_before, self.tiles.shape
        with self._timed("restore"):
            first, last = max(before[0] - start, 0), min(before[0] + sizes[0] - start, count)
            inner = tuple(slice(b, b + s) for b, s in zip(before[1:], sizes[1:], strict=True))
            for block in range(first, last, _ROWS_AT_ONCE):
                part = slice(block, min(block + _ROWS_AT_ONCE, last))
                rows = self.slab[(part, slice(None), *inner)] / self.weight[(part, *inner)][:, None]
                for taker in takers:
                    taker.push(rows)
        depth = len(self.slab)
        for array in (self.slab, self.weight):
            for row in range(depth - count):  # row by row: NumPy copies all of an overlapping move first
                array[row] = array[row + count]
            array[depth - count :] = 0
        end = start + count + depth
        if end <= self.tiles.padded[0]:
            fresh = self._image(end - count, end)
            self.image = np.concatenate([self.image[count:], fresh])

    def _one_part(self) -> frozenset[int]:
        manifest = self.session.bundle.manifest
        return frozenset(label.value for label in manifest.labels if label.name in manifest.postprocess.one_part)

    def _describe(self, removed: list[Removed]) -> tuple[str, ...]:
        """One sentence on what the one-part rule took away; parts of less than a tenth of a milliliter are not worth one."""
        titles = {label.value: label.title for label in self.session.bundle.manifest.labels}
        ml = {titles[entry.value]: entry.voxels * self.volume.grid.voxel_ml for entry in removed}
        told = [f"{title} {amount:.1f} ml" for title, amount in sorted(ml.items(), key=lambda item: -item[1]) if amount >= 0.1]
        return (f"Removed, as it lay apart from the surest part of its organ: {', '.join(told)}.",) if told else ()

    def _provenance(self) -> dict[str, Any]:
        manifest = self.session.bundle.manifest
        engine = self.session.engine.description
        return {
            "software": "autosam-edge",
            "version": __version__,
            "model": manifest.name,
            "model_version": manifest.version,
            "model_sha256": self.session.bundle.manifest_sha256,
            "artifact_sha256": engine["sha256"],
            "engine": engine["name"],
            "engine_version": engine["version"],
            "precision": engine["precision"],
            "threads": engine["threads"],
            "parameters": {
                "spacing_mm": list(self.contract.spacing_mm),
                "patch": list(self.contract.patch),
                "overlap": self.contract.overlap,
                "tiles": self.tiles.tiles,
                "tiles_of_air": self.skipped,
            },
            "input_hash": self.volume.source.series_hash,
            "license": manifest.license,
            "research_use": RESEARCH_USE,
        }


def _holds_only_air(tile: npt.NDArray[np.float32], low_hu: float) -> bool:
    """Whether every voxel lies at the window's lower end: the network would see a constant."""
    return bool(tile.max() <= low_hu)


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
        bundle: Path of a folder or ``.edge`` file, an opened bundle, or None for the one that travels with the package.
        engine: ``onnx``, ``openvino``, ``executorch`` or ``coreml``, an :class:`~autosam_edge.engines.engine.Engine` of your own, or None
            for the best that this device has (:func:`~autosam_edge.engines.choose.rank_artifacts`).
        precision: Of the artifact; None takes the best.
        threads: For the engine; None uses every core.
        max_memory_mb: Budget for the resident memory of the process, MB.

    Raises:
        BundleError: The bundle is missing, altered or lacks the artifact.
        BudgetError: A budget for an artifact, or an engine of your own, whose memory is not known (AE-MEMORY-002).
        EngineError: The engine is not known (AE-ENGINE-001), not installed (AE-ENGINE-006) or does not load.

    Example:
        >>> import autosam_edge
        >>> session = autosam_edge.open_session()  # doctest: +SKIP
        >>> segmentation = session.segment(autosam_edge.read("scan/"))  # doctest: +SKIP
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    if engine is not None and not isinstance(engine, str):
        return Session(opened, engine, working_set_mb=None, max_memory_mb=max_memory_mb)
    artifact = choose(opened, engine, precision)
    ready = load_engine(opened, artifact, threads)
    return Session(opened, ready, working_set_mb=artifact.working_set_mb, max_memory_mb=max_memory_mb)

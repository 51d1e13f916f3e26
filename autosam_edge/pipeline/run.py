"""The run of one volume: plan the tiles, ask for the logits of each, blend, restore the input grid."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import array_warnings, short_warnings
from autosam_edge.pipeline.body_box import body_box, box_on_model_grid, common, organs_reach, with_free_room
from autosam_edge.pipeline.decision import DecisionWeights
from autosam_edge.pipeline.one_part import OnePartFilter, removal_warnings
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.pipeline.restore import Restorer, axis_maps
from autosam_edge.pipeline.slab import ROWS_AT_ONCE, Slab
from autosam_edge.pipeline.tiles import TilePlan
from autosam_edge.plausibility.check import RunCheck
from autosam_edge.system.clock import timed
from autosam_edge.system.memory import MemoryBudget, resident_mb
from autosam_edge.system.thread_team import ThreadTeam
from autosam_edge.version import __version__
from autosam_edge.volume import Provenance, Segmentation, Volume
from autosam_edge.warning_codes import NO_BODY

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    import numpy.typing as npt

    from autosam_edge.geometry import Box, FloatArray
    from autosam_edge.model import Model
    from autosam_edge.scan_warning import ScanWarning

    Progress = Callable[[int, int], None]
    OnRows = Callable[[FloatArray], None]
    Steps = Generator[FloatArray, FloatArray, Segmentation]

_MB = 1024.0 * 1024.0
# Python objects and allocator slack beyond the arrays that the prediction counts, as measured by `bench`.
_SLACK_MB = 60.0
# Resampling turns -125 HU into -124.99998.
_AIR_ROUNDING_HU = 0.5


class TileRun:
    """The planned run of one volume, tile by tile; it runs once, on any engine.

    Orientation, resampler and body box are found here and used by the run.

    Args:
        model: Input contract, labels and identity of the network.
        volume: CT in HU, any orientation and spacing.
        memory: Memory of the engine and the limit; None counts nothing for the engine and sets no limit.
        part: Slices (D, H, W) of the canonical scan; outside of them all is background, but the network sees
            what lies around them. None labels the whole body.
        threads: Number of threads for what is not the network; the labels do not depend on it.

    Attributes:
        tiles: Number of tiles; those that hold only air are not computed.
        model_shape: Shape (D, H, W) of the scan on the model's grid.
        box: Part of it that is labeled: that of the body, and of ``part``.
        arrays_mb: Predicted memory of the arrays of the run, MB.
        peak_mb: Predicted peak resident memory of the process, MB: these arrays, the engine, and what the
            process holds now, with the input.

    Raises:
        BudgetError: The limit is smaller than the prediction (AE-MEMORY-001); the message names the smallest
            that works.
        InputError: The volume was made in Python, and no CT has its grid (AE-INPUT-015).
    """

    def __init__(
        self,
        model: Model,
        volume: Volume,
        memory: MemoryBudget | None = None,
        part: Box | None = None,
        *,
        threads: int = 1,
    ) -> None:
        self._model, self._volume = model, volume
        self._warnings = dict.fromkeys(
            (*volume.warnings, *array_warnings(volume), *short_warnings(volume.grid))
        )
        self._team = ThreadTeam(threads)
        self._timings_s = dict.fromkeys(
            ("resample", "network", "blend", "restore", "one_part", "plausibility"), 0.0
        )
        self._resampler = Resampler.of_scan(volume.grid, model.input.spacing_mm, model.input.window_hu)
        self._hu = volume.grid.orientation.to_canonical(volume.hu)
        self.model_shape = self._resampler.shape
        with timed(self._timings_s, "resample"):
            self._body = self.box = body_box(self._hu, self._resampler)
        if part is not None:
            box = common(self._body, box_on_model_grid(part, self._resampler))
            self.box = with_free_room(box, self._body, model.input)
        self._maps = axis_maps(self._resampler, self.box)
        d, h, w = (part.stop - part.start for part in self.box)
        self._tiles = TilePlan(
            (d, h, w), model.input.patch, model.input.overlap, model.input.rows_beyond_ends
        )
        self.tiles = self._tiles.tiles
        memory = memory or MemoryBudget(None)
        self.arrays_mb = self._predict_arrays_mb()
        self.peak_mb = resident_mb() + self.arrays_mb + (memory.working_set_mb or 0.0) + _SLACK_MB
        memory.require(self.peak_mb)
        self._tiles_done = self._tiles_of_air = 0
        self._started = False

    def steps(
        self, engine: Mapping[str, str], *, progress: Progress | None = None, on_rows: OnRows | None = None
    ) -> Steps:
        """The run as a generator: it yields a tile, is sent the logits of that tile, and returns the labels.

        :meth:`autosam_edge.planned_run.PlannedRun.execute` drives it with an ordinary engine. A program that
        must await its engine, such as a web page with a worker or a client of a server, drives the same
        generator; see the example.

        Args:
            engine: Description of the engine for the provenance, see
                :attr:`autosam_edge.engines.engine.Engine.description`.
            progress: Function that is called with (tiles done, tiles in all) after each tile. An exception
                that it raises stops the run; nothing is left behind.
            on_rows: Function that is called with each block (rows, C, H, W) of the network's probabilities
                in ``box``, float32, from the first row of the model's grid to the last. The array changes
                afterwards: copy what must last.

        Yields:
            (D, H, W) float32 tile, HU. Send its (C, D, H, W) float32 logits; they are read before the next
                tile is yielded and not after it.

        Returns:
            Labels on the volume's own grid.

        Raises:
            RuntimeError: The run was started before.
            EngineError: The logits have another shape (AE-ENGINE-003) or are not finite (AE-ENGINE-005).

        Example:
            >>> async def segment(run, engine):
            ...     steps = run.steps(engine.description)
            ...     try:
            ...         tile = next(steps)
            ...         while True:
            ...             tile = steps.send(await engine.run(tile))
            ...     except StopIteration as finished:
            ...         return finished.value
        """
        if self._started:
            raise RuntimeError("this run was started before; plan the volume again")
        self._started = True
        return self._steps(dict(engine), progress, on_rows)

    def _steps(self, engine: dict[str, str], progress: Progress | None, on_rows: OnRows | None) -> Steps:
        labels = np.zeros(self._volume.shape, dtype=np.uint8)
        canonical = self._volume.grid.orientation.to_canonical(labels)
        weights = DecisionWeights(self._model.class_weights)
        restorer = Restorer(self._maps, canonical, smallest_winner=weights.smallest_winner)
        connected = frozenset(
            label.value for label in self._model.labels if label.name in self._model.one_part
        )
        one_part = OnePartFilter(self._tiles.shape, connected)
        check = RunCheck(self._model.plausibility, self._model.confidence, self._model.class_weights)
        slab = Slab(self._tiles, self._model.classes, self._team)
        patch_depth, starts = self._tiles.patch[0], self._tiles.starts[0]
        image = self._image(starts[0], starts[0] + patch_depth)
        for start, following in zip(starts, (*starts[1:], starts[-1] + patch_depth), strict=True):
            yield from self._row(slab, image, progress)
            count = following - start
            with timed(self._timings_s, "restore"):
                for rows in slab.finished(start, count):
                    if on_rows is not None:
                        on_rows(rows)
                    check.push(rows)
                    weights.apply(rows)
                    restorer.push(rows)
                    winner, probability = weights.winners(rows)
                    one_part.push(winner, probability)
            slab.roll(count)
            if following + patch_depth <= self._tiles.padded[0]:
                image = np.concatenate(
                    [image[count:], self._image(start + patch_depth, following + patch_depth)]
                )
        del slab, image
        with timed(self._timings_s, "one_part"):
            removed = one_part.clean(canonical, self._maps)
        warnings = (
            *self._warnings,
            *self._warn_of_air(),
            *removal_warnings(removed, self._model.labels, self._volume.grid.voxel_ml),
        )
        with timed(self._timings_s, "plausibility"):
            plausibility, expected_dice, found = check.finish(
                self._hu, canonical, self._resampler.grid, self._model.labels, warnings
            )
        return Segmentation(
            labels,
            self._volume.grid,
            self._model.labels,
            provenance=self._provenance(engine),
            timings_s=self._timings_s,
            warnings=(*warnings, *found),
            filled=self._volume.source.filled,
            plausibility=plausibility,
            expected_dice=expected_dice,
        )

    def _row(
        self, slab: Slab, image: FloatArray, progress: Progress | None
    ) -> Generator[FloatArray, FloatArray, None]:
        """All tiles that start at the slab's first row; ``image`` (D, H, W) holds the HU of the slab."""
        for window in self._windows():
            tile = np.ascontiguousarray(image[window])
            if _holds_only_air(tile, self._model.input.window_hu[0]):  # background, whatever the network says
                self._tiles_of_air += 1
                slab.add_background(window)
            else:
                with timed(self._timings_s, "network"):
                    logits = yield tile
                with timed(self._timings_s, "blend"):
                    slab.add(logits, window)
            self._tiles_done += 1
            if progress is not None:
                progress(self._tiles_done, self.tiles)

    def cuts(self, labels: npt.NDArray[np.uint8]) -> bool:
        """Whether an organ reaches a side of ``box`` that lies inside the body: then the box is too small."""
        inner = []
        for axis, (part, body, reach) in enumerate(zip(self.box, self._body, self._maps, strict=True)):
            # Along D, the box of a tilted scan has all slices. A side of the body is as good as far away.
            upright, far = reach.rise is None, 2 * self._hu.shape[axis]
            low = reach.covered.start + 1 if upright and part.start > body.start else -far
            high = reach.covered.stop - 1 if upright and part.stop < body.stop else far
            inner.append(slice(low, high))
        canonical = self._volume.grid.orientation.to_canonical(labels)
        return organs_reach(canonical, self._resampler.grid, (inner[0], inner[1], inner[2]))

    def _predict_arrays_mb(self) -> float:
        """The largest allocations of the run."""
        patch = self._tiles.patch
        _, height, width = self._tiles.padded
        plane = height * width * 4
        # Probabilities, weights, image, and the image of the next row.
        arrays = (self._model.classes + 3) * patch[0] * plane
        arrays += 2 * ROWS_AT_ONCE * self._model.classes * plane  # finished rows on their way to the output
        # Rows that a tilted slice crosses, as they are kept and as they are joined with the next ones.
        arrays += 2 * (self._maps[0].rows_crossed - 2) * self._model.classes * plane
        arrays += self._model.classes * math.prod(patch) * 4  # logits of the tile in flight
        output = self._volume.hu.size
        return (arrays + output) / _MB

    def _image(self, start: int, stop: int) -> FloatArray:
        """Rows ``[start, stop)`` of the padded box, HU: beyond the body the last row, beside it air."""
        # The padded box on the model's grid, from which it may stick out.
        d, h, w = (
            slice(part.start - before, part.start - before + side)
            for part, before, side in zip(self.box, self._tiles.pad_before, self._tiles.padded, strict=True)
        )
        _, height, width = common(self._body, (d, h, w))
        top, bottom = self._body[0].start, self._body[0].stop - 1
        wanted = np.clip(np.arange(start, stop) + d.start, top, bottom)
        first, last = int(wanted[0]), int(wanted[-1]) + 1
        sides = (height.stop - height.start, width.stop - width.start)
        rows = np.empty((last - first, *sides), dtype=np.float32)

        def resample(start: int, stop: int) -> None:
            rows[start - first : stop - first] = self._resampler.rows(
                self._hu, start, stop, plane=(height, width)
            )

        with timed(self._timings_s, "resample"):
            self._team.divide(resample, first, last)
        air_hu = self._model.input.window_hu[0]
        image = np.full((stop - start, *self._tiles.padded[1:]), air_hu, dtype=np.float32)
        lines = slice(height.start - h.start, height.stop - h.start)
        columns = slice(width.start - w.start, width.stop - w.start)
        image[:, lines, columns] = rows[wanted - first]
        return image

    def _windows(self) -> Iterator[Box]:
        """Places in the slab of the tiles that start at its first row."""
        _, patch_h, patch_w = self._tiles.patch
        for h in self._tiles.starts[1]:
            for w in self._tiles.starts[2]:
                yield slice(None), slice(h, h + patch_h), slice(w, w + patch_w)

    def _warn_of_air(self) -> Iterator[ScanWarning]:
        if self._tiles_of_air == self.tiles:
            yield NO_BODY("No body was found: the scan shows only air, and nothing is labeled.")

    def _provenance(self, engine: Mapping[str, str]) -> Provenance:
        contract = self._model.input
        return Provenance(
            version=__version__,
            model=self._model.name,
            model_version=self._model.version,
            model_sha256=self._model.sha256,
            artifact_sha256=engine["sha256"],
            engine=engine["name"],
            engine_version=engine["version"],
            precision=engine["precision"],
            threads=engine["threads"],
            parameters={
                "spacing_mm": list(contract.spacing_mm),
                "patch": list(contract.patch),
                "overlap": contract.overlap,
                "tiles": self.tiles,
                "tiles_of_air": self._tiles_of_air,
                "box": [[part.start, part.stop] for part in self.box],
            },
            input_hash=self._volume.source.series_hash,
            license=self._model.license,
        )


def _holds_only_air(tile: FloatArray, low_hu: float) -> bool:
    """Whether the tile is air: no voxel lies above the window's lower end, but for rounding."""
    return bool(tile.max() <= low_hu + _AIR_ROUNDING_HU)

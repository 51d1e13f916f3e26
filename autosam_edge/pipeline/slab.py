"""The probabilities of the tiles in flight, blended: a slab one tile deep that rolls along D."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.error_codes import MODEL_SHAPE_WRONG, OUTPUT_NOT_FINITE
from autosam_edge.geometry import Box, FloatArray
from autosam_edge.pipeline.tiles import TilePlan, gaussian_weights
from autosam_edge.system.thread_team import ThreadTeam

if TYPE_CHECKING:
    from collections.abc import Iterator

# Finished rows are normalized in small blocks, so that they are never held twice.
ROWS_AT_ONCE = 8


class Slab:
    """Sums of weighted probabilities over the rows that tiles still touch; never classes x volume.

    Args:
        tiles: Layout of the tiles.
        classes: Outputs C of the network.
        team: Threads that add a tile; None adds it in the calling thread.
    """

    def __init__(self, tiles: TilePlan, classes: int, team: ThreadTeam | None = None) -> None:
        depth, (_, height, width) = tiles.patch[0], tiles.padded
        self._team = team or ThreadTeam()
        self._tiles, self._classes = tiles, classes
        self._kernel = gaussian_weights(tiles.patch)
        # Depth comes before the classes, so that finished rows are contiguous.
        self._sum = np.zeros((depth, classes, height, width), dtype=np.float32)
        self._weight = np.zeros((depth, height, width), dtype=np.float32)

    def add(self, logits: FloatArray, window: Box) -> None:
        """Softmax, weigh and add a tile, plane by plane so that the work stays in the cache.

        Args:
            logits: (C, D, H, W) of one tile.
            window: Place of the tile in the slab along (D, H, W).

        Raises:
            EngineError: The logits have another shape (AE-ENGINE-003) or are not finite (AE-ENGINE-005).
        """
        expected = (self._classes, *self._tiles.patch)
        if logits.shape != expected:
            raise MODEL_SHAPE_WRONG(
                f"the engine returned shape {logits.shape}, expected {expected}.",
                remedy="Use a bundle whose manifest describes its model.",
            )
        _, rows, columns = window
        self._weight[window] += self._kernel

        def add_planes(start: int, stop: int) -> None:
            for depth in range(start, stop):
                plane = logits[:, depth]
                probability = np.exp(plane - plane.max(axis=0))
                total = probability.sum(axis=0)
                if not np.isfinite(total).all():
                    raise OUTPUT_NOT_FINITE("the network gave values that are not finite.")
                probability *= self._kernel[depth] / total
                self._sum[depth, :, rows, columns] += probability

        self._team.divide(add_planes, 0, self._tiles.patch[0])

    def add_background(self, window: Box) -> None:
        """Add a tile that is background for certain."""
        self._weight[window] += self._kernel
        self._sum[:, 0, window[1], window[2]] += self._kernel

    def finished(self, start: int, count: int) -> Iterator[FloatArray]:
        """The slab's first rows as probabilities that sum to 1, without the padding.

        Args:
            start: Row of the padded box that is the slab's first.
            count: Number of rows that no later tile touches.

        Returns:
            Blocks (rows, C, H', W') float32.
        """
        before, sizes = self._tiles.pad_before, self._tiles.shape
        first, last = max(before[0] - start, 0), min(before[0] + sizes[0] - start, count)
        inner = tuple(slice(b, b + s) for b, s in zip(before[1:], sizes[1:], strict=True))
        for block in range(first, last, ROWS_AT_ONCE):
            part = slice(block, min(block + ROWS_AT_ONCE, last))
            yield self._sum[(part, slice(None), *inner)] / self._weight[(part, *inner)][:, None]

    def roll(self, count: int) -> None:
        """Drop the first ``count`` rows and append as many empty ones."""
        depth = len(self._sum)
        for array in (self._sum, self._weight):
            for row in range(depth - count):  # row by row: NumPy copies all of an overlapping move first
                array[row] = array[row + count]
            array[depth - count :] = 0

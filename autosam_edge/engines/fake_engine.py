"""An engine without a network, for tests of everything around it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt


class ThresholdEngine:
    """Labels a voxel by its HU: class ``k`` lies around ``centers_hu[k]``.

    Without ``reach_rows`` its logits depend on the voxel alone, so every layout of tiles must give the same
    labels. With it they also depend on the rows of the tile above and below, as those of a network do.

    Args:
        centers_hu: Center of each class, HU; the background first.
        width_hu: Width of every class, HU; the logit is ``-((hu - center) / width)^2``.
        reach_rows: Distance along D, voxels. Above 0, the formula takes the mean of the HU at this distance
            below, at the voxel, and at this distance above; outside of the tile the HU is ``centers_hu[0]``.
    """

    def __init__(self, centers_hu: Sequence[float], *, width_hu: float = 25.0, reach_rows: int = 0) -> None:
        self._centers = np.asarray(centers_hu, dtype=np.float32)
        self._width = np.float32(width_hu)
        self._reach = reach_rows
        self.calls = 0

    @property
    def description(self) -> dict[str, str]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        return {"name": "threshold", "version": "1", "precision": "fp32", "threads": "1", "sha256": ""}

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        self.calls += 1
        if self._reach:
            outside = np.full((self._reach, *tile.shape[1:]), self._centers[0], dtype=np.float32)
            below, above = np.concatenate([outside, tile]), np.concatenate([tile, outside])
            tile = (below[: len(tile)] + tile + above[self._reach :]) / np.float32(3)
        distance = (tile[None] - self._centers[:, None, None, None]) / self._width
        return np.asarray(-(distance * distance), dtype=np.float32)

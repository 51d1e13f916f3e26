"""The one-part rule: of several parts of an organ, keep the one of which the network is most certain.

A network that knows thirteen abdominal organs may label a pelvic tumor as liver, far away from the liver. An
organ that is one connected object in the body keeps one part: the part with the largest sum of confidence,
which is not always the part with the most voxels. A warning names the removed volume. The bundle lists the
organs; they are chosen on validation cases, as in nnU-Net (Isensee et al. 2021).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Box, FloatArray, Shape
from autosam_edge.pipeline.restore import AxisMaps
from autosam_edge.warning_codes import PARTS_REMOVED

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Label

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Runs:
    """Runs of a label volume: voxels of one label that follow each other along W.

    Args:
        row: (N,) row of each run, d * H + h, not decreasing.
        start: (N,) first voxel along W.
        stop: (N,) voxel after the last along W.
        value: (N,) label value, not 0.
    """

    row: Indices
    start: Indices
    stop: Indices
    value: npt.NDArray[np.uint8]

    def __getitem__(self, which: slice | npt.NDArray[np.bool_]) -> Runs:
        return Runs(self.row[which], self.start[which], self.stop[which], self.value[which])


def find_label_runs(labels: npt.NDArray[np.uint8]) -> Runs:
    """Find all runs of a (D, H, W) label volume, in array order."""
    rows = labels.reshape(-1, labels.shape[2])
    framed = np.zeros((rows.shape[0], rows.shape[1] + 2), dtype=np.uint8)
    framed[:, 1:-1] = rows
    row, column = np.nonzero(framed[:, 1:] != framed[:, :-1])
    value = framed[row, column + 1]
    # The frame of background ends every row with a change, so a run ends where the next change is.
    following = np.append(column[1:], 0)
    return Runs(row, column, following, value)[value != 0]


def touching(runs: Runs, shape: Shape) -> tuple[Indices, Indices]:
    """Find pairs of runs of one label that share a face, an edge or a corner (26-connectivity).

    Args:
        runs: Runs in array order.

    Returns:
        Two (E,) index arrays; each pair occurs once.
    """
    _, height, width = shape
    stride = width + 2
    starts, stops = runs.row * stride + runs.start, runs.row * stride + runs.stop
    h = runs.row % height
    first, second = [], []
    # Half of the 8 neighboring lines, as steps along (D, H): the other half gives the same pairs again.
    for rows, lines in ((0, 1), (1, -1), (1, 0), (1, 1)):
        inside = (h + lines >= 0) & (h + lines < height)
        base = (runs.row + rows * height + lines) * stride
        # Runs of the neighboring line that end at start or later and begin at stop or earlier touch this run.
        # Runs are sorted, so they form one interval [low, high) of the list.
        low = np.searchsorted(stops, base + runs.start, side="left")
        high = np.searchsorted(starts, base + runs.stop, side="right")
        count = np.where(inside, np.maximum(high - low, 0), 0)
        # Every run with every run of its interval: index a counts up once per pair, b from low to high.
        a = np.repeat(np.arange(len(count)), count)
        b = np.repeat(low, count) + np.arange(len(a)) - np.repeat(np.cumsum(count) - count, count)
        same = runs.value[a] == runs.value[b]
        first.append(a[same])
        second.append(b[same])
    return np.concatenate(first), np.concatenate(second)


def connect(count: int, a: Indices, b: Indices) -> Indices:
    """Find the connected components of a graph.

    Args:
        a: (E,) node at one end of each edge.
        b: (E,) node at the other end.

    Returns:
        (count,) smallest node of each node's component.
    """
    root = np.arange(count)
    while len(a):
        ra, rb = root[a], root[b]
        apart = ra != rb
        a, b, ra, rb = a[apart], b[apart], ra[apart], rb[apart]
        np.minimum.at(root, np.maximum(ra, rb), np.minimum(ra, rb))  # hook the larger root under the smaller
        while not np.array_equal(root, root[root]):
            root = root[root]
    return root


def find_parts(
    runs: Runs, shape: Shape, weights: npt.NDArray[np.integer]
) -> tuple[Indices, dict[int, Indices]]:
    """Find the connected parts of each label.

    Args:
        weights: (N,) weight of each run; that of a part is their sum.

    Returns:
        (N,) smallest run of the part of each run, and these runs by label value, the heaviest part first.
    """
    component = connect(len(runs.row), *touching(runs, shape))
    weight = np.bincount(component, weights=weights, minlength=len(component))
    parts = {}
    for value in np.unique(runs.value):
        roots = np.unique(component[runs.value == value])
        parts[int(value)] = roots[np.argsort(-weight[roots], kind="stable")]
    return component, parts


def largest_parts(labels: npt.NDArray[np.uint8]) -> Box | None:
    """Find the box (D, H, W) that holds the part with the most voxels of each label; None without labels."""
    runs = find_label_runs(labels)
    if not len(runs.row):
        return None
    component, parts = find_parts(runs, labels.shape, runs.stop - runs.start)
    kept = runs[np.isin(component, [roots[0] for roots in parts.values()])]
    plane, line = np.divmod(kept.row, labels.shape[1])
    ends = ((plane, plane + 1), (line, line + 1), (kept.start, kept.stop))
    d, h, w = (slice(int(first.min()), int(last.max())) for first, last in ends)
    return d, h, w


def removal_warnings(
    removed: Mapping[int, int], table: Sequence[Label], voxel_ml: float
) -> tuple[ScanWarning, ...]:
    """One sentence on what the one-part rule removed; less than 0.1 ml of an organ is not mentioned.

    Args:
        removed: Result of :meth:`OnePartFilter.clean`.
    """
    titles = {label.value: label.title for label in table}
    ml = {titles[value]: voxels * voxel_ml for value, voxels in removed.items()}
    largest_first = sorted(ml.items(), key=lambda item: -item[1])
    named = ", ".join(f"{title} {amount:.1f} ml" for title, amount in largest_first if amount >= 0.1)
    if not named:
        return ()
    return (PARTS_REMOVED(f"Removed, as it lay apart from the surest part of its organ: {named}."),)


class OnePartFilter:
    """Collects organs on the model's grid while the network runs, then removes parts from the input grid.

    Args:
        shape: Shape (D', H', W') of the body box on the model's grid.
        values: Label values of the organs that are one connected object.
    """

    def __init__(self, shape: Shape, values: frozenset[int]) -> None:
        self._shape = shape
        self._values = values
        self._rows = 0
        self._runs: list[Runs] = []
        self._weights: list[npt.NDArray[np.int64]] = []

    def push(self, winner: npt.NDArray[np.uint8], probability: FloatArray) -> None:
        """Take the next rows; only runs of organs are kept.

        Args:
            winner: (rows, H', W') winning class of each voxel.
            probability: (rows, H', W') probability of that class before any weight, 0 to 1.
        """
        runs = find_label_runs(np.where(np.isin(winner, list(self._values)), winner, 0).astype(np.uint8))
        # Confidence of a voxel: 1 at a probability of one half or less, so that of two unsure parts the
        # larger one stays; 256 at a probability of 1.
        confidence = np.append(
            np.clip(probability * 510.0 - 254.0, 1.0, 256.0).astype(np.int64).reshape(-1), 0
        )
        if len(runs.row):
            line = runs.row * self._shape[2]
            ends = np.stack([line + runs.start, line + runs.stop], axis=1).reshape(-1)
            self._weights.append(np.add.reduceat(confidence, ends)[::2])
            self._runs.append(Runs(runs.row + self._rows * self._shape[1], runs.start, runs.stop, runs.value))
        self._rows += len(winner)

    def clean(self, labels: npt.NDArray[np.uint8], maps: AxisMaps) -> dict[int, int]:
        """Set the voxels of all but one part of each organ to background.

        Args:
            labels: (D, H, W) canonical view of the output; changed in place.
            maps: Interpolation from the model's grid to the input grid along D, H and W.

        Returns:
            Number of removed voxels of each organ of several parts, by its label value.
        """
        if not self._runs:
            return {}
        parts_of = [
            np.concatenate([getattr(runs, name) for runs in self._runs])
            for name in ("row", "start", "stop", "value")
        ]
        runs = Runs(*parts_of)
        weights = np.concatenate(self._weights)
        component, parts = find_parts(runs, self._shape, weights)
        removed = {}
        for value, roots in parts.items():
            if len(roots) > 1:
                gone = (runs.value == value) & (component != roots[0])
                kept = (runs.value == value) & (component == roots[0])
                removed[value] = self._erase(labels, maps, value, runs[gone], runs[kept])
        return removed

    def _erase(
        self, labels: npt.NDArray[np.uint8], maps: AxisMaps, value: int, gone: Runs, kept: Runs
    ) -> int:
        """Clear the voxels of an organ whose cell has a corner in a removed part and none in the kept part.

        Returns:
            Number of cleared voxels.
        """
        depth_map, height_map, width_map = maps
        cleared = 0
        # One output slice at a time. Its cells lie between the model's rows lower and lower + 1.
        for index in range(depth_map.covered.stop - depth_map.covered.start):
            lower, _ = depth_map.cell(index)
            near = self._crossed(gone, lower)
            if not len(near.row):
                continue
            # Only outputs whose cell can touch a removed run: from the cell before its first line or column
            # to the cell that begins at its last.
            lines = near.row % self._shape[1]
            rows = slice(*np.searchsorted(height_map.lower, (lines.min() - 1, lines.max() + 1)))
            columns = slice(*np.searchsorted(width_map.lower, (near.start.min() - 1, near.stop.max())))
            target = labels[depth_map.covered.start + index][height_map.covered, width_map.covered][
                rows, columns
            ]
            others = self._crossed(kept, lower)
            y, x = height_map.lower[rows], width_map.lower[columns]
            erase = (target == value) & self._cells(near, lower, y, x) & ~self._cells(others, lower, y, x)
            cleared += int(np.count_nonzero(erase))
            target[erase] = 0
        return cleared

    def _crossed(self, runs: Runs, lower: Indices) -> Runs:
        """The runs on the two rows of a slice's cells.

        Args:
            runs: Runs on the model's grid.
            lower: Lower row of the cells: a scalar, or broadcast to (H', W') where the slice is tilted.
        """
        height = self._shape[1]
        ends = (int(lower.min()) * height, (int(lower.max()) + 2) * height)
        near = runs[slice(*np.searchsorted(runs.row, ends))]
        if not lower.ndim:
            return near
        row, line = np.divmod(near.row, height)
        return near[(row >= lower.min(axis=1)[line]) & (row <= lower.max(axis=1)[line] + 1)]

    def _cells(self, runs: Runs, lower: Indices, y: Indices, x: Indices) -> npt.NDArray[np.bool_]:
        """Find the cells that have a corner in a run.

        Args:
            runs: Result of :meth:`_crossed`.
            lower: Lower row of the cells: a scalar, or broadcast to (H', W') where the slice is tilted.
            y: (h,) lower corners of the cells along H.
            x: (w,) lower corners of the cells along W.

        Returns:
            (h, w) bool, True where a corner is in a run.
        """
        _, height, width = self._shape
        # Where all cells of a line have the same two rows, the runs are on these rows, and both count alike.
        twisted = lower.ndim > 0 and lower.shape[1] > 1
        rows, first = (int(np.ptp(lower)) + 2, int(lower.min())) if twisted else (1, 0)
        row = runs.row // height - first if twisted else np.zeros_like(runs.row)
        # +1 where a run begins and -1 where it ends: the sum along W is positive inside of runs.
        edges = np.zeros((rows, height, width + 1), dtype=np.int32)
        np.add.at(edges, (row, runs.row % height, runs.start), 1)
        np.add.at(edges, (row, runs.row % height, runs.stop), -1)
        inside = edges.cumsum(axis=2)[:, :, :-1] > 0
        mask = inside[0]
        if twisted:
            below = np.broadcast_to(lower - first, (1, height, width))
            mask = (
                np.take_along_axis(inside, below, axis=0) | np.take_along_axis(inside, below + 1, axis=0)
            )[0]
        lines = mask[:, x] | mask[:, np.minimum(x + 1, width - 1)]
        return np.asarray(lines[y] | lines[np.minimum(y + 1, height - 1)])

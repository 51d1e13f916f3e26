"""The class of a voxel: the one with the largest product of probability and decision weight.

A network that was trained on cross entropy and Dice calls too many voxels of a small organ background. A
weight above 1 on the probability of that organ finds more of it. The bundle holds the weights; they are
fitted on validation cases (docs/adr/0019-decision-weights.md).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import FloatArray


class DecisionWeights:
    """Factor of each class's probability before the largest is taken.

    Args:
        values: C factors, the background's first, each above 0.
    """

    def __init__(self, values: Sequence[float]) -> None:
        self._values = np.asarray(values, dtype=np.float32)

    @property
    def smallest_winner(self) -> float:
        """Smallest value that the largest of all products in a voxel can have.

        The probabilities p of a voxel sum to 1. If no product w p is above k, then each p is at most k / w,
        so that 1 is at most k times the sum of 1 / w.
        """
        return float(1.0 / (1.0 / self._values.astype(np.float64)).sum())

    def apply(self, rows: FloatArray) -> None:
        """Multiply probabilities (rows, C, H', W') by the weights of their classes, in place."""
        for value in np.flatnonzero(self._values != 1.0):
            rows[:, value] *= self._values[value]

    def winners(self, rows: FloatArray) -> tuple[npt.NDArray[np.uint8], FloatArray]:
        """The winning class of each voxel, and how probable the network finds it.

        Args:
            rows: (rows, C, H', W') products of probability and weight.

        Returns:
            (rows, H', W') uint8 class, the lowest of equal ones; (rows, H', W') float32 probability of that
            class before the weights, 0 to 1.
        """
        winner = np.zeros((len(rows), *rows.shape[2:]), dtype=np.uint8)
        largest = rows[:, 0].copy()
        for value in range(1, rows.shape[1]):
            np.copyto(winner, value, where=rows[:, value] > largest)
            np.maximum(largest, rows[:, value], out=largest)
        return winner, largest / self._values[winner]

"""The Dice of the organs that a scan's truth holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from autosam_edge.measurements import dice
from autosam_edge.volume import Label
from autosam_edge_benchmarks.result_header import mean

Labels = npt.NDArray[np.generic]


def organ_dice(
    found: Labels, truth: Labels, table: Sequence[Label], known: Mapping[str, int]
) -> dict[str, float]:
    """Dice of each known organ that the truth holds, by its name.

    Args:
        found: Labels (D, H, W) of a model.
        truth: Labels (D, H, W).
        table: Label table of the model.
        known: Value in the truth of each organ that is labeled everywhere, by its name.
    """
    return {
        organ.name: dice(found == organ.value, true)
        for organ in table
        if organ.name in known and (true := truth == known[organ.name]).any()
    }


def mean_dice(found: Labels, truth: Labels, table: Sequence[Label], known: Mapping[str, int]) -> float | None:
    """Mean of :func:`organ_dice`; None where the truth holds no known organ."""
    return mean(organ_dice(found, truth, table, known).values())

"""The largest Dice that any network can reach at a spacing: labels are resampled to the grid and back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.measurements import dice
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.pipeline.restore import Restorer, axis_maps
from autosam_edge_benchmarks.result_header import Result, mean, new_result
from autosam_edge_training.data import Prepared, Split, prepare_case
from autosam_edge_training.evaluate.evaluator import read_truth, split_entries


def round_trip_dice(
    labels: npt.NDArray[np.generic],
    occupancy: npt.NDArray[np.float32],
    resampler: Resampler,
    organs: Iterable[int],
) -> float | None:
    """Restore resampled labels to their own grid and compare them with the original labels.

    Args:
        labels: Ground truth (D, H, W) in canonical orientation.
        occupancy: Share of each class (C, D', H', W') in the voxels of the model's grid, 0 to 1.
        resampler: From the grid of ``labels`` to the model's.
        organs: Values that are compared, where the labels hold them.

    Returns:
        The mean over these organs; None where there are none.
    """
    restored = np.zeros(resampler.grid.shape, dtype=np.uint8)
    whole = (slice(0, occupancy.shape[1]), slice(0, occupancy.shape[2]), slice(0, occupancy.shape[3]))
    restorer = Restorer(axis_maps(resampler, whole), restored, smallest_winner=1.0 / len(occupancy))
    restorer.push(np.ascontiguousarray(np.moveaxis(occupancy, 0, 1)))
    present = [organ for organ in organs if (labels == organ).any()]
    return mean(dice(restored == organ, labels == organ) for organ in present)


def measure_label_ceiling(data: Path, split: Split) -> Result:
    """Measure the largest possible mean Dice of each case, from hard labels and from occupancies."""
    result = new_result("label ceiling")
    prepared = Prepared.read(data)
    cases = {}
    for entry in split_entries(prepared, split):
        volume, labels, known = read_truth(entry, prepared)
        grid = volume.grid
        truth = grid.orientation.to_canonical(labels)
        resampler = Resampler.of_scan(grid, prepared.spacing_mm, (0.0, 1.0))
        case = prepare_case(
            entry.name,
            volume.hu,
            labels,
            grid,
            spacing_mm=prepared.spacing_mm,
            classes=prepared.classes,
            known=entry.known,
        )
        occupancy = case.patch(case.whole)[1]
        if case.known is not None:  # what is not known is one more class
            occupancy = np.concatenate([occupancy, 1 - occupancy.sum(axis=0, keepdims=True)])
        hard = (case.labels[None] == np.arange(len(occupancy))[:, None, None, None]).astype(np.float32)
        cases[entry.name] = {
            kind: round_trip_dice(truth, target, resampler, known.values())
            for kind, target in (("hard_labels", hard), ("occupancy", occupancy))
        }
    means = {key: mean(case[key] for case in cases.values()) for key in ("hard_labels", "occupancy")}
    return {
        **result,
        "data": f"{prepared.dataset} {split}",
        "spacing_mm": list(prepared.spacing_mm),
        "mean_dice": means,
        "cases": cases,
    }

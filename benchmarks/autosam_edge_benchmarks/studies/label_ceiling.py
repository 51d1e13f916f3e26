"""How much accuracy the model's spacing costs before any network errs: labels to the model's grid and back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.formats.label_image import read_labels
from autosam_edge.formats.nifti import read_array
from autosam_edge.measurements import dice
from autosam_edge.pipeline.resample import ModelGrid
from autosam_edge.pipeline.restore import Restorer, axis_maps
from autosam_edge_benchmarks.result_header import new_report
from autosam_edge_training.data import Prepared, prepare_case

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge_training.data import Split


def there_and_back(
    labels: npt.NDArray[np.generic],
    occupancy: npt.NDArray[np.float32],
    positions: tuple[npt.NDArray[np.float64], ...],
) -> float:
    """Mean Dice over the organs after restoring ``occupancy`` to the grid of ``labels``.

    Args:
        labels: (D, H, W) canonical truth.
        occupancy: (C, D', H', W') on the model's grid.
        positions: Of the model's voxels in the truth's indices.
    """
    restored = np.zeros(labels.shape, dtype=np.uint8)
    whole = (slice(0, occupancy.shape[1]), slice(0, occupancy.shape[2]), slice(0, occupancy.shape[3]))
    restorer = Restorer(axis_maps(positions, restored.shape, whole), restored)
    restorer.push(np.ascontiguousarray(np.moveaxis(occupancy, 0, 1)))
    organs = [organ for organ in range(1, len(occupancy)) if (labels == organ).any()]
    return float(np.mean([dice(restored == organ, labels == organ) for organ in organs]))


def measure_label_ceiling(data: Path, split: Split) -> dict[str, Any]:
    """Best possible mean Dice per case at the model's spacing, from hard labels and from occupancies.

    Args:
        data: Folder that ``data prepare`` wrote; its spacing is measured, on the files that it was made of.
        split: Which cases.
    """
    report = new_report("label ceiling")
    prepared = Prepared.read(data)
    cases = {}
    for entry in prepared.manifest.entries(split):
        hu, grid = read_array(entry.image)
        labels = read_labels(entry.label, grid, prepared.classes, f"image and label of case {entry.name}")
        truth = grid.orientation.to_canonical(labels)
        positions = ModelGrid(grid, prepared.spacing_mm, (0.0, 1.0)).resampler.positions
        case = prepare_case(
            entry.name, hu, labels, grid, spacing_mm=prepared.spacing_mm, classes=prepared.classes
        )
        whole = (slice(None), slice(None), slice(None))
        hard = (case.labels[None] == np.arange(case.classes)[:, None, None, None]).astype(np.float32)
        found = {"hard_labels": hard, "occupancy": case.patch(whole)[1]}
        cases[entry.name] = {kind: there_and_back(truth, target, positions) for kind, target in found.items()}
    means = {
        key: float(np.mean([case[key] for case in cases.values()])) for key in ("hard_labels", "occupancy")
    }
    return {
        **report,
        "data": f"{prepared.dataset} {split}",
        "spacing_mm": list(prepared.spacing_mm),
        "mean_dice": means,
        "cases": cases,
    }

"""What a coarse model changes in the labels of a finer one, and how far organs reach beyond what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.formats.nifti import read_array, read_nifti
from autosam_edge.measurements import dice
from autosam_edge.pipeline.body_box import ORGAN_MARGIN_MM, organ_box
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Segmentation
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_training.data import Prepared, Split


def measure_tiers(
    fine: Path, coarse: Path, data: Path, split: Split, *, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Measure a model alone, and with a coarse one that finds the organs before it.

    Args:
        fine: Bundle that labels.
        coarse: Bundle that finds the organs.

    Returns:
        For each case the mean Dice over the organs present, ``alone`` and ``coarse_to_fine``; the mean Dice
        of one with the other; the tiles of each run; and ``missed_mm``, the distance along (D, H, W) by which
        the true organs reach beyond those that the coarse model found. Also the means over the cases.
    """
    result = new_result("tiers")
    prepared = Prepared.read(data)
    labeling, finding = open_session(fine), open_session(coarse)
    both = Session(labeling.model, labeling.engine, coarse=finding)
    organs = tuple(label.name for label in finding.model.labels)
    finder = Session(dataclasses.replace(finding.model, one_part=organs), finding.engine)
    cases: dict[str, dict[str, object]] = {}
    for entry in prepared.manifest.entries(split):
        volume, (truth, _) = read_nifti(entry.image), read_array(entry.label_file)
        alone, limited = labeling.segment(volume), both.segment(volume)
        parameters = limited.provenance.parameters
        cases[entry.name] = {
            "alone": _mean_dice(alone, truth, prepared.labels),
            "coarse_to_fine": _mean_dice(limited, truth, prepared.labels),
            "each_other": _mean_dice(limited, alone.labels, ("", *(label.name for label in alone.table))),
            "tiles_alone": alone.provenance.parameters["tiles"],
            "tiles": parameters["tiles"],
            "region": parameters["region"],
            "missed_mm": _missed_mm(finder.segment(volume), truth),
        }
        log(f"case {entry.name}: {cases[entry.name]}")
    keys = ("alone", "coarse_to_fine", "each_other", "tiles_alone", "tiles")
    return {
        **result,
        "model": labeling.model.name,
        "coarse_model": finding.model.name,
        "engine": dict(labeling.engine.description),
        "data": f"{prepared.dataset} {split}",
        "margin_mm": list(ORGAN_MARGIN_MM),
        "mean": {key: float(np.mean([case[key] for case in cases.values()])) for key in keys},
        "missed_mm": np.max([case["missed_mm"] for case in cases.values()], axis=0).tolist(),
        "cases": cases,
    }


def _mean_dice(found: Segmentation, truth: npt.NDArray[np.generic], names: tuple[str, ...]) -> float:
    """Mean over the organs that the truth holds; its values are places in the names."""
    masks = [
        (found.labels == organ.value, truth == names.index(organ.name))
        for organ in found.table
        if organ.name in names
    ]
    return float(np.mean([dice(a, b) for a, b in masks if b.any()]))


def _missed_mm(found: Segmentation, truth: npt.NDArray[np.generic]) -> list[float]:
    """Largest distance along (D, H, W) by which the true organs reach beyond the box of the found ones."""
    orientation = found.grid.orientation
    grid = orientation.canonical_grid(found.grid)
    boxes = [
        organ_box(orientation.to_canonical(labels), grid, margin_mm=(0.0, 0.0, 0.0))
        for labels in (found.labels, truth.astype(np.uint8))
    ]
    if boxes[0] is None or boxes[1] is None:
        return [0.0] * 3  # nothing to find; or nothing found, and the whole body is labeled
    return [
        max(0.0, (mine.start - true.start) * spacing, (true.stop - mine.stop) * spacing)
        for mine, true, spacing in zip(*boxes, grid.upright_spacing_mm, strict=True)
    ]

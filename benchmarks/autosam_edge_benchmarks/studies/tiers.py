"""What a coarse model changes in the labels of a finer one, and how far organs reach beyond what it finds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np

from autosam_edge.pipeline.body_box import ORGAN_MARGIN_MM, organ_box
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Segmentation, Volume
from autosam_edge_benchmarks.result_header import Result, mean, new_result, shown
from autosam_edge_benchmarks.studies.organ_dice import Labels, mean_dice
from autosam_edge_training.data import Prepared, Split
from autosam_edge_training.data.case import UNKNOWN
from autosam_edge_training.evaluate.evaluator import read_truth, split_entries


@dataclasses.dataclass(frozen=True)
class TierCase:
    """A scan, labeled by a model alone and behind a coarse one.

    Args:
        alone: Mean Dice over the organs present, of the model alone; None, here and below, without organs.
        coarse_to_fine: The same with the coarse model.
        each_other: Mean Dice of one with the other.
        tiles_alone: Tiles of the model alone.
        tiles: Tiles of the model behind the coarse one, without those of the coarse one.
        region: What was labeled, ``organs`` or ``body``.
        missed_mm: Largest distance along (D, H, W) by which the true organs reach beyond the box of those
            that the coarse model found, mm.
    """

    alone: float | None
    coarse_to_fine: float | None
    each_other: float | None
    tiles_alone: int
    tiles: int
    region: str
    missed_mm: list[float]


_MEANS = ("alone", "coarse_to_fine", "each_other", "tiles_alone", "tiles")


def measure_tiers(
    fine: Path, coarse: Path, data: Path, split: Split, *, log: Callable[[str], None] = lambda _: None
) -> Result:
    """Measure a model alone, and with a coarse one that finds the organs before it.

    Args:
        fine: Bundle that labels.
        coarse: Bundle that finds the organs.

    Returns:
        Each case as :class:`TierCase`, the means, and the largest ``missed_mm``.
    """
    result = new_result("tiers")
    prepared = Prepared.read(data)
    labeling, finding = open_session(fine), open_session(coarse)
    cases = {}
    for entry in split_entries(prepared, split):
        cases[entry.name] = _measure_case(labeling, finding, *read_truth(entry, prepared))
        log(f"case {entry.name}: {_sentence(cases[entry.name])}")
    return {
        **result,
        "model": labeling.model.name,
        "coarse_model": finding.model.name,
        "engine": dict(labeling.engine.description),
        "data": f"{prepared.dataset} {split}",
        "margin_mm": list(ORGAN_MARGIN_MM),
        "mean": {key: mean(getattr(case, key) for case in cases.values()) for key in _MEANS},
        "missed_mm": np.max([case.missed_mm for case in cases.values()], axis=0).tolist(),
        "cases": {name: dataclasses.asdict(case) for name, case in cases.items()},
    }


def _sentence(case: TierCase) -> str:
    missed = " x ".join(f"{length_mm:.1f}" for length_mm in case.missed_mm)
    return (
        f"mean Dice {shown(case.alone)} alone ({case.tiles_alone} tiles), {shown(case.coarse_to_fine)} "
        f"behind the coarse model ({case.tiles} tiles of the {case.region}), {shown(case.each_other)} "
        f"of one with the other; organs reach up to {missed} mm beyond those that the coarse model found"
    )


def _measure_case(
    labeling: Session, finding: Session, volume: Volume, truth: Labels, known: Mapping[str, int]
) -> TierCase:
    both = Session(labeling.model, labeling.engine, coarse=finding)
    alone, limited = labeling.segment(volume), both.segment(volume)
    parameters = limited.provenance.parameters
    names = {organ.name: organ.value for organ in alone.table}
    return TierCase(
        mean_dice(alone.labels, truth, alone.table, known),
        mean_dice(limited.labels, truth, alone.table, known),
        mean_dice(limited.labels, alone.labels, alone.table, names),
        cast("int", alone.provenance.parameters["tiles"]),
        cast("int", parameters["tiles"]),
        str(parameters["region"]),
        _missed_mm(finding.segment(volume), truth),
    )


def _missed_mm(found: Segmentation, truth: Labels) -> list[float]:
    """Largest distance along (D, H, W) by which the true organs reach beyond the box of the found ones."""
    orientation, grid = found.grid.orientation, found.grid.canonical
    mine, true = (
        organ_box(orientation.to_canonical(labels), grid, margin_mm=(0.0, 0.0, 0.0))
        for labels in (found.labels, np.where(truth == UNKNOWN, 0, truth).astype(np.uint8))
    )
    if mine is None or true is None:
        return [0.0] * 3  # nothing to find; or nothing found, and the whole body is labeled
    return [
        max(0.0, (a.start - b.start) * spacing, (b.stop - a.stop) * spacing)
        for a, b, spacing in zip(mine, true, grid.upright_spacing_mm, strict=True)
    ]

"""Accuracy on the input's own grid, through the runtime: what a user gets, not what the network saw (teacher.md 5.7)."""

from __future__ import annotations

import csv
import dataclasses
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.metrics import compute_surface_dice

from autosam_edge.errors import InputError
from autosam_edge.io.nifti import read_array, read_nifti
from autosam_edge.metrics import dice
from autosam_edge_training.data import cases_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from autosam_edge.session import Session

TOLERANCES_MM = (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Score:
    """One organ of one case.

    Args:
        case: Case number.
        organ: Name.
        dice: 0 to 1; NaN where the truth has no such organ.
        nsd_1, nsd_2, nsd_3: Normalized surface Dice (Nikolov et al. 2018) at 1, 2 and 3 mm; NaN as above.
        truth_ml, found_ml: Volumes, milliliters.
    """

    case: str
    organ: str
    dice: float
    nsd_1: float
    nsd_2: float
    nsd_3: float
    truth_ml: float
    found_ml: float


def surface_dice(
    found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Normalized surface Dice at 1, 2 and 3 mm, on a crop around both masks.

    Args:
        found: (D, H, W), not empty.
        truth: (D, H, W), not empty.
        spacing_mm: (D, H, W).

    Source: MONAI ``compute_surface_dice(use_subvoxels=True)``, which agrees with Nikolov's reference to four digits.
    """
    pair = [mask.expand(1, len(TOLERANCES_MM), -1, -1, -1) for mask in cropped_pair(found, truth)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # MONAI 1.6 warns of a deprecated argument that it passes to itself
        values = compute_surface_dice(
            pair[0], pair[1], class_thresholds=list(TOLERANCES_MM), include_background=True, spacing=spacing_mm, use_subvoxels=True
        )
    one, two, three = (float(v) for v in values[0])
    return one, two, three


def cropped_pair(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Two masks (D, H, W), not both empty, on a crop around them with two voxels to spare: (1, 1, D', H', W') for MONAI."""
    where = [np.flatnonzero((a | b).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    crop = tuple(slice(max(0, int(w[0]) - 2), int(w[-1]) + 3) for w in where)
    first, second = (torch.from_numpy(np.ascontiguousarray(mask[crop]))[None, None] for mask in (a, b))
    return first, second


def score_case(case: str, session: Session, image: Path, label: Path) -> list[Score]:
    """Segment one scan and compare every organ.

    An organ that the truth lacks is skipped (NaN); one that is there and was not found scores 0.
    """
    volume = read_nifti(image)
    truth, grid = read_array(label)
    if not grid.same_as(volume.grid, tolerance_mm=1e-3):
        raise InputError("AE-NIFTI-005", "image and label lie on different grids.", remedy="Use the pair as the data set ships it.")
    found = session.segment(volume).labels
    scores = []
    for organ in session.bundle.manifest.labels:
        a, b = found == organ.value, truth == organ.value
        size_a, size_b = int(np.count_nonzero(a)), int(np.count_nonzero(b))
        nan = float("nan")
        overlap, surface = (dice(a, b), (0.0, 0.0, 0.0)) if size_b else (nan, (nan, nan, nan))
        if size_a and size_b:
            surface = surface_dice(a, b, grid.spacing_mm)
        scores.append(Score(case, organ.name, overlap, *surface, size_b * grid.voxel_ml, size_a * grid.voxel_ml))
    return scores


def summarize(scores: list[Score]) -> dict[str, Any]:
    """Mean over cases per organ, then over organs, without the background; the case-first mean beside it."""
    keys = ("dice", "nsd_1", "nsd_2", "nsd_3")
    organs: dict[str, dict[str, float]] = {}
    for name in dict.fromkeys(s.organ for s in scores):
        rows = [s for s in scores if s.organ == name]
        present = [s for s in rows if not np.isnan(s.dice)]
        if present:
            organs[name] = {key: float(np.mean([getattr(s, key) for s in present])) for key in keys}
            organs[name]["cases"] = len(present)
    cases = {case: float(np.nanmean([s.dice for s in scores if s.case == case])) for case in dict.fromkeys(s.case for s in scores)}
    means = {f"mean_{key}": float(np.mean([organ[key] for organ in organs.values()])) for key in keys}
    return {**means, "mean_dice_case_first": float(np.mean(list(cases.values()))), "organs": organs, "cases": cases}


def evaluate(session: Session, data: Path, split: str, out: Path | None = None, *, say: Callable[[str], None] = print) -> dict[str, Any]:
    """Score a split; with ``out``, write ``cases.csv`` and ``summary.json`` there."""
    scores: list[Score] = []
    for name, image, label in cases_of(data, split):
        scores.extend(score_case(name, session, image, label))
        say(f"case {name}: mean Dice {np.nanmean([s.dice for s in scores if s.case == name]):.3f}")
    manifest = session.bundle.manifest
    summary = {
        "model": manifest.name,
        "engine": session.engine.description,
        "overlap": manifest.input.overlap,
        "data": f"BTCV {split}",
        **summarize(scores),
    }
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        with (out / "cases.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Score)])
            writer.writeheader()
            writer.writerows(dataclasses.asdict(score) for score in scores)
        (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n")
    return summary


def as_markdown(summary: dict[str, Any]) -> str:
    """The table of a summary."""
    lines = ["| organ | Dice | NSD 1 mm | NSD 2 mm | NSD 3 mm | cases |", "|---|---|---|---|---|---|"]
    for name, organ in summary["organs"].items():
        lines.append(
            f"| {name} | {organ['dice']:.3f} | {organ['nsd_1']:.3f} | {organ['nsd_2']:.3f} | {organ['nsd_3']:.3f} | {organ['cases']} |"
        )
    means = " | ".join(f"**{summary[f'mean_{key}']:.3f}**" for key in ("dice", "nsd_1", "nsd_2", "nsd_3"))
    return "\n".join([*lines, f"| **mean** | {means} | {len(summary['cases'])} |"])

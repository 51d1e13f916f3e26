"""Dice and normalized surface Dice of one organ in one case, and the table of scores."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from monai.metrics.surface_dice import compute_surface_dice

from autosam_edge.measurements import dice
from autosam_edge_training.choices import AbsentOrganRule
from autosam_edge_training.error_codes import SCORES_INVALID

TOLERANCES_MM = (1.0, 2.0, 3.0)
Metric = Literal["dice", "nsd_1", "nsd_2", "nsd_3"]
METRICS: tuple[Metric, ...] = get_args(Metric)
HEADINGS = "Dice", "NSD 1 mm", "NSD 2 mm", "NSD 3 mm"
"""Headings of the metrics in a table."""
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Score:
    """One organ of one case, a row of ``cases.csv``.

    Args:
        dice: 0 to 1; NaN where the truth has no such organ and such organs are skipped.
        nsd_1, nsd_2, nsd_3: Normalized surface Dice (Nikolov et al. 2018) at 1, 2 and 3 mm; NaN as above.
        gt_voxels, pred_voxels: Sizes in the truth and in the prediction.
        spacing: Voxel spacing of the scan's grid (D, H, W), mm; in the file ``5.0x0.76x0.76``.
    """

    method: str
    dataset: str
    case: str
    organ: str
    dice: float
    nsd_1: float
    nsd_2: float
    nsd_3: float
    gt_voxels: int
    pred_voxels: int
    spacing: Spacing


COLUMNS = tuple(field.name for field in dataclasses.fields(Score))


def score_masks(
    found: npt.NDArray[np.bool_],
    truth: npt.NDArray[np.bool_],
    spacing_mm: Spacing,
    *,
    absent_organ: AbsentOrganRule = "skip",
) -> dict[str, float]:
    """The four metrics of one organ.

    Args:
        found: (D, H, W), what was predicted.
        absent_organ: Rule for an organ that the truth lacks: ``skip``, NaN always; ``challenge``, 1
            if nothing was found either, else 0. An organ that is there and was not found is worth 0 under
            both.
    """
    there, seen = bool(truth.any()), bool(found.any())
    if there and seen:
        return {
            "dice": dice(found, truth),
            **dict(zip(METRICS[1:], surface_dice(found, truth, spacing_mm), strict=True)),
        }
    if there:
        worth = 0.0
    elif absent_organ == "skip":
        worth = math.nan
    else:
        worth = 0.0 if seen else 1.0
    return dict.fromkeys(METRICS, worth)


def surface_dice(
    found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_], spacing_mm: Spacing
) -> tuple[float, float, float]:
    """Normalized surface Dice at 1, 2 and 3 mm, on a crop around both masks.

    Args:
        found: (D, H, W), not empty.
        truth: (D, H, W), not empty.

    Source: MONAI ``compute_surface_dice(use_subvoxels=True)``, which agrees with Nikolov's reference to
    1.5e-7. Where a distance of the surfaces equals the tolerance up to rounding, the two may count it
    differently: at a spacing of 0.8 x 0.9 x 2.5 mm and 3 mm they differed by 0.0029.
    """
    pair = [mask.expand(1, len(TOLERANCES_MM), -1, -1, -1) for mask in cropped_pair(found, truth)]
    with warnings.catch_warnings():
        # MONAI 1.6 warns of a deprecated argument that it passes to itself.
        warnings.simplefilter("ignore", FutureWarning)
        values = compute_surface_dice(
            pair[0],
            pair[1],
            class_thresholds=list(TOLERANCES_MM),
            include_background=True,
            spacing=spacing_mm,
            use_subvoxels=True,
        )
    one, two, three = (min(1.0, float(v)) for v in values[0])  # a ratio of float32 sums
    return one, two, three


def cropped_pair(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> tuple[torch.Tensor, torch.Tensor]:
    """Crop two masks (D, H, W), not both empty, with a margin of two voxels, to (1, 1, D', H', W')."""
    where = [np.flatnonzero((a | b).any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    crop = tuple(slice(max(0, int(w[0]) - 2), int(w[-1]) + 3) for w in where)
    first, second = (torch.from_numpy(np.ascontiguousarray(mask[crop]))[None, None] for mask in (a, b))
    return first, second


def as_csv(scores: Sequence[Score]) -> str:
    """The rows of ``cases.csv``; a score that was skipped is empty."""
    rows = []
    for score in scores:
        row = dataclasses.asdict(score)
        row |= {metric: "" if math.isnan(row[metric]) else row[metric] for metric in METRICS}
        rows.append(row | {"spacing": "x".join(str(side) for side in score.spacing)})
    return csv_text(COLUMNS, rows)


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """A table in CSV with a line of headings; each row has a value for every column."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_csv(path: Path) -> list[Score]:
    """The rows of a ``cases.csv``.

    Raises:
        InputError: It is not such a table, or is empty (AE-DATA-012).
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # a spreadsheet adds a byte order mark
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise ValueError(f"its columns are not {', '.join(COLUMNS)}")
            scores = [_score(row) for row in reader]
        if not scores:
            raise ValueError("it has no row")
        if len({(score.case, score.organ) for score in scores}) != len(scores):
            raise ValueError("an organ of a case stands in it twice")
        if len({(score.method, score.dataset) for score in scores}) != 1:
            raise ValueError("it holds several methods or data sets")
    except (OSError, ValueError, csv.Error) as error:
        why = type(error).__name__ if isinstance(error, OSError) else error
        raise SCORES_INVALID(f"{path.name} cannot be used: {why}.") from error
    return scores


def _score(row: dict[str, str]) -> Score:
    # Where csv puts cells that are too many, and what it takes for those that are missing.
    if None in row or None in row.values():
        raise ValueError("a row has more or fewer cells than there are columns")
    overlap, one, two, three = (float(row[metric] or "nan") for metric in METRICS)
    if any(not (math.isnan(value) or 0.0 <= value <= 1.0) for value in (overlap, one, two, three)):
        raise ValueError("a score lies outside of 0 to 1")
    d, h, w = (float(side) for side in row["spacing"].split("x"))
    sizes = int(row["gt_voxels"]), int(row["pred_voxels"])
    return Score(
        row["method"], row["dataset"], row["case"], row["organ"], overlap, one, two, three, *sizes, (d, h, w)
    )

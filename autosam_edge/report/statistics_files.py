"""Organ statistics as JSON for programs and as CSV for spreadsheets."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from dataclasses import asdict, fields
from typing import TYPE_CHECKING

from autosam_edge.measurements import OrganStatistics
from autosam_edge.scan_warning import most_severe_first
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autosam_edge.volume import Segmentation

_DECIMALS = {"ml": 4, "mean_hu": 3, "sd_hu": 3, "expected_dice": 3}


def csv_cell(column: str, value: object) -> object:
    """A value as the CSV files have it: rounded by its column, ``true`` or ``false``, empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.{_DECIMALS[column]}f}" if column in _DECIMALS else value


def write_statistics_json(
    segmentation: Segmentation, statistics: Sequence[OrganStatistics], path: Path
) -> None:
    """Write organs, grid, provenance, verdict and warnings.

    There is no date, so equal input gives equal bytes.

    Args:
        segmentation: Segmentation whose provenance, verdict, warnings and grid are written.
        statistics: One entry per organ of the table.

    Raises:
        OSError: The file cannot be written.
    """
    grid = segmentation.grid
    codes = {
        label.value: {"code": label.snomed_code, "meaning": label.snomed_meaning}
        for label in segmentation.table
    }
    content = {
        "research_use": RESEARCH_USE,
        **grid.described(),
        "affine_lps_mm": grid.affine.tolist(),
        "organs": [{**asdict(organ), "snomed_ct": codes.get(organ.label)} for organ in statistics],
        "plausibility": segmentation.plausibility and segmentation.plausibility.as_dict(),
        "warnings": [warning.as_dict() for warning in segmentation.warnings],
        "provenance": segmentation.provenance.as_dict(),
    }
    path.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_statistics_csv(
    segmentation: Segmentation, statistics: Sequence[OrganStatistics], path: Path
) -> None:
    """Write one line per organ below a header line (RFC 4180); what an absent organ lacks is an empty cell.

    The columns ``warnings`` (of the organ) and ``scan_warnings`` (of the whole scan) hold codes, separated by
    a space. Each line names the software, the model, the verdict and the intended use, since lines are
    what is copied into other tables.

    Args:
        segmentation: Segmentation whose provenance, verdict and warnings are written.
        statistics: One entry per organ of the table.

    Raises:
        OSError: The file cannot be written.
    """
    provenance = segmentation.provenance
    codes: dict[str | None, list[str]] = defaultdict(list)
    for warning in most_severe_first(segmentation.warnings):
        if warning.code not in codes[warning.organ]:
            codes[warning.organ].append(warning.code)
    same_in_each_line = {
        "scan_warnings": " ".join(codes[None]),
        "software": provenance.software_and_version,
        "model": provenance.model,
        "model_sha256": provenance.model_sha256,
        "verdict": segmentation.verdict or "",
        "research_use": RESEARCH_USE,
    }
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow([*(field.name for field in fields(OrganStatistics)), "warnings", *same_in_each_line])
        for organ in statistics:
            table.writerow(
                [
                    *(csv_cell(name, value) for name, value in asdict(organ).items()),
                    " ".join(codes[organ.name]),
                    *same_in_each_line.values(),
                ]
            )

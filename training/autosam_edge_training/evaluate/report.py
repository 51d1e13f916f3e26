"""The summary of a set of scores, and the files that hold it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from autosam_edge.system.atomic_files import write_files
from autosam_edge.system.machine import describe_machine
from autosam_edge_training.evaluate.scores import METRICS, Score, as_csv
from autosam_edge_training.strict import JsonObject


def summarize(scores: Sequence[Score]) -> JsonObject:
    """Mean over cases per organ, then over organs, without the background; the case-first means beside it.

    Scores that were skipped count nowhere; an organ or a case without any other is left out.
    """
    organs, cases = _means(scores, "organ"), _means(scores, "case")
    return {
        **{f"mean_{metric}": _mean(organ[metric] for organ in organs.values()) for metric in METRICS},
        **{f"mean_{metric}_case_first": _mean(case[metric] for case in cases.values()) for metric in METRICS},
        "organs": organs,
        "cases": {name: case["dice"] for name, case in cases.items()},
    }


def _means(scores: Sequence[Score], by: Literal["organ", "case"]) -> dict[str, JsonObject]:
    """Mean of each score by organ or by case; ``cases`` is the number of scores, for an organ one a case."""
    means: dict[str, JsonObject] = {}
    for name in dict.fromkeys(getattr(score, by) for score in scores):
        present = [score for score in scores if getattr(score, by) == name and not math.isnan(score.dice)]
        if present:
            means[name] = {metric: _mean(getattr(score, metric) for score in present) for metric in METRICS}
            means[name]["cases"] = len(present)
    return means


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def report(scores: Sequence[Score], split: str, details: Mapping[str, Any]) -> JsonObject:
    """The content of ``summary.json``.

    Args:
        scores: Scores of one method on one data set, not empty.
        details: Further values for the summary, such as ``model``, ``engine`` and ``empty``.
    """
    first = scores[0]
    return {
        "method": first.method,
        "dataset": first.dataset,
        "data": f"{first.dataset} {split}",
        **details,
        "machine": describe_machine(),
        **summarize(scores),
    }


def as_markdown(summary: Mapping[str, Any]) -> str:
    """The table of a summary."""
    lines = [
        f"# {summary['method']} on {summary['data']}",
        "",
        "On the scans' own grid. NSD: normalized surface Dice. Means over the cases with the organ.",
        "",
        "| organ | Dice | NSD 1 mm | NSD 2 mm | NSD 3 mm | cases |",
        "|---|---|---|---|---|---|",
    ]
    for name, organ in summary["organs"].items():
        figures = " | ".join(f"{organ[metric]:.3f}" for metric in METRICS)
        lines.append(f"| {name} | {figures} | {organ['cases']} |")
    means = " | ".join(_bold(summary[f"mean_{metric}"]) for metric in METRICS)
    return "\n".join([*lines, f"| **mean** | {means} | {len(summary['cases'])} |"]) + "\n"


def _bold(value: float | None) -> str:
    return "n/a" if value is None else f"**{value:.3f}**"


def write_results(out: Path, scores: Sequence[Score], summary: Mapping[str, Any]) -> None:
    """Write ``cases.csv``, ``summary.json`` and ``summary.md``, replacing older files of these names."""
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    texts = {"cases.csv": as_csv(scores), "summary.json": text, "summary.md": as_markdown(summary)}
    write_files({out / name: text.encode() for name, text in texts.items()})

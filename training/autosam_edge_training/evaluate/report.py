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
from autosam_edge_training.evaluate.scores import HEADINGS, METRICS, Score, as_csv
from autosam_edge_training.strict import JsonObject

_NO_MEAN = "n/a"


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
        "false_positives": _false_positives(scores),
    }


def _false_positives(scores: Sequence[Score]) -> JsonObject:
    """Organs that the truth of a case lacks and the prediction has: in how many cases, and ml in all."""
    found: JsonObject = {}
    for score in scores:
        if score.pred_voxels and not score.gt_voxels:
            organ = found.setdefault(score.organ, {"cases": 0, "ml": 0.0})
            organ["cases"] += 1
            organ["ml"] += score.pred_voxels * math.prod(score.spacing) / 1000.0
    return found


def as_markdown(summary: Mapping[str, Any]) -> str:
    """The table of a summary."""
    lines = [
        f"# {summary['method']} on {summary['data']}",
        "",
        "On the scans' own grid. NSD: normalized surface Dice. Means over the cases with the organ.",
        "",
        *(line for remark in remarks(summary) for line in (remark, "")),
        f"| organ | {' | '.join(HEADINGS)} | cases |",
        "|---|---|---|---|---|---|",
    ]
    *organs, (mean, *values, cases) = table_rows(summary)
    bold = [value if value == _NO_MEAN else f"**{value}**" for value in (mean, *values)]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in (*organs, (*bold, cases)))]) + "\n"


def table_rows(summary: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The cells of a summary's table: name, metrics and cases of each organ, then those of the mean."""
    rows = [
        (name, *(f"{organ[metric]:.3f}" for metric in METRICS), str(organ["cases"]))
        for name, organ in summary["organs"].items()
    ]
    means = [summary[f"mean_{metric}"] for metric in METRICS]
    values = [_NO_MEAN if mean is None else f"{mean:.3f}" for mean in means]
    return [*rows, ("mean", *values, str(len(summary["cases"])))]


def remarks(summary: Mapping[str, Any]) -> list[str]:
    """What the means of a summary do not show, a sentence each."""
    lines = []
    if seen := summary.get("seen"):
        names = ", ".join(seen)
        lines.append(
            f"The model was trained on cases of these names; it is better on the same scans: {names}."
        )
    if missing := summary.get("not_scored"):
        lines.append(f"Organs that the model does not know; they are not in the means: {', '.join(missing)}.")
    if found := summary.get("false_positives"):
        organs = ", ".join(f"{name} (cases: {f['cases']}, {f['ml']:.1f} ml)" for name, f in found.items())
        how = "count as 0" if summary.get("empty") == "challenge" else "are not in the means"
        lines.append(
            f"False positives, organs that the scan lacks and the prediction has; they {how}: {organs}."
        )
    return lines


def write_results(out: Path, scores: Sequence[Score], summary: Mapping[str, Any]) -> None:
    """Write ``cases.csv``, ``summary.json`` and ``summary.md``, replacing older files of these names."""
    text = json.dumps(summary, indent=1, allow_nan=False) + "\n"
    texts = {"cases.csv": as_csv(scores), "summary.json": text, "summary.md": as_markdown(summary)}
    write_files({out / name: text.encode() for name, text in texts.items()})

"""The tables of docs/plausibility.md, from the default bundle, the reference and the stored study.

Run this file to write them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autosam_edge.bundle import open_bundle
from autosam_edge.label_table import label_table
from autosam_edge.plausibility import reference
from autosam_edge.plausibility.thresholds import UpperLimit

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plausibility.md"
STUDY = ROOT / "benchmarks" / "results" / "plausibility.json"
FIRST = "## Thresholds of the default bundle"
_NAMES = {
    "confidence": "mean probability of the organs",
    "share_below_fat": "share of voxels below -100 HU",
    "abdomen_ml": "organs of the abdomen, ml",
    "other_organs": "mean probability of other organs, beside a whole liver: a sign",
    "surest_organ": "probability of the surest liver, spleen or kidney, where the mean is below its limit",
}

_ABOUT_THRESHOLDS = """\
They stand in the manifest as `plausibility`, with the numbers behind them: the lowest and the highest value
over usable inputs, and over the unusable ones that this number has to find. {} training and validation scans
of BTCV and what was made of them gave these numbers, never a test scan. Another student needs its own:
`autosam-edge bench plausibility --data PREPARED -o FILE`, then `export --plausibility FILE`. A bundle without
thresholds checks nothing."""
_ABOUT_SIGNS = """\
Lowest, median and highest of the scans of the fit. A limit in the code lies outside of what nearly all of
them show as they are; the highest share of a spleen is a patient with a spleen of 3.2 liters."""
_ABOUT_STUDY = """\
`benchmarks/results/plausibility.json` holds every input with its values. The first inputs gave the
thresholds. The others are scans from other sources, what was made of them, and synthetic inputs. Of these
others four halves of scans are refused that a person might use (the network is sure of no organ there, or
labels a mass), and four unusable inputs of two scans are not refused; they are listed as `KNOWN` in
`tests/benchmarks/studies/test_plausibility.py`. The probability of single organs was measured on the inputs
whose mean probability is below 0.89, since the rule looks at no others."""
_ABOUT_ORGANS = """\
Wider than in healthy people, so that disease, surgery and contrast rarely leave the ranges. A lower limit of
0 ml is no limit."""


def tables() -> str:
    """The part of the page from its first generated section on."""
    return "\n".join([*_thresholds(), *_signs(), *_study(), *_reference()]) + "\n"


def _thresholds() -> list[str]:
    limits = open_bundle().manifest.plausibility
    assert limits is not None
    lines = [
        FIRST,
        "",
        _ABOUT_THRESHOLDS.format(len(limits.scans)),
        "",
        "| number | doubtful | refused | usable inputs | unusable inputs |",
        "|---|---|---|---|---|",
    ]
    for name, title in _NAMES.items():
        limit = getattr(limits, name)
        spans = [f"{span[0]:.4g} to {span[1]:.4g}" for span in (limit.usable, limit.unusable)]
        limits_of_it = (
            f"above {limit.sign:g} | "
            if isinstance(limit, UpperLimit)
            else f"below {limit.doubtful:g} | below {limit.refused:g}"
        )
        lines.append(f"| {title} | {limits_of_it} | {spans[0]} | {spans[1]} |")
    low, high = reference.LIVER_REFUSED_ML
    lines += ["", f"The liver is refused below {low:.0f} and above {high:.0f} ml, whatever the model.", ""]
    return lines


def _study() -> list[str]:
    study = json.loads(STUDY.read_text())
    lines = [
        "## Inputs and verdicts",
        "",
        _ABOUT_STUDY,
        "",
        "| input | inputs | plausible | doubtful | implausible | mean probability | below -100 HU |",
        "|---|---|---|---|---|---|---|",
    ]
    for fitted in (True, False):
        for usable in (True, False):
            source = "BTCV" if fitted else "other scans"
            lines.append(f"| **{source}, {'usable' if usable else 'unusable'}** | | | | | | |")
            rows = [row for row in study["summary"] if (row["fitted"], row["usable"]) == (fitted, usable)]
            lines += [_row(row) for row in rows]
    return [*lines, ""]


def _signs() -> list[str]:
    """What the signs beside a whole liver measure, on the scans of the fit and on their mirror images."""
    inputs = [row for row in json.loads(STUDY.read_text())["inputs"] if row["fitted"]]
    measures = {
        "volume of the spleen / liver": lambda organs: organs["spleen"]["ml"] / organs["liver"]["ml"],
        "liver left of the right kidney, mm": lambda organs: (
            organs["liver"]["center_mm"][0] - organs["kidney_right"]["center_mm"][0]
        ),
        "volume of the vena cava / aorta": lambda organs: (
            organs["inferior_vena_cava"]["ml"] / organs["aorta"]["ml"]
        ),
    }
    lines = [
        "## Numbers behind the signs",
        "",
        _ABOUT_SIGNS,
        "",
        "| measured | as they are | mirrored |",
        "|---|---|---|",
    ]
    for title, measure in measures.items():
        cells = []
        for name in ("as it is", "mirrored"):
            values = sorted(measure(row["measured"]["organs"]) for row in inputs if row["input"] == name)
            cells.append(f"{values[0]:.2f}, {values[len(values) // 2]:.2f}, {values[-1]:.2f}")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return [*lines, ""]


def _row(row: dict[str, Any]) -> str:
    counts = [str(row[name] or "") for name in ("plausible", "doubtful", "implausible")]
    spans = [
        "" if row[name] is None else f"{row[name][0]:.3f} to {row[name][1]:.3f}" for name in list(_NAMES)[:2]
    ]
    return f"| {row['input']} | {row['inputs']} | {' | '.join(counts)} | {' | '.join(spans)} |"


def _reference() -> list[str]:
    titles = {label.name: label.title for label in label_table(["background", *reference.ORGANS])}
    lines = [
        "## What organs can be like",
        "",
        _ABOUT_ORGANS,
        "",
        "| organ | volume, ml | median HU | sources |",
        "|---|---|---|---|",
    ]
    for name, organ in reference.ORGANS.items():
        spans = [f"{span[0]:g} to {span[1]:g}" for span in (organ.ml, organ.hu)]
        lines.append(f"| {titles[name]} | {spans[0]} | {spans[1]} | {', '.join(organ.sources)} |")
    lines += ["", *(f"- **{key}**: {text}." for key, text in reference.SOURCES.items())]
    return lines


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        text[: text.index(FIRST)] + tables() if FIRST in text else text + tables(), encoding="utf-8"
    )

"""The tables of docs/plausibility.md, from the default bundle, the reference and the stored study.

Run this file to write them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from autosam_edge_test_support import RESULTS

from autosam_edge.bundle import open_bundle
from autosam_edge.labels import label_table
from autosam_edge.plausibility import reference
from autosam_edge.plausibility.thresholds import Measured, SignLimits, Threshold, Thresholds

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "plausibility.md"
STUDY = RESULTS / "plausibility.json"
FAST = {"validation": "confidence", "test": "confidence_test"}
STANDARD = {"validation": "confidence_standard", "test": "confidence_standard_test"}
FIRST = "## Thresholds of the default bundle"
_NAMES = {
    "confidence": "mean probability of the organs",
    "share_below_fat": "share of voxels below -100 HU",
    "abdomen_ml": "organs of the abdomen, ml",
    "surest_organ": "probability of the surest liver, spleen or kidney, where the mean is below its limit",
    "impossible_values": "share of the volume in organs with impossible HU",
    "smallest_liver_ml": "volume of a whole liver, ml",
    "largest_liver_ml": "volume of a liver, ml",
    "abdomen_organs": "number of organs of the abdomen with 1 ml or more",
}
_SIGNS = {
    "wrong_side_mm": "an organ on the wrong side of another, mm between centers",
    "kidneys_ml": "both kidneys, ml",
    "spleen_share": "spleen / liver",
    "liver_medial_mm": "liver left of the right kidney, mm between centers",
    "vena_cava_share": "vena cava / aorta",
    "other_organs": "mean probability of other organs",
}
_LOWEST = ("smallest_liver_ml", "abdomen_organs", "kidneys_ml", "vena_cava_share")

_ABOUT_THRESHOLDS = """\
They stand in the manifest as `plausibility`, each with the numbers behind it: the count of the inputs, the
lowest value, the 10 % quantile, the median, the 90 % quantile and the highest value, over the usable inputs
to which the rule applies and over the unusable ones that it has to find. {} training and validation scans
of BTCV and what was made of them gave these numbers, never a test scan. Another student needs its own:
`autosam-edge bench plausibility --data PREPARED -o FILE`, then `export --plausibility FILE`. A bundle without
thresholds checks nothing. Only the rules, and what an organ can be like, are part of the code."""
_ABOUT_SIGNS = """\
All but the first need a whole liver. The largest spleen is that of a patient with a spleen of 3.2 liters."""
_ABOUT_STUDY = """\
`benchmarks/results/plausibility.json` holds every input with its values. The first inputs gave the
thresholds. The others are scans from other sources, what was made of them, and synthetic inputs. The inputs
with another verdict than the wanted one are listed as `KNOWN` and `KNOWN_OF_FIT` in
`tests/benchmarks/studies/test_plausibility.py`."""
_ABOUT_EXPECTED = """\
The verdict says nothing about how exact the labels are. For that, each organ has an expected Dice: the
Dice that its labels probably have against those of a person. It is `expected_dice` in `statistics.json`,
`statistics.csv`, `--json`, the table of a batch and `organ_statistics`. An organ with less than {limit:g}
has the warning AE-WARN-116, a caution, which does not change the verdict.

It comes from the probabilities that the run has anyway. Near organs, where the background has less than
0.99, their logarithms are divided by a temperature of {temperature:g}, which makes them less certain. Of
each organ they then give the *soft Dice*: twice the sum of its probability over its voxels, divided by
the number of these voxels plus the sum over all voxels. This would be the expected Dice if the
probabilities were right. A map corrects it: its log odds are multiplied by {slope:.2f}, and a number is
added that each organ has for itself.

Temperature and map were fitted on the validation scans of BTCV ({scans}), on parts of them, and on worse
copies with noise, blur, thick slices or other HU: {organs} organs, where an organ counts once in each
input. The network did not see these scans in its training. The 20 training scans count nowhere, since the
network is too sure of them, and the test scans were looked at once, at the end. The map stands in the
manifest as `confidence`. Another student needs its own, after its decision weights:
`autosam-edge bench confidence --data PREPARED -o FILE`, then `export --confidence FILE`. A bundle without
it expects nothing.

The validation scans are judged by a map that was fitted on the other three, the test scans by that of the
bundle (`bench confidence --split test`). The limit of the warning was chosen so that it catches four of
five organs with a Dice below 0.5 in the validation scans. Numbers: `benchmarks/results/confidence.json`
and `confidence_test.json`."""
_EXPECTED_HEAD = (
    "| scans | organs | mean difference from the Dice | mean of expected less Dice | rank correlation | "
    "organs below 0.5 | warned of these | warned of the others |"
)
_ABOUT_BINS = """\
The test scans as they are, a slab of 60 mm of each, and a field of view of 150 mm of each. One organ in ten
has a Dice below the 10 % quantile, one in ten above the 90 % quantile."""
_ABOUT_STANDARD = """\
The tier `standard` has a map of its own ({organs} organs, temperature {temperature:g}, a warning below
{limit:g}). Its weights have seen the validation scans, so the map was fitted with its
[twin](../autosam_edge/bundles/standard.edge/MODEL_CARD.md#the-twin), which has not. Both labeled the whole
body, without the fast model (`confidence_standard.json`, `confidence_standard_test.json`):"""
_LIMITS = """\
What it cannot do:

- It knows what the network doubts. It does not see an error of which the network is sure, such as a mass
  that it takes for an organ. An organ that was not found has no expected Dice.
- It is a mean. One organ can be far from it, as the table shows.
- Ten scans of one center show that it works, not how well it works on another scanner. Parts and worse
  copies of a scan are not as different as other patients.
- It is the Dice against the labels of BTCV. In a small organ, a voxel more or less at its surface costs
  much Dice, so an adrenal gland has the warning often."""
_ABOUT_ORGANS = """\
Wider than in healthy people, so that disease, surgery and contrast rarely leave the ranges. A lower limit of
0 ml is no limit."""


def tables() -> str:
    """The part of the page from its first generated section on."""
    return "\n".join([*_thresholds(), *_study(), *_expected_dice(), *_reference()]) + "\n"


def _thresholds() -> list[str]:
    limits = open_bundle().manifest.plausibility
    assert limits is not None
    return [
        FIRST,
        "",
        _ABOUT_THRESHOLDS.format(len(limits.scans)),
        "",
        "| number | doubtful | refused | usable inputs | unusable inputs |",
        "|---|---|---|---|---|",
        *(_limit_row(limits, name, title) for name, title in _NAMES.items()),
        "",
        "## Limits of the signs",
        "",
        _ABOUT_SIGNS,
        "",
        "| sign | limit | usable inputs | unusable inputs |",
        "|---|---|---|---|",
        *(_limit_row(limits.signs, name, title) for name, title in _SIGNS.items()),
        "",
    ]


def _limit_row(limits: Thresholds | SignLimits, name: str, title: str) -> str:
    limit = getattr(limits, name)
    if isinstance(limit, Threshold):
        cells = [f"below {limit.doubtful:g}", f"below {limit.refused:g}"]
    else:
        cells = [f"{'below' if name in _LOWEST else 'above'} {limit.limit:g}"]
        cells = cells if isinstance(limits, SignLimits) else ["", *cells]
    return f"| {' | '.join([title, *cells, _spread(limit.usable), _spread(limit.unusable)])} |"


def _spread(measured: Measured) -> str:
    inner = f"{measured.p10:.4g}, {measured.median:.4g}, {measured.p90:.4g}"
    return f"{measured.count}: {measured.lowest:.4g}, {inner}, {measured.highest:.4g}"


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


def _row(row: dict[str, Any]) -> str:
    counts = [str(row[name] or "") for name in ("plausible", "doubtful", "implausible")]
    spans = [
        "" if row[name] is None else f"{row[name][0]:.3f} to {row[name][1]:.3f}" for name in list(_NAMES)[:2]
    ]
    return f"| {row['input']} | {row['inputs']} | {' | '.join(counts)} | {' | '.join(spans)} |"


def _expected_dice() -> list[str]:
    used = open_bundle().manifest.confidence
    assert used is not None
    about = _ABOUT_EXPECTED.format(
        limit=used.warn_below,
        temperature=used.temperature,
        slope=used.slope,
        scans=", ".join(used.scans),
        organs=used.organs,
    )
    finer = open_bundle(tier="standard").manifest.confidence
    assert finer is not None
    return [
        "## Expected Dice",
        "",
        about,
        "",
        *_reliability(FAST),
        "",
        _ABOUT_BINS,
        "",
        "| expected Dice | organs | mean expected | mean Dice | 10 % quantile | 90 % quantile |",
        "|---|---|---|---|---|---|",
        *(
            f"| {row['from']:g} to {row['to']:g} | {row['organs']} | {row['expected']:.2f} | "
            f"{row['dice']:.2f} | {row['p10']:.2f} | {row['p90']:.2f} |"
            for row in _reliabilities(FAST["test"])["all inputs"]["bins"]
        ),
        "",
        _ABOUT_STANDARD.format(organs=finer.organs, temperature=finer.temperature, limit=finer.warn_below),
        "",
        *_reliability(STANDARD),
        "",
        _LIMITS,
        "",
    ]


def _reliabilities(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(STUDY.with_name(f"{name}.json").read_text())["reliability"]
    return found


def _reliability(files: dict[str, str]) -> list[str]:
    lines = [_EXPECTED_HEAD, "|---|---|---|---|---|---|---|---|"]
    for split, file in files.items():
        for name, found in _reliabilities(file).items():
            values = (
                found["organs"],
                f"{found['mean_error']:.3f}",
                f"{found['bias']:+.3f}",
                f"{found['rank_correlation']:.2f}",
                found["bad_organs"],
                f"{found['caught']:.0%}",
                f"{found['false_alarms']:.0%}",
            )
            lines.append(f"| {split}, {name} | {' | '.join(map(str, values))} |")
    return lines


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

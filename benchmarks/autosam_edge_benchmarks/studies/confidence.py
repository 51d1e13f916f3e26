"""The map from probabilities to the expected Dice: its fit, and how well it agrees with the true Dice.

It is fitted on the validation scans of a data set, on parts of them and on worse copies; an organ counts once
in each input. The training scans count nowhere: the network is too sure of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from autosam_edge.plausibility.expected_dice import Confidence, log_odds
from autosam_edge_benchmarks.result_header import Result, mean
from autosam_edge_benchmarks.studies.confidence_inputs import TEMPERATURES, FloatArray
from autosam_edge_benchmarks.studies.plausibility import AS_IT_IS
from autosam_edge_training.error_codes import SPLIT_EMPTY

Inputs = Sequence[Result]

BAD_DICE = 0.5
"""An organ with a smaller Dice is one that the warning has to find."""
_CAUGHT = 0.8  # share of these organs that have the warning
_PRIOR = 1.0  # draws the offset of an organ to the mean of all offsets
_BINS = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def finished(result: Result, confidence: Confidence | None = None) -> Result:
    """The result with the map and how well it agrees with the true Dice.

    Inputs whose labels are refused, or without an organ, count nowhere.

    Args:
        confidence: Map to judge. None fits one on the result; the organs of a scan are then judged by a map
            that was fitted on the other scans.

    Raises:
        InputError: There are fewer than two scans to fit on, or no organ with a low or a high Dice
            (AE-DATA-005).
    """
    inputs = [entry for entry in result["inputs"] if entry["verdict"] != "implausible" and entry["organs"]]
    scans = sorted({entry["scan"] for entry in inputs})
    if confidence is not None:
        maps = dict.fromkeys(scans, confidence)
    elif len(scans) < 2:
        raise SPLIT_EMPTY(
            f"the split has {len(scans)} case(s) with plausible labels, expected at least two to fit on.",
            remedy="Prepare the data set with more validation cases.",
        )
    else:
        maps = {scan: _fit([entry for entry in inputs if entry["scan"] != scan]) for scan in scans}
        true, expected = _compare(inputs, maps)
        bad = (true < BAD_DICE)[~np.isnan(expected)]
        if bad.all() or not bad.any():
            raise SPLIT_EMPTY(
                f"{bad.sum()} of {len(bad)} organs have a Dice below {BAD_DICE}, expected some, and not all.",
                remedy="Prepare the data set with more validation cases.",
            )
        warn_below = float(np.ceil(np.nanquantile(expected[true < BAD_DICE], _CAUGHT) * 100) / 100)
        found = _agreement(true, expected, warn_below)
        figures = {name: found[name] for name in ("mean_error", "caught", "false_alarms")}
        confidence = replace(_fit(inputs), warn_below=warn_below, **figures)
    whole = [entry for entry in inputs if entry["input"] == AS_IT_IS]
    reliability = {
        name: _agreement(*_compare(chosen, maps), confidence.warn_below)
        for name, chosen in {AS_IT_IS: whole, "all inputs": inputs}.items()
    }
    return {**result, "confidence": asdict(confidence), "reliability": reliability}


def _organs(inputs: Inputs) -> list[tuple[str, Result]]:
    return [organ for entry in inputs for organ in entry["organs"].items()]


def _compare(inputs: Inputs, maps: dict[str, Confidence]) -> tuple[FloatArray, FloatArray]:
    """True Dice of all organs, and the expected one by the map of each scan, NaN where it lacks the organ."""
    expected = []
    for entry in inputs:
        confidence = maps[entry["scan"]]
        at = TEMPERATURES.index(confidence.temperature)
        soft_dice = {name: organ["soft_dice"][at] for name, organ in entry["organs"].items()}
        found = confidence.expected_dice(soft_dice)
        expected += [found.get(name, np.nan) for name in soft_dice]
    return np.array([organ["dice"] for _, organ in _organs(inputs)]), np.array(expected)


def _fit(inputs: Inputs) -> Confidence:
    """Temperature of the smallest log loss, and a logistic regression of the Dice (Papke, Wooldridge 1996).

    The figures of scans that the fit did not see, and the limit of the warning, are left 0.
    """
    at = int(np.mean([entry["log_loss"] for entry in inputs], axis=0).argmin())
    organs = _organs(inputs)
    names = sorted({name for name, _ in organs})
    true = np.array([organ["dice"] for _, organ in organs])
    odds = np.array([log_odds(organ["soft_dice"][at]) for _, organ in organs])
    which = np.array([[name == column for column in names] for name, _ in organs], dtype=np.float64)
    columns = np.column_stack([odds, np.ones(len(odds)), which])
    prior = np.array([1e-6, 1e-6, *[_PRIOR] * len(names)])
    weights = np.zeros(columns.shape[1])
    for _ in range(50):  # steps of Newton's method
        expected = 1.0 / (1.0 + np.exp(-columns @ weights))
        gradient = columns.T @ (true - expected) - prior * weights
        curvature = (columns * (expected * (1.0 - expected))[:, None]).T @ columns + np.diag(prior)
        weights += np.linalg.solve(curvature, gradient)
    offsets = dict(zip(names, np.round(weights[1] + weights[2:], 4).tolist(), strict=True))
    scans = tuple(sorted({entry["scan"] for entry in inputs}))
    slope = round(float(weights[0]), 4)
    return Confidence(TEMPERATURES[at], slope, offsets, 0.0, len(odds), 0.0, 0.0, 0.0, scans)


def _agreement(true: FloatArray, expected: FloatArray, warn_below: float) -> Result:
    known = ~np.isnan(expected)
    true, expected = true[known], expected[known]
    bad, warned = true < BAD_DICE, expected < warn_below
    bins = []
    for low, high in pairwise(_BINS):
        inside = (expected >= low) & (expected < high)
        if inside.any():
            p10, p90 = np.quantile(true[inside], (0.1, 0.9))
            means = {"expected": expected[inside].mean(), "dice": true[inside].mean(), "p10": p10, "p90": p90}
            rounded = {name: round(float(value), 3) for name, value in means.items()}
            bins.append({"from": low, "to": high, "organs": int(inside.sum()), **rounded})
    varies = len(true) > 1 and np.ptp(expected) > 0 and np.ptp(true) > 0
    return {
        "organs": len(true),
        "mean_error": _mean(np.abs(expected - true), 4),
        "bias": _mean(expected - true, 4),
        "rank_correlation": round(float(spearmanr(expected, true).statistic), 3) if varies else None,
        "bad_organs": int(bad.sum()),
        "caught": _mean(warned[bad], 3),
        "false_alarms": _mean(warned[~bad], 3),
        "bins": bins,
    }


def _mean(values: FloatArray | npt.NDArray[np.bool_], digits: int) -> float | None:
    found = mean(values)
    return None if found is None else round(found, digits)

"""Wilcoxon's signed-rank test, two-sided, on pairs of scores of two methods.

Pairs without a difference have no direction: they are left out, as Wilcoxon did, and counted.
Up to 500 pairs p is exact, with ties too; beyond that it is SciPy's normal approximation.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, wilcoxon

from autosam_edge.errors import AutosamEdgeError
from autosam_edge_training.choices import Unit
from autosam_edge_training.error_codes import SCORES_NOT_PAIRED
from autosam_edge_training.evaluate.scores import METRICS, Metric, Score, csv_text, read_csv
from autosam_edge_training.strict import JsonObject

ALPHA = 0.01  # the paper's level
# Number of pairs, half a second. At 78, six cases of 13 organs, the approximation can be wrong by a factor of
# two in the tail.
_EXACT_UP_TO = 500


@dataclass(frozen=True)
class SignedRank:
    """A signed-rank test.

    Args:
        p: Two-sided; 1 where no pair differs.
        method: ``exact`` or ``approximate``.
        smallest_p: What p would be if all n differences had the same sign, by exact count: 2 / 2^n. Nothing
            at this n is smaller.
        direction: 1 where the ranks of the positive differences have the larger sum, -1 where those of the
            negative ones have it, 0 where the sums are equal.
    """

    n: int
    zeros: int
    p: float
    method: Literal["exact", "approximate"]
    smallest_p: float
    direction: int


def signed_rank(differences: Sequence[float]) -> SignedRank:
    """Wilcoxon's signed-rank test of paired differences against a median of zero.

    Example:
        >>> signed_rank([1, 2, 3, 4, 5, 6]).p
        0.03125
    """
    # 0.3 - 0.2 and 0.2 - 0.1 are a tie, which rounding errors of the subtraction would hide.
    values = np.asarray(differences, dtype=np.float64).round(12)
    nonzero = values[values != 0]
    n, zeros = len(nonzero), len(values) - len(nonzero)
    exact = n <= _EXACT_UP_TO
    p = (
        _exact_p(nonzero)
        if exact
        else float(wilcoxon(nonzero, alternative="two-sided", method="approx").pvalue)
    )
    direction = int(np.sign((rankdata(np.abs(nonzero)) * np.sign(nonzero)).sum()))
    smallest_p = min(1.0, 2.0 ** (1 - n))
    return SignedRank(n, zeros, p, "exact" if exact else "approximate", smallest_p, direction)


def _exact_p(differences: npt.NDArray[np.float64]) -> float:
    """Two-sided p over all 2^n signs of the ranks; ties share their mean rank, unlike in SciPy."""
    twice = np.rint(2.0 * rankdata(np.abs(differences))).astype(np.int64)  # mean ranks are halves
    # chance[s]: that the positive ranks sum to s, if each sign is a coin's.
    chance = np.zeros(int(twice.sum()) + 1)
    chance[0] = 1.0
    for rank in twice:
        with_rank = chance[:-rank] / 2.0
        chance /= 2.0
        chance[rank:] += with_rank
    positive = int(twice[differences > 0].sum())
    smaller = min(positive, int(twice.sum()) - positive)
    return float(min(1.0, 2.0 * chance[: smaller + 1].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: controls the chance of any false claim among the tests.

    Source: S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of
    Statistics 6 (1979).
    """
    corrected = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


_FIELDS = (
    *("ours", "other", "metric", "unit", "mean_ours", "mean_other", "mean_difference"),
    *("n", "zeros", "p", "p_holm", "method", "smallest_p"),
)


def compare_methods(paths: Sequence[Path], *, unit: Unit = "case_organ") -> JsonObject:
    """Hold the first method against each of the others.

    Args:
        paths: ``cases.csv`` of ours, then of the others, all of the same data.

    Returns:
        ``unit``, ``ours``, ``comparisons``, ``better_than_all`` by metric (the star in a table: against
        every other method p < 0.01, the larger mean and the larger sum of ranks) and ``warnings``. A
        comparison holds the fields of :class:`SignedRank` but ``direction``, the means over the pairs and of
        the difference, ours minus theirs, and ``p_holm``: p corrected over the other methods, by this metric.

    Raises:
        InputError: A table cannot be read (AE-DATA-012), or two are not of the same data (AE-DATA-013).
    """
    ours, *other_tables = (read_csv(path) for path in paths)
    methods = [table[0].method for table in (ours, *other_tables)]
    our_name, *other_names = _distinct(methods, paths)
    others = dict(zip(other_names, other_tables, strict=True))
    warnings: list[str] = []
    comparisons: list[JsonObject] = []
    opposed: dict[str, list[str]] = {}
    better = dict.fromkeys(METRICS, True)
    for name, other in others.items():
        warnings += _check_pairable(ours, other, name)
    for metric in METRICS:
        tests = []
        for name, other in others.items():
            pairs = _pairs(ours, other, metric, unit)
            if not pairs:
                raise _not_same_data(f"{our_name} and {name} share no scored organ of a case")
            a, b = np.array(pairs).T
            tests.append((name, a, b, signed_rank(a - b)))
        corrected = holm([test.p for _, _, _, test in tests])
        for (name, a, b, test), p_holm in zip(tests, corrected, strict=True):
            row = {
                "ours": our_name,
                "other": name,
                "metric": metric,
                "unit": unit,
                "p_holm": p_holm,
                "mean_ours": float(a.mean()),
                "mean_other": float(b.mean()),
                "mean_difference": float((a - b).mean()),
                **dataclasses.asdict(test),
            }
            comparisons.append({field: row[field] for field in _FIELDS})
            mean = row["mean_difference"]
            better[metric] &= test.p < ALPHA and mean > 0 and test.direction > 0
            if test.p < ALPHA and mean * test.direction < 0:
                by_mean, by_ranks = (our_name, name) if mean > 0 else (name, our_name)
                found = f"{by_mean} is better by the mean, {by_ranks} by the ranks"
                opposed.setdefault(found, []).append(metric)
    return {
        "ours": our_name,
        "dataset": ours[0].dataset,
        "unit": unit,
        "alpha": ALPHA,
        "comparisons": comparisons,
        "better_than_all": better,
        "warnings": [*dict.fromkeys(warnings), *_cautions(comparisons, unit, opposed)],
    }


def _distinct(names: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Names of the methods, made unique by their folder and, if needed, by their position in the list."""
    for more in (
        [f" ({path.resolve().parent.name})" for path in paths],
        [f" #{place}" for place in range(1, len(paths) + 1)],
    ):
        names = [
            name + (extra if names.count(name) > 1 else "") for name, extra in zip(names, more, strict=True)
        ]
    return list(names)


def _check_pairable(ours: Sequence[Score], other: Sequence[Score], name: str) -> list[str]:
    """Refuse scores of other data; say which rows have no partner."""
    if ours[0].dataset != other[0].dataset:
        raise _not_same_data(f"one was scored on {ours[0].dataset}, {name} on {other[0].dataset}")
    sizes = {(score.case, score.organ): score.gt_voxels for score in ours}
    theirs = {(score.case, score.organ): score.gt_voxels for score in other}
    both = sizes.keys() & theirs.keys()
    if any(sizes[key] != theirs[key] for key in both):
        raise _not_same_data(f"the truth that {name} was scored against has other organ sizes")
    alone, ruled = len(sizes.keys() ^ theirs.keys()), len((_absent(ours) ^ _absent(other)) & both)
    lines = [
        f"{alone} organs of cases were scored for one of the two methods only ({name}) and are left out.",
        f"{ruled} absent organs count by the --absent-organ of one method only ({name}) and are left out.",
    ]
    return [line for line, count in zip(lines, (alone, ruled), strict=True) if count]


def _absent(scores: Sequence[Score]) -> set[tuple[str, str]]:
    """Organs that a scan does not have and that count for nothing."""
    return {(score.case, score.organ) for score in scores if math.isnan(score.dice)}


def _pairs(
    ours: Sequence[Score], other: Sequence[Score], metric: Metric, unit: Unit
) -> list[tuple[float, float]]:
    """Scores of both methods where both have one, in the order of ours."""
    theirs = {(score.case, score.organ): getattr(score, metric) for score in other}
    pairs = [
        (score.case, getattr(score, metric), theirs.get((score.case, score.organ), math.nan))
        for score in ours
    ]
    pairs = [pair for pair in pairs if not (math.isnan(pair[1]) or math.isnan(pair[2]))]
    if unit == "case_organ":
        return [(a, b) for _, a, b in pairs]
    cases = dict.fromkeys(case for case, _, _ in pairs)
    return [
        tuple(np.mean([(a, b) for name, a, b in pairs if name == case], axis=0).tolist()) for case in cases
    ]


def _cautions(
    comparisons: Sequence[JsonObject], unit: Unit, opposed: Mapping[str, Sequence[str]]
) -> list[str]:
    """What a reader must know before believing a p.

    Args:
        opposed: Metrics by what was found, where p is below the level, the mean is for one method and the
            ranks are for the other.
    """
    lines = [
        f"The mean and the ranks point in different directions: {found} ({', '.join(metrics)})."
        for found, metrics in opposed.items()
    ]
    if unit == "case_organ":
        lines.append(
            "The test assumes independent pairs, and organs of one case are not: its p is too small."
        )
    lines += [
        f"With {n} pairs that differ, p cannot be smaller than {smallest:.3g}, whatever the methods do."
        for n, smallest in sorted(
            {(c["n"], c["smallest_p"]) for c in comparisons if c["smallest_p"] >= ALPHA}
        )
    ]
    if zeros := [f"{c['zeros']} for {c['metric']} against {c['other']}" for c in comparisons if c["zeros"]]:
        lines.append(f"Pairs without a difference are left out: {'; '.join(zeros)}.")
    return lines


def _not_same_data(why: str) -> AutosamEdgeError:
    return SCORES_NOT_PAIRED(f"the scores cannot be paired: {why}.")


MEANS = "mean of pairs, ours", "mean of pairs, other"
"""Headings of the means in a comparison."""


def comparison_csv(result: Mapping[str, Any]) -> str:
    """One row per comparison."""
    return csv_text(_FIELDS, result["comparisons"])


def comparison_markdown(result: Mapping[str, Any]) -> str:
    """One table per metric; a star where ours is better than every other method."""
    lines = [
        f"# {result['ours']} against others on {result['dataset']}",
        "",
        f"Wilcoxon signed-rank, two-sided, paired by {result['unit'].replace('_', ' and ')}.",
        f"`*`: p < {result['alpha']}, larger mean and larger sum of ranks, against every other method.",
    ]
    for metric in METRICS:
        star = " *" if result["better_than_all"][metric] else ""
        lines += [
            "",
            f"## {metric}{star}",
            "",
            f"| against | {' | '.join(MEANS)} | difference | pairs | zeros | p | p, Holm | |",
            "|---" * 9 + "|",
        ]
        for c in result["comparisons"]:
            if c["metric"] == metric:
                means = " | ".join(f"{value:.4f}" for value in (c["mean_ours"], c["mean_other"]))
                tests = f"{c['n']} | {c['zeros']} | {c['p']:.3g} | {c['p_holm']:.3g} | {c['method']}"
                lines.append(f"| {c['other']} | {means} | {c['mean_difference']:+.4f} | {tests} |")
    return "\n".join([*lines, "", *(f"- {warning}" for warning in result["warnings"])]) + "\n"

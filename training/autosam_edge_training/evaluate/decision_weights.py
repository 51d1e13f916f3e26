"""Fit the decision weights of a model: how much each organ's probability counts before the largest is taken.

A network that was trained on cross entropy and Dice calls too many voxels of a small organ background. A
weight above 1 on the organ's probability finds more of it (docs/adr/0019-decision-weights.md). The weights
are fitted on validation cases, never on test cases.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from autosam_edge.formats.nifti import read_nifti
from autosam_edge.labels import total_segmentator_name
from autosam_edge.session import Session
from autosam_edge.system.clock import today
from autosam_edge.system.machine import describe_machine
from autosam_edge_training.data import Prepared, Split
from autosam_edge_training.data.case import UNKNOWN
from autosam_edge_training.error_codes import NETWORK_INPUT_DIFFERS, SPLIT_EMPTY
from autosam_edge_training.evaluate.evaluator import split_entries
from autosam_edge_training.strict import JsonObject

Weights = npt.NDArray[np.float64]

GRID = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Weights that are tried. None is below 1: an organ is never made harder to find."""
FIXED = ("stomach", "aorta")
"""Organs whose weight stays 1: a weight that helped on some cases did harm on others."""
# Voxels that are background for certain decide nothing.
_CERTAIN = 0.995


@dataclass(frozen=True, eq=False)
class CaseProbabilities:
    """What the network says of one scan, on the model's grid, where it is not certain of background.

    Args:
        probability: (C, N) float32 probabilities of N voxels.
        truth: (N,) uint8 label of each voxel.
        sizes: (C,) number of voxels of each label in the whole scan.
    """

    name: str
    probability: npt.NDArray[np.float32]
    truth: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]

    def dice(self, weights: Weights) -> Weights:
        """(C - 1,) Dice of each organ with (C,) weights; NaN where the scan lacks the organ."""
        found = (self.probability * weights[:, None].astype(np.float32)).argmax(axis=0)
        classes = len(self.sizes)
        both = np.bincount(found[found == self.truth], minlength=classes)
        total = np.bincount(found, minlength=classes) + self.sizes
        dice = np.full(classes, np.nan)
        np.divide(2.0 * both, total, out=dice, where=self.sizes > 0)
        return dice[1:]


def collect(
    session: Session, prepared: Prepared, split: Split, *, log: Callable[[str], None] = lambda _: None
) -> list[CaseProbabilities]:
    """Run the scans of a split and keep the network's probabilities.

    A scan that has no organ, or in which an organ or a voxel is not labeled, says nothing and is left out.

    Raises:
        TrainingError: The data have another spacing or other labels than the model (AE-TRAIN-008).
        InputError: The split is empty (AE-DATA-005), or a file is not the one that was prepared
            (AE-DATA-008).
    """
    _require_same_input(session, prepared)
    cases = []
    for entry in split_entries(prepared, split):
        labels = prepared.case(entry.name).labels
        organs_known = prepared.classes - 1 if entry.known is None else len(entry.known)
        in_part = organs_known < prepared.classes - 1 or bool((labels == UNKNOWN).any())
        if in_part or not labels.any():
            why = "it is labeled in part" if in_part else "it has no organ"
            log(f"case {entry.name}: left out, {why}")
            continue
        entry.check()
        run = session.plan(read_nifti(entry.image))
        blocks: list[npt.NDArray[np.float32]] = []
        run.execute(on_rows=partial(_keep, blocks))
        probability = np.moveaxis(np.concatenate(blocks), 1, 0)
        truth = labels[run.box]
        kept = (probability[0] < _CERTAIN) | (truth > 0)
        sizes = np.bincount(labels.ravel(), minlength=prepared.classes)
        cases.append(CaseProbabilities(entry.name, probability[:, kept], truth[kept], sizes))
        log(f"case {entry.name}: mean Dice {mean_dice(cases[-1:], np.ones(prepared.classes)):.3f}")
    return cases


def _require_same_input(session: Session, prepared: Prepared) -> None:
    """Refuse data whose voxels or label values are not those of the model's probabilities."""
    model = session.model
    organs = {label.value: total_segmentator_name(label.name) for label in model.labels}
    other = []
    if organs != dict(enumerate(map(total_segmentator_name, prepared.labels[1:]), start=1)):
        other.append("labels")
    if model.input.spacing_mm != prepared.spacing_mm:
        other.append("spacing_mm")
    if other:
        raise NETWORK_INPUT_DIFFERS(f"the model {model.name} and the data have other {', '.join(other)}.")


def _keep(blocks: list[npt.NDArray[np.float32]], rows: npt.NDArray[np.float32]) -> None:
    blocks.append(rows.copy())


def mean_dice(cases: Sequence[CaseProbabilities], weights: Weights) -> float:
    """Mean over the cases of each organ, then over the organs; an organ that no case has counts nowhere."""
    return float(np.mean(list(_organ_dice(cases, weights).values())))


def _organ_dice(cases: Sequence[CaseProbabilities], weights: Weights) -> dict[int, float]:
    """Mean Dice over the cases, by the label value of each organ that a case has."""
    dice = np.array([case.dice(weights) for case in cases])
    present = np.flatnonzero(~np.isnan(dice).all(axis=0))
    return {int(value) + 1: float(np.nanmean(dice[:, value])) for value in present}


def fit(
    cases: Sequence[CaseProbabilities], names: Sequence[str], *, fixed: Collection[str] = FIXED
) -> Weights:
    """Find the weights with the highest mean Dice, one organ after the other, twice around.

    Args:
        names: Names by label value, the background first.
        fixed: Organs whose weight stays 1, as that of the background.

    Returns:
        (C,) weights from :data:`GRID`.
    """
    weights = np.ones(len(names))
    best = mean_dice(cases, weights)
    for organ in [value for value, name in enumerate(names) if value and name not in fixed] * 2:
        for weight in GRID:
            trial = weights.copy()
            trial[organ] = weight
            score = mean_dice(cases, trial)
            if score > best + 1e-5:
                weights, best = trial, score
    return weights


@dataclass(frozen=True)
class HeldOutCase:
    """A case that a fit did not see.

    Args:
        without: Mean Dice without weights.
        fitted_on_others: Mean Dice with the weights that were fitted on the other cases.
        decision_weights: Those weights by organ, without the ones that are 1.
    """

    case: str
    without: float
    fitted_on_others: float
    decision_weights: dict[str, float]


@dataclass(frozen=True)
class DecisionWeightsFit:
    """Fitted weights and how they did.

    Args:
        decision_weights: For each organ the smallest weight of all fits that left out one case, by the
            organ's name, without the ones that are 1.
        without: Mean Dice of each organ without weights.
        fitted: Mean Dice of each organ with the weights.
        held_out: Each case with the weights that were fitted on the other cases.
    """

    decision_weights: dict[str, float]
    without: dict[str, float]
    fitted: dict[str, float]
    held_out: tuple[HeldOutCase, ...]


def fit_across(cases: Sequence[CaseProbabilities], names: Sequence[str]) -> DecisionWeightsFit:
    """Fit once without each case, and take the smallest weight of each organ: what holds whoever is left out.

    Args:
        names: Names by label value, the background first.

    Raises:
        InputError: There are fewer than two cases (AE-DATA-005).
    """
    if len(cases) < 2:
        raise SPLIT_EMPTY(
            f"the split has {len(cases)} case(s) with labeled organs, expected at least two to fit decision "
            "weights on.",
            remedy="Fit on another split, or prepare the data set with more such cases.",
        )
    plain = np.ones(len(names))
    fits = {case.name: fit([c for c in cases if c is not case], names) for case in cases}
    smallest = np.min(list(fits.values()), axis=0)
    return DecisionWeightsFit(
        _named(smallest, names),
        {names[value]: dice for value, dice in _organ_dice(cases, plain).items()},
        {names[value]: dice for value, dice in _organ_dice(cases, smallest).items()},
        tuple(
            HeldOutCase(
                case.name,
                mean_dice([case], plain),
                mean_dice([case], fits[case.name]),
                _named(fits[case.name], names),
            )
            for case in cases
        ),
    )


def _named(weights: Weights, names: Sequence[str]) -> dict[str, float]:
    return {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight != 1.0}


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def fit_session(
    session: Session, prepared: Prepared, split: Split, *, log: Callable[[str], None] = lambda _: None
) -> JsonObject:
    """Fit the decision weights of a session's model; the weights that it has already count for nothing.

    Args:
        split: Cases to fit on, at least two.

    Returns:
        Content of the file that ``export --decision-weights`` reads: ``decision_weights`` by organ and the
        figures behind them, all on the model's grid.

    Raises:
        InputError: See :func:`collect` and :func:`fit_across`.
    """
    machine = describe_machine()
    cases = collect(session, prepared, split, log=log)
    own_names = {label.value: label.name for label in session.model.labels}  # those that `export` knows
    found = fit_across(cases, [own_names.get(value, name) for value, name in enumerate(prepared.labels)])
    return {
        "model": session.model.name,
        "data": f"{prepared.dataset} {split}",
        "data_sha256": prepared.manifest_sha256,
        "date": today(),
        "machine": machine,
        "engine": dict(session.engine.description),
        "mean_dice": {
            "without": _mean(found.without.values()),
            "fitted": _mean(found.fitted.values()),
            "held_out_without": _mean(case.without for case in found.held_out),
            "held_out_fitted_on_others": _mean(case.fitted_on_others for case in found.held_out),
        },
        **dataclasses.asdict(found),
    }

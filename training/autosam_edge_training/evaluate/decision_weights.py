"""Fit how much each organ's probability counts before the most probable class is taken.

A network trained on cross entropy and Dice is too careful with small organs: a missed voxel of an adrenal gland is
mostly called background. A weight above 1 on the probability of such an organ finds more of it. The weights are
fitted on validation cases, never on test cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.formats.nifti import read_nifti
from autosam_edge_training.evaluate.evaluator import split_entries

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import numpy.typing as npt

    from autosam_edge.session import Session
    from autosam_edge_training.data import Prepared, Split

GRID = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
"""Weights that are tried. None is below 1, so that the probability of the winner stays above 1 / classes."""
FIXED = ("stomach", "aorta")
"""Organs whose weight stays 1: it did not carry over from one validation case to the others."""
# Voxels that are background for certain decide nothing.
_CERTAIN = 0.995


@dataclass(frozen=True)
class CaseProbabilities:
    """What the network says of one scan, on the model's grid, where it is not certain of background.

    Args:
        name: Name of the case.
        probability: (C, N) float32, blended over the tiles.
        truth: (N,) label of each voxel.
        sizes: (C,) voxels of each label in the whole scan.
    """

    name: str
    probability: npt.NDArray[np.float32]
    truth: npt.NDArray[np.uint8]
    sizes: npt.NDArray[np.int64]

    def dice(self, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(C - 1,) Dice of every organ with these weights; NaN where the scan lacks the organ."""
        found = (self.probability * weights[:, None].astype(np.float32)).argmax(axis=0)
        classes = len(self.sizes)
        both = np.bincount(found[found == self.truth], minlength=classes)
        total = np.bincount(found, minlength=classes) + self.sizes
        dice = np.full(classes, np.nan)
        np.divide(2.0 * both, total, out=dice, where=self.sizes > 0)
        return dice[1:]


def collect(session: Session, prepared: Prepared, split: Split = "validation") -> list[CaseProbabilities]:
    """Run the scans of a split and keep their probabilities.

    Args:
        session: A model on the grid of ``prepared``.
        prepared: The data set.
        split: Cases to run.

    Raises:
        InputError: The split is empty or a file is not the one that was prepared (AE-DATA-*).
    """
    cases = []
    for entry in split_entries(prepared, split):
        entry.check()
        run = session.plan(read_nifti(entry.image))
        rows: list[npt.NDArray[np.float32]] = []
        run.execute(on_rows=rows.append)
        probability = np.moveaxis(np.concatenate(rows), 1, 0)
        labels = prepared.case(entry.name).labels
        truth = labels[run.box]
        kept = (probability[0] < _CERTAIN) | (truth > 0)
        sizes = np.bincount(labels.ravel(), minlength=prepared.classes)
        cases.append(CaseProbabilities(entry.name, probability[:, kept], truth[kept], sizes))
    return cases


def mean_dice(cases: Sequence[CaseProbabilities], weights: npt.NDArray[np.float64]) -> float:
    """Mean over the cases for each organ, then over the organs."""
    dice = np.array([case.dice(weights) for case in cases])
    present = ~np.isnan(dice).all(axis=0)
    return float(np.nanmean(dice[:, present], axis=0).mean())


def fit(
    cases: Sequence[CaseProbabilities], names: Sequence[str], *, fixed: Collection[str] = FIXED
) -> npt.NDArray[np.float64]:
    """The weights with the highest mean Dice, one organ after the other, twice around.

    Args:
        cases: Scans to fit on.
        names: Names by label value, the background first.
        fixed: Organs whose weight stays 1; that of the background always does.

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


def fit_across(
    cases: Sequence[CaseProbabilities], names: Sequence[str], *, fixed: Collection[str] = FIXED
) -> tuple[npt.NDArray[np.float64], list[tuple[str, float, float]]]:
    """The weights that hold whichever case is left out: for each organ the smallest of all fits without one case.

    Args:
        cases: At least two scans.
        names: Names by label value, the background first.
        fixed: See :func:`fit`.

    Returns:
        (C,) weights, and for each case its name, and its mean Dice without weights and with those that were fitted
        on the other cases.
    """
    plain = np.ones(len(names))
    fits, held_out = [], []
    for case in cases:
        weights = fit([other for other in cases if other is not case], names, fixed=fixed)
        fits.append(weights)
        held_out.append((case.name, mean_dice([case], plain), mean_dice([case], weights)))
    return np.min(fits, axis=0), held_out

"""Expected Dice of each organ: how well its labels probably agree with those of a person.

If the probabilities of a network are right, they tell how much of an organ its labels hold: the soft Dice. A
map that was fitted on scans that the network did not see makes the expected Dice of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from autosam_edge.geometry import FloatArray
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Label, in_sentence
from autosam_edge.warning_codes import LOW_EXPECTED_DICE

# Voxels that are background with this probability or more count nowhere; they are nine of ten.
_BACKGROUND = 0.99
_SMALLEST = 1e-3  # soft Dice below it, or above 1 less it, counts as it: log odds must be finite
_RANGES = {
    "temperature": (0.2, 5.0),
    "slope": (0.0, 20.0),
    "warn_below": (0.0, 1.0),
    "mean_error": (0.0, 1.0),
    "caught": (0.0, 1.0),
    "false_alarms": (0.0, 1.0),
}


@dataclass(frozen=True)
class Confidence:
    """How the probabilities of a model become an expected Dice, with the numbers behind it.

    The log odds of the expected Dice are the log odds of the soft Dice times ``slope``, plus the offset of
    the organ.

    Args:
        temperature: Divisor of the logarithms of all probabilities, 0.2 to 5; above 1 it makes them less
            certain.
        slope: Factor of the log odds of the soft Dice, 0 to 20.
        offsets: Summand of the log odds, -20 to 20, by the organ's name. An organ that is not named has no
            expected Dice.
        warn_below: Expected Dice below which an organ has a warning, 0 to 1.
        organs: Number of organs that the fit saw; an organ counts once in each input.
        mean_error: Mean difference of expected and true Dice in scans that the fit did not see, 0 to 1.
        caught: Share of the organs with a Dice below 0.5 that have the warning, in such scans, 0 to 1.
        false_alarms: Share of the organs with a Dice of 0.5 or more that have the warning, likewise.
        scans: Names of the scans of the fit.

    Raises:
        ValueError: A number lies outside its range.
    """

    temperature: float
    slope: float
    offsets: dict[str, float]
    warn_below: float
    organs: int
    mean_error: float
    caught: float
    false_alarms: float
    scans: tuple[str, ...]

    def __post_init__(self) -> None:
        numbers = {name: (getattr(self, name), span) for name, span in _RANGES.items()}
        numbers |= {f"offsets.{organ}": (value, (-20.0, 20.0)) for organ, value in self.offsets.items()}
        for name, (value, (lowest, highest)) in numbers.items():
            if not lowest <= value <= highest:
                raise ValueError(f"confidence.{name} is {value}, expected {lowest:g} to {highest:g}")
        if self.organs < 1:
            raise ValueError(f"confidence.organs is {self.organs}, expected at least 1")

    def expected_dice(self, soft_dice: Mapping[str, float]) -> dict[str, float]:
        """Expected Dice, 0 to 1, of each organ that has an offset.

        Args:
            soft_dice: Soft Dice, 0 to 1, by the organ's name; see :class:`SoftDice`.
        """
        return {
            organ: float(1.0 / (1.0 + np.exp(-self.slope * log_odds(value) - self.offsets[organ])))
            for organ, value in soft_dice.items()
            if organ in self.offsets
        }

    def warnings(self, expected: Mapping[str, float], table: Iterable[Label]) -> list[ScanWarning]:
        """One warning for each organ whose expected Dice is low."""
        return [
            LOW_EXPECTED_DICE(
                f"The expected Dice of the {in_sentence(label.title)} is below "
                f"{self.warn_below:.2f}: much of the organ is probably missed, or labeled where it is not.",
                organ=label.name,
            )
            for label in table
            if expected.get(label.name, 1.0) < self.warn_below
        ]


def log_odds(share: float) -> float:
    """Logarithm of the odds of a share, 0 to 1; finite at both ends."""
    inside = min(max(share, _SMALLEST), 1.0 - _SMALLEST)
    return float(np.log(inside / (1.0 - inside)))


def near_organs(rows: FloatArray) -> FloatArray:
    """(N, C) probabilities of the voxels that are not background for certain, of (rows, C, H', W')."""
    d, h, w = np.nonzero(rows[:, 0] < _BACKGROUND)
    near: FloatArray = rows[d, :, h, w]
    return near


def calibrate(near: FloatArray, temperature: float) -> FloatArray:
    """(N, C) probabilities with their logarithms divided by the temperature, each voxel summing to 1."""
    calibrated = near ** np.float32(1.0 / temperature)
    calibrated /= calibrated.sum(axis=1, keepdims=True)
    return calibrated


class SoftDice:
    """Collects the soft Dice of each organ while the probabilities of a run pass.

    Of an organ, with q its probability by ``temperature``: twice the sum of q over its voxels, divided by the
    number of its voxels plus the sum of q over all voxels. Its voxels are those where it wins by the decision
    weights, before parts are removed.

    Args:
        weights: C decision weights, the background's first.
        temperature: See :class:`Confidence`.
    """

    def __init__(self, weights: Sequence[float], temperature: float) -> None:
        self._weights = np.asarray(weights, dtype=np.float32)
        self._temperature = temperature
        self._voxels, self._inside, self._everywhere = np.zeros((3, len(weights)))

    def push(self, near: FloatArray) -> None:
        """Take the next voxels, a result of :func:`near_organs`."""
        classes = len(self._weights)
        winner = (near * self._weights).argmax(axis=1)
        calibrated = calibrate(near, self._temperature)
        self._voxels += np.bincount(winner, minlength=classes)
        self._inside += np.bincount(winner, calibrated[np.arange(len(near)), winner], minlength=classes)
        self._everywhere += calibrated.sum(axis=0, dtype=np.float64)

    def by_organ(self, table: Iterable[Label]) -> dict[str, float]:
        """Soft Dice, 0 to 1, of each organ that won a voxel, by its name."""
        size = self._voxels + self._everywhere
        return {
            label.name: float(2.0 * self._inside[label.value] / size[label.value])
            for label in table
            if self._voxels[label.value]
        }

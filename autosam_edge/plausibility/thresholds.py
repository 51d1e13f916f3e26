"""Thresholds of the plausibility check, with the numbers that they were fitted on; a part of the bundle."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]
_HIGHEST = {"confidence": 1.0, "surest_organ": 1.0, "share_below_fat": 1.0, "abdomen_ml": 1e5}


@dataclass(frozen=True)
class Threshold:
    """Lower limits of one measured number.

    Args:
        doubtful: Limit below which the labels are doubtful.
        refused: Limit below which they are implausible, at most ``doubtful``.
        usable: Lowest and highest number over the usable inputs of the fit.
        unusable: Lowest and highest number over the unusable inputs that this number has to find.
    """

    doubtful: float
    refused: float
    usable: Span
    unusable: Span


@dataclass(frozen=True)
class UpperLimit:
    """Limit of one measured number that is a sign only beside others.

    Args:
        sign: Limit above which the number is a sign.
        usable: Lowest and highest number over the usable inputs of the fit to which the rule applies.
        unusable: Lowest and highest number over the unusable inputs that this number has to find.
    """

    sign: float
    usable: Span
    unusable: Span


@dataclass(frozen=True)
class Thresholds:
    """Limits of a model, fitted on its training and validation scans and on transformations of them.

    Args:
        confidence: Limits of the mean probability of the winning organs, 0 to 1.
        surest_organ: Limits of the confidence of the surest liver, spleen or kidney, 0 to 1; labels of low
            ``confidence`` are refused only below it.
        share_below_fat: Limits of the share of voxels below -100 HU, 0 to 1.
        abdomen_ml: Limits of the volume of all organs that lie only in the abdomen, ml.
        other_organs: Limit of the mean probability of other organs beside the winning one, 0 to 1.
        scans: Names of the scans of the fit.

    Raises:
        ValueError: A limit lies outside its range, or ``refused`` lies above ``doubtful``.
    """

    confidence: Threshold
    surest_organ: Threshold
    share_below_fat: Threshold
    abdomen_ml: Threshold
    other_organs: UpperLimit
    scans: tuple[str, ...]

    def __post_init__(self) -> None:
        for name, highest in _HIGHEST.items():
            limit: Threshold = getattr(self, name)
            if not 0.0 <= limit.refused <= limit.doubtful <= highest:
                raise ValueError(
                    f"plausibility.{name} refuses below {limit.refused} and doubts below {limit.doubtful}, "
                    f"expected 0 <= refused <= doubtful <= {highest:g}"
                )
        if not 0.0 <= self.other_organs.sign <= 1.0:
            raise ValueError(
                f"plausibility.other_organs has the limit {self.other_organs.sign}, expected 0 to 1"
            )

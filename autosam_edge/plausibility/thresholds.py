"""Thresholds of the plausibility check, with the numbers that they were fitted on; a part of the bundle."""

from __future__ import annotations

from dataclasses import dataclass

Span = tuple[float, float]


@dataclass(frozen=True)
class Threshold:
    """Limits of one measured number.

    Args:
        doubtful: Limit beyond which the labels are doubtful.
        refused: Limit beyond which they are implausible, not nearer than ``doubtful``; None if this number
            alone refuses nothing.
        usable: Lowest and highest number over the usable inputs of the fit.
        unusable: Lowest and highest number over the unusable inputs that this number has to find.
    """

    doubtful: float
    refused: float | None
    usable: Span
    unusable: Span


@dataclass(frozen=True)
class Thresholds:
    """Limits of a model, fitted on its training and validation scans and on transformations of them.

    Args:
        confidence: Lower limits of the mean probability of the winning organs, 0 to 1.
        share_below_fat: Lower limits of the share of voxels below -100 HU, 0 to 1.
        abdomen_ml: Lower limits of the volume of all organs that lie only in the abdomen, ml.
        stray_share: Upper limits of the share of the organs' volume in parts that were removed, 0 to 1.
        scans: Names of the scans of the fit.

    Raises:
        ValueError: A limit lies outside its range, or ``refused`` is nearer than ``doubtful``.
    """

    confidence: Threshold
    share_below_fat: Threshold
    abdomen_ml: Threshold
    stray_share: Threshold
    scans: tuple[str, ...]

    def __post_init__(self) -> None:
        # A lower limit refuses below the one that doubts, an upper limit above it: hence the sign.
        for name, sign, highest in (
            ("confidence", 1, 1.0),
            ("share_below_fat", 1, 1.0),
            ("abdomen_ml", 1, 1e5),
            ("stray_share", -1, 1.0),
        ):
            limits: Threshold = getattr(self, name)
            refused = limits.doubtful if limits.refused is None else limits.refused
            for value in (limits.doubtful, refused):
                if not 0.0 <= value <= highest:
                    raise ValueError(f"plausibility.{name} has the limit {value}, expected 0 to {highest:g}")
            if sign * refused > sign * limits.doubtful:
                raise ValueError(
                    f"plausibility.{name} refuses at {refused}, nearer than doubtful at {limits.doubtful}"
                )

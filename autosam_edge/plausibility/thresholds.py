"""Limits of the plausibility check, with the numbers that they were fitted on; a part of the bundle."""

from __future__ import annotations

from dataclasses import dataclass, fields

# Of a limit, by the end of its name; any other is a probability or a part of 1.
_HIGHEST = {"_ml": 1e5, "_mm": 1e5, "_share": 100.0, "abdomen_organs": 100.0}


@dataclass(frozen=True)
class Measured:
    """What one number was on the inputs of the fit.

    Args:
        count: Number of inputs on which it was measured.
        p10: Its 10 % quantile.
        p90: Its 90 % quantile.

    Raises:
        ValueError: There is no input, or the values do not rise.
    """

    count: int
    lowest: float
    p10: float
    median: float
    p90: float
    highest: float

    def __post_init__(self) -> None:
        values = [self.lowest, self.p10, self.median, self.p90, self.highest]
        if self.count < 1 or values != sorted(values):
            raise ValueError(f"plausibility measured {values} on {self.count} inputs, expected rising values")


@dataclass(frozen=True)
class Threshold:
    """Lower limits of one number.

    Args:
        doubtful: Limit below which the labels are doubtful.
        refused: Limit below which they are implausible, at most ``doubtful``.
        usable: The number over the usable inputs of the fit.
        unusable: The number over the unusable inputs that it has to find.
    """

    doubtful: float
    refused: float
    usable: Measured
    unusable: Measured


@dataclass(frozen=True)
class Limit:
    """One limit of one number; the rule says whether it is the lowest or the highest.

    Args:
        limit: Value beyond which the number speaks against the labels.
        usable: The number over the usable inputs of the fit to which the rule applies.
        unusable: The number over the unusable inputs that it has to find.
    """

    limit: float
    usable: Measured
    unusable: Measured


@dataclass(frozen=True)
class SignLimits:
    """Limits of the signs that organs do not lie or fit together as in a body.

    Args:
        wrong_side_mm: Largest distance of an organ on the wrong side of another, between centers, mm.
        kidneys_ml: Smallest volume of both kidneys together, ml; this and all below beside a whole liver.
        spleen_share: Largest volume of the spleen, divided by that of the liver.
        liver_medial_mm: Largest distance of the liver's center from the right kidney's to the left, mm.
        vena_cava_share: Smallest volume of the inferior vena cava, divided by that of the aorta.
        other_organs: Largest mean probability of other organs beside the winning one, 0 to 1.
    """

    wrong_side_mm: Limit
    kidneys_ml: Limit
    spleen_share: Limit
    liver_medial_mm: Limit
    vena_cava_share: Limit
    other_organs: Limit


@dataclass(frozen=True)
class Thresholds:
    """Limits of a model, fitted on its training and validation scans and on transformations of them.

    Args:
        confidence: Limits of the mean probability of the winning organs, 0 to 1.
        surest_organ: Limits of the confidence of the surest liver, spleen or kidney, 0 to 1; labels of low
            ``confidence`` are refused only below it.
        share_below_fat: Limits of the share of voxels below -100 HU, 0 to 1.
        abdomen_ml: Limits of the volume of all organs that lie only in the abdomen, ml.
        impossible_values: Largest share of the labeled volume in organs whose HU no such organ has, 0 to 1.
        smallest_liver_ml: Smallest volume of a whole liver, ml.
        largest_liver_ml: Largest volume of a liver, ml.
        abdomen_organs: Smallest number of organs of 1 ml or more that lie only in the abdomen; None for a
            model that was fitted without it.

    Raises:
        ValueError: A limit lies outside its range, or ``refused`` lies above ``doubtful``.
    """

    confidence: Threshold
    surest_organ: Threshold
    share_below_fat: Threshold
    abdomen_ml: Threshold
    impossible_values: Limit
    smallest_liver_ml: Limit
    largest_liver_ml: Limit
    signs: SignLimits
    scans: tuple[str, ...]
    abdomen_organs: Limit | None = None

    def __post_init__(self) -> None:
        for part in (self, self.signs):
            for field in fields(part):
                _require_in_range(field.name, getattr(part, field.name))


def _require_in_range(name: str, value: object) -> None:
    """Refuse a limit that no number can reach."""
    highest = next((number for end, number in _HIGHEST.items() if name.endswith(end)), 1.0)
    if isinstance(value, Threshold) and not 0.0 <= value.refused <= value.doubtful <= highest:
        raise ValueError(
            f"plausibility.{name} refuses below {value.refused} and doubts below {value.doubtful}, "
            f"expected 0 <= refused <= doubtful <= {highest:g}"
        )
    lowest = -highest if name.endswith("_mm") else 0.0  # a distance to the other side is below 0
    if isinstance(value, Limit) and not lowest <= value.limit <= highest:
        raise ValueError(
            f"plausibility.{name} has the limit {value.limit}, expected {lowest:g} to {highest:g}"
        )

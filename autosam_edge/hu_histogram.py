"""Whether values look like Hounsfield units: where in their range the voxels of a scan lie."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from autosam_edge.scan_warning import ScanWarning
from autosam_edge.warning_codes import GRAY_LEVELS, NO_TISSUE, NOTHING_BELOW_WATER

_LOWEST, _HIGHEST = -2048, 4096
_SAMPLES = 1 << 18  # voxels; a share of 0.1 % is then known to a tenth of itself
AIR_HU = -1024
# Nothing in a scanner absorbs less than air (-1000 HU) but noise and streaks; padding that headers do not
# declare is -2000 to -3024.
LOWEST_HU = -1500
HIGHEST_HU = 1_000_000  # beyond any extended CT scale
OFFSET = 1024
"""What many programs add to HU so that no value is negative."""
_OTHER_OFFSET = 1000
"""What others add, so that air, which is -1000 HU, becomes 0."""
_NEAR_ZERO = (-100, 150)  # where air lies after either
_NOISE = 9  # neighboring values that are taken together
_SURE = 8  # how far a peak may lie from the air that it is taken for
_FEW = 10_000  # voxels
_AIR = (-1100, -850)
_SOFT_TISSUE = (-200, 300)
_FAT, _MUSCLE = (-150, -30), (10, 100)


class HuHistogram:
    """Shares of the voxels by HU, from a regular sample of a scan.

    Args:
        hu: (D, H, W), any real type. Values beyond -2048 to 4095 count as these ends.
        slices: Numbers of the slices that count; None counts all.
    """

    def __init__(self, hu: npt.NDArray[Any], slices: npt.NDArray[np.intp] | None = None) -> None:
        slices = np.arange(len(hu)) if slices is None else slices
        step = max(1, int(np.ceil((len(slices) * hu[0].size / _SAMPLES) ** (1 / 3))))
        sample = hu[slices[::step], ::step, ::step].astype(np.int64)
        np.clip(sample, _LOWEST, _HIGHEST - 1, out=sample)
        sample -= _LOWEST
        counts = np.bincount(sample.ravel(), minlength=_HIGHEST - _LOWEST)
        self._upto = np.concatenate([[0], np.cumsum(counts)])

    def share(self, low: int, high: int) -> float:
        """Share of the voxels from ``low`` to below ``high`` HU, 0 to 1."""
        return float(self._upto[high - _LOWEST] - self._upto[low - _LOWEST]) / float(self._upto[-1])

    def is_hu(self, offset: int = 0) -> bool:
        """Whether some voxels are air and some soft tissue, so that values are HU + ``offset``."""
        return all(self.share(low + offset, high + offset) >= 0.05 for low, high in (_AIR, _SOFT_TISSUE))

    @property
    def is_shifted(self) -> bool:
        """Whether values are surely HU + 1024: air at 0, fat and muscle near 1000, nothing between.

        A brain without skull on a background of 0, or a water phantom without air, has its tissue near 0 and
        is not taken for it; a plastic or a bone near 1000 HU has not the two peaks of fat and muscle.
        """
        fat, muscle = (self.share(low + OFFSET, high + OFFSET) for low, high in (_FAT, _MUSCLE))
        return (
            self.share(_LOWEST, -200) < 0.001
            and self.share(-50, 150) >= 0.05
            and min(fat, muscle) >= 0.01
            and fat + muscle >= 3 * (self.share(450, 800) + self.share(1350, 2500))
        )

    @property
    def added(self) -> int | None:
        """1024 or 1000 if the air of shifted values shows which of them was added to HU, None if not.

        What is exactly 0 shows nothing: it may be -1000 or -1024 HU, padding, or values that were cut at 0.
        """
        low, high = _NEAR_ZERO
        counts = np.diff(self._upto)[low - _LOWEST : high - _LOWEST]
        counts[-low] = 0
        if counts.sum() < 0.05 * self._upto[-1]:
            return None
        peak = int(np.convolve(counts, np.ones(_NOISE), "same").argmax()) + low
        if abs(peak - (OFFSET - _OTHER_OFFSET)) <= _SURE:
            return OFFSET
        below, above = counts[:-low].sum(), counts[1 - low : 1 - 2 * low].sum()
        is_centered = abs(peak) <= _SURE and below >= above / 2  # not if values were cut at 0
        return _OTHER_OFFSET if is_centered else None

    @property
    def has_air(self) -> bool:
        """Whether five percent of the voxels have the HU of air; few voxels prove nothing."""
        return self.share(*_AIR) >= 0.05 and bool(self._upto[-1] >= _FEW)

    @property
    def has_tissue(self) -> bool:
        """Whether half a percent of the voxels has the HU of soft tissue; few voxels prove nothing."""
        return self.share(*_SOFT_TISSUE) >= 0.005 or self._upto[-1] < _FEW


def doubts(histogram: HuHistogram, low: float, high: float) -> list[ScanWarning]:
    """Warnings about values that may not be HU.

    Args:
        histogram: Shares of the voxels by HU.
        low: Lowest value of the scan.
        high: Highest value of the scan.
    """
    warnings = []
    if low >= 0 and high <= 255:
        warnings.append(
            GRAY_LEVELS("All values lie within 0 to 255: they may be the gray levels of a screen.")
        )
    elif low >= 0:
        warnings.append(
            NOTHING_BELOW_WATER("No voxel is below 0 HU: the values may not be Hounsfield units.")
        )
    if not histogram.has_tissue:
        warnings.append(NO_TISSUE("Hardly any voxel has the HU of soft tissue (-200 to 300)."))
    return warnings

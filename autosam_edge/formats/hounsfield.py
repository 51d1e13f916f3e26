"""Values of formats without a modality as Hounsfield units, with the checks that they need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.warning_codes import (
    BRIGHT_VALUES,
    DISPLAY_VALUES,
    LITTLE_AIR,
    NORMALIZED_VALUES,
    NOTHING_BELOW_WATER,
    OFFSET_VALUES,
    UNDECLARED_PADDING,
)

if TYPE_CHECKING:
    from autosam_edge.errors import ErrorCode
    from autosam_edge.formats.voxels import StoredVoxels
    from autosam_edge.scan_warning import ScanWarning

AIR_HU = -1024
# Nothing in a scanner absorbs less than air (-1000 HU) but noise and streaks; padding is -2000 to -3024.
LOWEST_HU = -1500
HIGHEST_HU = 1_000_000  # beyond any extended CT scale
_SAMPLES_PER_AXIS = 64


def read_hu(voxels: StoredVoxels, code: ErrorCode) -> tuple[npt.NDArray[Any], list[ScanWarning]]:
    """Read voxels into the smallest of int16, int32 and float32 that holds them, in C order.

    The memory taken is the result and a few MB, whatever the type in the file.

    Args:
        voxels: Voxels whose size was checked; their values are HU.
        code: Error code of the format for values that cannot be HU.

    Returns:
        (D, H, W) HU, and warnings.

    Raises:
        InputError: The values are not real numbers, not finite, or beyond a million (``code``); or the file
            is damaged.
    """
    if voxels.dtype.kind not in "iuf":
        raise code(
            "the voxels are complex, colored or no numbers, expected HU.", remedy="Give a CT volume in HU."
        )
    scale = (voxels.slope, voxels.intercept)
    whole = voxels.dtype.kind in "iu" and all(v.is_integer() and abs(v) <= HIGHEST_HU for v in scale)
    for dtype in (np.int16, np.int32) if whole else (np.float32,):
        filled = _Filled(np.empty(voxels.shape, dtype))
        if all(filled.take(place, piece, voxels, code) for place, piece in voxels.pieces(filled.notes)):
            break
    return filled.hu, [*filled.notes, *filled.padding_warnings(), *filled.doubts()]


class _Filled:
    """An array of HU that is filled piece by piece, and what was seen on the way.

    Args:
        hu: (D, H, W) array to fill.
    """

    def __init__(self, hu: npt.NDArray[Any]) -> None:
        self.hu = hu
        self.notes: list[ScanWarning] = []
        self._flat = hu.reshape(-1)
        self._low, self._high = np.inf, -np.inf
        self._padding = 0

    def take(self, place: slice, piece: npt.NDArray[Any], voxels: StoredVoxels, code: ErrorCode) -> bool:
        """Store a piece, scaled; False if the type of the array cannot hold it.

        Args:
            place: Place of the piece in the flattened array.
            piece: Stored values.
            voxels: Origin of the piece, which knows its scale.
            code: Error code for values that cannot be HU.
        """
        out = self._flat[place]
        scaled = (voxels.slope, voxels.intercept) != (1.0, 0.0)
        if out.dtype == np.float32:
            values = piece * np.float64(voxels.slope) + voxels.intercept if scaled else piece
            ends = [float(values.min()), float(values.max())]
        else:
            slope, intercept = int(voxels.slope), int(voxels.intercept)
            ends = sorted(int(end) * slope + intercept for end in (piece.min(), piece.max()))
        if not np.isfinite(ends).all():
            raise code(
                "the voxels hold NaN or infinity, expected HU.",
                remedy="Replace them with -1024 HU if they are padding.",
            )
        if max(-ends[0], ends[1]) > HIGHEST_HU:
            raise code(
                f"the voxels reach {max(-ends[0], ends[1]):.3g}, expected HU of at most {HIGHEST_HU:g}.",
                remedy="Give a CT volume in HU.",
            )
        if out.dtype == np.float32:
            out[...] = values
        elif np.iinfo(out.dtype).min <= ends[0] and ends[1] <= np.iinfo(out.dtype).max:
            # Integer arithmetic wraps around, so a result that fits is right even where an operand does not.
            out[...] = piece.astype(np.int64) * np.int64(slope) + np.int64(intercept) if scaled else piece
        else:
            return False
        self._note_ends(out, *ends)
        return True

    def _note_ends(self, out: npt.NDArray[Any], low: float, high: float) -> None:
        """Replace padding by air, and remember the range of what is not padding."""
        if low < LOWEST_HU:
            padding = out < LOWEST_HU
            kept = out[~padding]
            out[padding] = AIR_HU
            self._padding += int(padding.sum())
            low, high = (kept.min(), kept.max()) if kept.size else (np.inf, -np.inf)
        self._low, self._high = min(self._low, float(low)), max(self._high, float(high))

    def padding_warnings(self) -> list[ScanWarning]:
        """A warning if padding became air."""
        if not self._padding:
            return []
        return [
            UNDECLARED_PADDING(
                f"{self._padding / self.hu.size:.1%} of the voxels were below {LOWEST_HU} HU, "
                f"as padding is; they became {AIR_HU} HU."
            )
        ]

    def doubts(self) -> list[ScanWarning]:
        """At most one warning that the values may not be HU; the labels are checked later in any case."""
        steps = (slice(None, None, -(-side // _SAMPLES_PER_AXIS)) for side in self.hu.shape)
        sample = self.hu[tuple(steps)]
        if self._padding:
            sample = sample[sample != AIR_HU]
        if not sample.size or self._low > self._high:
            return []
        return _doubts(sample, self._low, self._high)


_LITTLE_AIR = 0.02  # every CT of a body that was looked at has 0.2 or more


def _doubts(sample: npt.NDArray[Any], low: float, high: float) -> list[ScanWarning]:
    """The warning that fits the values best.

    Args:
        sample: Values of the scan, any shape, not empty.
        low: Lowest value of the scan.
        high: Highest value of the scan.
    """
    below_fat, above_bone = float((sample < -100).mean()), float((sample > 700).mean())
    span = f"The values run from {low:.4g} to {high:.4g}"
    if low >= -30 and high <= 30:
        return [NORMALIZED_VALUES(f"{span}, as after a normalization or in a label image, not as HU.")]
    if low >= 0 and high <= 255:
        return [DISPLAY_VALUES(f"{span}, as in a picture for display, not as HU.")]
    if below_fat < _LITTLE_AIR and _looks_shifted(sample):
        return [OFFSET_VALUES(f"{span} and look like HU + 1024.")]
    if above_bone > 0.25:
        return [BRIGHT_VALUES(f"{above_bone:.0%} of the voxels are above 700 HU, which only bone is.")]
    if low >= 0:
        return [NOTHING_BELOW_WATER("No voxel is below 0 HU: the values may not be Hounsfield units.")]
    if below_fat < _LITTLE_AIR:
        return [LITTLE_AIR(f"{below_fat:.1%} of the voxels are below -100 HU, as air is: not as in a CT.")]
    return []


def _looks_shifted(sample: npt.NDArray[Any]) -> bool:
    """Whether air lies near 0 and soft tissue near 1064, as in HU + 1024."""
    air, tissue = (sample < 150).mean(), ((sample > 900) & (sample < 1200)).mean()
    soft_tissue_inverted = (sample < -30).mean()
    return bool(air > 0.1 and tissue > 0.1 and soft_tissue_inverted < 0.05)

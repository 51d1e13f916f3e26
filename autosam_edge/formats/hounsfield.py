"""Values of formats without a modality as Hounsfield units, with the checks that they need."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.constant_padding import fill_constant_padding
from autosam_edge.hu_histogram import AIR_HU, HIGHEST_HU, LOWEST_HU, HuHistogram, doubts
from autosam_edge.system.memory import require_room
from autosam_edge.volume import Source, Volume
from autosam_edge.warning_codes import BRIGHT_VALUES, LITTLE_AIR, NORMALIZED_VALUES, UNDECLARED_PADDING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from autosam_edge.errors import ErrorCode
    from autosam_edge.formats.voxels import StoredVoxels
    from autosam_edge.geometry import Grid
    from autosam_edge.scan_warning import ScanWarning

_SAMPLES_PER_AXIS = 64
_MOST_PADDING = 0.5  # of the voxels; a circle leaves 21 % of a square, a box that was turned up to half
_LITTLE_AIR = 0.02  # every CT of a body that was looked at has 0.2 or more


def read_hu(
    voxels: StoredVoxels, code: ErrorCode, max_memory_mb: float | None = None
) -> tuple[npt.NDArray[Any], list[ScanWarning]]:
    """Read voxels into the smallest of int16, int32 and float32 that holds them, in C order.

    The memory taken is the result and a few MB, whatever the type in the file.

    Args:
        voxels: Voxels whose size was checked; their values are HU.
        code: Error code of the format for values that cannot be HU.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets none.

    Returns:
        (D, H, W) HU, and warnings.

    Raises:
        InputError: The values are not real numbers, not finite, beyond a million or HU + 1024 (``code``);
            or the file is damaged.
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).
    """
    if voxels.dtype.kind not in "iuf":
        raise code(
            "the voxels are complex, colored or no numbers, expected HU.", remedy="Give a CT volume in HU."
        )
    scale = (voxels.slope, voxels.intercept)
    whole = voxels.dtype.kind in "iu" and all(v.is_integer() and abs(v) <= HIGHEST_HU for v in scale)
    types = (np.int16, np.int32) if whole else (np.float32,)
    arrays = (_filled(voxels, dtype, code, max_memory_mb) for dtype in types)
    filled = next(array for array in arrays if array)
    return filled.hu, filled.check()


def _filled(
    voxels: StoredVoxels, dtype: type[np.generic], code: ErrorCode, max_memory_mb: float | None
) -> _Filled | None:
    """The array of one type; None, and its memory free again, if it cannot hold the values."""
    require_room(voxels.count * np.dtype(dtype).itemsize / 2**20, max_memory_mb)
    array = _Filled(voxels, dtype, code)
    return array if array.fill() else None


def read_volume(
    kind: str,
    path: Path,
    voxels: StoredVoxels,
    grid: Grid,
    code: ErrorCode,
    warnings: Iterable[ScanWarning],
    max_memory_mb: float | None,
) -> Volume:
    """Read voxels whose header was checked as a volume, if there is room for it.

    Args:
        kind: Kind of the volume, such as ``nifti``.
        path: File of the header, which may hold the voxels too.
        voxels: Voxels of the file; their values are HU.
        code: Error code of the format for values that cannot be HU.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.

    Raises:
        InputError: See :func:`read_hu`; too many voxels (AE-INPUT-013).
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).
    """
    voxels.require_size()
    hu, notes = read_hu(voxels, code, max_memory_mb)
    files = tuple(dict.fromkeys((path, voxels.path)))
    return Volume(hu, grid, Source(kind, hashlib.sha256(hu.data).hexdigest(), files), (*warnings, *notes))


class _Filled:
    """An array of HU that is filled piece by piece, and what was seen on the way.

    Args:
        voxels: Voxels whose values are HU.
        dtype: Type of the array.
        code: Error code for values that cannot be HU.
    """

    def __init__(self, voxels: StoredVoxels, dtype: type[np.generic], code: ErrorCode) -> None:
        self.hu = np.empty(voxels.shape, dtype)
        self._voxels, self._code = voxels, code
        self._notes: list[ScanWarning] = []
        self._low, self._high = np.inf, -np.inf
        self._padding = 0

    def fill(self) -> bool:
        """Read all voxels; False if the type of the array cannot hold them."""
        flat = self.hu.reshape(-1)
        return all(self._store(piece, flat[place]) for place, piece in self._voxels.pieces(self._notes))

    def _store(self, piece: npt.NDArray[Any], out: npt.NDArray[Any]) -> bool:
        """Store a piece, scaled; False if the type of the array cannot hold it."""
        voxels, code = self._voxels, self._code
        if out.dtype == np.float32:
            values = voxels.meant(piece)
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
            scaled = voxels.is_scaled
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

    def check(self) -> list[ScanWarning]:
        """All warnings, after constant padding became air; HU + 1024 are refused."""
        warnings, share = self._notes, self._padding / self.hu.size
        if self._padding:
            warnings.append(
                UNDECLARED_PADDING(
                    f"{share:.1%} of the voxels were below {LOWEST_HU} HU, "
                    f"as padding is; they became {AIR_HU} HU."
                )
            )
        before = self._sample().copy()
        constant = fill_constant_padding(self.hu, self._high)
        sample = self.hu
        if constant or self._padding:  # padding is no air
            sample = self._sample()
            padding = (sample != before) | ((sample == AIR_HU) & bool(self._padding))
            sample = sample[~padding].reshape(1, 1, -1)
            self._high = min(self._high, float(self.hu.max()))
        histogram = HuHistogram(sample) if sample.size else None
        if histogram and histogram.is_shifted:
            added = histogram.added
            raise self._code(
                f"air lies near 0 and soft tissue near 1000: the values are HU + {added or 'a constant'}.",
                remedy=f"{f'Subtract {added}, or convert' if added else 'Convert'} again from DICOM with the "
                "rescale intercept.",
            )
        if share > _MOST_PADDING:
            much = LITTLE_AIR(f"{share:.0%} of the voxels were below {LOWEST_HU} HU: too many for padding.")
            return [*warnings, *constant, much]
        return [*warnings, *constant, *(_doubts(histogram, self._low, self._high) if histogram else ())]

    def _sample(self) -> npt.NDArray[Any]:
        steps = (slice(None, None, -(-side // _SAMPLES_PER_AXIS)) for side in self.hu.shape)
        return self.hu[tuple(steps)]


def _doubts(histogram: HuHistogram, low: float, high: float) -> list[ScanWarning]:
    """The doubts of every format, and those that a modality rules out.

    Args:
        histogram: Shares of the voxels by HU.
        low: Lowest value of the scan.
        high: Highest value of the scan.
    """
    if low >= -30 and high <= 30:
        return [
            NORMALIZED_VALUES(
                f"The values run from {low:.4g} to {high:.4g}, as after a normalization or in a label image."
            )
        ]
    if found := doubts(histogram, low, high):
        return found
    air, bright = histogram.share(-2048, -100), histogram.share(700, 4096)
    if bright > 0.25:
        return [BRIGHT_VALUES(f"{bright:.0%} of the voxels are above 700 HU, as bone and metal are.")]
    if air < _LITTLE_AIR:
        return [LITTLE_AIR(f"{air:.1%} of the voxels are below -100 HU, as air is: too few for a CT.")]
    return []

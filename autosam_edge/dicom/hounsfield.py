"""From stored words to Hounsfield units, plane by plane into one array."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.dicom.header import numbers
from autosam_edge.dicom.pixels import stored_words
from autosam_edge.error_codes import DICOM_TOO_LARGE, NOT_HU
from autosam_edge.warning_codes import BITS_IGNORED, PADDING_NOT_APPLIED, UNDECLARED_PADDING

if TYPE_CHECKING:
    from autosam_edge.dicom.pixels import Words
    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.geometry import Shape
    from autosam_edge.scan_warning import ScanWarning, WarningCode

    Notes = Counter[WarningCode]  # slices that a finding is true of

AIR_HU = -1024
# Nothing in a scanner absorbs less than air (-1000 HU) but noise and streaks; padding that headers do not
# declare is -2000 to -3024.
LOWEST_HU = -1500
_HIGHEST_HU = 1_000_000  # beyond any extended CT scale
_TISSUE_HU = (-900, 20_000)  # a padding value between these would erase lung, tissue, bone or metal
_SENTENCES = {
    UNDECLARED_PADDING: f"held values below {LOWEST_HU} HU that no header declares as padding; "
    f"they became {AIR_HU} HU",
    BITS_IGNORED: "had bits set outside of BitsStored, which were ignored",
    PADDING_NOT_APPLIED: "declared padding within the range of tissue, which was not applied",
}
_MAX_VOXELS = 1 << 30  # 2 GiB in int16: 4,096 slices of 512 x 512


def read_hu(planes: list[ImagePlane]) -> tuple[npt.NDArray[Any], list[ScanWarning]]:
    """Decode planes into one (D, H, W) array in HU.

    Each plane is scaled by its own RescaleSlope and RescaleIntercept (PS3.3 C.11.1). The array is int16;
    int32 if a value does not fit; float32 if a slope or intercept is not a whole number. Declared padding
    (PS3.3 C.7.5.1.1.2) becomes -1024 HU.

    Args:
        planes: Planes of one shape, in slice order.

    Returns:
        The array and warnings.

    Raises:
        InputError: The volume is too large (AE-DICOM-021), cannot be decoded (AE-DICOM-005, -010) or is not
            in HU (AE-DICOM-008).
    """
    whole = all(plane.slope.is_integer() and plane.intercept.is_integer() for plane in planes)
    hu = _allocate((len(planes), *planes[0].shape), np.int16 if whole else np.float32)
    notes: Notes = Counter()
    for d, (plane, words) in enumerate(zip(planes, stored_words(planes), strict=True)):
        values, padding = _values(plane, words, notes)
        inside = values if padding is None else values[~padding]
        low, high = _range_hu(plane, inside)
        if hu.dtype == np.int16 and (low < -32768 or high > 32767):
            hu = hu.astype(np.int32)  # rare: metal on an extended scale
        _scale(plane, values, hu[d])
        if padding is not None:
            hu[d][padding] = AIR_HU
        if low < LOWEST_HU:
            np.copyto(hu[d], AIR_HU, where=hu[d] < LOWEST_HU)
            notes[UNDECLARED_PADDING] += 1
    return hu, [
        code(f"{count} slice{'s' if count > 1 else ''} {_SENTENCES[code]}.") for code, count in notes.items()
    ]


def same_pixels(one: ImagePlane, other: ImagePlane) -> bool:
    """Whether two planes hold the same values in HU."""
    if (one.slope, one.intercept, one.shape) != (other.slope, other.intercept, other.shape):
        return False
    first, second = (next(iter(stored_words([plane]))) for plane in (one, other))
    return np.array_equal(first, second)


def _allocate(shape: Shape, dtype: type) -> npt.NDArray[Any]:
    voxels = shape[0] * shape[1] * shape[2]
    try:
        if voxels <= _MAX_VOXELS:
            return np.empty(shape, dtype)
    except MemoryError:
        voxels = -voxels
    raise DICOM_TOO_LARGE(
        f"the volume has {shape[0]} x {shape[1]} x {shape[2]} voxels, "
        + ("more than this machine can hold." if voxels < 0 else f"expected at most {_MAX_VOXELS}."),
        remedy="Give a reconstruction with a smaller matrix or fewer slices.",
    )


def _values(
    plane: ImagePlane, words: Words, notes: Notes
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Stored values with their sign, without bits outside of BitsStored (PS3.5 8.1.1), and a padding mask."""
    header = plane.header
    bits, signed = header.integer("BitsStored") or 16, header.integer("PixelRepresentation") == 1
    high_bit = header.integer("HighBit")
    values: npt.NDArray[Any] = words
    if bits < 16:
        left = np.uint16(15 - (bits - 1 if high_bit is None else high_bit))
        values = (words << left).view(np.int16 if signed else np.uint16) >> (16 - bits)
    elif signed:
        values = words.view(np.int16)
    limits = _padding_limits(plane, notes)
    if limits is None:
        padding = None
    else:
        padding = (values >= limits[0]) & (values <= limits[1])
        if bits < 16 and limits[0] == limits[1]:
            # Scanners pad with values that do not fit into BitsStored; only the unmasked word shows them.
            padding |= words == np.uint16(limits[0] & 0xFFFF)
        padding = padding if padding.any() else None
    if bits < 16:
        junk = values.view(np.uint16) != words
        if (junk if padding is None else junk & ~padding).any():
            notes[BITS_IGNORED] += 1
    return values, padding


def _padding_limits(plane: ImagePlane, notes: Notes) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding; None if none is declared or it would erase tissue."""
    dataset, name = plane.header.dataset, plane.header.name
    value = numbers(dataset, "PixelPaddingValue", 1, name)
    if value is None:
        return None
    limit = numbers(dataset, "PixelPaddingRangeLimit", 1, name) or value
    signed = plane.header.integer("PixelRepresentation") == 1
    # Writers confuse the VRs US and SS here: 63536 stands for -2000 and the reverse.
    ends = sorted(
        (int(end) + 0x8000) % 0x10000 - 0x8000 if signed else int(end) % 0x10000
        for end in (value[0], limit[0])
    )
    ends_hu = sorted(end * plane.slope + plane.intercept for end in ends)
    if ends_hu[1] > _TISSUE_HU[0] and ends_hu[0] < _TISSUE_HU[1]:
        notes[PADDING_NOT_APPLIED] += 1
        return None
    return ends[0], ends[1]


def _range_hu(plane: ImagePlane, values: npt.NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return AIR_HU, AIR_HU
    low, high = sorted(float(end) * plane.slope + plane.intercept for end in (values.min(), values.max()))
    if low < -_HIGHEST_HU or high > _HIGHEST_HU:
        raise NOT_HU(
            f"{plane.header.name} reaches {max(abs(low), abs(high)):.3g} HU, expected at most 1e6.",
            remedy="Export the series again; its rescale attributes are wrong.",
        )
    return low, high


def _scale(plane: ImagePlane, values: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """``out = values * slope + intercept``."""
    if out.dtype == np.float32:
        out[...] = values.astype(np.float64) * plane.slope + plane.intercept
        return
    # Integer arithmetic wraps around, so a result that fits is right even where an operand or an intermediate
    # value does not fit.
    np.copyto(out, values, casting="unsafe")
    if plane.slope != 1:
        np.multiply(out, np.int64(plane.slope).astype(out.dtype), out=out)
    np.add(out, np.int64(plane.intercept).astype(out.dtype), out=out)

"""From stored words to Hounsfield units, plane by plane into one array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.ct_grid import MAX_VOXELS
from autosam_edge.dicom.decoder import child_mb, needs_codec
from autosam_edge.dicom.header import numbers
from autosam_edge.dicom.notes import Notes, warnings_of
from autosam_edge.dicom.pixels import stored_words
from autosam_edge.dicom.proof_of_hu import prove_hu, wrong_sign_count
from autosam_edge.error_codes import DICOM_TOO_LARGE, NOT_HU, PIXEL_FORMAT_INVALID
from autosam_edge.errors import InputError
from autosam_edge.hu_histogram import AIR_HU, HIGHEST_HU, LOWEST_HU
from autosam_edge.system.memory import require_room
from autosam_edge.warning_codes import BITS_IGNORED, PADDING_NOT_APPLIED, UNDECLARED_PADDING

if TYPE_CHECKING:
    from autosam_edge.dicom.decoder import FrameDecoder
    from autosam_edge.dicom.pixel_format import Words
    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.geometry import Shape
    from autosam_edge.scan_warning import ScanWarning

_TISSUE_HU = (-900, 20_000)  # a padding value between these would erase lung, tissue, bone or metal
_PLANE_BYTES = 24  # for a pixel of the plane in work: its words, values, masks and float64


def reading_mb(planes: list[ImagePlane], slices: int) -> float:
    """Memory that it takes to read planes, MB: the array of HU and what one file takes on its way to it.

    Args:
        slices: Slices of the volume; more than the planes if some are to be filled in.
    """
    first = planes[0]
    pixels = first.shape[0] * first.shape[1]
    volume = pixels * (2 if _all_whole(planes) else 4) * (slices + len(planes) * (slices > len(planes)))
    # A deflated file is inflated whole, in parts that are joined.
    frames = 2 * first.header.frames if first.header.deflated_at is not None else 1
    alone_mb = (volume + pixels * (_PLANE_BYTES + frames * first.format.word.itemsize)) / 2**20
    return alone_mb + any(map(needs_codec, {plane.header for plane in planes})) * child_mb(pixels)


def read_hu(
    planes: list[ImagePlane], decoder: FrameDecoder, max_memory_mb: float | None = None
) -> tuple[npt.NDArray[Any], list[ScanWarning]]:
    """Decode planes into one (D, H, W) array in HU.

    Each plane is scaled by its own RescaleSlope and RescaleIntercept (PS3.3 C.11.1). The array is int16;
    int32 if a value does not fit; float32 if a slope, an intercept or the pixels are not whole numbers.
    Padding that is declared (PS3.3 C.7.5.1.1.2), or sure to be padding, becomes -1024 HU.

    Args:
        planes: Planes of one shape, in slice order.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets none.

    Returns:
        The array and warnings.

    Raises:
        InputError: The volume is too large (AE-DICOM-021), cannot be decoded (AE-DICOM-005, -009, -010) or is
            not in HU (AE-DICOM-008).
        BudgetError: Values need more than 16 bits, for which there is no room (AE-MEMORY-001).
    """
    hu = _allocate((len(planes), *planes[0].shape), np.int16 if _all_whole(planes) else np.float32)
    notes, wrong_signs = Notes(), list[int]()
    lowest, highest = np.inf, -np.inf
    for d, (plane, words) in enumerate(zip(planes, stored_words(planes, notes, decoder), strict=True)):
        values, padding = _values(plane, words, notes)
        inside = values if padding is None else values[~padding]
        low, high = _range_hu(plane, inside)
        wrong_signs.append(wrong_sign_count(plane, inside, high))
        if hu.dtype == np.int16 and (low < -32768 or high > 32767):
            require_room(hu.size * 4 / 2**20, max_memory_mb, what="the volume in 32 bits")
            hu = hu.astype(np.int32)  # rare: metal on an extended scale
        _scale(plane, values, hu[d])
        if padding is not None:
            hu[d][padding] = AIR_HU
        if low < LOWEST_HU:
            np.copyto(hu[d], AIR_HU, where=hu[d] < LOWEST_HU)
            notes[UNDECLARED_PADDING] += 1
        lowest, highest = min(lowest, max(low, AIR_HU)), max(highest, high)
    return hu, warnings_of(notes) + prove_hu(hu, planes, lowest, highest, wrong_signs)


def _all_whole(planes: list[ImagePlane]) -> bool:
    """Whether every value in HU is a whole number."""
    return all(
        plane.rescale.slope.is_integer()
        and plane.rescale.intercept.is_integer()
        and not plane.format.floating
        for plane in planes
    )


def same_pixels(decoder: FrameDecoder, one: ImagePlane, other: ImagePlane) -> bool:
    """Whether two planes hold the same values in HU."""
    if one.shape != other.shape:
        return False
    first, second = (next(iter(stored_words([plane], Notes(), decoder))) for plane in (one, other))
    if (one.rescale, one.format) == (other.rescale, other.format):
        return np.array_equal(first, second)
    hu = np.empty((2, *one.shape), np.float64)
    for plane, words, out in zip((one, other), (first, second), hu, strict=True):
        _scale(plane, _values(plane, words, Notes())[0], out)
    return np.array_equal(*hu)


def _allocate(shape: Shape, dtype: type) -> npt.NDArray[Any]:
    limit = f"expected at most {MAX_VOXELS}"
    try:
        if math.prod(shape) <= MAX_VOXELS:
            return np.empty(shape, dtype)
    except MemoryError:
        limit = "more than this machine can hold"
    raise DICOM_TOO_LARGE(f"the volume has {shape[0]} x {shape[1]} x {shape[2]} voxels, {limit}.")


def _values(
    plane: ImagePlane, words: Words, notes: Notes
) -> tuple[npt.NDArray[Any], npt.NDArray[np.bool_] | None]:
    """Stored values with their sign, without bits outside of BitsStored (PS3.5 8.1.1), and a padding mask."""
    form = plane.format
    if form.floating:
        return words, None
    values, width = words, form.allocated
    if form.stored < width:
        _check_low_bits(plane, words)
        values = words << words.dtype.type(width - 1 - form.high_bit)
    if form.signed:
        values = values.view(f"i{words.itemsize}")
    if form.stored < width:
        values = values >> (width - form.stored)
    limits = _padding_limits(plane, notes)
    padding = None
    if limits is not None:
        padding = (values >= limits[0]) & (values <= limits[1])
        if form.stored < width and limits[0] == limits[1]:
            # Scanners pad with values that do not fit into BitsStored; only the unmasked word shows them.
            padding |= words == limits[0] % (1 << width)
        padding = padding if padding.any() else None
    if form.stored < width:
        # Above a negative value may be zeros or its sign.
        used = ((1 << form.stored) - 1) << (form.high_bit + 1 - form.stored)
        unused = words.dtype.type((1 << width) - 1 - used)
        junk = (values.view(words.dtype) != words) & (words & unused != 0)
        if (junk if padding is None else junk & ~padding).any():
            notes[BITS_IGNORED] += 1
    return values, padding


def _check_low_bits(plane: ImagePlane, words: Words) -> None:
    """Refuse a HighBit that leaves out low bits which hold data: it must be BitsStored - 1 (PS3.5 8.1.1)."""
    low = plane.format.high_bit + 1 - plane.format.stored
    if low and np.ptp(words & words.dtype.type((1 << low) - 1)):
        raise PIXEL_FORMAT_INVALID(
            f"HighBit of {plane.header.name} leaves out the lowest {low} bits, which hold data.",
            remedy="Export the series again; HighBit must be BitsStored - 1.",
        )


def _padding_limits(plane: ImagePlane, notes: Notes) -> tuple[int, int] | None:
    """Lowest and highest stored value of padding; None if none is declared or it would erase tissue."""
    dataset, name = plane.header.dataset, plane.header.name
    try:
        value = numbers(dataset, "PixelPaddingValue", 1, name)
        limit = numbers(dataset, "PixelPaddingRangeLimit", 1, name) or value
    except InputError:  # malformed
        notes[PADDING_NOT_APPLIED] += 1
        return None
    if value is None or limit is None:
        if limit is not None:  # one end of a range alone
            notes[PADDING_NOT_APPLIED] += 1
        return None
    half = 1 << (plane.format.allocated - 1)
    # Writers confuse the VRs US and SS here: 63536 stands for -2000 and the reverse.
    ends = sorted(
        (int(end) + half) % (2 * half) - half if plane.format.signed else int(end) % (2 * half)
        for end in (value[0], limit[0])
    )
    ends_hu = sorted(end * plane.rescale.slope + plane.rescale.intercept for end in ends)
    if ends_hu[1] > _TISSUE_HU[0] and ends_hu[0] < _TISSUE_HU[1]:
        notes[PADDING_NOT_APPLIED] += 1
        return None
    return ends[0], ends[1]


def _range_hu(plane: ImagePlane, values: npt.NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return AIR_HU, AIR_HU
    ends = (
        float(end) * plane.rescale.slope + plane.rescale.intercept for end in (values.min(), values.max())
    )
    low, high = sorted(ends)
    if not (low >= -HIGHEST_HU and high <= HIGHEST_HU):  # so that NaN is refused too
        raise NOT_HU(
            f"{plane.header.name} reaches {max(abs(low), abs(high)):.3g} HU, expected at most 1e6.",
            remedy="Export the series again; its rescale attributes are wrong.",
        )
    return low, high


def _scale(plane: ImagePlane, values: npt.NDArray[Any], out: npt.NDArray[Any]) -> None:
    """``out = values * slope + intercept``."""
    slope, intercept = plane.rescale.slope, plane.rescale.intercept
    if out.dtype.kind == "f":
        out[...] = values.astype(np.float64) * slope + intercept
        return
    # Integer arithmetic wraps around, so a result that fits is right even where an operand or an intermediate
    # value does not fit.
    np.copyto(out, values, casting="unsafe")
    if slope != 1:
        np.multiply(out, np.int64(slope).astype(out.dtype), out=out)
    if intercept != 0:
        np.add(out, np.int64(intercept).astype(out.dtype), out=out)

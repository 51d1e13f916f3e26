"""Evidence in the values of a DICOM series that they are Hounsfield units, whatever its header says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.error_codes import NOT_HU
from autosam_edge.hu_histogram import AIR_HU, OFFSET, HuHistogram, doubts
from autosam_edge.warning_codes import CONSTANT_PADDING, RESCALE_ASSUMED, RESCALE_TYPE_UNUSUAL

if TYPE_CHECKING:
    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.scan_warning import ScanWarning

_NEGATIVE_HU = 1200  # air, fat and lung as negative numbers lie this far below the end of an unsigned range
_WRONG_SIGN_SHARE = 0.05  # of all voxels; metal below saturation never fills as much
_PADDING_ABOVE_HU = -900
_BEYOND_METAL_HU = 20_000
_METAL_SHARE = 0.02  # of all voxels; metal at the highest value fills less
_PADDED_SHARE = 0.95  # of the pixels outside of the scanner's circle


def wrong_sign_count(plane: ImagePlane, values: npt.NDArray[Any], high: float) -> int:
    """How many unsigned values of a plane look like negative numbers: air stored as 64536 of 16 bits.

    Args:
        values: Its stored values without padding.
        high: Its highest value, HU.
    """
    form, first = plane.format, (1 << plane.format.stored) - _NEGATIVE_HU
    if form.signed or high < first * abs(plane.rescale.slope) + plane.rescale.intercept:
        return 0
    wrong = values[values >= first]
    # One value alone may be padding or saturated metal, however often it is there.
    often = np.bincount(wrong - first)
    return int(often.sum() - often.max()) if wrong.size else 0


def prove_hu(
    hu: npt.NDArray[Any], planes: list[ImagePlane], lowest: float, highest: float, wrong_sign: int
) -> list[ScanWarning]:
    """Refuse values that cannot be HU and warn of values that may not be; constant padding becomes air.

    Where the rescale is missing, it is taken from the position of the air.

    Args:
        hu: (D, H, W), changed in place.
        planes: The planes, in slice order.
        lowest: Lowest value of the series, HU.
        highest: Highest value of the series, HU.
        wrong_sign: Voxels that :func:`wrong_sign_count` counted.

    Raises:
        InputError: The values are not HU (AE-DICOM-008).
    """
    histogram = HuHistogram(hu)
    if wrong_sign >= _WRONG_SIGN_SHARE * hu.size and not histogram.is_hu():
        raise NOT_HU(
            f"{wrong_sign / hu.size:.0%} of the stored values lie just below the end of their range, as "
            "negative numbers do that are read as unsigned: PixelRepresentation is wrong.",
            remedy="Export the series again with the right PixelRepresentation (1, signed).",
        )
    warnings = _fill_constant_padding(hu, highest)
    if warnings:
        histogram, lowest, highest = HuHistogram(hu), float(hu.min()), float(hu.max())
    assumed = [plane.rescale.assumed for plane in planes]
    if any(assumed):
        offset = _offset_of(histogram if all(assumed) else HuHistogram(hu[assumed]))
        if offset:
            _subtract(hu, assumed, offset)
            histogram, lowest, highest = HuHistogram(hu), float(hu.min()), float(hu.max())
        warnings.append(
            RESCALE_ASSUMED(
                f"RescaleSlope or RescaleIntercept is missing in {sum(assumed)} of {len(planes)} slices; "
                f"{-offset} was taken as the missing intercept and 1 as the missing slope, "
                f"since the air lies at {'0' if offset else '-1000'}."
            )
        )
    if histogram.is_shifted:
        raise NOT_HU(
            "air lies at 0 and soft tissue near 1000: the values are HU + 1024, "
            "and RescaleIntercept does not say so.",
            remedy="Export the series again with the right RescaleIntercept (-1024).",
        )
    found = doubts(histogram, lowest, highest)
    kinds = {plane.rescale.kind for plane in planes} - {"HU"}
    return (
        warnings + found + _check_kinds(kinds, is_hu=not found and ("US" not in kinds or histogram.is_hu()))
    )


def _subtract(hu: npt.NDArray[Any], where: list[bool], offset: int) -> None:
    """Lower the values of some planes, but not their padding, which is air already."""
    for d in np.flatnonzero(where):
        plane = hu[d]
        plane[plane != AIR_HU] -= offset


def _check_kinds(kinds: set[str], *, is_hu: bool) -> list[ScanWarning]:
    """Refuse a RescaleType that is not HU unless the values are."""
    if not kinds:
        return []
    names = f"RescaleType is {' and '.join(sorted(kinds))}"
    if not is_hu:
        raise NOT_HU(
            f"{names}, and the values do not look like HU.",
            remedy="Give the series of conventional CT images in Hounsfield units.",
        )
    return [RESCALE_TYPE_UNUSUAL(f"{names}; the values look like HU and are read as HU.")]


def _offset_of(histogram: HuHistogram) -> int:
    """0 if values without a rescale are HU, 1024 if they are HU + 1024."""
    for offset in (0, OFFSET):
        if histogram.is_hu(offset):
            return offset
    raise NOT_HU(
        "RescaleSlope or RescaleIntercept is missing, and the values show no air and soft tissue "
        "as HU or HU + 1024 do.",
        remedy="Export the series again with its rescale attributes.",
    )


def _fill_constant_padding(hu: npt.NDArray[Any], highest: float) -> list[ScanWarning]:
    """Turn a constant value into air where only padding can hold it, which no header declares."""
    if highest >= _BEYOND_METAL_HU and np.mean([np.mean(plane == highest) for plane in hu]) >= _METAL_SHARE:
        for plane in hu:
            plane[plane == highest] = AIR_HU
        where = "fills more of the scan than metal does"
    elif (outside := _padded_border(hu)) is not None:
        highest = hu[0, 0, 0]
        for plane in hu:
            plane[outside & (plane == highest)] = AIR_HU
        where = "fills the border of all slices"
    else:
        return []
    return [
        CONSTANT_PADDING(
            f"{highest:g} HU {where}, and no header declares it as padding; it became {AIR_HU} HU there."
        )
    ]


def _padded_border(hu: npt.NDArray[Any]) -> npt.NDArray[np.bool_] | None:
    """Pixels (H, W) at the border that hold one value in all slices, if it is no air; None if there are none.

    A scanner reconstructs a circle. What lies outside is air, or one value, and so are rows and columns that
    a program added; a value of tissue, bone or more there would be taken for the body.
    """
    value = hu[0, 0, 0]
    corners = hu[:, :: max(1, hu.shape[1] - 1), :: max(1, hu.shape[2] - 1)]
    if value <= _PADDING_ABOVE_HU or (corners != value).any():
        return None
    # Values that are masked to 0 around an organ have no air at all; they stay as they are.
    if not any((plane < -800).any() for plane in hu):
        return None
    constant: npt.NDArray[np.bool_] = np.ones(hu.shape[1:], dtype=np.bool_)
    for plane in hu:
        np.logical_and(constant, plane == value, out=constant)
    lines: npt.NDArray[np.bool_] = np.asarray(constant.all(axis=1, keepdims=True) | constant.all(axis=0))
    circle = _outside_of_circle(*constant.shape)
    if np.mean([np.mean(plane[circle] == value) for plane in hu]) >= _PADDED_SHARE:
        return np.asarray(circle | lines)
    return lines if lines.any() else None


def _outside_of_circle(rows: int, columns: int) -> npt.NDArray[np.bool_]:
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(x * x + y * y > 1)

"""Evidence in the values of a DICOM series that they are Hounsfield units, whatever its header says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.constant_padding import fill_constant_padding
from autosam_edge.ct_grid import MIN_SLICES
from autosam_edge.error_codes import NOT_HU
from autosam_edge.hu_histogram import AIR_HU, OFFSET, HuHistogram, doubts
from autosam_edge.warning_codes import RESCALE_ASSUMED, RESCALE_TYPE_UNUSUAL

if TYPE_CHECKING:
    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.scan_warning import ScanWarning

_NEGATIVE_HU = 1200  # air, fat and lung as negative numbers lie this far below the end of an unsigned range
_LEAST_BITS = 12  # a shorter range ends within these values, so that soft tissue would look like them
_WRONG_SIGN_SHARE = 0.05  # of all voxels; metal below saturation never fills as much


def wrong_sign_count(plane: ImagePlane, values: npt.NDArray[Any], high: float) -> int:
    """How many unsigned values of a plane look like negative numbers: air stored as 64536 of 16 bits.

    Args:
        values: Its stored values without padding.
        high: Its highest value, HU.
    """
    form, first = plane.format, (1 << plane.format.stored) - _NEGATIVE_HU
    if form.signed or form.stored < _LEAST_BITS:
        return 0
    if high < first * abs(plane.rescale.slope) + plane.rescale.intercept:
        return 0
    wrong = values[values >= first]
    # One value alone may be padding or saturated metal, however often it is there.
    often = np.bincount(wrong - first)
    return int(often.sum() - often.max()) if wrong.size else 0


def prove_hu(
    hu: npt.NDArray[Any], planes: list[ImagePlane], lowest: float, highest: float, wrong_signs: list[int]
) -> list[ScanWarning]:
    """Refuse values that cannot be HU and warn of values that may not be; constant padding becomes air.

    Where the rescale is missing, it is taken from the position of the air. Slices of one intercept and sign
    are also judged on their own: among others, wrong ones would not be seen.

    Args:
        hu: (D, H, W), changed in place.
        planes: The planes, in slice order.
        lowest: Lowest value of the series, HU.
        highest: Highest value of the series, HU.
        wrong_signs: Voxels of each plane that :func:`wrong_sign_count` counted.

    Raises:
        InputError: The values are not HU (AE-DICOM-008).
    """
    groups = _groups(planes)
    for group in groups:
        share = np.asarray(wrong_signs)[group].sum() / (len(group) * hu[0].size)
        if share >= _WRONG_SIGN_SHARE and not HuHistogram(hu, group).is_hu():
            raise NOT_HU(
                f"{share:.0%} of the stored values{_part(group, planes)} lie just below the end of their "
                "range, as negative numbers do that are read as unsigned: PixelRepresentation is wrong.",
                remedy="Export the series again with the right PixelRepresentation (1, signed).",
            )
    warnings = fill_constant_padding(hu, highest)
    if warnings:
        lowest, highest = float(hu.min()), float(hu.max())
    assumed = [plane.rescale.assumed for plane in planes]
    if any(assumed):
        offset = _offset_of(HuHistogram(hu, np.flatnonzero(assumed)))
        if offset:
            _subtract(hu, assumed, offset)
            lowest, highest = float(hu.min()), float(hu.max())
        warnings.append(
            RESCALE_ASSUMED(
                f"RescaleSlope or RescaleIntercept is missing in {sum(assumed)} of {len(planes)} slices; "
                f"{-offset} was taken as the missing intercept and 1 as the missing slope, "
                f"since the air lies at {'0' if offset else '-1000'}."
            )
        )
    histograms = [HuHistogram(hu, group) for group in groups]
    for group, histogram in zip(groups, histograms, strict=True):
        if histogram.is_shifted:
            added = histogram.added
            raise NOT_HU(
                f"air lies near 0 and soft tissue near 1000{_part(group, planes)}: the values are "
                f"HU + {added or 'a constant'}, and RescaleIntercept does not say so.",
                remedy="Export the series again with the right RescaleIntercept"
                f"{f' (-{added})' if added else ''}.",
            )
    whole = histograms[0]
    found = doubts(whole, lowest, highest)
    kinds = {plane.rescale.kind for plane in planes} - {"HU"}
    return warnings + found + _check_kinds(kinds, is_hu=not found and ("US" not in kinds or whole.is_hu()))


def _groups(planes: list[ImagePlane]) -> list[npt.NDArray[np.intp]]:
    """All slices, and those of each intercept and sign that are as many as a scan has."""
    kinds: dict[tuple[float, bool], list[int]] = {}
    for d, plane in enumerate(planes):
        kinds.setdefault((plane.rescale.intercept, plane.format.signed), []).append(d)
    parts = [part for part in kinds.values() if MIN_SLICES <= len(part) < len(planes)]
    return [np.array(group) for group in [range(len(planes)), *parts]]


def _part(group: npt.NDArray[np.intp], planes: list[ImagePlane]) -> str:
    return "" if len(group) == len(planes) else f" in {len(group)} of {len(planes)} slices"


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
    """What was added to values without a rescale: 0, or 1024, or clearly 1000."""
    if histogram.is_hu():
        return 0
    if histogram.is_hu(OFFSET):
        return histogram.added or OFFSET
    raise NOT_HU(
        "RescaleSlope or RescaleIntercept is missing, and the values show no air and soft tissue "
        "as HU or HU + 1024 do.",
        remedy="Export the series again with its rescale attributes.",
    )

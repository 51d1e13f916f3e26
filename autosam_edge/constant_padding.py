"""Padding of one value that no header declares, found by its place and turned into air."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.hu_histogram import AIR_HU, HuHistogram
from autosam_edge.warning_codes import CONSTANT_PADDING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from autosam_edge.scan_warning import ScanWarning

    Mask = npt.NDArray[np.bool_]

_PADDING_ABOVE_HU = -900
_BEYOND_METAL_HU = 20_000
_METAL_SHARE = 0.02  # of all voxels; metal at the highest value fills less
_PADDED_SHARE = 0.95  # of the pixels outside of the scanner's circle
_CORNER_SHARE = 0.01  # of all voxels; noise leaves no part of one value as large in a corner


def fill_constant_padding(hu: npt.NDArray[Any], highest: float) -> list[ScanWarning]:
    """Turn a constant value into air where only padding can hold it, which no header declares.

    Args:
        hu: (D, H, W), changed in place.
        highest: Highest value of the scan, HU.
    """
    if highest >= _BEYOND_METAL_HU and np.mean([np.mean(plane == highest) for plane in hu]) >= _METAL_SHARE:
        for plane in hu:
            plane[plane == highest] = AIR_HU
        return [_warning(highest, "fills more of the scan than metal does")]
    values = _values_of_corners(hu)
    if not values:
        return []
    border = _padded_border(hu)
    if HuHistogram(hu).has_air:
        for value in values:
            if np.mean([np.mean(outside) for outside in _outside_of_field(hu, value)]) >= _CORNER_SHARE:
                for plane, outside in zip(hu, _outside_of_field(hu, value), strict=True):
                    plane[outside if border is None else outside | (border & (plane == value))] = AIR_HU
                return [_warning(value, "fills corners of the scan")]
    if border is None:
        return []
    for plane in hu:
        plane[border & (plane == values[0])] = AIR_HU
    return [_warning(values[0], "fills the border of all slices")]


def _warning(value: float, where: str) -> ScanWarning:
    return CONSTANT_PADDING(
        f"{value:g} HU {where}, and no header declares it as padding; it became {AIR_HU} HU there."
    )


def _values_of_corners(hu: npt.NDArray[Any]) -> list[float]:
    """Values above air that all four corners of a face of the scan hold."""
    corners = hu[np.ix_(*((0, side - 1) for side in hu.shape))]
    faces = [corners.take(end, axis) for axis in range(3) for end in (0, 1)]
    values = {face.item(0) for face in faces if (face == face.item(0)).all()}
    return sorted(value for value in values if value > _PADDING_ABOVE_HU)


def _outside_of_field(hu: npt.NDArray[Any], value: float) -> Iterator[Mask]:
    """Pixels (H, W) of each plane that reach a face of the scan along every axis through one value alone.

    What a scan covers is convex: a circle, or a box that was turned or moved. A line through the scan enters
    it once and leaves it once, so all padding is found, whatever its form. Tissue of the same value does not
    reach a face along all three axes.
    """
    first = np.full(hu.shape[1:], len(hu))  # planes that hold another value
    last = np.full(hu.shape[1:], -1)
    for d, plane in enumerate(hu):
        other = plane != value
        first[other & (last < 0)] = d
        last[other] = d
    for d, plane in enumerate(hu):
        same = plane == value
        outside = same & ((d < first) | (d > last))
        if outside.any():
            for turned in (same, same.T):
                runs = np.logical_and.accumulate(turned, axis=1)
                runs |= np.logical_and.accumulate(turned[:, ::-1], axis=1)[:, ::-1]
                outside &= runs if turned is same else runs.T
        yield outside


def _padded_border(hu: npt.NDArray[Any]) -> Mask | None:
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
    constant: Mask = np.ones(hu.shape[1:], dtype=np.bool_)
    for plane in hu:
        np.logical_and(constant, plane == value, out=constant)
    lines: Mask = np.asarray(constant.all(axis=1, keepdims=True) | constant.all(axis=0))
    circle = _outside_of_circle(*constant.shape)
    if np.mean([np.mean(plane[circle] == value) for plane in hu]) >= _PADDED_SHARE:
        return np.asarray(circle | lines)
    return lines if lines.any() else None


def _outside_of_circle(rows: int, columns: int) -> Mask:
    y, x = np.ogrid[-1 : 1 : rows * 1j, -1 : 1 : columns * 1j]
    return np.asarray(x * x + y * y > 1)

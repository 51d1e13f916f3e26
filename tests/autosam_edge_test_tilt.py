"""A phantom as a scanner with a tilted gantry shows it."""

from __future__ import annotations

import numpy as np

from autosam_edge.geometry import Grid
from autosam_edge.phantom import CANONICAL, Phantom
from autosam_edge.volume import Volume


def tilt_gantry(phantom: Phantom, tilt_deg: float, *, step_mm: float) -> Phantom:
    """Cut a canonical phantom into slices that are turned about their W axis, while the table moves along z.

    The values of a line of the slice are interpolated along z, so the phantom should have thin slices. Every
    line lies within the phantom: the more tilt, the fewer slices.

    Args:
        phantom: Phantom in canonical orientation.
        tilt_deg: Angle between the slices and the axial plane, degrees, -45 to 45; with a positive one, the
            posterior side of a slice is the superior one.
        step_mm: Distance that the table moves from slice to slice, mm.

    Returns:
        The tilted scan and its true labels. The D axis runs along z, the H axis leans; pixels are as high as
        those of the phantom, divided by the cosine of the tilt.

    Raises:
        ValueError: The phantom is not canonical, or too short for three slices at this tilt.
    """
    grid = phantom.volume.grid
    if grid.orientation != CANONICAL or not abs(tilt_deg) <= 45:
        raise ValueError(f"expected a canonical phantom and a tilt of -45 to 45, not {tilt_deg} degrees")
    depth, height, width = grid.shape
    thickness_mm, row_mm, _ = grid.spacing_mm
    rise_mm = row_mm * np.tan(np.radians(tilt_deg)) * np.arange(height)
    room_mm = (depth - 1) * thickness_mm - float(np.ptp(rise_mm))
    count = int(room_mm // step_mm) + 1
    if count < 3:
        raise ValueError(f"the phantom has room for {max(count, 0)} slices at this tilt, expected 3 or more")
    start_mm = (room_mm - (count - 1) * step_mm) / 2 - float(rise_mm.min())
    place = (start_mm + step_mm * np.arange(count)[:, None] + rise_mm) / thickness_mm  # (slices, lines)
    below = np.clip(np.floor(place).astype(np.intp), 0, depth - 2)
    share = (place - below)[..., None].astype(np.float32)
    lines = np.arange(height)[None, :]
    hu = phantom.volume.hu
    between = hu[below, lines] * (1 - share) + hu[below + 1, lines] * share
    affine = np.array(grid.affine)
    affine[:3, 0] *= step_mm / thickness_mm
    affine[2, 1] = row_mm * np.tan(np.radians(tilt_deg))
    affine[2, 3] += start_mm
    tilted = Grid((count, height, width), affine)
    labels = phantom.labels[np.rint(place).astype(np.intp), lines]
    return Phantom(Volume(np.rint(between).astype(np.int16), tilted, phantom.volume.source), labels)

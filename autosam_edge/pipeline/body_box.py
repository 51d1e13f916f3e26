"""The part of the model's grid that holds the body."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from autosam_edge.pipeline.resample import Resampler

# Fat, the least dense tissue of a body wall, is above -200 HU; clothes, table foam and lung lie below.
_TISSUE_HU = -200.0
_BOX_STRIDE_MM = 4.0
BOX_MARGIN_MM = 12.0
# A line across the body shows at least this share of tissue; a table edge or an arm alone does not make the
# box larger than needed.
_LINE_SHARE = 0.01


def body_box(hu: npt.NDArray[np.generic], resampler: Resampler) -> tuple[slice, slice, slice]:
    """Find the part of the model's grid that holds tissue, with a margin; one voxel in 4 mm is looked at.

    Args:
        hu: (D, H, W) canonical view of the input, HU.

    Returns:
        Slices of the model's grid along (D, H, W). D has every row that a slice reaches inside the box; a
        scan without tissue gives the whole plane.
    """
    strides = [max(1, round(_BOX_STRIDE_MM / spacing)) for spacing in resampler.grid.spacing_mm]
    coarse = hu[:: strides[0], :: strides[1], :: strides[2]]
    lines = [np.zeros(coarse.shape[1], dtype=np.int64), np.zeros(coarse.shape[2], dtype=np.int64)]
    for plane in coarse:  # slice by slice: no mask of the volume
        tissue = plane > _TISSUE_HU
        lines[0] = np.maximum(lines[0], tissue.sum(axis=1))
        lines[1] = np.maximum(lines[1], tissue.sum(axis=0))
    box = []
    for axis in (1, 2):
        across = coarse.shape[3 - axis]
        found = np.flatnonzero(lines[axis - 1] >= max(1.0, _LINE_SHARE * across))
        side, spacing = resampler.shape[axis], resampler.spacing_mm[axis]
        if not len(found):
            box.append(slice(0, side))
            continue
        margin = BOX_MARGIN_MM / spacing
        edges = np.interp(found[[0, -1]] * strides[axis], resampler.positions[axis], np.arange(side))
        box.append(slice(max(0, int(edges[0] - margin)), min(side, int(np.ceil(edges[1] + margin)) + 1)))
    return _rows_reached(resampler, (box[0], box[1])), box[0], box[1]


def _rows_reached(resampler: Resampler, plane: tuple[slice, slice]) -> slice:
    """Rows of the model's grid that the slices reach inside a part of the plane: all of an upright grid."""
    if not any(resampler.grid.rise):
        return slice(0, resampler.shape[0])
    rise, rows = resampler.rise(plane), np.arange(resampler.shape[0])
    ends = (float(rise.min()), float(rise.max()) + resampler.grid.shape[0] - 1)
    low, high = np.interp(ends, resampler.positions[0], rows)
    return slice(int(low), int(np.ceil(high)) + 1)

"""The part of a scan that holds the body, and the part that holds the organs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Box
from autosam_edge.pipeline.one_part import largest_parts
from autosam_edge.pipeline.tiles import rows_beyond

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.geometry import Grid
    from autosam_edge.model import InputContract
    from autosam_edge.pipeline.resample import Resampler

# Fat, the least dense tissue of a body wall, is above -200 HU; clothes, table foam and lung lie below.
_TISSUE_HU = -200.0
_BOX_STRIDE_MM = 4.0
_ORGAN_STRIDE_MM = 3.0
BOX_MARGIN_MM = 12.0
# A line across the body shows at least this share of tissue; a table edge or an arm alone does not make the
# box larger than needed.
_LINE_SHARE = 0.01
# Along (D, H, W): what a coarse model misses lies at the lower and the upper end more than beside the organs
# (docs/adr/0023-tiers.md).
ORGAN_MARGIN_MM = (60.0, 30.0, 30.0)


def body_box(hu: npt.NDArray[np.generic], resampler: Resampler) -> Box:
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
    whole = slice(0, resampler.grid.shape[0])
    return _rows_reached(resampler, whole, (box[0], box[1])), box[0], box[1]


def organ_box(
    labels: npt.NDArray[np.uint8], grid: Grid, margin_mm: tuple[float, float, float] = ORGAN_MARGIN_MM
) -> Box | None:
    """Find the part of a scan that holds its organs; one voxel in 3 mm is looked at.

    Only the largest part of each organ counts, see :func:`_organs`.

    Args:
        labels: (D, H, W) canonical view of the labels.
        grid: Grid of that view.
        margin_mm: Margin along (D, H, W), mm.

    Returns:
        Slices of the canonical scan along (D, H, W); None if nothing is labeled.
    """
    organs = _organs(labels, _steps(grid))
    if organs is None:
        return None
    box = []
    for axis, (part, more_mm) in enumerate(zip(organs, margin_mm, strict=True)):
        margin = math.ceil(more_mm / grid.upright_spacing_mm[axis])
        box.append(slice(max(0, part.start - margin), min(labels.shape[axis], part.stop + margin)))
    return box[0], box[1], box[2]


def organs_reach(labels: npt.NDArray[np.uint8], grid: Grid, inner: Box) -> bool:
    """Whether an organ reaches out of a part of a scan, or ends within 3 mm of its sides.

    Only the largest part of each organ counts, see :func:`_organs`.

    Args:
        labels: (D, H, W) canonical view of the labels.
        grid: Grid of that view.
        inner: Slices along (D, H, W): the part without the voxels at its sides.
    """
    steps = _steps(grid)
    organs = _organs(labels, steps)
    return organs is not None and any(
        organ.start < part.start + step - 1 or organ.stop > part.stop
        for organ, part, step in zip(organs, inner, steps, strict=True)
    )


def _organs(labels: npt.NDArray[np.uint8], steps: Sequence[int]) -> Box | None:
    """The box of the largest part of each organ, from one voxel in so many along (D, H, W).

    A wrong name far away, such as liver in the pelvis, is another part and does not count.
    """
    found = largest_parts(np.ascontiguousarray(labels[:: steps[0], :: steps[1], :: steps[2]]))
    if found is None:
        return None
    d, h, w = (slice(part.start * step, part.stop * step) for part, step in zip(found, steps, strict=True))
    return d, h, w


def _steps(grid: Grid) -> list[int]:
    """Voxels along (D, H, W) of which one is looked at."""
    return [max(1, int(_ORGAN_STRIDE_MM / spacing)) for spacing in grid.upright_spacing_mm]


def box_on_model_grid(part: Box, resampler: Resampler) -> Box:
    """The part of the model's grid that covers a part of a scan.

    Args:
        part: Slices of the canonical scan along (D, H, W). Where the gantry was tilted, D stays whole, as a
            row of the model's grid crosses slices.
    """
    plane = []
    for axis in (1, 2):
        ends = (part[axis].start, part[axis].stop - 1)
        low, high = np.interp(ends, resampler.positions[axis], np.arange(resampler.shape[axis]))
        plane.append(slice(int(low), int(np.ceil(high)) + 1))
    tilted = any(resampler.grid.rise)
    slices = slice(0, resampler.grid.shape[0]) if tilted else part[0]
    return _rows_reached(resampler, slices, (plane[0], plane[1])), plane[0], plane[1]


def with_free_room(box: Box, body: Box, contract: InputContract) -> Box:
    """The box with what its tiles can cover beside it without one tile more, inside of the body.

    The organs then lie farther from the ends of the tiles, where a network is less accurate. Along D, the
    rows beyond the ends of a scan keep their place.
    """
    sides = []
    for part, patch, taken in zip(box, contract.patch, (contract.rows_beyond_ends, 0, 0), strict=True):
        more = max(0, rows_beyond(part.stop - part.start, patch, contract.overlap, patch) - taken)
        sides.append(slice(part.start - more, part.stop + more))
    return common(body, (sides[0], sides[1], sides[2]))


def common(a: Box, b: Box) -> Box:
    """The box that two boxes share; they must meet."""
    d, h, w = (slice(max(p.start, q.start), min(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return d, h, w


def _rows_reached(resampler: Resampler, slices: slice, plane: tuple[slice, slice]) -> slice:
    """Rows of the model's grid that slices of the scan reach inside a part of the plane."""
    rise, rows = resampler.rise(plane), np.arange(resampler.shape[0])
    ends = (float(rise.min()) + slices.start, float(rise.max()) + slices.stop - 1)
    low, high = np.interp(ends, resampler.positions[0], rows)
    return slice(int(low), int(np.ceil(high)) + 1)

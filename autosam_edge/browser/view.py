"""What the page shows of a result: the scan and its labels as NIfTI files, and how slices lie in them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.geometry import Grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from autosam_edge.volume import Segmentation, Volume

    Arrays = dict[str, npt.NDArray[Any]]

MOST_VOXELS = 60_000_000
"""Most voxels of a view if the page asks for no other number."""

_STEPS = ((1, 1, 1), (1, 2, 2), (2, 2, 2))  # of slices, rows and columns; slices lie farther apart
_SIDE_3D = 128  # most voxels along a side of the labels that are drawn in 3D


def lay_out(name: str, values: npt.NDArray[Any], grid: Grid) -> Arrays:
    """Header and voxels of a NIfTI file, which JavaScript joins.

    Args:
        name: Name of the voxels; that of the header ends with ``_header``.
        values: Voxels, (D, H, W).
        grid: Grid of the voxels.
    """
    from autosam_edge.formats.nifti import nifti_header  # nibabel takes a while to import

    header = nifti_header(grid, values.dtype).binaryblock + b"\0" * 4  # no extension follows
    return {name: np.ascontiguousarray(values), f"{name}_header": np.frombuffer(header, np.uint8)}


def lay_out_view(
    volume: Volume, segmentation: Segmentation, organs: list[dict[str, object]], most_voxels: int
) -> tuple[dict[str, object], Arrays]:
    """The scan and its labels for a viewer, on the scan's grid or on one of every second voxel.

    Args:
        volume: The scan.
        segmentation: Its labels.
        organs: Organs with ``center_ras_mm``; each gets ``center_zyx``, the voxel of the view there.
        most_voxels: Most voxels of the view.

    Returns:
        ``reduced``, whether the view is coarser than the scan, and how slices lie in it, so that a viewer
        turns no array: the voxel (z, y, x) among the ``shape`` voxels in canonical orientation is number
        ``first + z * steps[0] + y * steps[1] + x * steps[2]``; and the arrays ``view_image``, ``view_labels``
        and ``view_3d`` (labels of few voxels in canonical orientation) with their headers.
    """
    fitting = (steps for steps in _STEPS if volume.hu.size // math.prod(steps) <= most_voxels)
    steps = next(fitting, _STEPS[-1])
    grid, part = _every(volume.grid, steps)
    hu = volume.hu[part]
    hu = np.clip(hu, -32768, 32767).astype(np.int16) if hu.dtype != np.int16 else hu
    arrays = lay_out("view_image", hu, grid) | lay_out("view_labels", segmentation.labels[part], grid)
    turned = grid.orientation.to_canonical(arrays["view_labels"])  # one byte a voxel: strides count voxels
    upright = grid.canonical
    coarse, every = _every(upright, tuple(math.ceil(side / _SIDE_3D) for side in upright.shape))
    arrays |= lay_out("view_3d", turned[every], coarse)
    for organ in organs:
        organ["center_zyx"] = _voxel(upright, organ["center_ras_mm"])
    facts: dict[str, object] = {
        "reduced": steps != _STEPS[0],
        "shape": list(upright.shape),
        "spacing_mm": list(upright.spacing_mm),
        "first": sum((n - 1) * -s for n, s in zip(turned.shape, turned.strides, strict=True) if s < 0),
        "steps": list(turned.strides),
    }
    return facts, arrays


def _every(grid: Grid, steps: tuple[int, ...]) -> tuple[Grid, tuple[slice, ...]]:
    """The grid of some of the voxels, and the part of an array that holds them."""
    affine = grid.affine.copy()
    affine[:3, :3] *= steps
    d, h, w = (math.ceil(side / step) for side, step in zip(grid.shape, steps, strict=True))
    return Grid((d, h, w), affine), tuple(slice(None, None, step) for step in steps)


def _voxel(grid: Grid, center_ras_mm: object) -> list[int] | None:
    if not isinstance(center_ras_mm, list):
        return None
    x, y, z = center_ras_mm
    place = np.linalg.solve(grid.affine, (-x, -y, z, 1))[:3]
    return [int(index) for index in np.clip(np.rint(place), 0, np.array(grid.shape) - 1)]

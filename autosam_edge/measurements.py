"""Measurements of a segmentation: volume, mean HU, and whether the scan cuts the organ off."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.plausibility.evidence import on_faces
from autosam_edge.volume import require_same_grid

if TYPE_CHECKING:
    import numpy.typing as npt

    from autosam_edge.volume import Segmentation, Volume

_VALUES = 256  # labels are uint8


@dataclass(frozen=True)
class OrganStatistics:
    """One organ of a segmentation in numbers.

    Args:
        label: Value in the label array.
        name: TotalSegmentator's name, such as ``kidney_left``.
        title: The name as a person writes it.
        voxels: Voxels that carry the label.
        ml: Their volume in milliliters.
        mean_hu: Mean of the HU inside; None when the organ is absent.
        sd_hu: Population standard deviation of the HU inside; None when the organ is absent.
        touches_border: The organ reaches the first or last slice or a side of the scan: it may be cut by the
            field of view, and then its volume is a lower bound.
        expected_dice: Dice that the labels are expected to have against those of a person, 0 to 1; None when
            the organ is absent, or the model has no confidence.
    """

    label: int
    name: str
    title: str
    voxels: int
    ml: float
    mean_hu: float | None
    sd_hu: float | None
    touches_border: bool
    expected_dice: float | None = None


def dice(a: npt.NDArray[np.bool_], b: npt.NDArray[np.bool_]) -> float:
    """Overlap of two masks of one shape: 2 |a and b| / (|a| + |b|), 0 to 1; NaN where both are empty."""
    size = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2.0 * int(np.count_nonzero(a & b)) / size if size else float("nan")


def organ_statistics(volume: Volume, segmentation: Segmentation) -> tuple[OrganStatistics, ...]:
    """Measure every organ of the label table, absent ones included.

    One pass, slice by slice, over labeled voxels only: the extra memory is that of one slice, whatever the
    scan.

    Args:
        volume: HU, (D, H, W).
        segmentation: Labels on the same grid.

    Returns:
        One entry per row of the label table, in its order.

    Raises:
        TypeError, ValueError: See :func:`~autosam_edge.volume.require_same_grid`.
    """
    require_same_grid(volume, segmentation)
    voxels, mean, m2 = _moments(volume.hu, segmentation.labels)
    border = set().union(*on_faces(segmentation.labels).values())
    organs = []
    for label in segmentation.table:
        count = int(voxels[label.value])
        organs.append(
            OrganStatistics(
                label=label.value,
                name=label.name,
                title=label.title,
                voxels=count,
                ml=count * segmentation.grid.voxel_ml,
                mean_hu=float(mean[label.value]) if count else None,
                sd_hu=float(np.sqrt(m2[label.value] / count)) if count else None,
                touches_border=label.value in border,
                expected_dice=segmentation.expected_dice.get(label.name) if count else None,
            )
        )
    return tuple(organs)


def _moments(
    hu: npt.NDArray[np.generic], labels: npt.NDArray[np.uint8]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Count, mean and sum of squared deviations per label value, each (256,).

    Slices are merged with the update of Chan, Golub and LeVeque (1979), so nothing cancels as it does in
    E[x^2] - E[x]^2.
    """
    voxels = np.zeros(_VALUES, dtype=np.int64)
    mean = np.zeros(_VALUES)
    m2 = np.zeros(_VALUES)
    for plane, values in zip(labels, hu, strict=True):
        inside = np.flatnonzero(plane)
        if not inside.size:
            continue
        organ = plane.reshape(-1)[inside]
        value = values.reshape(-1)[inside].astype(np.float64)
        count = np.bincount(organ, minlength=_VALUES)
        here = count > 0
        plane_mean = np.zeros(_VALUES)
        plane_mean[here] = np.bincount(organ, weights=value, minlength=_VALUES)[here] / count[here]
        value -= plane_mean[organ]
        plane_m2 = np.bincount(organ, weights=value * value, minlength=_VALUES)
        total = voxels + count
        share = np.divide(count, total, out=np.zeros(_VALUES), where=total > 0)
        delta = plane_mean - mean
        m2 += np.where(here, plane_m2 + delta * delta * voxels * share, 0.0)
        mean += np.where(here, delta * share, 0.0)
        voxels = total
    return voxels, mean, m2

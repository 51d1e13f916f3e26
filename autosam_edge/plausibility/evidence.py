"""Numbers about a run that show whether its labels are plausible; gathered while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from autosam_edge.geometry import Grid
    from autosam_edge.volume import Label

# Organs are measured on about this grid: the smallest, an adrenal gland of 2 ml, still has 75 of its voxels.
_STEP_MM = 3.0
BELOW_FAT_HU = -100
"""Air, lung and bowel gas lie below it, and a part of the fat; water, soft tissue and bone never."""
_FACES = ("lower end", "upper end", "front", "back", "right side", "left side")  # of a canonical array


@dataclass(frozen=True)
class OrganEvidence:
    """One organ that was found.

    Args:
        name: TotalSegmentator's name, such as ``kidney_left``.
        ml: Volume, ml.
        median_hu: Median of its voxels, HU.
        center_mm: LPS position (x, y, z) of its center of mass, mm; x grows to the patient's left and z to
            the head.
        cut_by: Faces of the scan that it reaches, some of ``lower end``, ``upper end``, ``front``, ``back``,
            ``right side`` and ``left side``.
    """

    name: str
    ml: float
    median_hu: float
    center_mm: tuple[float, float, float]
    cut_by: tuple[str, ...]


@dataclass(frozen=True)
class Evidence:
    """What a run shows about a scan and its labels.

    Args:
        confidence: Mean probability of the winning organ over the voxels of all organs, before parts are
            removed and without decision weights, 0 to 1; None if no organ won a voxel.
        share_below_fat: Share of the scan's voxels below ``BELOW_FAT_HU``, 0 to 1.
        share_of_tissue: Share of the scan's voxels above -200 HU, 0 to 1.
        organs: Organs that were found, in the order of the label table.
    """

    confidence: float | None
    share_below_fat: float
    share_of_tissue: float
    organs: tuple[OrganEvidence, ...]


class EvidenceCollector:
    """Collects the confidence of a run, row by row, and measures its organs at the end."""

    def __init__(self) -> None:
        self._voxels, self._sum = 0, 0.0

    def push(self, rows: npt.NDArray[np.float32]) -> None:
        """Take the next rows of probabilities, (rows, C, H', W'), each voxel summing to 1."""
        winner = rows.max(axis=1)
        organs = winner[winner > rows[:, 0]]  # class 0 is the background
        self._voxels += organs.size
        self._sum += float(organs.sum(dtype=np.float64))

    def evidence(
        self,
        hu: npt.NDArray[np.generic],
        labels: npt.NDArray[np.uint8],
        grid: Grid,
        table: Sequence[Label],
    ) -> Evidence:
        """The evidence of a finished run; organs are measured on one voxel in about 3 mm.

        Args:
            hu: (D, H, W) canonical view of the scan, HU.
            labels: (D, H, W) canonical view of the labels.
            grid: Grid of both.
            table: Organs of the labels.
        """
        steps = [max(1, round(_STEP_MM / spacing)) for spacing in grid.spacing_mm]
        sample = tuple(slice(step // 2 if side > step // 2 else 0, None, step)
                       for step, side in zip(steps, grid.shape, strict=True))
        values, found = hu[sample], labels[sample]
        voxel_ml = grid.voxel_ml * float(np.prod(steps))
        place = np.nonzero(found)
        organ, organ_hu = found[place], values[place].astype(np.float32)
        index = np.stack([axis * step + part.start for axis, step, part in zip(place, steps, sample, strict=True)])
        reached = [set(np.unique(face).tolist()) for face in (
            labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])]
        organs = []
        for label in table:
            mine = organ == label.value
            if not mine.any():
                continue
            center = grid.affine[:3, :3] @ index[:, mine].mean(axis=1) + grid.affine[:3, 3]
            organs.append(OrganEvidence(
                label.name,
                float(np.count_nonzero(mine)) * voxel_ml,
                float(np.median(organ_hu[mine])),
                tuple(center.tolist()),
                tuple(name for name, values_there in zip(_FACES, reached, strict=True) if label.value in values_there),
            ))
        return Evidence(
            self._sum / self._voxels if self._voxels else None,
            float(np.mean(values < BELOW_FAT_HU)),
            float(np.mean(values > -200)),
            tuple(organs),
        )

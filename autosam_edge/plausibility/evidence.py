"""Numbers about a run that show whether its labels are plausible; gathered while the run goes on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from autosam_edge.plausibility.reference import ABDOMINAL, SOLID

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from autosam_edge.geometry import Grid
    from autosam_edge.volume import Label

# Organs are measured on one voxel in about 3 mm: the smallest, an adrenal gland of 2 ml, still has 75.
_STEP_MM = 3.0
_SURE_ML = 10.0  # less can be a part of the bowel
_COUNTED_ML = 1.0  # less can be a few wrong voxels; half of the smallest organ, an adrenal gland
BELOW_FAT_HU = -100
"""Air, lung, gas in the bowel and a part of the fat lie below it; water, soft tissue and bone do not."""

Face = Literal["lower end", "upper end", "front", "back", "right side", "left side"]
_FACES: tuple[Face, ...] = ("lower end", "upper end", "front", "back", "right side", "left side")


@dataclass(frozen=True)
class OrganEvidence:
    """One organ that was found.

    Args:
        name: TotalSegmentator's name, such as ``kidney_left``.
        title: The name as a person writes it.
        median_hu: Median of its voxels, HU.
        center_mm: LPS position (x, y, z) of its center of mass, mm: x grows to the patient's left, y to the
            back, z to the head.
        cut_by: Faces of the scan that it reaches.
        confidence: Mean probability of the organ over the voxels where it is the most probable class, before
            decision weights and before parts are removed, 0 to 1; None if there is no such voxel.
    """

    name: str
    title: str
    ml: float
    median_hu: float
    center_mm: tuple[float, float, float]
    cut_by: tuple[Face, ...]
    confidence: float | None = None


@dataclass(frozen=True)
class Evidence:
    """What a run shows about a scan and its labels.

    Args:
        confidence: Mean probability of the most probable class over the voxels where it is an organ, before
            decision weights and before parts are removed, 0 to 1; None if there is no such voxel.
        other_organs: Mean over the same voxels of the probability of all other organs, 0 to 1; None likewise.
        share_below_fat: Share of the scan's voxels below ``BELOW_FAT_HU``, 0 to 1.
        organs: Organs that were found, by name.
    """

    confidence: float | None
    other_organs: float | None
    share_below_fat: float
    organs: dict[str, OrganEvidence]

    @property
    def surest_organ(self) -> float:
        """Largest confidence of a liver, spleen or kidney of 10 ml or more; 0 if there is none."""
        sure = (self.organs[name] for name in SOLID if name in self.organs)
        return max((organ.confidence or 0.0 for organ in sure if organ.ml >= _SURE_ML), default=0.0)

    @property
    def abdomen_ml(self) -> float:
        """Volume of all organs that lie only in the abdomen, ml."""
        return sum(organ.ml for organ in self.organs.values() if organ.name in ABDOMINAL)

    @property
    def abdomen_organs(self) -> int:
        """Number of organs of 1 ml or more that lie only in the abdomen."""
        return sum(organ.ml >= _COUNTED_ML for organ in self.organs.values() if organ.name in ABDOMINAL)

    def as_dict(self) -> dict[str, object]:
        """The fields by name, and ``abdomen_ml``, as JSON types; rounded as far as it means something."""
        return {
            "confidence": _rounded(self.confidence, 4),
            "other_organs": _rounded(self.other_organs, 4),
            "share_below_fat": round(self.share_below_fat, 4),
            "abdomen_ml": round(self.abdomen_ml, 2),
            "organs": {
                organ.name: {
                    "name": organ.name,
                    "title": organ.title,
                    "ml": round(organ.ml, 2),
                    "median_hu": round(organ.median_hu, 1),
                    "center_mm": [round(side, 1) for side in organ.center_mm],
                    "cut_by": list(organ.cut_by),
                    "confidence": _rounded(organ.confidence, 4),
                }
                for organ in self.organs.values()
            },
        }


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


class EvidenceCollector:
    """Collects the confidence of a run as it goes on, and measures its organs at the end."""

    def __init__(self) -> None:
        self._others = 0.0
        # Of each class: voxels where it is the most probable, and the sum of its probability there.
        self._voxels: npt.NDArray[np.float64] = np.zeros(256)
        self._sums: npt.NDArray[np.float64] = np.zeros(256)

    def push(self, near: npt.NDArray[np.float32]) -> None:
        """Take the next voxels near organs, (N, C) probabilities, each voxel summing to 1."""
        winner = near.argmax(axis=1)
        of_organs, winner = near[winner > 0], winner[winner > 0]
        winning = of_organs.max(axis=1)
        self._voxels += np.bincount(winner, minlength=256)
        self._sums += np.bincount(winner, winning, minlength=256)
        self._others += float((1.0 - winning - of_organs[:, 0]).sum(dtype=np.float64))

    def evidence(
        self, hu: npt.NDArray[np.generic], labels: npt.NDArray[np.uint8], grid: Grid, table: Sequence[Label]
    ) -> Evidence:
        """The evidence of a finished run.

        Args:
            hu: (D, H, W) canonical view of the scan, HU.
            labels: (D, H, W) canonical view of the labels.
        """
        steps = [max(1, round(_STEP_MM / spacing)) for spacing in grid.spacing_mm]
        every = tuple(
            slice(min(step, side) // 2, None, step) for step, side in zip(steps, grid.shape, strict=True)
        )
        values = hu[every]
        voxels = float(self._voxels.sum())
        confidences = [
            float(total / count) if count else None
            for total, count in zip(self._sums, self._voxels, strict=True)
        ]
        return Evidence(
            float(self._sums.sum()) / voxels if voxels else None,
            self._others / voxels if voxels else None,
            float(np.count_nonzero(np.less(values, BELOW_FAT_HU))) / values.size,
            _organs(values, labels[every], table, grid, every, on_faces(labels), confidences),
        )


def _organs(
    hu: npt.NDArray[np.generic],
    labels: npt.NDArray[np.uint8],
    table: Sequence[Label],
    grid: Grid,
    every: tuple[slice, ...],
    reached: dict[Face, set[int]],
    confidences: list[float | None],
) -> dict[str, OrganEvidence]:
    """Measure the organs of a sampled scan.

    Args:
        hu: (D', H', W') sampled HU.
        labels: (D', H', W') sampled labels.
        every: Slice of the samples along each axis.
        reached: Label values on each face of the whole scan.
        confidences: Confidence of each class; class ``i + 1`` is the organ at place ``i`` of the table.
    """
    voxel_ml = grid.voxel_ml * float(np.prod([part.step for part in every]))
    labels = np.ascontiguousarray(labels)  # the search below is three times as fast on an array in C order
    found = np.flatnonzero(labels)
    places = np.unravel_index(found, labels.shape)
    values, organ_hu = labels.reshape(-1)[found], hu[places].astype(np.float32)
    order = np.argsort(values, kind="stable")
    bounds = np.searchsorted(values[order], np.arange(257))
    organs = {}
    for label, confidence in zip(table, confidences[1:], strict=False):
        mine = order[bounds[label.value] : bounds[label.value + 1]]
        if not mine.size:
            continue
        index = [
            float(axis[mine].mean()) * part.step + part.start
            for axis, part in zip(places, every, strict=True)
        ]
        x, y, z = (float(side) for side in grid.affine[:3, :3] @ index + grid.affine[:3, 3])
        organs[label.name] = OrganEvidence(
            label.name,
            label.title,
            mine.size * voxel_ml,
            float(np.median(organ_hu[mine])),
            (x, y, z),
            tuple(face for face, there in reached.items() if label.value in there),
            confidence,
        )
    return organs


def on_faces(labels: npt.NDArray[np.uint8]) -> dict[Face, set[int]]:
    """Values on each face of a (D, H, W) array; the faces have their names in canonical orientation."""
    faces = (labels[0], labels[-1], labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1])
    return {
        name: set(np.flatnonzero(np.bincount(face.ravel(), minlength=256)).tolist())
        for name, face in zip(_FACES, faces, strict=True)
    }

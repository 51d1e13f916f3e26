"""One scan on the model's grid: the image in HU and what the network shall answer.

The runtime's own geometry and resampler make both, so that training and device agree. The target is the
*occupancy* of every organ, the fraction of each voxel that it fills, found by sending each organ's mask
through the same antialiased filter as the image: it keeps what a hard label at 3 mm throws away
(docs/adr/0004-occupancy-targets.md). Where occupancies would not fit, at fine spacings and with many classes,
the target is the class that fills most of each voxel.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from autosam_edge.formats.label_image import as_labels
from autosam_edge.geometry import Box, Grid
from autosam_edge.pipeline.resample import Resampler, resampling_matrix
from autosam_edge_training.choices import Targets
from autosam_edge_training.strict import STRICT, checked_dataclass

UNKNOWN = 255
"""The label value of a voxel that nobody labeled."""
ROWS_BEYOND_ENDS = 8
"""Largest number of rows that a network sees beyond each end of a scan: docs/adr/0018-scan-ends.md."""
_FULL = 255  # an organ that fills a voxel, in uint8


@checked_dataclass(config=STRICT)
class Intensity:
    """How HU become what a network sees: ``(clip(hu, window) - offset) / scale``.

    Args:
        window_hu: (low, high), HU, within int16.
        offset: HU.
        scale: HU, positive.

    Raises:
        ValueError: The window is empty or beyond int16, or the scale is not positive.
    """

    window_hu: tuple[float, float]
    offset: float
    scale: float

    def __post_init__(self) -> None:
        low, high = self.window_hu
        if not -32768 <= low < high <= 32767:
            raise ValueError(
                f"a window goes from a lower to a higher HU within int16, not from {low} to {high}"
            )
        if not self.scale > 0:
            raise ValueError(f"the scale is positive, not {self.scale}")

    @property
    def low(self) -> float:
        """The lower end of the window, normalized: what air is, and what patches are padded with."""
        return (self.window_hu[0] - self.offset) / self.scale

    @property
    def high(self) -> float:
        """The upper end of the window, normalized."""
        return (self.window_hu[1] - self.offset) / self.scale


BTCV_INTENSITY = Intensity((-125.0, 275.0), -125.0, 400.0)
"""The paper's window for BTCV, as [0, 1]."""
AMOS_INTENSITY = Intensity((-991.0, 362.0), 50.0, 141.0)
"""The paper's window for AMOS, as (x - 50) / 141."""


@dataclass(frozen=True, eq=False)
class Case:
    """One prepared scan; the arrays may be memory-mapped files.

    Args:
        image: (D, H, W) int16, HU clipped to the window.
        target: Labels (D, H, W) uint8, or occupancies (C, D, H, W) uint8 where 255 = the voxel is filled. In
            a case that is labeled in part, label C and a last plane C + 1 of the occupancies stand for "not
            known".
        classes: C, with the background.
        known: The classes that are labeled everywhere in this scan, or None where all are and nothing is
            unknown.

    Raises:
        ValueError: The arrays do not fit each other.
    """

    name: str
    image: npt.NDArray[np.int16]
    target: npt.NDArray[np.uint8]
    classes: int
    intensity: Intensity
    known: frozenset[int] | None = None

    def __post_init__(self) -> None:
        planes = self.classes + (self.known is not None)
        expected = self.image.shape if self.target.ndim == 3 else (planes, *self.image.shape)
        if self.image.ndim != 3 or self.target.shape != expected:
            raise ValueError(
                f"an image {self.image.shape} has no target {self.target.shape} of {self.classes} classes"
            )
        if self.image.dtype != np.int16 or self.target.dtype != np.uint8:
            raise ValueError(
                f"an image is int16 and a target uint8, not {self.image.dtype} and {self.target.dtype}"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (D, H, W)."""
        return self.image.shape

    @property
    def whole(self) -> Box:
        """Slices along (D, H, W) of the whole scan."""
        depth, height, width = (slice(0, side) for side in self.shape)
        return depth, height, width

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """The class that fills most of each voxel, (D, H, W) uint8; C where it is not known."""
        if self.target.ndim == 3:
            return self.target
        return np.asarray(self.target.argmax(axis=0), dtype=np.uint8)

    @property
    def possible(self) -> npt.NDArray[np.bool_]:
        """Which classes an unlabeled voxel may have, (C,): background and organs not labeled in the scan.

        Where every organ is labeled and a voxel is still not known, it may be anything.
        """
        possible = np.ones(self.classes, dtype=bool)
        organs = (self.known or frozenset()) - {0}
        if len(organs) < self.classes - 1:
            possible[list(organs)] = False
        return possible

    @cached_property
    def organ_boxes(self) -> dict[int, Box]:
        """The box of every class but the background that occurs, by class; class C is "not known"."""
        if self.target.ndim == 3:
            boxes = find_objects(self.target)
            return {value: box for value, box in enumerate(boxes, start=1) if box is not None}
        found = {}
        for value in range(1, len(self.target)):
            (box,) = find_objects((self.target[value] > 0).astype(np.uint8)) or [None]
            if box is not None:
                found[value] = box
        return found

    def image_in(self, where: Box) -> npt.NDArray[np.float32]:
        """The normalized image of a part of the case, as a new array (d, h, w).

        Args:
            where: Slices along (D, H, W), within the case.
        """
        image: npt.NDArray[np.float32] = self.image[where].astype(np.float32)
        image -= np.float32(self.intensity.offset)
        image /= np.float32(self.intensity.scale)
        return image

    def share_in(self, value: int, where: Box) -> npt.NDArray[np.float32]:
        """The share of one class in every voxel of a part of the case, (d, h, w).

        Args:
            where: Slices along (D, H, W), within the case.
        """
        if self.target.ndim == 3:
            labeled: npt.NDArray[np.float32] = (self.target[where] == value).astype(np.float32)
            return labeled
        share: npt.NDArray[np.float32] = self.target[(value, *where)].astype(np.float32)
        share /= np.float32(_FULL)
        return share

    def patch(self, where: Box) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """A part of the case, as new arrays.

        Args:
            where: Slices along (D, H, W), within the case.

        Returns:
            Image (d, h, w), normalized, and occupancy (C, d, h, w); 0 or 1 if the targets are labels. It sums
            to 1 in every voxel; what is missing to 1 is not known.
        """
        image = self.image_in(where)
        if self.target.ndim == 3:
            classes = np.arange(self.classes, dtype=np.uint8)[:, None, None, None]
            return image, (self.target[where][None] == classes).astype(np.float32)
        occupancy = self.target[(slice(None), *where)].astype(np.float32)
        occupancy /= occupancy.sum(axis=0)  # each share was rounded, so that their sum is 255 only nearly
        return image, occupancy[: self.classes]


def prepare_case(
    name: str,
    hu: npt.NDArray[np.generic],
    labels: npt.NDArray[np.generic],
    grid: Grid,
    *,
    spacing_mm: tuple[float, float, float],
    intensity: Intensity = BTCV_INTENSITY,
    classes: int = 14,
    targets: Targets = "occupancy",
    known: Collection[int] | None = None,
) -> Case:
    """Bring a scan and its labels to the model's grid.

    Args:
        labels: (D, H, W) whole numbers from 0 to ``classes - 1`` on ``grid``; with ``known`` also 255, "not
            known".
        classes: With the background.
        targets: ``occupancy``, or ``labels``, the class that fills most of each voxel: one byte a voxel
            instead of one a class.
        known: The classes that are labeled everywhere in this scan, or None where all are and nothing is
            unknown.

    Raises:
        InputError: A label lies outside of the classes (AE-DATA-003).
    """
    to_canonical = grid.orientation.to_canonical
    resampled = Resampler.of_scan(grid, spacing_mm, intensity.window_hu).whole(to_canonical(hu))
    np.rint(resampled, out=resampled)
    planes = classes
    if known is not None:
        unknown = labels == UNKNOWN
        labels = np.where(unknown, classes, as_labels(np.where(unknown, 0, labels), classes))
        planes = classes + 1
    truth = to_canonical(as_labels(labels, planes))
    mask = Resampler.of_scan(grid, spacing_mm, (0.0, 1.0))
    target = (_occupancy if targets == "occupancy" else _fullest)(truth, mask, planes)
    everywhere = None if known is None else frozenset(known)
    return Case(name, resampled.astype(np.int16), target, classes, intensity, everywhere)


def _occupancy(labels: npt.NDArray[np.uint8], sampler: Resampler, classes: int) -> npt.NDArray[np.uint8]:
    """(C, D', H', W') share of every class in the voxels of the model's grid, 255 = full."""
    occupancy = np.zeros((classes, *sampler.shape), dtype=np.uint8)
    for organ, where, share in _shares(labels, sampler, classes):
        occupancy[(organ, *where)] = share
    return occupancy


def _fullest(labels: npt.NDArray[np.uint8], sampler: Resampler, classes: int) -> npt.NDArray[np.uint8]:
    """The class with the largest share, (D', H', W'): ``_occupancy(...).argmax(0)`` with less memory."""
    found, largest = np.zeros(sampler.shape, dtype=np.uint8), np.zeros(sampler.shape, dtype=np.uint8)
    for organ, where, share in _shares(labels, sampler, classes):
        # The background comes last and is the first class.
        wins = share >= largest[where] if organ == 0 else share > largest[where]
        found[where][wins] = organ
        np.maximum(largest[where], share, out=largest[where])
    return found


def _shares(
    labels: npt.NDArray[np.uint8], sampler: Resampler, classes: int
) -> Iterator[tuple[int, Box, npt.NDArray[np.uint8]]]:
    """Each class with the part of the model's grid that it reaches and its share there; the background last.

    An organ is small beside the scan, so only its box is filtered. The filter's weights sum to 1, so the
    background is what the organs leave.
    """
    rest = np.ones(sampler.shape, dtype=np.float32)
    matrices = [
        resampling_matrix(positions, side)
        for positions, side in zip(sampler.positions, labels.shape, strict=True)
    ]
    for organ, box in enumerate(find_objects(labels, max_label=classes - 1), start=1):
        if box is None:
            continue
        reached = [
            np.flatnonzero(matrix[:, side].any(axis=1)) for matrix, side in zip(matrices, box, strict=True)
        ]
        depth, height, width = (slice(int(r[0]), int(r[-1]) + 1) for r in reached)
        if any(sampler.grid.rise):  # the organ's rows differ from column to column
            depth = slice(0, sampler.shape[0])
        share = sampler.rows(labels == organ, depth.start, depth.stop, plane=(height, width))
        rest[depth, height, width] -= share
        yield organ, (depth, height, width), np.rint(share * _FULL).astype(np.uint8)
    np.clip(rest, 0.0, 1.0, out=rest)
    whole = (slice(0, rest.shape[0]), slice(0, rest.shape[1]), slice(0, rest.shape[2]))
    yield 0, whole, np.rint(rest * _FULL).astype(np.uint8)

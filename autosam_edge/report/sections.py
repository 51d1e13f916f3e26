"""Which sections of a scan to show, and how each becomes a picture with the organs on it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from autosam_edge.geometry import Box, Grid
    from autosam_edge.volume import Label, Segmentation, Volume

Plane = Literal["axial", "coronal", "sagittal"]
Scalar = TypeVar("Scalar", bound=np.generic)

WINDOW_HU = (400.0, 40.0)  # width and level of the usual abdominal soft-tissue window
_AXIS: dict[Plane, int] = {"axial": 0, "coronal": 1, "sagittal": 2}
_LETTERS = ("LR", "PA", "SI")  # of the positive and the negative direction along x, y, z of LPS
_FILL, _LINE = 62, 250  # opacity of 255: tissue stays readable under the fill, the contour is crisp
_BODY_HU = -300.0
_AIR_HU = -1024


@dataclass(frozen=True, eq=False)
class View:
    """One section through the scan, cropped, as a reader sees it.

    Args:
        hu: (rows, columns) HU, first row on top, first column on the left.
        labels: (rows, columns) uint8.
        spacing_mm: Spacing between rows and between columns, mm.
        caption: Slice number on the input's own grid and position, such as ``76/131  S 120.5 mm``.
        letters: Patient directions at the left, right, top and bottom edge.
    """

    plane: Plane
    index: int
    hu: npt.NDArray[np.generic]
    labels: npt.NDArray[np.uint8]
    spacing_mm: tuple[float, float]
    caption: str
    letters: tuple[str, str, str, str]

    @property
    def size_mm(self) -> tuple[float, float]:
        """Width and height."""
        rows, columns = self.labels.shape
        return columns * self.spacing_mm[1], rows * self.spacing_mm[0]


class Sections:
    """A scan and its labels turned to canonical orientation, ready to be cut; nothing is copied.

    Where the gantry was tilted, the rows of a coronal or sagittal section are displaced as the slices are, by
    whole pixels.
    """

    def __init__(self, volume: Volume, segmentation: Segmentation) -> None:
        self._input = volume.grid
        self._orientation = volume.grid.orientation
        self.grid: Grid = volume.grid.canonical
        self._hu = self._orientation.to_canonical(volume.hu)
        self._labels = self._orientation.to_canonical(segmentation.labels)
        self._profiles = _profiles(self._labels, self.grid)
        self.box = self._crop()

    def size_mm(self, plane: Plane) -> tuple[float, float]:
        """Width and height of every section along a plane."""
        rows, columns = (part.stop - part.start for k, part in enumerate(self.box) if k != _AXIS[plane])
        row_mm, column_mm = self._spacing_mm(plane)
        return (columns + int(np.ptp(self._shifts(plane)))) * column_mm, rows * row_mm

    def _shifts(self, plane: Plane) -> npt.NDArray[np.intp]:
        """Pixels by which each row of a section is displaced to the right, in the order of the slices."""
        axis = _AXIS[plane]
        shift = 0.0 if axis == 0 else self.grid.slice_shift[2 - axis]
        rows = np.arange(self.box[0].start, self.box[0].stop)
        return np.rint(shift * rows).astype(np.intp) if shift else np.zeros(1, np.intp)

    def _spacing_mm(self, plane: Plane) -> tuple[float, float]:
        """Distance between rows, at a right angle to them, and between columns, mm."""
        axis = _AXIS[plane]
        row, column = (self.grid.affine[:3, k] for k in range(3) if k != axis)
        column_mm = float(np.linalg.norm(column))
        return float(np.linalg.norm(np.cross(row, column))) / column_mm, column_mm

    def pick_sections(self, plane: Plane, count: int) -> list[View]:
        """Up to ``count`` sections that together show every organ near its largest cut, in reading order.

        Axial from superior to inferior, coronal from anterior to posterior, sagittal from right to left.
        """
        axis = _AXIS[plane]
        part = self.box[axis]
        indices = _spread(self._profiles[axis][part], count, middle=plane != "axial")
        ordered = sorted((part.start + index for index in indices), reverse=plane == "axial")
        return [self._cut(plane, index) for index in ordered]

    def with_labels(self, view: View, labels: npt.NDArray[np.uint8]) -> View:
        """The very section of ``view`` under other labels, (D, H, W) on the scan's own grid."""
        return replace(
            view, labels=self._section(self._orientation.to_canonical(labels), view.plane, view.index)
        )

    def _section(self, array: npt.NDArray[Scalar], plane: Plane, index: int) -> npt.NDArray[Scalar]:
        """(rows, columns) of a canonical array inside the crop, superior on top."""
        axis = _AXIS[plane]
        window = tuple(slice(index, index + 1) if k == axis else part for k, part in enumerate(self.box))
        cut = np.squeeze(array[window], axis=axis)
        shifts = self._shifts(plane)
        if shifts.any():
            beside = 0 if cut.dtype == np.uint8 else _AIR_HU
            moved = np.full((len(cut), cut.shape[1] + int(np.ptp(shifts))), beside, dtype=cut.dtype)
            for row, start in enumerate(shifts - shifts.min()):
                moved[row, start : start + cut.shape[1]] = cut[row]
            cut = moved
        return cut if axis == 0 else cut[::-1]

    def _cut(self, plane: Plane, index: int) -> View:
        axis = _AXIS[plane]
        row_axis, column_axis = (k for k in range(3) if k != axis)
        column_direction = self.grid.direction[:, column_axis]
        down = self.grid.affine[:3, row_axis] * (-1 if row_axis == 0 else 1)  # superior on top
        down = down - (down @ column_direction) * column_direction
        row_direction = down / np.linalg.norm(down)
        left, right = _letters(-column_direction), _letters(column_direction)
        top, bottom = _letters(-row_direction), _letters(row_direction)
        return View(
            plane=plane,
            index=index,
            hu=self._section(self._hu, plane, index),
            labels=self._section(self._labels, plane, index).astype(np.uint8, copy=False),
            spacing_mm=self._spacing_mm(plane),
            caption=self._caption(axis, index),
            letters=(left, right, top, bottom),
        )

    def _caption(self, axis: int, index: int) -> str:
        """Number of the slice in the input, and position of its center along the nearest world axis."""
        size = self.grid.shape[axis]
        number = size - index if self._orientation.flips[axis] else index + 1
        center = [(side - 1) / 2 for side in self.grid.shape]
        center[axis] = index
        world = 2 - axis
        position = float((self.grid.affine @ np.array([*center, 1.0]))[world])
        return f"{number}/{size}   {_LETTERS[world][0 if position >= 0 else 1]} {abs(position):.1f} mm"

    def _crop(self) -> Box:
        """The body without table and air, with all labels; along z the labeled part with a margin, if any."""
        body = _body_box(self._hu, self.grid)
        sides = []
        for axis in range(3):
            margin = int(np.ceil((30.0 if axis == 0 else 8.0) / self.grid.spacing_mm[axis]))
            labeled = np.flatnonzero(self._profiles[axis].any(axis=1))
            low, high = body[axis].start, body[axis].stop
            if labeled.size and axis == 0:
                low, high = int(labeled[0]), int(labeled[-1]) + 1
            elif labeled.size:
                low, high = min(low, int(labeled[0])), max(high, int(labeled[-1]) + 1)
            sides.append(slice(max(0, low - margin), min(self.grid.shape[axis], high + margin)))
        return sides[0], sides[1], sides[2]


def _profiles(labels: npt.NDArray[np.generic], grid: Grid) -> list[npt.NDArray[np.float64]]:
    """Voxels of each label in each section, (side, 256) per axis, from every second voxel in H and W."""
    step = 2 if min(grid.shape[1:]) >= 128 else 1
    thinned = np.ascontiguousarray(labels[:, ::step, ::step])
    places = np.unravel_index(np.flatnonzero(thinned), thinned.shape)
    values = thinned[places].astype(np.intp)
    profiles = []
    for axis in range(3):
        place = places[axis] * (1 if axis == 0 else step)
        counts = (
            np.bincount(place * 256 + values, minlength=grid.shape[axis] * 256)
            .reshape(-1, 256)
            .astype(np.float64)
        )
        if axis and step == 2:  # the voxels between the sampled ones count like their neighbors
            counts[1::2] = counts[0 : 2 * (len(counts) // 2) : 2]
        profiles.append(counts)
    return profiles


def _body_box(hu: npt.NDArray[np.generic], grid: Grid) -> Box:
    """Find the bounds of the body on a thinned copy; the whole scan if there is no body.

    An erosion along H and W removes the thin sheets of the table.
    """
    steps = [max(1, side // limit) for side, limit in zip(grid.shape, (24, 128, 128), strict=True)]
    thinned = hu[:: steps[0], :: steps[1], :: steps[2]]
    # Some data sets are clipped to a window above -300 HU.
    body = thinned.astype(np.float32) > max(_BODY_HU, float(thinned.min()) + 10.0)
    depth, height, width = (slice(0, side) for side in grid.shape)
    if min(body.shape[1:]) < 16:
        return depth, height, width
    core = _eroded(body)
    core = core[:, :-2, :] & core[:, 2:, :]  # a table is thin from front to back
    found = [np.flatnonzero(core.any(axis=tuple(k for k in range(3) if k != axis))) for axis in range(3)]
    if not found[0].size:
        return depth, height, width
    # The shifted slices above take `offset` voxels from each side of the body, and as many from the front of
    # the array: a body from voxel a to voxel b gives `core` from index a to index b - 2 * offset. In front,
    # `offset` voxels of margin are added.
    offsets = (0, 2, 1)
    sides = [
        slice(int(max(0, (place[0] - offset) * step)), int(min(side, (place[-1] + 2 * offset + 1) * step)))
        for place, offset, step, side in zip(found, offsets, steps, grid.shape, strict=True)
    ]
    return depth, sides[1], sides[2]


def _eroded(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels of the last two axes whose four neighbors are there too; each side is one pixel shorter."""
    beside = mask[..., 1:-1, :-2] & mask[..., 1:-1, 2:]
    return mask[..., 1:-1, 1:-1] & mask[..., :-2, 1:-1] & mask[..., 2:, 1:-1] & beside


def _spread(profile: npt.NDArray[np.float64], count: int, *, middle: bool) -> list[int]:
    """Choose sections one by one: each adds most to the best cut of every organ, away from those chosen.

    Args:
        profile: (sections, labels) voxels of each label in each section.
        middle: Whether to keep to the middle third if there is no organ.
    """
    sections = len(profile)
    count = min(count, sections)
    organs = profile[:, profile.any(axis=0)]
    if not organs.size:
        margin = (0.35 if middle else 0.1) * (sections - 1)
        places = np.linspace(margin, sections - 1 - margin, count).round().astype(int)
        return [int(place) for place in np.unique(places)]
    share = organs / organs.max(axis=0)
    used = np.flatnonzero(share.any(axis=1))
    gap = max(1.0, (used[-1] - used[0]) / (1.6 * count))
    best = np.zeros(share.shape[1])
    chosen: list[int] = []
    places = np.arange(sections)
    while len(chosen) < count:
        distance = (
            np.min([np.abs(places - place) for place in chosen], axis=0)
            if chosen
            else np.full(sections, np.inf)
        )
        free = distance >= gap
        if not free.any():
            gap /= 2
            if gap < 1:
                break
            continue
        gain = np.maximum(share - best, 0).sum(axis=1) + 1e-3 * share.sum(axis=1)
        pick = int(np.argmax(np.where(free, gain, -1.0)))
        chosen.append(pick)
        best = np.maximum(best, share[pick])
    return chosen


def _letters(vector: npt.NDArray[np.float64]) -> str:
    """Patient direction of a unit vector (PS3.3 C.7.6.1.1.1); two letters if 15 degrees off the axis."""
    order = np.argsort(-np.abs(vector), kind="stable")
    return "".join(
        _LETTERS[axis][0 if vector[axis] > 0 else 1]
        for axis in order[:2]
        if abs(vector[axis]) > np.sin(np.radians(15.0))
    )


def render(view: View, table: Sequence[Label], size: tuple[int, int]) -> Image.Image:
    """Draw a section in gray with its organs: a translucent fill and an anti-aliased contour."""
    width_hu, level_hu = WINDOW_HU
    shown = np.clip(
        (view.hu.astype(np.float32) - (level_hu - width_hu / 2)) * (255.0 / width_hu), 0, 255
    ).astype(np.uint8)
    image = Image.fromarray(shown).resize(size, Image.Resampling.BICUBIC).convert("RGB")
    rows, columns = view.labels.shape
    scale = (size[0] / columns, size[1] / rows)
    for label in table:
        mask = view.labels == label.value
        on_rows, on_columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if not on_rows.size:
            continue
        # One voxel more on each side, so that the interpolated border has room.
        (left, right), (top, bottom) = (
            (max(0, int((on[0] - 1) * step)), min(side, int(np.ceil((on[-1] + 2) * step))))
            for on, step, side in zip((on_columns, on_rows), scale, size, strict=True)
        )
        last_column, last_row = min(columns, right / scale[0]), min(rows, bottom / scale[1])
        source = (left / scale[0], top / scale[1], last_column, last_row)
        fine = Image.fromarray(mask.view(np.uint8) * 255).resize(
            (2 * (right - left), 2 * (bottom - top)), Image.Resampling.BICUBIC, box=source
        )
        image.paste(label.color, (left, top), _opacity(np.asarray(fine) >= 128))
    return image


def _opacity(mask: npt.NDArray[np.bool_]) -> Image.Image:
    """Fill and contour of a mask of twice the size, as an alpha channel."""
    inner = np.pad(mask, 3)
    for _ in range(3):
        inner = _eroded(inner)
    alpha = np.where(inner, _FILL, _LINE) * mask
    return Image.fromarray(alpha.astype(np.uint8)).reduce(2)

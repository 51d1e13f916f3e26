"""The preview: one picture from which a radiologist sees at a glance whether a segmentation is plausible.

Axial, coronal and sagittal sections in radiological convention (the patient's right is on the image's left),
at their true proportions, with the organs' outlines, volumes and mean HU. Holds no patient data: neither
names nor dates nor UIDs reach this module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from autosam_edge.labels import are_abdominal
from autosam_edge.report.drawing import (
    AMBER,
    PAGE,
    QUIET,
    RED,
    TEXT,
    annotate,
    font,
    shortened,
    write_numbers,
)
from autosam_edge.report.panel import draw_panel
from autosam_edge.report.sections import Sections, View, render
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.volume import Label, Segmentation, Volume

_SIZE = (2000, 1400)
_MAIN = (28, 112, 1540, 1384)  # left, top, right, bottom of the sections
_PANEL = (1572, 112, 1972, 1384)
_BOX = 1520  # left of the box in the title bar that says what the picture must not be used for
_GAP = 10
_HEADING = 30
_SMALLEST = 330  # pixels across the body below which an axial picture is no longer read at a glance
_THIN_MM = 40.0  # a thinner stack has no coronal or sagittal picture worth looking at
_RULE = (44, 53, 66)


def draw_preview(
    volume: Volume, segmentation: Segmentation, statistics: Sequence[OrganStatistics]
) -> Image.Image:
    """Draw the contact sheet, 2000 x 1400 pixels, RGB; the same input gives the same pixels.

    Works on any grid, oblique or reoriented (shown along the nearest canonical axes, with letters that tell),
    on thin stacks, and when no organ was found. :func:`autosam_edge.report.drawing.as_png` makes the file.

    Args:
        segmentation: Labels on the same grid, and the warnings.
        statistics: Result of :func:`autosam_edge.measurements.organ_statistics`, for the legend.
    """
    page = Image.new("RGB", _SIZE, PAGE)
    draw = ImageDraw.Draw(page)
    _title(draw, volume, segmentation)
    _sections(page, draw, Sections(volume, segmentation), segmentation.table)
    draw_panel(draw, segmentation, statistics, _PANEL)
    return page


def _title(draw: ImageDraw.ImageDraw, volume: Volume, segmentation: Segmentation) -> None:
    """Title bar: what this is, which model made it, and what it must not be used for."""
    made_by = segmentation.provenance
    draw.rectangle((0, 0, _SIZE[0], 88), fill=(20, 26, 35))
    draw.line((0, 88, _SIZE[0], 88), fill=_RULE)
    title = f"{'Abdominal ' if are_abdominal(segmentation.table) else ''}CT - organ segmentation"
    draw.text((28, 16), title, font=font(32), fill=TEXT)
    if any(warning.severity == "doubtful" for warning in segmentation.warnings):
        left = 28 + round(font(32).getlength(title)) + 28
        draw.rounded_rectangle((left, 14, left + 380, 50), radius=8, fill=(72, 18, 16), outline=RED, width=2)
        draw.text((left + 190, 33), "DOUBTFUL: SEE THE WARNINGS", font=font(21), fill=RED, anchor="mm")
    depth, height, width = volume.shape
    d_mm, h_mm, w_mm = volume.grid.spacing_mm
    digest = f" ({made_by.model_sha256[:8]})" if made_by.model_sha256 else ""

    def line(model: str) -> str:
        parts = (
            made_by.software_and_version,
            f"model {model}{digest}" if model else "",
            f"{made_by.engine} {made_by.precision}".strip(),
            f"{width} x {height} x {depth} voxels of {w_mm:.2f} x {h_mm:.2f} x {d_mm:.2f} mm",
        )
        return "   ·   ".join(part for part in parts if part)

    room = _BOX - _GAP - 29 - font(17).getlength(line("")) - font(17).getlength(f"   ·   model {digest}")
    draw.text((29, 56), line(shortened(made_by.model, 17, room)), font=font(17), fill=QUIET)
    first, _, rest = RESEARCH_USE.partition(". ")
    draw.rounded_rectangle((_BOX, 14, 1972, 74), radius=10, fill=(58, 43, 14), outline=AMBER, width=2)
    draw.text((1746, 33), first.upper(), font=font(21), fill=AMBER, anchor="mm")
    draw.text((1746, 58), rest, font=font(14), fill=(250, 221, 160), anchor="mm")


@dataclass(frozen=True)
class _Block:
    """A number of pictures of known sizes, broken into lines that share one scale.

    Args:
        sizes_mm: Width and height of each picture.
        per_line: Pictures in a line; the last line may be shorter.
    """

    sizes_mm: tuple[tuple[float, float], ...]
    per_line: int
    pixels_per_mm: float

    @classmethod
    def fit(
        cls, sizes_mm: Sequence[tuple[float, float]], per_line: int, width: float, height: float
    ) -> _Block:
        """The block with the largest scale inside width x height pixels."""
        lines = [sizes_mm[start : start + per_line] for start in range(0, len(sizes_mm), per_line)]
        wide = min((width - _GAP * (len(line) - 1)) / sum(size[0] for size in line) for line in lines)
        tall = (height - _GAP * (len(lines) - 1)) / sum(max(size[1] for size in line) for line in lines)
        return cls(tuple(sizes_mm), per_line, max(0.01, min(wide, tall)))

    @property
    def area(self) -> float:
        """Square pixels that show tissue."""
        return sum(wide * tall for wide, tall in self.sizes_mm) * self.pixels_per_mm**2

    def frames(self, left: int, top: int, width: int) -> list[tuple[int, int, int, int]]:
        """Left, top, right, bottom of each picture; lines start at the left and spread over the width."""
        pixels = [
            (max(8, round(wide * self.pixels_per_mm)), max(8, round(tall * self.pixels_per_mm)))
            for wide, tall in self.sizes_mm
        ]
        frames = []
        for start in range(0, len(pixels), self.per_line):
            line = pixels[start : start + self.per_line]
            full = pixels[: self.per_line]  # a short last line keeps the columns of the first
            spare = (width - sum(size[0] for size in full)) / max(1, len(full) - 1)
            x = float(left)
            for wide, tall in line:
                frames.append((round(x), top, round(x) + wide, top + tall))
                x += wide + min(spare, 16 * _GAP)
            top += max(tall for _, tall in line) + _GAP
        return frames


def _layout(sections: Sections, width: int, height: int) -> tuple[_Block, _Block | None, int]:
    """Share the page so that most of it shows tissue.

    Returns:
        The axial block; the block of coronal and sagittal sections, None for a thin stack; how many of those
        are coronal.
    """
    axial_mm, coronal_mm, sagittal_mm = (
        sections.size_mm(plane) for plane in ("axial", "coronal", "sagittal")
    )
    most = sections.box[0].stop - sections.box[0].start
    grids = [(columns, min(most, columns * lines)) for columns, lines in ((3, 2), (4, 2), (3, 3), (4, 3))]
    if coronal_mm[1] < _THIN_MM:
        alone = [_Block.fit([axial_mm] * count, columns, width, height) for columns, count in grids]
        return max(alone, key=lambda block: block.area), None, 0
    height -= _HEADING + 2 * _GAP
    pairs = []
    for coronals, sagittals in ((2, 2), (3, 2), (3, 3)):
        sizes = [coronal_mm] * coronals + [sagittal_mm] * sagittals
        for share in np.linspace(0.3, 0.8, 51):
            below = _Block.fit(sizes, len(sizes), width, height * (1 - share))
            pairs += [
                (_Block.fit([axial_mm] * count, columns, width, height * share), below, coronals)
                for columns, count in grids
            ]
    readable = [pair for pair in pairs if pair[0].pixels_per_mm * axial_mm[0] >= _SMALLEST] or pairs
    balanced = [pair for pair in readable if pair[1].pixels_per_mm > 0.8 * pair[0].pixels_per_mm] or readable
    # The fourth root: more sections are worth some of their size.
    return max(balanced, key=lambda pair: (pair[0].area + pair[1].area) * len(pair[0].sizes_mm) ** 0.25)


def _sections(
    page: Image.Image, draw: ImageDraw.ImageDraw, sections: Sections, table: Sequence[Label]
) -> None:
    """Axial sections above, coronal and sagittal ones below."""
    left, top, right, bottom = _MAIN
    above, below, coronals = _layout(sections, right - left, bottom - top - _HEADING)
    axial = sections.pick_sections("axial", len(above.sizes_mm))
    others: list[View] = []
    if below is not None:
        others = [
            *sections.pick_sections("coronal", coronals),
            *sections.pick_sections("sagittal", len(below.sizes_mm) - coronals),
        ]
    headings = (
        "AXIAL   from superior to inferior, seen from the feet",
        (
            "CORONAL   from anterior to posterior          SAGITTAL   from right to left          "
            "(ticks: levels of the axial sections)"
        ),
    )
    for block, views, heading in zip((above, below), (axial, others), headings, strict=True):
        if block is None:
            continue
        draw.text((left, top), heading, font=font(16), fill=QUIET)
        frames = block.frames(left, top + _HEADING, right - left)
        for view, frame in zip(views, frames, strict=False):
            page.paste(render(view, table, (frame[2] - frame[0], frame[3] - frame[1])), frame[:2])
            annotate(draw, view, frame, block.pixels_per_mm)
            if view.plane != "axial":
                top_index = sections.box[0].stop - 0.5
                _ticks(draw, frame, [(top_index - level.index) / len(view.labels) for level in axial])
        if views is axial:
            write_numbers(draw, axial, frames, table)
        top = max(frame[3] for frame in frames) + 2 * _GAP


def _ticks(draw: ImageDraw.ImageDraw, frame: tuple[int, int, int, int], heights: list[float]) -> None:
    """Marks on both sides of a coronal or sagittal picture at fractions of its height."""
    left, top, right, bottom = frame
    for height in heights:
        y = round(top + height * (bottom - top))
        for start, end in ((left, left + 9), (right - 10, right - 1)):
            draw.line((start, y, end, y), fill=AMBER, width=1)

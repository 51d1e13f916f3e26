"""Several labels of one scan side by side, in the same sections, such as a truth and two models.

The sections are those that show most of the first labels, and every column shows them. Nothing here knows a
patient.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from autosam_edge.report.drawing import (
    AMBER,
    PAGE,
    QUIET,
    TEXT,
    PixelBox,
    annotate,
    as_png,
    font,
    shortened,
    swatch,
    write_numbers,
)
from autosam_edge.report.sections import Plane, Sections, View, render
from autosam_edge.volume import RESEARCH_USE, Segmentation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from autosam_edge.volume import Label, Volume

_WIDTH = 560  # pixels of a picture with up to three columns; four and more share the same page
_PAGE_WIDTH = 3 * _WIDTH
_LEFT, _TOP, _GAP, _HEADING, _LEGEND_STEP = 28, 76, 10, 34, 40
_LEGEND_WIDTH = 330  # of the longest title
_ABSENT = (28, 35, 45)


@dataclass(frozen=True, eq=False)
class MontageCase:
    """One scan and what was found on it.

    Args:
        name: Name above the pictures of the scan; empty if there is only one scan.
        found: Labels by column, (D, H, W) uint8 on the scan's grid; None where there are none. The first are
            there.

    Raises:
        ValueError: Labels do not have the scan's shape, or the first are missing.
    """

    name: str
    volume: Volume
    found: Mapping[str, npt.NDArray[np.uint8] | None]

    def __post_init__(self) -> None:
        for labels in self.found.values():
            if labels is not None and labels.shape != self.volume.shape:
                raise ValueError(
                    f"labels of shape {labels.shape} do not belong to a scan of {self.volume.shape}"
                )
        if next(iter(self.found.values()), None) is None:
            raise ValueError("the first labels decide which sections are shown, and there are none")


def draw_montage(
    cases: Sequence[MontageCase],
    table: tuple[Label, ...],
    *,
    planes: Mapping[Plane, int] | None = None,
    note: str = RESEARCH_USE,
) -> bytes:
    """A page with a column for each of the labels and a line for each section.

    Args:
        cases: At least one, all with the same columns.
        planes: Number of sections of each plane; one axial and one coronal if None.

    Returns:
        The PNG; the same input gives the same bytes.
    """
    names = list(cases[0].found)
    width = min(_WIDTH, (_PAGE_WIDTH - _GAP * (len(names) - 1)) // len(names))
    lines_of_cases = [_lines(case, planes or {"axial": 1, "coronal": 1}, width) for case in cases]
    views = [view for lines in lines_of_cases for line in lines for view in line.views if view is not None]
    values = {int(value) for view in views for value in np.unique(view.labels)}
    shown = [label for label in table if label.value in values]
    page_width = max(2 * _LEFT + len(names) * width + (len(names) - 1) * _GAP, 900)
    columns = max(1, (page_width - 2 * _LEFT) // _LEGEND_WIDTH)
    legend = _LEGEND_STEP * -(-len(shown) // columns)
    height = (
        _TOP
        + sum(map(_heading, cases))
        + sum(line.height + _GAP for lines in lines_of_cases for line in lines)
        + legend
        + 2 * _GAP
    )

    page = Image.new("RGB", (page_width, height), PAGE)
    draw = ImageDraw.Draw(page)
    draw.text((_LEFT, 18), note, font=font(15), fill=AMBER)
    lefts = [_LEFT + number * (width + _GAP) for number in range(len(names))]
    for name, left in zip(names, lefts, strict=True):
        draw.text((left + width // 2, _TOP - 14), name, font=font(22), fill=TEXT, anchor="mm")
    top = _TOP
    for case, lines in zip(cases, lines_of_cases, strict=True):
        draw.text(
            (_LEFT, top + _HEADING // 2),
            f"case {case.name}" if case.name else "",
            font=font(17),
            fill=QUIET,
            anchor="lm",
        )
        top = _draw_case(page, draw, lines, table, lefts, top + _heading(case), width)
    _draw_legend(draw, shown, columns, top)
    return as_png(page)


def _draw_legend(draw: ImageDraw.ImageDraw, shown: Sequence[Label], columns: int, top: int) -> None:
    """The organs that are shown, line by line."""
    for number, label in enumerate(shown):
        left = _LEFT + number % columns * _LEGEND_WIDTH
        middle = top + _LEGEND_STEP // 2 + number // columns * _LEGEND_STEP
        title = shortened(label.title, 19, _LEGEND_WIDTH - 48)  # as wide as the swatch and a gap
        swatch(draw, (left, middle), label.value, title, label.color)


class _Line(NamedTuple):
    """One section of a scan.

    Args:
        views: The section with the labels of each column; None where there are none.
        height: Height of the pictures, pixels.
    """

    views: list[View | None]
    height: int


def _lines(case: MontageCase, planes: Mapping[Plane, int], width: int) -> list[_Line]:
    """The sections of a scan, in pictures of a width in pixels."""
    first = next(labels for labels in case.found.values() if labels is not None)
    sections = Sections(case.volume, Segmentation(first, case.volume.grid, ()))
    chosen = [view for plane, count in planes.items() for view in sections.pick_sections(plane, count)]
    lines = []
    for view in chosen:
        wide, tall = view.size_mm
        views = [
            None if labels is None else sections.with_labels(view, labels) for labels in case.found.values()
        ]
        lines.append(_Line(views, max(8, round(width * tall / wide))))
    return lines


def _heading(case: MontageCase) -> int:
    return _HEADING if case.name else 0


def _draw_case(
    page: Image.Image,
    draw: ImageDraw.ImageDraw,
    lines: Sequence[_Line],
    table: tuple[Label, ...],
    lefts: Sequence[int],
    top: int,
    width: int,
) -> int:
    """Draw the pictures of one scan; returns where they end, in pixels. A column names each organ once."""
    frames: list[PixelBox] = []
    for line in lines:
        height = line.height
        for view, left in zip(line.views, lefts, strict=True):
            frame = (left, top, left + width, top + height)
            if view is None:
                draw.rectangle((frame[0], frame[1], frame[2] - 1, frame[3] - 1), fill=_ABSENT)
                draw.text(
                    (left + width // 2, top + height // 2), "n/a", font=font(22), fill=QUIET, anchor="mm"
                )
                continue
            page.paste(render(view, table, (width, height)), frame[:2])
            annotate(draw, view, frame, width / view.size_mm[0])
        frames.append((0, top, width, top + height))
        top += height + _GAP
    for number, left in enumerate(lefts):
        views = [view for line in lines if (view := line.views[number]) is not None]
        if views:
            write_numbers(draw, views, [(left, frame[1], left + width, frame[3]) for frame in frames], table)
    return top

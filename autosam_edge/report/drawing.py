"""What every picture shares: colors, type, what is written on a section, and the file.

Nothing here knows a patient: neither names nor dates nor UIDs reach these modules.
"""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.report.sections import View
    from autosam_edge.volume import Label

PixelBox = tuple[int, int, int, int]  # left, top, right, bottom in pixels

PAGE, TILE = (13, 17, 23), (0, 0, 0)
TEXT, QUIET, AMBER = (232, 238, 245), (146, 158, 174), (245, 187, 74)
RED = (255, 112, 100)
_SMALL_CUT = 700  # square pixels below which a number would hide the organ
# Offsets of a number from its organ, pixels inward and down; the best first.
_BESIDE = ((0, 0), (22, -24), (22, 24), (-22, -24), (-22, 24), (44, 0))
_ROOM = 24  # pixels that a number of two digits needs for itself


@lru_cache(maxsize=16)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font, the same on every machine; texts keep to ASCII, which it has."""
    return ImageFont.load_default(size=size)


def shortened(text: str, size: int, room: float) -> str:
    """The text in a size of the font, with three dots for its end where it has not enough room.

    Args:
        room: Width that it may have, pixels.
    """
    while len(text) > 3 and font(size).getlength(text) > room:
        text = f"{text.removesuffix('...')[:-1]}..."
    return text


def write_numbers(
    draw: ImageDraw.ImageDraw, views: Sequence[View], frames: Sequence[PixelBox], table: Sequence[Label]
) -> None:
    """Write each organ's number where its cut is largest, so that no reader depends on color.

    Beside it, with a leader, where it would hide a small organ or another number.
    """
    # (views, 256)
    voxels = np.stack([np.bincount(view.labels[view.labels > 0], minlength=256) for view in views])
    taken: list[tuple[float, float]] = []
    for label in table:
        cuts = voxels[:, label.value]
        largest = int(np.argmax(cuts))
        if not cuts[largest]:
            continue
        left, top, right, bottom = frames[largest]
        rows, columns = np.nonzero(views[largest].labels == label.value)
        height, width = views[largest].labels.shape
        middle = int(np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2))
        x = left + (columns[middle] + 0.5) * (right - left) / width
        y = top + (rows[middle] + 0.5) * (bottom - top) / height
        small = cuts[largest] * (right - left) * (bottom - top) / (width * height) < _SMALL_CUT
        inward = 1 if x < (left + right) / 2 else -1
        places = [(x + inward * away, y + down) for away, down in _BESIDE[0 if not small else 1 :]]
        place = max(
            places,
            key=lambda at: min([_ROOM, *(abs(at[0] - used[0]) + abs(at[1] - used[1]) for used in taken)]),
        )
        if place != (x, y):
            draw.line((x, y, *place), fill=TEXT, width=1)
        taken.append(place)
        _write(draw, place, str(label.value), 15, "mm")


def _write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    anchor: str,
    color: tuple[int, int, int] = TEXT,
) -> None:
    """Write on a section, with an outline that any tissue lets see."""
    draw.text(place, text, font=font(size), fill=color, anchor=anchor, stroke_width=2, stroke_fill=TILE)


def annotate(draw: ImageDraw.ImageDraw, view: View, frame: PixelBox, pixels_per_mm: float) -> None:
    """Slice number and position, directions, and a scale bar, inside the frame of a picture."""
    left, top, right, bottom = frame
    middle_x, middle_y = (left + right) // 2, (top + bottom) // 2
    _write(draw, (left + 8, top + 7), view.caption, 15, "la")
    for letter, place, anchor in zip(
        view.letters,
        ((left + 7, middle_y), (right - 7, middle_y), (middle_x, top + 26), (middle_x, bottom - 6)),
        ("lm", "rm", "ma", "md"),
        strict=True,
    ):
        _write(draw, place, letter, 18, anchor, AMBER)
    bar_mm = next(mm for mm in (50, 20, 10, 5, 1) if mm * pixels_per_mm < 0.45 * (right - left) or mm == 1)
    length = round(bar_mm * pixels_per_mm)
    x, y = right - 10 - length, bottom - 10
    draw.line((x - 1, y, right - 9, y), fill=TILE, width=5)
    draw.line((x, y, right - 10, y), fill=TEXT, width=2)
    for end in (x, right - 10):
        draw.line((end, y - 5, end, y), fill=TEXT, width=2)
    _write(draw, (x + length / 2, y - 5), f"{bar_mm} mm", 13, "md")


def swatch(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    value: int,
    title: str,
    color: tuple[int, int, int],
    *,
    present: bool = True,
) -> None:
    """An organ of a legend: its number on its color, and its title; hollow and quiet where it was not found.

    Args:
        place: Left end and middle of the height, pixels.
        title: Name of the organ as a reader sees it.
    """
    left, middle = place
    draw.rounded_rectangle(
        (left, middle - 12, left + 24, middle + 12),
        radius=5,
        fill=color if present else None,
        outline=color,
        width=2,
    )
    ink = (10, 12, 16) if present and sum(color) > 330 else TEXT
    draw.text((left + 12, middle), str(value), font=font(14), fill=ink, anchor="mm")
    draw.text((left + 38, middle), title, font=font(19), fill=TEXT if present else QUIET, anchor="lm")


def as_png(page: Image.Image, version: str = "") -> bytes:
    """The page as a PNG that says what made it and what it is not for; the same page gives the same bytes."""
    information = PngImagePlugin.PngInfo()
    information.add_text("Software", f"autosam-edge {version}".strip())
    information.add_text("Disclaimer", RESEARCH_USE)
    file = BytesIO()
    page.save(file, format="PNG", compress_level=1, pnginfo=information)
    return file.getvalue()

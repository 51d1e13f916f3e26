"""The right side of the preview: legend with volumes and HU, warnings, and how to read the picture.

Doubtful warnings come first, in red; cautions follow in amber; facts stand below where there is room. Nothing
is drawn below the panel: what does not fit is counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.report.drawing import AMBER, QUIET, RED, TEXT, font, shortened, swatch
from autosam_edge.report.sections import WINDOW_HU
from autosam_edge.scan_warning import most_severe_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import ImageDraw

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.report.drawing import PixelBox
    from autosam_edge.scan_warning import Severity
    from autosam_edge.volume import Segmentation

    Color = tuple[int, int, int]
    Line = tuple[str, Color]

_COLORS: dict[Severity, Color] = {"doubtful": RED, "caution": AMBER, "info": QUIET}
_HOW_TO_READ = (
    f"Window W {WINDOW_HU[0]:.0f}  L {WINDOW_HU[1]:.0f} HU",
    "Patient's right is on the image's left.",
    "Slice numbers count along the input's own axes.",
)
_HEADING = 30
_ROW, _SMALLEST_ROW = 66, 44  # pixels of an organ: where there is room, and where many warnings need it
_TWO_LINES, _LEAST_ROW = 40, 26  # a row below has one line of numbers; less than the least has no row
_TITLE = 48  # pixels of the swatch before a title, and of the gap behind it
_MOST_LINES = 12  # of a warning for which organs lose their rows
_LINE = 20  # pixels of a line of text below the legend
_GAP = 14  # pixels between the legend and the text


def draw_panel(
    draw: ImageDraw.ImageDraw,
    segmentation: Segmentation,
    statistics: Sequence[OrganStatistics],
    place: PixelBox,
) -> None:
    """Draw the legend, and below it what a reader must know to trust the picture.

    Args:
        segmentation: Label table with the colors, and the warnings.
        statistics: One entry per organ of the table.
        place: Left, top, right, bottom of the panel, pixels.
    """
    left, top, right, bottom = place
    draw.text((left, top), "ORGAN", font=font(16), fill=QUIET)
    columns = ["VOLUME", "HU mean ± SD", *(["expected Dice"] if segmentation.expected_dice else [])]
    draw.text((right, top), "  ·  ".join(columns), font=font(16), fill=QUIET, anchor="ra")
    colors = {label.value: label.color for label in segmentation.table}
    marks = _marks(segmentation)
    y = top + _HEADING
    about = _about_the_legend(statistics, marks)
    how_to_read = [(line, QUIET) for line in _HOW_TO_READ]
    warnings = [
        [
            (line, _COLORS[warning.severity])
            for line in wrap(f"{warning.message} ({warning.code})", right - left)
        ]
        for warning in most_severe_first(segmentation.warnings)
        if warning.organ is None or warning.severity != "info"  # a fact about an organ stands in the legend
    ]
    must = sum(len(lines) for lines in warnings if lines[0][1] != QUIET)
    fixed = len(about) + len(how_to_read) + 1  # one line counts what is left out
    height = bottom - y - _GAP
    # The most severe warning, the number of the others and a gap keep their room beside any number of organs.
    room = height - (fixed + (min(len(warnings[0]), _MOST_LINES) + 2 if must else 0)) * _LINE
    if len(statistics) * _LEAST_ROW > room:
        fixed, room = fixed + 1, room - _LINE
        marked_first = sorted(statistics, key=lambda organ: organ.name not in marks)
        kept = {organ.label for organ in marked_first[: room // _LEAST_ROW]}
        about = [(f"organs without a row here: {len(statistics) - len(kept)}", QUIET), *about]
        statistics = [organ for organ in statistics if organ.label in kept]
    count = max(1, len(statistics))
    smallest = min(_SMALLEST_ROW, room // count)
    row = max(smallest, min(_ROW, (height - (fixed + must + 1) * _LINE) // count))
    for organ in statistics:
        _legend_row(draw, organ, colors.get(organ.label, QUIET), marks.get(organ.name), (left, y, right), row)
        y += row
    y += _GAP
    for text, color in [*about, *_that_fit(warnings, (bottom - y) // _LINE - fixed), *how_to_read]:
        draw.text((left, y), text, font=font(15), fill=color)
        y += _LINE


def _that_fit(warnings: Sequence[Sequence[Line]], room: int) -> list[Line]:
    """Lines of the first warnings that fit, and the number of the others."""
    lines: list[Line] = []
    for shown, warning in enumerate(warnings):
        if len(lines) + len(warning) + 1 > room:
            left = len(warnings) - shown
            unshown = f"{left} warning{'s' * (left > 1)}: no room here"
            text = f"and {left} more, none of them more severe" if shown else unshown
            return [*lines, (text, warning[0][1]), ("", QUIET)]
        lines += warning
    return [*lines, ("", QUIET)] if lines else []


def _marks(segmentation: Segmentation) -> dict[str, Color]:
    """Color of the volume of each organ that has a caution or a doubtful warning, by name."""
    mildest_first = reversed(most_severe_first(segmentation.warnings))
    return {
        warning.organ: _COLORS[warning.severity]
        for warning in mildest_first
        if warning.organ is not None and warning.severity != "info"
    }


def _legend_row(
    draw: ImageDraw.ImageDraw,
    organ: OrganStatistics,
    color: Color,
    mark: Color | None,
    place: tuple[int, int, int],
    height: int,
) -> None:
    """One organ: swatch, title, milliliters, mean HU, expected Dice."""
    left, y, right = place
    middle = y + height // 2 - 4
    present = organ.voxels > 0
    draw.line((left, y + height - 4, right, y + height - 4), fill=(28, 35, 45))
    signs = (" *" if organ.touches_border else "") + (" !" if mark else "")
    lines = [(0, "not found" + signs, 16, mark or QUIET)]
    if present:
        volume = (f"{organ.ml:.0f} ml" if organ.ml >= 20 else f"{organ.ml:.1f} ml") + signs
        dice = "" if organ.expected_dice is None else f"  ·  {organ.expected_dice:.2f}"
        hu = f"{organ.mean_hu:.0f} ± {organ.sd_hu:.0f} HU{dice}"
        lines = [(-10, volume, 20, mark or TEXT), (11, hu, 14, QUIET)]
        if height < _TWO_LINES:
            lines = [(0, f"{volume}  ·  {hu}", 14, mark or TEXT)]
    room = right - left - _TITLE - max(font(size).getlength(text) for _, text, size, _ in lines)
    swatch(draw, (left, middle), organ.label, shortened(organ.title, 19, room), color, present=present)
    for down, text, size, ink in lines:
        draw.text((right, middle + down), text, font=font(size), fill=ink, anchor="rm")


def _about_the_legend(statistics: Sequence[OrganStatistics], marks: dict[str, Color]) -> list[Line]:
    """Lines that explain the signs behind the volumes."""
    lines: list[Line] = []
    if not any(organ.voxels for organ in statistics):
        lines.append(("No organ was found in this scan.", AMBER))
    if any(organ.touches_border for organ in statistics):
        lines.append(("* reaches the edge of the scan: may be cut off", AMBER))
    if marks:
        lines.append(("! a warning is about this organ", AMBER))
    return [*lines, ("", QUIET)] if lines else []


def wrap(text: str, width: int) -> list[str]:
    """Break a sentence into lines.

    Args:
        text: Words; a word that is longer than a line is broken.
        width: Width of a line, pixels.

    Returns:
        At least one line.
    """
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font(15).getlength(longer) <= width:
            lines[-1] = longer
            continue
        if lines[-1]:
            lines.append("")
        for letter in word:
            if font(15).getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return lines

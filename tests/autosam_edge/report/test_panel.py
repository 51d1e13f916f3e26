"""The panel of the preview: warnings by severity, inside the page however many there are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from PIL import Image, ImageDraw

from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS, label_table
from autosam_edge.measurements import organ_statistics
from autosam_edge.report import preview
from autosam_edge.report.drawing import AMBER, PAGE, RED, font
from autosam_edge.report.panel import draw_panel, wrap
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Label, Segmentation, Volume

SHAPE = (4, 20, 24)
PLACE = (1572, 112, 1972, 1384)
INFO = ScanWarning("AE-WARN-001", "info", "Two files were passed over, as they are no images of the series.")
CAUTION = ScanWarning("AE-WARN-040", "caution", "Slices are 5 mm apart, so small organs are uncertain.")
DOUBTFUL = ScanWarning("AE-WARN-100", "doubtful", "The liver lies left of the spleen.", "liver")


def labeled(*warnings: ScanWarning, table: Sequence[Label] = BTCV_LABELS) -> tuple[Volume, Segmentation]:
    """A scan with an organ of value 6, BTCV's liver, and these warnings."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[1:3, 5:15, 5:15] = 6
    grid = Grid.axis_aligned(SHAPE, (3.0, 1.0, 1.0))
    return Volume(np.zeros(SHAPE, np.int16), grid), Segmentation(
        labels, grid, tuple(table), warnings=tuple(warnings)
    )


def panel(
    *warnings: ScanWarning, table: Sequence[Label] = BTCV_LABELS, places: list[tuple[int, int]] | None = None
) -> tuple[np.ndarray, list[str]]:
    """Pixels (1400, 2000, 3) of a page with the panel alone, and the texts that were written on it."""
    volume, segmentation = labeled(*warnings, table=table)
    page = Image.new("RGB", (2000, 1400), PAGE)
    draw = ImageDraw.Draw(page)
    write, texts = draw.text, []

    def note(place: object, text: str, **options: object) -> None:
        texts.append(text)
        if places is not None:
            places.append(place)
        write(place, text, **options)

    draw.text = note
    draw_panel(draw, segmentation, organ_statistics(volume, segmentation), PLACE)
    return np.asarray(page).astype(int), texts


def rows_of(pixels: np.ndarray, color: tuple[int, int, int]) -> np.ndarray:
    """Rows below the legend in which a color is written."""
    return np.flatnonzero((np.abs(pixels[640:] - np.array(color)).sum(axis=2) < 20).any(axis=1))


@hazard(
    "Results",
    "more warnings than the picture has room for",
    "the most severe are drawn, the others are counted",
)
@pytest.mark.parametrize("count", [0, 1, 10, 60])
def test_nothing_is_drawn_outside_of_the_panel(count: int) -> None:
    """The page around the panel stays empty, and the last lines say how to read the picture."""
    many = [DOUBTFUL, CAUTION, INFO] * count
    pixels, texts = panel(*many)
    outside = np.ones(pixels.shape[:2], bool)
    outside[PLACE[1] : PLACE[3] + 1, PLACE[0] : PLACE[2] + 1] = False
    assert (pixels[outside] == np.array(PAGE)).all()
    assert texts[-1] == "Slice numbers count along the input's own axes."
    left_out = [text for text in texts if text.endswith("more, none of them more severe")]
    drawn = sum(text.count("AE-WARN-") for text in texts)
    assert drawn + sum(int(text.split()[1]) for text in left_out) == 3 * count
    assert drawn >= min(3 * count, 12)


def test_doubtful_comes_first_in_red_and_then_caution_in_amber() -> None:
    """Whatever the order in which they were found."""
    pixels, texts = panel(INFO, CAUTION, DOUBTFUL)
    codes = [text[text.index("AE-WARN-") :][:11] for text in texts if "AE-WARN-" in text]
    assert codes == [DOUBTFUL.code, CAUTION.code, INFO.code]
    assert rows_of(pixels, RED).max() < rows_of(pixels, AMBER).max()


def test_an_organ_with_a_warning_is_marked_in_the_legend() -> None:
    """The sign stands behind its volume, and is explained; a fact marks nothing."""
    _, texts = panel(DOUBTFUL)
    assert "0.6 ml !" in texts
    assert "! a warning is about this organ" in texts
    _, texts = panel(ScanWarning("AE-WARN-080", "info", "A part was removed.", "liver"))
    assert "0.6 ml" in texts


@pytest.mark.parametrize("organs", [4, 24, 40, 100])
def test_the_legend_of_many_organs_can_be_read(organs: int) -> None:
    """No line of numbers lies over another one; organs without a row are counted."""
    table = label_table(["background", *(f"some quite long name {value}" for value in range(1, organs + 1))])
    places: list[tuple[int, int]] = []
    pixels, texts = panel(CAUTION, DOUBTFUL, table=table, places=places)
    heights = sorted({y for x, y in places if x == PLACE[2]})
    assert min(np.diff(heights)) >= 20
    more = [int(text.split()[-1]) for text in texts if text.startswith("organs without a row here: ")]
    assert bool(more) == (organs == 100)
    assert sum("ome quite" in text for text in texts) == organs - sum(more)
    assert DOUBTFUL.message in " ".join(texts)
    assert (pixels[PLACE[3] + 1 :] == np.array(PAGE)).all()


@pytest.mark.parametrize("organs", [6, 40])
def test_a_long_name_ends_before_its_numbers(organs: int) -> None:
    """With room for two lines of numbers, and with one."""
    table = label_table(["background", *(f"{value}".ljust(64, "W") for value in range(1, organs + 1))])
    places: list[tuple[int, int]] = []
    _, texts = panel(table=table, places=places)
    written = list(zip(places, texts, strict=True))
    ((left, _), title), *_ = [(place, text) for place, text in written if text.startswith("6W")]
    numbers = [text for (x, _), text in written if x == PLACE[2] and ("ml" in text or "HU" in text)]
    assert title.endswith("...")
    assert left + font(19).getlength(title) < PLACE[2] - max(font(14).getlength(text) for text in numbers[1:])


@pytest.mark.parametrize("doubtful", [True, False])
def test_the_head_says_that_a_result_is_doubtful(doubtful: bool) -> None:
    """Red beside the title, with any doubtful warning and only then."""
    volume, segmentation = labeled(INFO, CAUTION, *([DOUBTFUL] if doubtful else []))
    page = preview.draw_preview(volume, segmentation, organ_statistics(volume, segmentation))
    head = np.asarray(page)[:88].astype(int)
    assert (np.abs(head - np.array(RED)).sum(axis=2) < 20).any() == doubtful


def test_a_word_longer_than_a_line_is_broken() -> None:
    """No text is lost, and no line is wider than the panel."""
    lines = wrap("a " + "word" * 60 + " b", 400)
    assert "".join(lines) == "a" + "word" * 60 + " b"
    assert len(lines) > 3

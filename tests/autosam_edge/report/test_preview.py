"""The contact sheet: correct orientation on every grid, true proportions, readable with missing parts."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from autosam_edge.geometry import Grid, Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import organ_statistics
from autosam_edge.report.drawing import as_png
from autosam_edge.report.preview import draw_preview
from autosam_edge.report.sections import Plane, Sections, View, render
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Provenance, Segmentation, Volume

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (30, 60, 80)
SPACING_MM = (4.0, 2.0, 2.0)
LIVER, SPLEEN = 6, 1
COLORS = {label.value: label.color for label in BTCV_LABELS}


def body() -> tuple[np.ndarray, np.ndarray]:
    """Canonical HU and labels: an ellipse of tissue, a liver on the patient's right, high up.

    A spleen on the left, low down.
    """
    d, h, w = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    hu = np.where(((h - 30) / 24) ** 2 + ((w - 40) / 36) ** 2 + 0 * d < 1, 40, -1000).astype(np.int16)
    labels = np.zeros(SHAPE, np.uint8)
    labels[((d - 22) / 5) ** 2 + ((h - 28) / 12) ** 2 + ((w - 22) / 12) ** 2 < 1] = LIVER
    labels[((d - 8) / 5) ** 2 + ((h - 38) / 8) ** 2 + ((w - 60) / 8) ** 2 < 1] = SPLEEN
    return hu, labels


def straight(slices: int = SHAPE[0]) -> Grid:
    """The body's grid, or that of its lowest slices."""
    return Grid.axis_aligned((slices, *SHAPE[1:]), SPACING_MM, origin_mm=(-80.0, -60.0, -100.0))


def scan(
    orientation: Orientation | None = None, rotation: np.ndarray | None = None
) -> tuple[Volume, Segmentation]:
    """The body on the canonical grid, or stored along other axes, or rotated in space."""
    hu, labels = body()
    grid = straight()
    if orientation is not None:
        hu, labels = (np.ascontiguousarray(orientation.from_canonical(array)) for array in (hu, labels))
        grid = orientation.input_grid(grid)
    if rotation is not None:
        grid = Grid(grid.shape, rotation @ grid.affine)
    provenance = Provenance(version="1.2.3", model="student", model_sha256="ab" * 32)
    return Volume(hu, grid), Segmentation(labels, grid, BTCV_LABELS, provenance)


def sheet(volume: Volume, segmentation: Segmentation, path: Path) -> Image.Image:
    """Write and read the picture."""
    page = draw_preview(volume, segmentation, organ_statistics(volume, segmentation))
    path.write_bytes(as_png(page, segmentation.provenance.version))
    with Image.open(path) as picture:
        picture.load()
        return picture


STORED = [
    Orientation((0, 1, 2), (False, False, False)),
    Orientation((2, 0, 1), (True, False, True)),
    Orientation((1, 2, 0), (False, True, True)),
]


@pytest.mark.parametrize("stored", STORED, ids=str)
def test_right_is_left_and_superior_is_up_however_the_scan_is_stored(stored: Orientation) -> None:
    """The liver lies in the image's left half and above the spleen, whatever the axes of the array."""
    volume, segmentation = scan(stored)
    sections = Sections(volume, segmentation)
    view = sections.pick_sections("coronal", 1)[0]
    assert view.letters == ("R", "L", "S", "I")
    rows, columns = np.nonzero(view.labels == LIVER)
    assert columns.mean() < view.labels.shape[1] / 2
    assert rows.mean() < np.nonzero(view.labels == SPLEEN)[0].mean()
    axial = sections.pick_sections("axial", 4)
    assert all(view.letters == ("R", "L", "A", "P") for view in axial)
    assert axial[0].index > axial[-1].index
    assert sections.pick_sections("sagittal", 2)[0].letters == ("A", "P", "S", "I")


def test_every_organ_is_shown() -> None:
    """Two axial sections are enough for two organs that share none."""
    volume, segmentation = scan()
    shown = {
        int(value)
        for view in Sections(volume, segmentation).pick_sections("axial", 2)
        for value in np.unique(view.labels)
    }
    assert shown == {0, LIVER, SPLEEN}


def test_sections_are_distinct_and_inside() -> None:
    """More sections than slices are never shown, and none twice."""
    volume, segmentation = scan()
    indices = [view.index for view in Sections(volume, segmentation).pick_sections("axial", 99)]
    assert len(indices) == len(set(indices)) <= SHAPE[0]
    assert all(0 <= index < SHAPE[0] for index in indices)


def test_size_is_physical() -> None:
    """A coronal section is as high as its slices are apart, not as they are many."""
    volume, segmentation = scan()
    view = Sections(volume, segmentation).pick_sections("coronal", 1)[0]
    rows, columns = view.labels.shape
    assert view.size_mm == pytest.approx((columns * 2.0, rows * 4.0))


@pytest.mark.parametrize("tilt_deg", [20.0, -12.0])
def test_a_tilted_scan_is_drawn_in_proportion(tilt_deg: float) -> None:
    """The rows of a sagittal section lie as far apart as the slices, each displaced as its slice is."""
    angle = np.radians(tilt_deg)
    affine = np.eye(4)
    affine[:3, :3] = [[0, 0, 1.5], [0, 1.5 * np.cos(angle), 0], [3, 1.5 * np.sin(angle), 0]]
    hu, labels = np.full((20, 40, 30), -1000, np.int16), np.zeros((20, 40, 30), np.uint8)
    hu[:, 10:30, 5:25] = 40
    labels[:, 15:18, 12:16] = 1  # along z
    grid = Grid(hu.shape, affine)
    sections = Sections(Volume(hu, grid), Segmentation(labels, grid, BTCV_LABELS))
    (view,) = sections.pick_sections("sagittal", 1)
    assert view.spacing_mm == pytest.approx((3 * np.cos(angle), 1.5))
    assert view.size_mm == pytest.approx(sections.size_mm("sagittal"))
    columns = [
        np.flatnonzero(row).mean() for row in view.labels[::-1] if row.any()
    ]  # from inferior to superior
    np.testing.assert_allclose(np.diff(columns).mean(), 3 * np.sin(angle) / 1.5, atol=0.06)
    assert (view.labels > 0).sum() == 20 * 3
    (coronal,) = sections.pick_sections("coronal", 1)
    assert coronal.spacing_mm == pytest.approx((3.0, 1.5))
    assert len({tuple(np.flatnonzero(row)) for row in coronal.labels}) == 1


def test_caption_counts_along_the_input_and_tells_the_position() -> None:
    """A flipped stack keeps its own slice numbers; the position is that of the section."""
    volume, segmentation = scan(Orientation((0, 1, 2), (True, False, False)))
    view = Sections(volume, segmentation).pick_sections("axial", 1)[0]
    number = int(view.caption.split("/")[0])
    position = -100.0 + 4.0 * view.index
    assert number == SHAPE[0] - view.index
    assert view.caption.endswith(f"{'S' if position >= 0 else 'I'} {abs(position):.1f} mm")
    np.testing.assert_allclose((volume.grid.affine @ np.array([number - 1, 0, 0, 1.0]))[2], position)


def test_oblique_scan_tells_its_oblique_directions() -> None:
    """Turned by 30 degrees about z, right becomes right and anterior in part; letters say so."""
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(np.pi / 6), -np.sin(np.pi / 6)], [np.sin(np.pi / 6), np.cos(np.pi / 6)]]
    volume, segmentation = scan(rotation=turn)
    assert Sections(volume, segmentation).pick_sections("axial", 1)[0].letters == ("RA", "LP", "AL", "PR")


def test_overlay_has_the_color_of_its_organ() -> None:
    """The contour is nearly opaque, the fill lets the tissue through, and tissue outside stays gray."""
    volume, segmentation = scan()
    view = max(
        Sections(volume, segmentation).pick_sections("axial", 4),
        key=lambda view: int((view.labels == LIVER).sum()),
    )
    height, width = view.labels.shape
    pixels = np.asarray(render(view, BTCV_LABELS, (width * 8, height * 8))).astype(int)
    distance = np.abs(pixels - np.array(COLORS[LIVER])).sum(axis=2)
    rows, columns = np.nonzero(view.labels == LIVER)
    assert distance.min() < 30
    inside = pixels[int(rows.mean() * 8), int(columns.mean() * 8)]
    assert np.ptp(inside) > 10
    outside = np.repeat(np.repeat(view.labels == 0, 8, 0), 8, 1)
    gray = np.ptp(pixels[outside], axis=1) == 0
    assert gray.mean() > 0.9


def test_air_and_table_are_cropped() -> None:
    """The box holds the body with a margin and leaves most of the air and a thin table out."""
    volume, segmentation = scan()
    hu = volume.hu.copy()
    hu[:, 57:58] = 100
    grid = volume.grid
    (_, rows, columns) = Sections(Volume(hu, grid), segmentation).box
    assert 0 <= columns.start <= 4
    assert 76 <= columns.stop <= 80
    assert rows.start <= 6
    assert 54 <= rows.stop <= 60


def test_same_input_gives_identical_bytes(tmp_path: Path) -> None:
    """No date in the file, and the font travels with Pillow."""
    for name in ("one.png", "two.png"):
        sheet(*scan(), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_statement_stands_in_the_picture_file(tmp_path: Path) -> None:
    """Size as documented; the research-use statement is in the file's text too."""
    picture = sheet(*scan(), tmp_path / "one.png")
    assert picture.size == (2000, 1400)
    assert "Research use only" in picture.text["Disclaimer"]


@pytest.mark.parametrize("slices", [1, 2, 5])
def test_thin_stack_has_axial_sections_only(slices: int, tmp_path: Path, monkeypatch) -> None:
    """A few slices make a picture without coronal and sagittal strips; a thick scan has all three planes."""
    volume, segmentation = scan()
    picked: list[str] = []
    pick = Sections.pick_sections

    def note(self: Sections, plane: Plane, count: int) -> list[View]:
        picked.append(plane)
        return pick(self, plane, count)

    monkeypatch.setattr(Sections, "pick_sections", note)
    sheet(volume, segmentation, tmp_path / "thick.png")
    assert picked == ["axial", "coronal", "sagittal"]
    picked.clear()
    grid = straight(slices)
    sheet(
        Volume(volume.hu[20 : 20 + slices], grid),
        Segmentation(segmentation.labels[20 : 20 + slices], grid, BTCV_LABELS),
        tmp_path / "thin.png",
    )
    assert picked == ["axial"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 1, 200), (6, 8, 10)])
def test_odd_shapes_do_not_fail(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """No shape that a Volume can have makes the picture fail."""
    grid = Grid.axis_aligned(shape, (4.0, 1.0, 1.0))
    for value in (0, LIVER):
        sheet(
            Volume(np.zeros(shape, np.int16), grid),
            Segmentation(np.full(shape, value, np.uint8), grid, BTCV_LABELS),
            tmp_path / "one.png",
        )


def test_a_long_model_name_ends_before_the_statement() -> None:
    """The box in the title bar, and what lies just before it, look the same whatever the model is called."""
    heads = []
    for model in ("student", "W" * 100):
        volume, segmentation = scan()
        made_by = dataclasses.replace(segmentation.provenance, model=model)
        segmentation = dataclasses.replace(segmentation, provenance=made_by)
        page = np.asarray(draw_preview(volume, segmentation, organ_statistics(volume, segmentation)))
        heads.append(page[:88, 1511:])
    np.testing.assert_array_equal(*heads)


def test_no_organ_is_said(tmp_path: Path) -> None:
    """Without any organ there is a picture of the scan, with an amber line that a full one does not have."""
    volume, segmentation = scan()
    empty = Segmentation(
        np.zeros(SHAPE, np.uint8),
        segmentation.grid,
        BTCV_LABELS,
        Provenance(),
        {},
        (ScanWarning("AE-WARN-100", "doubtful", "This may not be an abdomen."),) * 6,
    )
    picture = np.asarray(sheet(volume, empty, tmp_path / "one.png").convert("RGB"))
    panel = picture[900:, 1572:]
    assert (np.abs(panel.astype(int) - np.array((245, 187, 74))).sum(axis=2) < 30).any()

"""Labels side by side: every column in the sections of the first, and a word where there is nothing."""

from __future__ import annotations

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from autosam_edge.geometry import Grid, Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.report.montage import MontageCase, draw_montage
from autosam_edge.volume import Volume

LIVER, SPLEEN = BTCV_LABELS[5], BTCV_LABELS[0]


def scan(flip=False):
    """A block of tissue, (24, 48, 48) voxels of 3 x 2 x 2 mm.

    Flipped, the same patient stored from head to feet.
    """
    hu = np.full((24, 48, 48), -1000, np.int16)
    hu[:, 6:42, 4:44] = 40
    stored = Orientation((0, 1, 2), (flip, False, False))
    grid = stored.input_grid(Grid.axis_aligned(hu.shape, (3.0, 2.0, 2.0)))
    return Volume(np.ascontiguousarray(stored.from_canonical(hu)), grid)


def truth():
    labels = np.zeros((24, 48, 48), np.uint8)
    labels[6:18, 14:30, 8:22] = LIVER.value
    labels[8:16, 20:34, 32:40] = SPLEEN.value
    return labels


def pixels(png):
    with Image.open(io.BytesIO(png)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def outline(picture, label):
    """Pixels of a label's contour, nearly opaque."""
    return np.abs(picture - np.array(label.color)).max(axis=2) < 12


def test_every_column_shows_the_sections_of_the_first():
    """Labels equal to the first look like them, empty ones show no organ, a column without labels says so."""
    found = {"truth": truth(), "right": truth(), "empty": np.zeros_like(truth()), "absent": None}
    png = draw_montage([MontageCase("1", scan(), found)], BTCV_LABELS)
    picture = pixels(png)
    assert png == draw_montage([MontageCase("1", scan(), found)], BTCV_LABELS)
    columns = np.array_split(outline(picture, LIVER)[:-120], 4, axis=1)  # without the legend
    counts = [int(column.sum()) for column in columns]
    assert counts[0] > 100
    assert counts[1] == pytest.approx(counts[0], rel=0.1)
    assert counts[2] == counts[3] == 0


def test_a_long_name_ends_before_the_next_organ_of_the_legend():
    """The second column of the legend looks the same whatever the first organ is called."""
    case = MontageCase("1", scan(), {name: truth() for name in "abcd"})
    legends = [
        pixels(draw_montage([case], (dataclasses.replace(SPLEEN, name=name), LIVER)))[-60:, 28 + 330 :]
        for name in ("spleen", "W" * 64)
    ]
    np.testing.assert_array_equal(*legends)


def test_a_second_opinion_does_not_move_the_sections():
    """An organ that only the second column has, elsewhere, is not what the sections are chosen for."""
    other = np.zeros_like(truth())
    other[20:23, 14:30, 8:22] = LIVER.value
    picture = pixels(
        draw_montage([MontageCase("", scan(), {"a": truth(), "b": other})], BTCV_LABELS, planes={"axial": 1})
    )
    left, right = np.array_split(outline(picture, LIVER)[:-60], 2, axis=1)
    assert left.any()
    assert not right.any()


def test_a_scan_that_is_stored_upside_down_looks_the_same():
    """Radiological convention, whatever the storage."""
    upright = draw_montage([MontageCase("", scan(), {"a": truth()})], BTCV_LABELS, planes={"coronal": 1})
    turned = draw_montage(
        [MontageCase("", scan(flip=True), {"a": np.ascontiguousarray(truth()[::-1])})],
        BTCV_LABELS,
        planes={"coronal": 1},
    )
    assert (
        np.abs(pixels(upright) - pixels(turned)).max(axis=2) > 0
    ).mean() < 0.002  # the slice's number may differ


def test_labels_that_do_not_belong_are_refused():
    """Another shape cannot be drawn over the scan; without first labels there is no section to choose."""
    with pytest.raises(ValueError, match="do not belong"):
        MontageCase("1", scan(), {"truth": truth(), "m": np.zeros((2, 2, 2), np.uint8)})
    with pytest.raises(ValueError, match="there are none"):
        MontageCase("1", scan(), {"truth": None, "m": truth()})

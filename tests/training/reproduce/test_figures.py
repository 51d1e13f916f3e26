"""The pictures show what they are given, and say where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("monai")
from PIL import Image

from autosam_edge.geometry import Grid
from autosam_edge.volume import Volume
from autosam_edge_training.label_table import label_table
from autosam_edge_training.reproduce.figures import MontageCase, draw_bars, draw_montage
from autosam_edge_training.reproduce.specs import table_spec
from autosam_edge_training.reproduce.tables import build_table

NAMES = ("background", "liver", "spleen")


def scan():
    affine = np.zeros((4, 4))
    affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 3.0, 2.0, 2.0, 1.0
    hu = np.full((24, 48, 48), -1000, np.int16)
    hu[:, 6:42, 4:44] = 40
    return Volume(hu, Grid(hu.shape, affine))


def truth():
    labels = np.zeros((24, 48, 48), np.uint8)
    labels[6:18, 14:30, 8:22] = 1
    labels[8:16, 20:34, 32:40] = 2
    return labels


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_labels_of_any_data_set_have_names_codes_and_colors():
    """By name: AMOS's pancreas is 10 and BTCV's 11, and both have one color; what is unknown is gray and has no code."""
    table = label_table(("background", "pancreas", "duodenum", "toe"))
    assert [label.value for label in table] == [1, 2, 3]
    assert table[0].snomed_code == "15776009"
    assert table[1].snomed_code == "38848004"
    assert table[2].snomed_code == "91723000"


def test_the_bars_stand_where_there_is_a_value(write_run, tmp_path):
    """Without runs there is no bar of ours; with one there is, and the picture is the same when it is drawn again."""
    blue = np.array([0x1F, 0x6F, 0xB2])

    def ours(name):
        draw_bars(build_table(table_spec("figure4"), write_run.results), tmp_path / name)
        return int((np.abs(pixels(tmp_path / name) - blue).max(axis=2) < 3).sum())

    legend = ours("none.png")
    write_run("a", {("1", "liver"): 0.8}, mean=0.8)
    assert ours("one.png") > 5 * legend
    ours("again.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()


def test_the_montage_shows_every_method_in_the_section_of_the_truth(tmp_path):
    """A prediction equal to the truth looks like it, an empty one shows no organ, a method that was not run says so."""
    table = label_table(NAMES)
    found = {"right": truth(), "empty": np.zeros_like(truth()), "absent": None}
    draw_montage([MontageCase("1", scan(), truth(), found)], table, tmp_path / "m.png")
    picture = pixels(tmp_path / "m.png")
    liver = np.abs(picture - np.array(table[0].color)).max(axis=2) < 12  # its outline, nearly opaque
    liver[-picture.shape[0] // 8 :] = False  # the legend
    width = picture.shape[1] // 4
    columns = [int(liver[:, k * width : (k + 1) * width].sum()) for k in range(4)]
    assert columns[0] > 100
    assert columns[1] == pytest.approx(columns[0], rel=0.1)
    assert columns[2] == columns[3] == 0


def test_labels_of_another_shape_are_no_prediction():
    """They cannot be drawn over the scan."""
    with pytest.raises(ValueError, match="do not belong"):
        MontageCase("1", scan(), truth(), {"m": np.zeros((2, 2, 2), np.uint8)})

"""Figure 4 has a bar for each value."""

from __future__ import annotations

import numpy as np
import pytest

matplotlib_figure = pytest.importorskip("matplotlib.figure")
pytest.importorskip("monai")
from PIL import Image

from autosam_edge.labels import label_table
from autosam_edge_benchmarks.paper.figures import draw_bars, save_figure
from autosam_edge_benchmarks.paper.specs import table_spec
from autosam_edge_benchmarks.paper.tables import build_table


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_the_file_has_no_metadata_and_the_size_of_the_figure(tmp_path):
    """2 x 1 inches at 50 dots per inch: 100 x 50 pixels; neither software nor date are in the file."""
    save_figure(matplotlib_figure.Figure(figsize=(2, 1), dpi=50), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.size == (100, 50)
        assert not {"Software", "Creation Time", "date"} & set(image.info)


def test_labels_of_any_data_set_have_names_codes_and_colors():
    """Values follow the order of the names; codes follow the names, whatever the data set."""
    table = label_table(("background", "pancreas", "duodenum", "toe"))
    assert [label.value for label in table] == [1, 2, 3]
    assert table[0].snomed_code == "15776009"
    assert table[1].snomed_code == "38848004"
    assert table[2].snomed_code == "91723000"


def test_a_bar_needs_a_value(write_run, tmp_path):
    """Without runs there is no bar of ours, with a run there is one; the same table gives the same bytes."""
    blue = np.array([0x1F, 0x6F, 0xB2])

    def ours(name):
        draw_bars(build_table(table_spec("figure4"), write_run.results), tmp_path / name)
        return int((np.abs(pixels(tmp_path / name) - blue).max(axis=2) < 3).sum())

    legend = ours("none.png")
    write_run("a", {("1", "liver"): 0.8}, mean=0.8)
    assert ours("one.png") > 5 * legend
    ours("again.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "again.png").read_bytes()

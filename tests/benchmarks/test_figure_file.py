"""Figures are written without anything that changes from run to run."""

from __future__ import annotations

import pytest

matplotlib_figure = pytest.importorskip("matplotlib.figure")
from PIL import Image

from autosam_edge_benchmarks.figure_file import save_figure


def test_the_file_has_no_metadata_and_the_size_of_the_figure(tmp_path):
    """2 x 1 inches at 50 dots per inch: 100 x 50 pixels; neither software nor date are in the file."""
    save_figure(matplotlib_figure.Figure(figsize=(2, 1), dpi=50), tmp_path / "new" / "a.png")
    with Image.open(tmp_path / "new" / "a.png") as image:
        assert image.size == (100, 50)
        assert not {"Software", "Creation Time", "date"} & set(image.info)

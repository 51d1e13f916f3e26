"""Time and memory of a run of the command line."""

from __future__ import annotations

import pytest

pytest.importorskip("psutil")
from autosam_edge.bundle import default_bundle_path
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge_benchmarks.rows.whole_scan import repeat_series, run_once

DEFAULT = {"bundle": default_bundle_path(), "engine": "onnx", "precision": "fp32", "threads": 1}


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    write_dicom_series(make_phantom(3, spacing_mm=(6.0, 4.0, 4.0)).volume, folder, seed=3)
    return folder


def test_a_repeated_series_is_one_regular_volume(series, tmp_path):
    """Twice the slices, the same spacing, read without a complaint; slice n repeats slice 0."""
    first = read(series)
    count = first.shape[0]
    (tmp_path / "long").mkdir()
    assert repeat_series(series, tmp_path / "long", 2 * count) == first.shape[1] * first.shape[2]
    long = read(tmp_path / "long")
    assert long.shape == (2 * count, *first.shape[1:])
    assert long.grid.spacing_mm == pytest.approx(first.grid.spacing_mm)
    assert (long.hu[count] == first.hu[0]).all()


def test_a_run_has_its_time_memory_and_stages(series):
    """From command to files; the scan's name may be a patient's and stands nowhere."""
    run = run_once(series.rename(series.with_name("DOE_JOHN")), **DEFAULT)
    assert run.shape == read(series.with_name("DOE_JOHN")).shape
    assert 0.2 < run.wall_s < 300
    assert 50 < run.peak_mb < 4000
    assert {"read", "network", "restore", "write"} <= set(run.stages_s)
    assert "DOE" not in repr(run)


def test_a_run_that_fails_says_why(tmp_path):
    """An empty folder: the last line of the command's error is the message."""
    with pytest.raises(RuntimeError, match="AE-"):
        run_once(tmp_path, **DEFAULT)

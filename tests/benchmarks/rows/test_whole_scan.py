"""Time and memory of a run of the command line."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("psutil")
from autosam_edge_benchmarks.segment_scan import measure_growth, measure_segment, repeat_series, run_once

from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge_benchmarks import segment_scan


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


def test_a_measurement_holds_time_memory_stages_and_machine(series):
    """One run from command to files; the scan's name may be a patient's and is left out."""
    result = measure_segment(series.rename(series.with_name("DOE_JOHN")), repeats=1)
    assert "DOE" not in json.dumps(result)
    assert len(result["scan"]["shape_dhw"]) == 3
    assert 0.2 < result["wall_s"] < 300
    assert 50 < result["peak_rss_mb"] < 4000
    assert {"read", "network", "restore", "write"} <= set(result["stages_s"])
    assert result["machine"]["cores"] >= 1
    assert "onnxruntime" in result["machine"]["versions"]


def test_growth_is_memory_over_slices(series, monkeypatch):
    """100 MB and 2 MB per slice: 2 from each number to the next; three bytes per pixel are the arrays'."""

    def run(folder, *, bundle):
        count = len(list(folder.glob("*.dcm")))
        return {"scan": {}, "peak_rss_mb": 100.0 + 2.0 * count, "wall_s": 1.0}

    monkeypatch.setattr(segment_scan, "run_once", run)
    result = measure_growth(series, [3, 5, 9])
    _, height, width = read(series).shape
    assert [entry["peak_rss_mb"] for entry in result["runs"]] == [106.0, 110.0, 118.0]
    assert [(entry["from"], entry["to"]) for entry in result["growth"]] == [(3, 5), (5, 9)]
    assert [entry["mb_per_slice"] for entry in result["growth"]] == [2.0, 2.0]
    assert result["growth"][0]["arrays_mb_per_slice"] == pytest.approx(3 * height * width / 2**20)


def test_a_run_that_fails_says_why(tmp_path):
    """An empty folder: the last line of the command's error is the message."""
    with pytest.raises(RuntimeError, match="AE-"):
        run_once(tmp_path)

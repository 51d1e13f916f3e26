"""The benchmark measures a real run and says where."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("psutil")
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge_benchmarks.segment_scan import measure_segment, repeat_series


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

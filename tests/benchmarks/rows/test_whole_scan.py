"""Time and memory of a run of the command line."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

pytest.importorskip("psutil")
from autosam_edge.bundle import default_bundle_path
from autosam_edge.errors import BenchError
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge_benchmarks.rows.whole_scan import repeat_series, run_once, series_files

DEFAULT = {
    "model": ("--bundle", str(default_bundle_path())),
    "engine": "onnx",
    "precision": "fp32",
    "threads": 1,
}


@pytest.fixture
def series(tmp_path):
    folder = tmp_path / "scan"
    folder.mkdir()
    write_dicom_series(make_phantom(3, spacing_mm=(6.0, 4.0, 4.0)).volume, folder, seed=3)
    return folder


@pytest.mark.parametrize("coronal", [False, True])
def test_a_repeated_series_is_one_regular_volume(coronal, series, tmp_path):
    """Twice the slices, the same spacing, read without a complaint; slice n repeats slice 0."""
    for path in series.iterdir() if coronal else ():
        dataset = pydicom.dcmread(path)
        x, y, z = dataset.ImagePositionPatient
        dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 0, -1], [x, z, -y]
        dataset.save_as(path)
    first = read(series)
    count = first.shape[0]
    (tmp_path / "long").mkdir()
    repeat_series(series, tmp_path / "long", 2 * count)
    long = read(tmp_path / "long")
    assert long.shape == (2 * count, *first.shape[1:])
    assert long.grid.spacing_mm == pytest.approx(first.grid.spacing_mm)
    np.testing.assert_allclose(long.grid.direction, first.grid.direction, atol=1e-6)
    assert (long.hu[count] == first.hu[0]).all()


def test_the_names_of_the_slices_do_not_matter(series, tmp_path):
    """As exported by many scanners, without an ending; a file that is no slice is passed over."""
    count = len(series_files(series))
    for path in series.iterdir():
        path.rename(path.with_suffix(""))
    (series / "README").write_text("of the scanner")
    (tmp_path / "again").mkdir()
    repeat_series(series, tmp_path / "again", 3)
    assert len(series_files(series)) == count
    assert read(tmp_path / "again").shape[0] == 3


def test_what_is_no_series_is_refused(series, tmp_path):
    """A single file, and a folder without slices."""
    (tmp_path / "empty").mkdir()
    for path in (next(series.iterdir()), tmp_path / "empty"):
        with pytest.raises(BenchError, match="AE-BENCH-008"):
            series_files(path)


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
    with pytest.raises(BenchError, match="AE-BENCH-006: .*AE-DICOM-001"):
        run_once(tmp_path, **DEFAULT)

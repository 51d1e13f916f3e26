"""The short form of `bench fleet`, and that it sees what must not be."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from autosam_edge_test_support import SHARED_DATA
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.dicom.read import read_dicom
from autosam_edge.errors import BenchError
from autosam_edge_benchmarks.studies import fleet, fleet_kills
from autosam_edge_benchmarks.studies.fleet import check_same, measure_part
from autosam_edge_benchmarks.studies.fleet_inputs import make_sound


def test_tiny_series_are_all_different_and_cost_little():
    result = measure_part("tiny", tiny=6)
    assert (result["jobs"], result["files"]) == (6, 18)
    assert len(result["worker_mb"]) == len(result["parent_mb"]) == 10
    assert result["index_ms_per_file"]["known"] < result["index_ms_per_file"]["new"]


@pytest.mark.slow
def test_kills_lose_nothing(monkeypatch):
    monkeypatch.setattr(fleet_kills, "_SOUND", 8)
    result = measure_part("kills", kills=4)
    assert sum(result["kills"].values()) == 4
    assert result["finished_batches"] > 0


@pytest.mark.slow
def test_one_worker_gives_each_broken_scan_its_code():
    assert measure_part("one-worker", count=14)["scans"] == 14


def test_series_are_parts_of_many_shapes(tmp_path):
    scan = SHARED_DATA / "tcga-ov-abdomen"
    make_sound(tmp_path, 4, scan if scan.is_dir() else None)
    volumes = [read_dicom(sorted(folder.iterdir())) for folder in sorted(tmp_path.iterdir())]
    assert len({volume.shape for volume in volumes}) == 4
    for volume in volumes:
        assert max(n * mm for n, mm in zip(volume.shape, volume.grid.spacing_mm, strict=True)) < 288
        assert {warning.code for warning in volume.warnings} <= {"AE-WARN-040"}  # thick slices


def test_another_result_is_seen():
    parts = {"one-worker": {"results_sha256": "a"}, "dask": {"results_sha256": "b"}, "tiny": {}}
    with pytest.raises(BenchError, match="AE-BENCH-009.*one-worker, dask differ"):
        check_same(parts)
    check_same(json.loads(json.dumps(parts).replace('"b"', '"a"')))


@pytest.mark.parametrize("options", [["--scans", "14"], ["--scan", "scan"]])
def test_parts_of_other_series_are_not_mixed(options, tmp_path, monkeypatch):
    """Another number of series, or another scan in them: the result is refused."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fleet, "measure_part", lambda part, **given: {"part": part})
    Path("scan").write_bytes(b"1")
    command = ["bench", "fleet", "--scans", "12", "-o", "fleet.json"]
    for part in ("kills", "tiny"):
        assert CliRunner().invoke(app, [*command, "--part", part]).exit_code == 0
    assert set(json.loads(Path("fleet.json").read_text())["parts"]) == {"kills", "tiny"}
    found = CliRunner().invoke(app, [*command, *options])
    assert isinstance(found.exception, BenchError)
    assert found.exception.code == "AE-BENCH-005"

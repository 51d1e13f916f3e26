"""Other tools on the same scan: runs in turn, medians, reasons."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("psutil")
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge_benchmarks.peers import compare, table
from autosam_edge_benchmarks.peers.compare import Peer

_USE = "import sys, time; a = bytearray({mb} * 10**6); time.sleep({s}); open(sys.argv[1], 'w')"


def _tool(name: str, code: str) -> Peer:
    return Peer(name, "none", [sys.executable, "-c", code, "{out}/labels"])


@pytest.fixture
def result(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Two runs of this program, a tool that needs more, one that fails, and one that cannot be installed."""
    own = [_tool("own", _USE.format(mb=50, s=0.2))]  # so that whole megabytes are exact enough
    larger = [_tool("larger", _USE.format(mb=250, s=0.6)), _tool("broken", "raise SystemExit('no room')")]
    absent = [Peer("absent", "none", [], "cannot be installed here: no index")]
    monkeypatch.setattr(compare, "_own", lambda *_: own)
    monkeypatch.setattr(compare, "_monai", lambda *_: larger)
    monkeypatch.setattr(compare, "_nnunet", lambda *_: absent)
    write_dicom_series(make_phantom(0, spacing_mm=(8.0, 8.0, 8.0)).volume, tmp_path / "scan", seed=0)
    return compare.compare(tmp_path / "scan", tmp_path / "environment", repeats=2, threads=1)


def test_medians_are_multiples_of_this_program(result):
    """Time by the clock, memory of the process from outside."""
    own, larger, *_ = result["tools"]
    assert (own["times_slower"], own["times_memory"]) == (1, 1)
    assert len(larger["seconds"]) == 2
    assert larger["median_mb"] > own["median_mb"] + 150
    assert larger["median_s"] > own["median_s"] + 0.2
    assert larger["times_memory"] == pytest.approx(larger["median_mb"] / own["median_mb"], rel=0.05)


def test_a_tool_that_does_not_run_has_a_reason(result):
    """A failure ends its runs; nothing is hidden."""
    *_, broken, absent = result["tools"]
    assert broken["reason"] == "failed with exit code 1: no room"
    assert absent["reason"] == "cannot be installed here: no index"
    assert "median_s" not in broken


def test_the_table_names_every_tool(result):
    """Numbers and multiples, or the reason."""
    lines = [table.cells(entry) for entry in result["tools"]]
    assert all(len(line) == len(table.COLUMNS) for line in lines)
    assert [line[0] for line in lines] == ["own", "larger", "broken", "absent"]
    assert lines[0][3:5] == ("1.0 x", "1.0 x")
    assert lines[2][-1].endswith("no room")
    assert "medians of 2 runs" in table.title(result)


def test_without_a_run_of_this_program_there_is_no_multiple():
    """The others keep their times."""
    own, other = (Peer(name, "none", []) for name in ("own", "other"))
    own.reason, other.seconds, other.peak_mb = "failed", [2.0], [100.0]
    entry = compare._entry(other, own)
    assert entry["median_s"] == 2.0
    assert "times_slower" not in entry
    assert table.cells(entry) == ("other", "2.0", "100", "", "", "none")


def test_memory_of_children_counts(tmp_path):
    """A tool that works in a child process is not smaller for it."""
    child = _USE.format(mb=200, s=0.5)
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}, *sys.argv[1:]])"
    peer = _tool("parent", code)
    compare._run(peer)
    assert peer.peak_mb[0] > 200


@pytest.mark.slow
def test_without_an_index_the_reason_is_told(tmp_path, monkeypatch):
    """The last line of what pip says; no empty environment is taken for a whole one."""
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    reason = compare._prepare(tmp_path / "environment", lambda _: None)
    assert reason.startswith("cannot be installed here: ERROR: ")
    assert not (tmp_path / "environment" / "packages-installed").exists()


def test_this_program_runs_both_tiers_as_users_run_them(tmp_path):
    """In the number format that is selected on this machine, which the name tells."""
    pytest.importorskip("openvino")
    own = compare._own(tmp_path, 2)
    assert [peer.name.rsplit(" ", 1)[0] for peer in own] == [
        "autosam-edge --tier fast, OpenVINO",
        "autosam-edge --tier fast, ONNX Runtime",
        "autosam-edge --tier standard, OpenVINO",
    ]
    assert all(peer.name.rsplit(" ", 1)[1] in ("fp32", "bf16") for peer in own)
    assert "pocketnet-btcv-3mm" in own[0].weights
    assert "pocketnet-btcv-2mm" in own[2].weights

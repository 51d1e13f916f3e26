"""Rows of an emulated Arm64 processor: right or wrong, never timed."""

from __future__ import annotations

import json
import subprocess

import pytest

pytest.importorskip("psutil")
from autosam_edge.bundle import open_bundle
from autosam_edge.errors import BenchError, MissingExtraError
from autosam_edge_benchmarks.rows import arm64
from autosam_edge_benchmarks.rows.measure import write_row
from autosam_edge_benchmarks.rows.report import as_markdown, page, read_rows

REPORT = {
    "checks": [
        {"name": "files", "verdict": "passed", "detail": "18 hashes are correct"},
        {"name": "openvino/bf16", "verdict": "skipped", "detail": "openvino is not installed"},
        {"name": "onnx/fp32", "verdict": "passed", "detail": "logits differ by 3.1e-05 rms"},
    ]
}


def test_the_row_says_correct_and_not_timed(tmp_path):
    """In the schema, in the table and on the page, where it is no doubtful row."""
    (row,) = arm64.rows_of(REPORT, open_bundle(None), "qemu-aarch64 version 7.2")
    assert (row.tile_latency, row.timing, row.device.system) == (None, "correct, not timed", "Linux aarch64")
    write_row(row, tmp_path)
    assert read_rows(tmp_path) == [row]
    assert "correct, not timed" in as_markdown([row])
    assert "all 2 checks of verify passed (logits differ by 3.1e-05 rms)" in page([row])
    assert "Not to be quoted" not in page([row])


def test_a_failed_check_gives_no_row():
    """The check and its figures stand in the error."""
    failed = {"name": "onnx/fp32", "verdict": "failed", "detail": "logits differ by 3.0 rms"}
    with pytest.raises(BenchError, match=r"AE-BENCH-004: onnx/fp32: logits differ by 3\.0 rms"):
        arm64.rows_of({"checks": [REPORT["checks"][0], failed]}, open_bundle(None), "qemu")


@pytest.mark.parametrize("absent", ["qemu-aarch64-static", "apt-get"])
def test_a_missing_tool_is_named(absent, tmp_path, monkeypatch):
    """Before anything is downloaded."""
    monkeypatch.setattr(arm64.shutil, "which", lambda tool: None if tool == absent else tool)
    with pytest.raises(MissingExtraError, match=f"AE-EXTRA-004: {absent}"):
        arm64.verify_on_arm64(tmp_path / "place")
    assert not (tmp_path / "place").exists()


def test_a_half_made_system_is_made_again(tmp_path, monkeypatch):
    """A download that fails ends with its reason, and the next run does not take what is there for whole."""
    commands = []

    def run(command, **_):
        commands.append(command[0])
        return subprocess.CompletedProcess(command, 100, "", "E: no network\n")

    monkeypatch.setattr(arm64.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(arm64.subprocess, "run", run)
    for _ in range(2):
        with pytest.raises(BenchError, match="apt-get failed: E: no network"):
            arm64.verify_on_arm64(tmp_path)
    assert commands == ["apt-get", "apt-get"]


def test_a_crash_of_the_emulator_is_no_result(tmp_path, monkeypatch):
    """Without JSON on stdout there is no row."""
    (tmp_path / "made").touch()
    (tmp_path / "packages").mkdir()
    answers = {"--json": (139, "", "qemu: uncaught target signal 11\n"), "--version": (0, "qemu 7.2", "")}
    monkeypatch.setattr(arm64.shutil, "which", lambda tool: tool)
    monkeypatch.setattr(
        arm64.subprocess,
        "run",
        lambda command, **_: subprocess.CompletedProcess(command, *answers[command[-1]]),
    )
    with pytest.raises(BenchError, match="exit code 139: qemu: uncaught target signal 11"):
        arm64.verify_on_arm64(tmp_path)
    answers["--json"] = (0, json.dumps(REPORT) + "\n", "")
    assert [row.name for row in arm64.verify_on_arm64(tmp_path)] == ["onnx/fp32, 1 thread"]

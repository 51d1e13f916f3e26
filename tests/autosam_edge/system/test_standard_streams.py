"""A stream that is closed, full or read by nobody does not turn a success into an error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import run_command, run_python

pytestmark = pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
PROGRAM = f"{sys.executable} -m autosam_edge"
RUN = f"{PROGRAM}_benchmarks.stand_in"  # the network is a formula
FILES = {"segmentation.nii.gz", "statistics.json"}


def shell(command, **options):
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True, check=False, **options
    )


@hazard(
    "Results",
    "stdout or stderr is closed, full, or a pipe that nobody reads",
    "the files are written: exit code 0",
)
@pytest.mark.parametrize(
    "redirection", [">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full", "2>/dev/full", ">/dev/full 2>&1", "| true"]
)
def test_a_run_that_has_written_its_files_succeeds(redirection, small_scan, tmp_path):
    """Whatever becomes of its report; no result holds what was meant for the terminal."""
    out = tmp_path / "out"
    done = shell(f"{RUN} segment {small_scan} -o {out} --format nifti,json --json {redirection}")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in out.iterdir()} == FILES
    assert (out / "segmentation.nii.gz").read_bytes()[:2] == b"\x1f\x8b"


@pytest.mark.parametrize(
    ("command", "code", "words"),
    [
        ("info --json >/dev/full", 7, "AE-OUTPUT-009"),
        ("info | true", 141, ""),
        ("--help | true", 141, ""),
        ("--version >/dev/full", 7, "AE-OUTPUT-009"),
    ],
)
def test_a_report_that_is_all_there_is_must_be_printed(command, code, words):
    """A truncated report in a file is an error; that a reader has seen enough is none."""
    done = shell(f"{PROGRAM} {command}")
    assert done.returncode == code
    assert words in done.stderr
    assert (done.stderr == "") == (words == "")


def test_a_terminal_that_knows_ascii_only_prints_escapes(small_scan, tmp_path):
    """The name of the folder is not shown as it is, and the run succeeds."""
    environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    out = tmp_path / "Жук"
    done = shell(f"{RUN} segment {small_scan} -o '{out}' --format nifti,json", env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert {path.name for path in out.iterdir()} == FILES


PTY = """
import os, pty, sys, fcntl, struct, termios
pid, master = pty.fork()
if pid == 0:
    os.execv(sys.executable, [sys.executable, "-m", "autosam_edge", *sys.argv[1:]])
fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 40, 0, 0))
shown = b""
try:
    while part := os.read(master, 65536):
        shown += part
except OSError:
    pass
sys.stdout.buffer.write(shown)
"""


@pytest.mark.parametrize("command", ["info", pytest.param("verify", marks=pytest.mark.slow)])
def test_a_terminal_of_40_columns_loses_no_number(command, tmp_path):
    """What a wide terminal shows is there, in whatever lines."""
    environment = {**os.environ, "COLUMNS": "40"}
    narrow = run_python("-c", PTY, command, check=True, env=environment)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", narrow.stdout)
    if command == "info":
        wide = run_command(command, check=True)
        numbers = re.findall(r"\d\.\d{4}|\d\.\d\d x", wide.stdout)
        assert numbers
        assert [number for number in numbers if number not in plain] == []
    assert "…" not in plain

"""Places where no result can go, or where something usual is missing: each has its outcome."""

from __future__ import annotations

import os
import sys
import threading
import warnings

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import MODEL, run_python

from autosam_edge.dicom.header import silenced
from autosam_edge.engines import selection
from autosam_edge.error_codes import (
    OUTPUT_BUSY,
    OUTPUT_NOT_WRITABLE,
    OUTPUT_OCCUPIED,
    OUTPUT_UNNAMED,
    THREADS_TOO_MANY,
)
from autosam_edge.errors import AutosamEdgeError, OutputError
from autosam_edge.system import atomic_files, machine, staging
from autosam_edge.system.file_lock import waiting_lock
from autosam_edge.write_results import check_writable

AREA = "Results"


def code_of(folder) -> str:
    with pytest.raises(OutputError) as caught:
        check_writable(folder)
    return caught.value.code


@hazard(AREA, "the name of the output folder is too long for the file system", OUTPUT_NOT_WRITABLE)
def test_a_name_that_is_too_long(tmp_path):
    """The system's own words, and no path."""
    assert code_of(tmp_path / ("x" * 300)) == "AE-OUTPUT-001"
    assert list(tmp_path.iterdir()) == []


@hazard(AREA, "the output folder is an empty text", OUTPUT_UNNAMED)
def test_an_empty_text_is_not_the_working_directory(tmp_path, monkeypatch):
    """As from a variable of the shell that is not set."""
    monkeypatch.chdir(tmp_path)
    assert code_of("") == "AE-OUTPUT-008"


@hazard(AREA, "the output folder is a link that leads nowhere", OUTPUT_OCCUPIED)
def test_a_dangling_link_is_found_before_the_inference(tmp_path):
    """The folder behind it is not made."""
    (tmp_path / "out").symlink_to(tmp_path / "absent")
    assert code_of(tmp_path / "out") == "AE-OUTPUT-002"


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory stays there")
@hazard(AREA, "the working directory was deleted", OUTPUT_NOT_WRITABLE)
def test_a_working_directory_that_is_gone(tmp_path, monkeypatch):
    """A relative folder has no place then."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert code_of("out") == "AE-OUTPUT-001"


@hazard(AREA, "another process holds the output folder for 20 s", OUTPUT_BUSY)
def test_a_folder_that_stays_locked(tmp_path, monkeypatch):
    """The second process is refused before its inference."""
    monkeypatch.setattr(staging, "WAIT_S", 0.1)
    with waiting_lock(tmp_path / ".autosam-edge.lock", seconds=1):
        assert code_of(tmp_path) == "AE-OUTPUT-007"
    check_writable(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_home_and_temporary_folder(small_scan, tmp_path):
    """A whole run needs neither; also in a working directory that cannot be written."""
    kept = {key: os.environ[key] for key in ("PATH", "PYTHONPATH", "SYSTEMROOT") if key in os.environ}
    command = ["-m", "autosam_edge_benchmarks.stand_in", "segment", small_scan, "-o", tmp_path / "out"]
    done = run_python(*command, env={**kept, "TMPDIR": "/absent", "HOME": "/absent"}, cwd="/")
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 5


@hazard(AREA, "more threads than the process may use cores", THREADS_TOO_MANY)
@pytest.mark.parametrize("threads", [3, 999, 2_000_000_000])
def test_more_threads_than_cores_are_refused(threads, monkeypatch):
    """The bundle is not blamed."""
    monkeypatch.setattr(selection, "available_cores", lambda: 2)
    with pytest.raises(AutosamEdgeError, match="this process may use 2 cores") as caught:
        selection.make_engine("onnx", MODEL, sha256="", precision="fp32", threads=threads)
    assert caught.value.code == "AE-ENGINE-009"


def write_control_group(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(text))


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "max 100000"}, None),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({}, None),
    ],
)
def test_the_limit_of_a_container_is_read(files, quota, tmp_path, monkeypatch):
    """Both versions of control groups; a part of a core counts as one."""
    write_control_group(tmp_path, files)
    assert machine._cpu_quota(tmp_path, tmp_path / "own") == quota
    monkeypatch.setattr(machine, "_cpu_quota", lambda: quota)
    assert machine.available_cores() >= 1
    if quota:
        assert machine.available_cores() <= 2


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"memory.max": "max\n"}, None),
        ({"memory.max": "1073741824\n"}, 1024.0),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"memory/memory.limit_in_bytes": "536870912\n"}, 512.0),
        ({}, None),
    ],
)
def test_the_memory_that_a_container_allows_is_read(files, limit, tmp_path):
    """Both versions of control groups."""
    write_control_group(tmp_path, files)
    assert machine.memory_limit_mb(tmp_path, tmp_path / "own") == limit


SLURM = "slurm/job_7/step_0"


@pytest.mark.parametrize(
    ("own", "files", "quota", "limit"),
    [
        (
            f"0::/{SLURM}",
            {
                f"{SLURM}/memory.max": "max",
                f"{SLURM}/cpu.max": "max 100000",
                "slurm/job_7/memory.max": str(3 * 2**30),
                "slurm/job_7/cpu.max": "400000 100000",
                "slurm/memory.max": str(9 * 2**30),
                "slurm/cpu.max": "800000 100000",
            },
            4.0,
            3072.0,
        ),
        (
            f"5:cpu,cpuacct:/{SLURM}\n4:memory:/{SLURM}\n3:pids:/other\n1:name=systemd:/x\n0::/",
            {
                f"cpu/{SLURM}/cpu.cfs_quota_us": "200000",
                f"cpu/{SLURM}/cpu.cfs_period_us": "100000",
                f"memory/{SLURM}/memory.limit_in_bytes": "9223372036854771712",
                "memory/slurm/job_7/memory.limit_in_bytes": str(2**30),
                "memory/other/memory.limit_in_bytes": "1",
            },
            2.0,
            1024.0,
        ),
        ("0::/../../outside", {"memory.max": str(2**30), "cpu.max": "max"}, None, 1024.0),
        ("4:memory:/docker/of the host\n0::/", {"memory/memory.limit_in_bytes": str(2**30)}, None, 1024.0),
        ("0::/j\udcff", {"j\udcff/memory.max": str(2**30)}, None, 1024.0),  # a name that is no UTF-8
    ],
)
def test_the_limit_of_a_job_within_other_groups_is_read(own, files, quota, limit, tmp_path):
    """The smallest limit of the process's own groups and of those around them counts."""
    write_control_group(tmp_path, {**files, "own": own})
    assert machine._cpu_quota(tmp_path, tmp_path / "own") == quota
    assert machine.memory_limit_mb(tmp_path, tmp_path / "own") == limit


def test_warnings_are_as_before_when_threads_were_silenced_in_turn():
    """The first one in leaves before the last one: no thread shows a warning, and none is lost afterwards."""
    inside, leave, shown = threading.Event(), threading.Event(), []

    def other():
        with silenced():
            inside.set()
            leave.wait(10)
            warnings.warn("of the second thread", UserWarning, stacklevel=1)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        before = list(warnings.filters)
        thread = threading.Thread(target=other)
        with silenced():
            thread.start()
            inside.wait(10)
        leave.set()
        thread.join()
        shown += caught
        assert warnings.filters == before
    assert shown == []


def test_anything_published_tells_of_files(tmp_path, monkeypatch):
    """A run that has put its files in place is a success whatever happens to its report."""
    monkeypatch.setattr(atomic_files, "_published", False)
    assert not atomic_files.anything_published()
    atomic_files.write_file(b"1", tmp_path / "a")
    assert atomic_files.anything_published()

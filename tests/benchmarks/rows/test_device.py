"""The gate: which machine is refused, and why."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tempfile

import pytest

pytest.importorskip("psutil")
from autosam_edge_test_rows import DEVICE

from autosam_edge.errors import BenchError
from autosam_edge_benchmarks.rows import device as device_module
from autosam_edge_benchmarks.rows.device import describe_device, require_ready, why_not_ready

QUIET = dataclasses.replace(DEVICE, load_average=0.4, others_cores_before=0.1, power_source="mains")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"load_average": None, "power_source": None}, None),
        ({"temperature_c": 60.0}, None),
        ({"governor": "performance"}, None),
        ({"others_cores_before": 0.3}, r"Other programs use 0.3 of 2 cores \(hog 0.3\)"),
        ({"load_average": 1.2}, "load average is 1.2, expected at most 1"),
        ({"power_source": "battery"}, "battery"),
        ({"governor": "powersave"}, "governor"),
        ({"temperature_c": 90.0}, "90 degrees"),
    ],
)
def test_a_machine_that_is_not_quiet_is_refused(change, told, monkeypatch, tmp_path):
    """AE-BENCH-001 with the reason; with `force`, the reason comes back. Two cores."""
    monkeypatch.setattr(device_module, "_CPUFREQ", tmp_path)
    found, hogs = dataclasses.replace(QUIET, **change), {"hog": 0.3, "small": 0.01}
    if told is None:
        assert require_ready(found, hogs, force=False) == []
        return
    with pytest.raises(BenchError, match=f"AE-BENCH-001: .*{told}"):
        require_ready(found, hogs, force=False)
    assert len(require_ready(found, hogs, force=True)) == 1


def test_powersave_of_intels_driver_is_no_reason(monkeypatch, tmp_path):
    """There it is the rule that follows the load."""
    (tmp_path / "scaling_driver").write_text("intel_pstate\n")
    monkeypatch.setattr(device_module, "_CPUFREQ", tmp_path)
    assert why_not_ready(dataclasses.replace(QUIET, governor="powersave"), {}) == []


def test_an_artificial_load_is_seen_and_refused():
    """A program that is no child of this one: the shell that started it has ended."""
    with tempfile.NamedTemporaryFile() as flag:
        busy = "import os, sys, time\nend = time.time() + 30\n"
        busy += "while time.time() < end and os.path.exists(sys.argv[1]): pass"
        launch = f"import subprocess; subprocess.Popen({[sys.executable, '-c', busy, flag.name]!r})"
        subprocess.run([sys.executable, "-c", launch], check=True)
        found, hogs = describe_device("mine")
    assert found.name == "mine"
    assert sum(share for name, share in hogs.items() if "python" in name) > 0.1
    assert any("Other programs" in reason for reason in why_not_ready(found, hogs))

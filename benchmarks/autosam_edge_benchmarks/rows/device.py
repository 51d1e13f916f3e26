"""What this machine tells about itself, and whether it is quiet enough to be timed."""

from __future__ import annotations

import dataclasses
import os
import platform
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import psutil

from autosam_edge.system.clock import QUIET_SHARE
from autosam_edge.system.machine import describe_machine
from autosam_edge_benchmarks.error_codes import MACHINE_BUSY
from autosam_edge_benchmarks.rows.row import Device

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")
_OWN_SCALING = ("intel_pstate", "amd-pstate", "amd-pstate-epp")  # their "powersave" follows the load
_WATCHED_S = 1.0
_LOAD_SHARE = 0.5  # of the cores: load average of a machine that has just become quiet
_HOT_C = 85.0
_HOG_CORES = 0.05


def describe_device(name: str | None = None) -> tuple[Device, dict[str, float]]:
    """Describe this machine now, and the programs that use its processor.

    Args:
        name: Name of the machine that a person gave.

    Returns:
        The device, and the cores that other programs use by the program's name, largest first.
    """
    hogs = _other_programs()
    told = describe_machine()
    battery = psutil.sensors_battery() if hasattr(psutil, "sensors_battery") else None
    process = psutil.Process()
    return Device(
        name=name,
        processor=cast("str", told["cpu"]),
        gpu=None,
        cores=os.cpu_count(),
        memory_gb=round(psutil.virtual_memory().total / 1024**3, 1),
        system=cast("str", told["system"]),
        os_build=_os_build(),
        browser=None,
        cross_origin_isolated=None,
        power_source=None if battery is None else "mains" if battery.power_plugged else "battery",
        battery_percent=None if battery is None else round(battery.percent, 1),
        governor=_first_line(_CPUFREQ / "scaling_governor"),
        thermal_state=None,
        temperature_c=hottest_c(),
        temperature_end_c=None,
        load_average=round(psutil.getloadavg()[0], 2),
        others_cores_before=round(sum(hogs.values()), 2),
        others_cores_during=None,
        affinity=tuple(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else None,
        versions={"python": platform.python_version(), **cast("dict[str, str]", told["versions"])},
    ), hogs


def after(device: Device, others_cores: float | None) -> Device:
    """The device with what was seen during the measurement and at its end."""
    return dataclasses.replace(device, others_cores_during=others_cores, temperature_end_c=hottest_c())


def why_not_ready(device: Device, hogs: Mapping[str, float]) -> list[str]:
    """Reasons why this machine cannot be timed now, one sentence each; none if it can."""
    cores, reasons = device.cores or 1, []
    used, load, hot = device.others_cores_before or 0.0, device.load_average or 0.0, device.temperature_c
    if used > QUIET_SHARE * cores:
        most = [f"{name} {share:.1f}" for name, share in hogs.items() if share >= _HOG_CORES][:4]
        reasons.append(f"Other programs use {used:.1f} of {cores} cores ({', '.join(most)}).")
    if load > _LOAD_SHARE * cores:
        reasons.append(f"The load average is {load:.1f}, expected at most {_LOAD_SHARE * cores:g}.")
    if device.power_source == "battery":
        reasons.append("The machine runs on its battery.")
    if device.governor == "powersave" and _first_line(_CPUFREQ / "scaling_driver") not in _OWN_SCALING:
        reasons.append("The governor of the processor is powersave, which keeps its clock low.")
    if hot is not None and hot >= _HOT_C:
        reasons.append(f"A sensor shows {hot:.0f} degrees Celsius, expected below {_HOT_C:.0f}.")
    return reasons


def require_ready(device: Device, hogs: Mapping[str, float], *, force: bool) -> list[str]:
    """Refuse a machine that cannot be timed now.

    Args:
        device: Result of :func:`describe_device`, as are ``hogs``.
        force: Whether to go on all the same.

    Returns:
        The reasons, if it goes on all the same.

    Raises:
        BenchError: The machine is not ready (AE-BENCH-001); the message holds every reason.
    """
    reasons = why_not_ready(device, hogs)
    if reasons and not force:
        raise MACHINE_BUSY(" ".join(reasons))
    return reasons


def hottest_c() -> float | None:
    """Temperature of the hottest sensor, degrees Celsius; None where the system tells none."""
    sensors = psutil.sensors_temperatures() if hasattr(psutil, "sensors_temperatures") else {}
    return max((reading.current for group in sensors.values() for reading in group), default=None)


def _other_programs() -> dict[str, float]:
    """Cores that programs other than this one, its parents and its children use now, by name."""
    own = psutil.Process()
    kept = {own.pid, *(p.pid for p in own.parents()), *(p.pid for p in own.children(recursive=True))}
    before = _seconds_by_process(kept)
    time.sleep(_WATCHED_S)
    used: dict[str, float] = {}
    for process, (name, seconds) in _seconds_by_process(kept).items():
        share = (seconds - before.get(process, (name, 0.0))[1]) / _WATCHED_S
        used[name] = used.get(name, 0.0) + share
    return dict(sorted(used.items(), key=lambda item: -item[1]))


def _seconds_by_process(left_out: set[int]) -> dict[tuple[int, float], tuple[str, float]]:
    """Name and processor time of each process, s, by its number and start."""
    found = {}
    for process in psutil.process_iter(["pid", "create_time", "name", "cpu_times"]):
        told = process.info
        if told["pid"] not in left_out and told["cpu_times"] is not None:
            seconds = told["cpu_times"].user + told["cpu_times"].system
            found[told["pid"], told["create_time"]] = (told["name"] or "?", seconds)
    return found


def _os_build() -> str:
    if Path("/etc/os-release").exists():
        release = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
        return f"{release}, kernel {platform.release()}"
    return platform.platform()


def _first_line(path: Path) -> str | None:
    return path.read_text().split("\n")[0] if path.exists() else None

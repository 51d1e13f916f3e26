"""The bundle verified on Arm64 without an Arm machine: right or wrong, but no times.

qemu-user runs an Arm64 Python with the Arm64 wheels of the runtime. Debian's packages are unpacked into a
folder; nothing of this system changes.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import autosam_edge
from autosam_edge.bundle import Bundle, open_bundle
from autosam_edge.system.clock import today
from autosam_edge.system.machine import describe_machine
from autosam_edge_benchmarks.error_codes import EMULATION_FAILED, NO_EMULATOR
from autosam_edge_benchmarks.last_line import last_line
from autosam_edge_benchmarks.rows import energy
from autosam_edge_benchmarks.rows.figures import Energy, Memory
from autosam_edge_benchmarks.rows.row import (
    FORMAT,
    SCHEMA_VERSION,
    Accuracy,
    BenchRow,
    Device,
    Install,
    Load,
    Placement,
    Validity,
)
from autosam_edge_benchmarks.rows.summary import measured

_EMULATOR = "qemu-aarch64-static"
_DEBIAN = [
    "python3.11-minimal",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libc6",
    "libexpat1",
    "zlib1g",
    "libssl3",
    "libffi8",
    "libsqlite3-0",
    "libbz2-1.0",
    "liblzma5",
    "libstdc++6",
    "libgcc-s1",
    "libgomp1",
    "libuuid1",
    "libncursesw6",
    "libtinfo6",
    "libreadline8",
    "libcrypt1",
]
# The Arm64 wheel of ONNX Runtime 1.32 does not start on qemu 7.2, whichever processor it shows.
_ONNXRUNTIME = "1.23.2"
_WHEELS = ["numpy", "pydicom", "highdicom", "nibabel", "pillow", "pynrrd", "rich", "typer", "packaging"]
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_PROGRAM = "import sys; sys.argv = ['autosam-edge', *sys.argv[1:]]; import autosam_edge.cli as c; c.main()"


def verify_on_arm64(place: Path, *, log: Callable[[str], None] = lambda _: None) -> list[BenchRow]:
    """Verify the bundle of the package on an emulated Arm64 processor.

    Args:
        place: Folder for the Arm64 system, about 500 MB; made when absent.
        log: Function that is called with a line for each step.

    Returns:
        A row for each artifact that was verified, without times.

    Raises:
        MissingExtraError: The emulator or Debian's tools are not installed (AE-EXTRA-004).
        BenchError: The Arm64 system cannot be made, or a check failed (AE-BENCH-004).
    """
    for tool in (_EMULATOR, "apt-get", "dpkg"):
        if shutil.which(tool) is None:
            raise NO_EMULATOR(f"{tool} is not installed.")
    root, packages = place / "root", place / "packages"
    if not (place / "made").is_file():
        log("making the Arm64 system")
        _unpack_debian(place, root)
        _install_wheels(packages)
        (place / "made").touch()
    source = Path(autosam_edge.__file__).parent
    shutil.copytree(source, packages / "autosam_edge", dirs_exist_ok=True)
    log("verifying, which takes minutes")
    emulator = [_EMULATOR, "-L", str(root), "-E", f"PYTHONPATH={packages}"]
    python = [str(root / "usr/bin/python3.11"), "-c", _PROGRAM]
    finished = _run([*emulator, *python, "verify", "--threads", "1", "--json"], may_fail=True)
    lines = finished.stdout.strip().splitlines()
    if not lines or not lines[-1].startswith("{"):
        raise EMULATION_FAILED(
            f"verify ended with exit code {finished.returncode}: {last_line(finished.stderr).rstrip('.')}."
        )
    version = _run([_EMULATOR, "--version"]).stdout.splitlines()[0]
    return rows_of(json.loads(lines[-1]), open_bundle(None), version)


def rows_of(report: dict[str, Any], bundle: Bundle, emulator: str) -> list[BenchRow]:
    """Rows of the artifacts that ``verify --json`` names.

    Args:
        report: What the command printed.
        bundle: Bundle that was verified.
        emulator: First line of the emulator's ``--version``.

    Raises:
        BenchError: A check failed (AE-BENCH-004).
    """
    checks = report["checks"]
    if failed := [check for check in checks if check["verdict"] == "failed"]:
        raise EMULATION_FAILED(f"{failed[0]['name']}: {failed[0]['detail']}.")
    details = {check["name"]: check["detail"] for check in checks if check["verdict"] == "passed"}
    ran = [artifact for artifact in bundle.manifest.artifacts if artifact.name in details]
    host = describe_machine()
    nothing = dict.fromkeys(field.name for field in dataclasses.fields(Device))
    device = Device(
        **{
            **nothing,
            "name": "Arm64, emulated",
            "processor": f"Arm64 by {emulator}",
            "cores": 1,
            "system": "Linux aarch64",
            "versions": {"onnxruntime": _ONNXRUNTIME},
        }  # type: ignore[arg-type]
    )
    return [
        BenchRow(
            format=FORMAT,
            schema_version=SCHEMA_VERSION,
            measured_with="python",
            date=today(),
            device=device,
            artifact=measured(bundle, artifact),
            placement=Placement(artifact.target, _ONNXRUNTIME, None, "cpu", 1, None, ()),
            load=Load(None, None, None, None),
            tile_latency=None,
            end_to_end=(),
            sustained=None,
            memory=Memory({}, "not measured"),
            energy=Energy(None, None, energy.UNKNOWN),
            install=Install(None, None),
            accuracy=Accuracy(None, None, None, None, None, None),
            roofline=None,
            validity=Validity(
                noisy=False, stable=None, reasons=(_told(artifact.name, details, str(host["cpu"])),)
            ),
        )
        for artifact in ran
    ]


def _told(name: str, details: dict[str, str], host: str) -> str:
    return (
        f"{name} on Arm64: all {len(details)} checks of verify passed ({details[name]}). "
        f"The processor is emulated on {host}, so nothing is timed."
    )


def _unpack_debian(place: Path, root: Path) -> None:
    lists, archives = place / "lists", place / "debian"
    for folder in (lists / "partial", archives, root):
        folder.mkdir(parents=True, exist_ok=True)
    options = [
        f"-o{option}"
        for option in (
            "APT::Architecture=arm64",
            "APT::Architectures=arm64",
            f"Dir::State::Lists={lists.resolve()}",
            "Dir::State::status=/dev/null",
            "APT::Sandbox::User=root",
        )
    ]
    _run(["apt-get", *options, "-q", "update"])
    _run(["apt-get", *options, "-q", "download", *_DEBIAN], cwd=archives)
    for archive in sorted(archives.glob("*.deb")):
        _run(["dpkg", "-x", str(archive), str(root)])


def _install_wheels(packages: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    platforms = [option for platform in _PLATFORMS for option in ("--platform", platform)]
    python = ["--python-version", "3.11", "--implementation", "cp", "--only-binary=:all:"]
    _run([*pip, "--target", str(packages), *platforms, *python, *_WHEELS, f"onnxruntime=={_ONNXRUNTIME}"])


def _run(
    command: Sequence[str], *, cwd: Path | None = None, may_fail: bool = False
) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "ORT_DISABLE_TELEMETRY": "1"}
    finished = subprocess.run(  # noqa: S603
        command, cwd=cwd, capture_output=True, text=True, check=False, env=environment
    )
    if finished.returncode != 0 and not may_fail:
        raise EMULATION_FAILED(f"{Path(command[0]).name} failed: {last_line(finished.stderr).rstrip('.')}.")
    return finished

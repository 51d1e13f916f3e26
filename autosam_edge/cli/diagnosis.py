"""What ``doctor`` finds out: what is installed, what works, what is known not to work together."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import tempfile
from dataclasses import dataclass
from typing import Literal

from packaging.requirements import Requirement

from autosam_edge import __version__, doctor_probe
from autosam_edge.doctor_probe import DECODERS
from autosam_edge.engines.selection import ENGINES, engine_package, install_command, why_missing
from autosam_edge.error_codes import ENGINE_BROKEN, ENGINE_NOT_USABLE
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.child_process import ChildFailed, can_run_child, run_child
from autosam_edge.system.machine import available_cores, available_memory_gb, describe_machine

State = Literal["works", "loads", "not installed", "not for this system", "broken"]

TIME_LIMIT_S = 120.0
"""Time after which a child process that tries a part is stopped, in seconds."""
_CHILD_MB = 4000.0  # Python, torch for ExecuTorch, and one tile

_DISTRIBUTION = "autosam-edge"


@dataclass(frozen=True)
class Problem:
    """Packages whose versions, or whose presence together, are known to cause faults.

    Args:
        packages: Their names on PyPI.
    """

    packages: tuple[str, ...]
    why: str
    remedy: str


_TWO_RUNTIMES = "both bring the module onnxruntime, and the one installed last overwrites files of the other"
_ONE_RUNTIME = "uninstall both, then: pip install onnxruntime"
COMBINATIONS = (
    *(
        Problem(("onnxruntime", other), _TWO_RUNTIMES, _ONE_RUNTIME)
        for other in ("onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml", "onnxruntime-qnn")
    ),
    Problem(
        ("openvino", "openvino-nightly"),
        "both bring the module openvino, and the one installed last overwrites files of the other",
        "uninstall both, then: pip install 'autosam-edge[openvino]'",
    ),
)


@dataclass(frozen=True)
class Part:
    """An engine, or the decoders of compressed DICOM.

    Args:
        name: Name of the engine, or ``compressed DICOM``.
        version: Installed version of the package; None if it is not installed.
        state: ``works``: the golden tile gives the results of the export. ``loads``: it can be imported, and
            the default bundle has no artifact to try it with. The others say what they say.
        detail: Measured values, or what is wrong.
        install: Command that installs the package; empty if it is installed or not for this system.
        telemetry_off: True if its reporting to the vendor is off; None if it was not loaded or never reports.
    """

    name: str
    package: str
    version: str | None
    state: State
    detail: str
    install: str = ""
    telemetry_off: bool | None = None


@dataclass(frozen=True)
class Diagnosis:
    """Everything that ``doctor`` shows; ``dataclasses.asdict`` of it is the JSON object.

    Args:
        machine: See :func:`~autosam_edge.system.machine.describe_machine`.
        memory_available_gb: Memory that programs can still take, GB; None where the system does not tell.
        temporary_free_gb: Free space of the temporary folder, GB; None if there is no such folder.
        threads: Number of threads of an engine by default: the cores that this process may use.
        packages: Version of each package that autosam-edge or an extra asks for; None if it is missing.
        extras: For each extra, the packages that are missing.
        problems: Known faults of the installed packages.
    """

    version: str
    machine: dict[str, object]
    memory_available_gb: float | None
    temporary_free_gb: float | None
    threads: int
    packages: dict[str, str | None]
    engines: list[Part]
    decoders: Part
    extras: dict[str, list[str]]
    problems: list[Problem]

    def error(self) -> AutosamEdgeError | None:
        """The error to raise: a part is broken, or no engine works; None if all is well."""
        broken = [part for part in (*self.engines, self.decoders) if part.state == "broken"]
        if broken:
            found = ", ".join(f"{part.name} ({part.package})" for part in broken)
            packages = " ".join(part.package for part in broken)
            return ENGINE_BROKEN(
                f"installed but broken: {found}; the first: {broken[0].detail}.",
                remedy=f"pip install --force-reinstall {packages}, or uninstall it and use another `engine`.",
            )
        if not any(part.state == "works" for part in self.engines):
            return ENGINE_NOT_USABLE(
                "no engine that is installed here runs the default bundle.", remedy=install_command("onnx")
            )
        return None


def diagnose() -> Diagnosis:
    """Try every engine in a child process, and look at the packages and the machine."""
    targets = {engine_package(target): target for target in reversed(ENGINES)}  # one each
    return Diagnosis(
        __version__,
        describe_machine(),
        available_memory_gb(),
        _temporary_free_gb(),
        available_cores(),
        {need.name: _version(need.name) for need in _our_requirements(*_extras())},
        [try_engine(target, TIME_LIMIT_S) for target in reversed(targets.values())],
        try_decoders(TIME_LIMIT_S),
        {extra: _missing(extra) for extra in _extras()},
        [*bad_combinations(), *wrong_versions()],
    )


def try_engine(target: str, limit_s: float) -> Part:
    """Run the golden tile through an engine, in a child process.

    Args:
        limit_s: Time after which the child process is stopped, in seconds.
    """
    package, missing = engine_package(target), why_missing(target)
    if missing is None:
        return _try(target, package, limit_s)
    state: State = "not installed" if package in missing else "not for this system"
    install = install_command(target) if state == "not installed" else ""
    return Part(target, package, _version(package), state, missing, install)


def try_decoders(limit_s: float) -> Part:
    """Load the decoders of compressed DICOM in a child process that is stopped after ``limit_s`` seconds."""
    package = "imagecodecs"
    if importlib.util.find_spec(package):
        return _try(DECODERS, package, limit_s)
    detail = "JPEG, JPEG-LS and JPEG 2000 cannot be read"
    return Part(DECODERS, package, None, "not installed", detail, "pip install 'autosam-edge[dicom]'")


def _try(name: str, package: str, limit_s: float) -> Part:
    """Try a part in a child process; in this process where none can be started."""
    try:
        answer = (
            run_child(doctor_probe.__name__, [name], seconds=limit_s, memory_mb=_CHILD_MB)
            if can_run_child()
            else doctor_probe.run_in_child([name], b"")
        )
        state, detail, telemetry_off = json.loads(answer)
    except ChildFailed as failed:
        state, detail, telemetry_off = "broken", failed.detail, None
    except ValueError:  # nothing came back
        state, detail, telemetry_off = "broken", "it ended the process without a word", None
    return Part(name, package, _version(package), state, detail, telemetry_off=telemetry_off)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _requirements(package: str, *extras: str) -> list[Requirement]:
    """What an installed package asks for on this system, with the extras."""
    found = [Requirement(line) for line in importlib.metadata.requires(package) or ()]
    chosen = ("", *extras)
    return [
        need
        for need in found
        if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in chosen)
    ]


def _our_requirements(*extras: str) -> list[Requirement]:
    """What autosam-edge asks for; nothing in a source tree that was not installed."""
    if _version(_DISTRIBUTION) is None:
        return []
    return [need for need in _requirements(_DISTRIBUTION, *extras) if need.name != _DISTRIBUTION]


def _missing(extra: str) -> list[str]:
    return [need.name for need in _our_requirements(extra) if _version(need.name) is None]


def bad_combinations() -> list[Problem]:
    """The combinations of :data:`COMBINATIONS` that are installed here."""
    return [bad for bad in COMBINATIONS if all(_version(name) is not None for name in bad.packages)]


def _extras() -> list[str]:
    """The extras of this distribution; ``dev`` brings all of them and is no part that a user misses."""
    if _version(_DISTRIBUTION) is None:
        return []
    named = importlib.metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or []
    return [str(name) for name in named if name != "dev"]


def wrong_versions() -> list[Problem]:
    """Installed packages in a version that autosam-edge, or a package that it uses, does not allow."""
    ours = _our_requirements(*_extras())
    asked = {_DISTRIBUTION: ours}
    asked |= {need.name: _requirements(need.name) for need in ours if _version(need.name) is not None}
    found = []
    for package, needs in asked.items():
        for need in needs:
            version = _version(need.name)
            if version is None or need.specifier.contains(version, prereleases=True):
                continue
            why = f"{package} asks for {need.name}{need.specifier}, and {version} is installed"
            remedy = f"pip install '{need.name}{need.specifier}'"
            found.append(Problem((package, need.name), why, remedy))
    return found


def _temporary_free_gb() -> float | None:
    try:
        return round(shutil.disk_usage(tempfile.gettempdir()).free / 1024**3, 1)
    except OSError:
        return None

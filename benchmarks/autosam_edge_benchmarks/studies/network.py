"""Whether the commands and engines send anything, or leave a file outside of the output folder."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge_benchmarks.error_codes import NO_NAMESPACE
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_benchmarks.studies.network_namespace import Seen, run_watched, why_no_namespace

ALIVE_S = 30.0
"""Time for which a process is watched after its work: ONNX Runtime asks for its vendor after 9 s."""

_COMMAND = "from autosam_edge.cli import main; main()"
_WRITE_EVERYWHERE = (
    "import pathlib, tempfile, urllib.request;"
    "pathlib.Path.home().joinpath('control').touch(); pathlib.Path('/var/tmp/control').touch();"
    "tempfile.mkstemp();"
    "urllib.request.urlopen('http://control.example.org')"
)


class Job(NamedTuple):
    """One process to watch.

    Args:
        name: Name in the result.
        code: Python code that it runs.
        arguments: Its arguments; ``{out}`` stands for the output folder, ``{scan}`` for a DICOM series,
            ``{small}`` for a smaller one.
        packages: Packages without which it cannot run.
    """

    name: str
    code: str
    arguments: Sequence[str] = ()
    packages: Sequence[str] = ()


def _command(name: str, *arguments: str, packages: Sequence[str] = ()) -> Job:
    return Job(name, _COMMAND, arguments, packages)


def _export(targets: str, *packages: str) -> Job:
    small = ("--patch", "32,32,32", "--interpreted-tiles", "1", "--volume", "{small}")
    arguments = ("export", "-o", "{out}/made.edge", "--target", targets, *small)
    return _command(f"export to {targets}", *arguments, packages=("torch", "monai", "onnx", *packages))


def _engine(title: str, module: str, *packages: str) -> Job:
    return Job(f"library: {title} engine", f"import autosam_edge.engines.{module}", packages=packages)


JOBS = (
    _command("demo", "demo", "-o", "{out}/demo"),
    _command("segment with onnx", "segment", "{scan}", "-o", "{out}/labels", "--engine", "onnx"),
    _command(
        "segment with openvino",
        *("segment", "{scan}", "-o", "{out}/labels", "--engine", "openvino"),
        packages=("openvino",),
    ),
    _command("verify", "verify"),
    _command("info", "info"),
    _command("doctor", "doctor"),
    _export("onnx"),
    _export("openvino", "openvino"),
    _export("executorch", "executorch"),
    _export("coreml", "coremltools"),
    _engine("onnx", "onnx_engine"),
    _engine("openvino", "openvino_engine", "openvino"),
    _engine("executorch", "executorch_engine", "executorch"),
    _engine("coreml", "coreml_engine", "coremltools"),
)
"""What must send nothing and leave nothing outside of the output folder."""

CONTROL = Job("control: a program that sends and writes", _WRITE_EVERYWHERE)
"""What must be seen, or the proof proves nothing."""

DEFAULTS = tuple(
    Job(f"{package} without autosam-edge", f"import {package}", packages=(package,))
    for package in ("onnxruntime", "openvino", "coremltools", "executorch.runtime", "torch", "monai", "onnx")
) + tuple(
    Job(f"{package} without autosam-edge", f"import {package}")
    for package in ("highdicom", "nibabel", "nrrd", "numpy", "PIL.Image", "pydicom", "rich", "typer")
)
"""What the packages do by themselves."""


def _traces(seen: Seen) -> list[list[str]]:
    """What was sent, and what was left outside of the output folder, one list for each way."""
    return [seen["queries"], seen["connections"], seen["home"], seen["temp"], seen["elsewhere"]]


def is_clean(seen: Seen) -> bool:
    """True if nothing was sent and no file was left outside of the output folder."""
    return not any(_traces(seen))


def control_is_seen(seen: Seen) -> bool:
    """True if each of the control's acts was seen."""
    return all(_traces(seen))


def is_installed(job: Job) -> bool:
    """True if this environment has the packages of a job."""
    return all(importlib.util.find_spec(package.split(".")[0]) for package in job.packages)


def watch_job(job: Job, inputs: Path, *, alive_s: float = ALIVE_S) -> Seen:
    """Run one job in namespaces of its own.

    Args:
        inputs: Folder that :func:`write_inputs` filled.
        alive_s: Time for which it is watched after its work, in seconds.
    """
    places = {"{scan}": str(inputs / "scan"), "{small}": str(inputs / "small")}
    arguments = [places.get(argument, argument) for argument in job.arguments]
    return run_watched(job.code, arguments, alive_s=alive_s)


def write_inputs(folder: Path) -> None:
    """Write the scans of the jobs: a phantom of the abdomen, and a smaller one."""
    write_dicom_series(make_phantom(7).volume, folder / "scan", seed=7)
    small = make_phantom(1, spacing_mm=(6.0, 6.0, 6.0), shape=(16, 16, 16))
    write_dicom_series(small.volume, folder / "small", seed=1)


def measure_network(*, alive_s: float = ALIVE_S, log: Callable[[str], None] = lambda _: None) -> Result:
    """Run each command and each engine where every packet and every new file is seen.

    Args:
        alive_s: Time for which each process is watched after its work, in seconds.

    Returns:
        ``jobs``, ``control`` and ``defaults`` by name, each what was seen; ``not_installed``, the jobs whose
        packages are missing here; ``clean``, true if the control was seen and no job sent or left anything.

    Raises:
        MissingExtraError: This system allows no namespaces (AE-EXTRA-003).
    """
    if reason := why_no_namespace():
        raise NO_NAMESPACE(f"{reason}.")
    result = new_result("network")
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(4) as pool:
        write_inputs(Path(folder))

        def watch(job: Job) -> Seen:
            seen = watch_job(job, Path(folder), alive_s=alive_s)
            log(f"{job.name}: {in_words(seen)}")
            return seen

        able = [job for job in (*JOBS, CONTROL, *DEFAULTS) if is_installed(job)]
        seen = dict(zip((job.name for job in able), pool.map(watch, able), strict=True))
    jobs = {job.name: seen[job.name] for job in JOBS if job in able}
    return {
        **result,
        "watched_s_after_the_work": alive_s,
        "clean": control_is_seen(seen[CONTROL.name]) and all(is_good(entry) for entry in jobs.values()),
        "jobs": jobs,
        "control": {CONTROL.name: seen[CONTROL.name]},
        "defaults": {job.name: seen[job.name] for job in DEFAULTS if job in able},
        "not_installed": [job.name for job in JOBS if job not in able],
    }


def is_good(seen: Seen) -> bool:
    """True if a job did its work and was clean."""
    return seen["exit_code"] == 0 and is_clean(seen)


def in_words(seen: Seen) -> str:
    """What was seen, in one line."""
    failed = f"exit code {seen['exit_code']} ({seen['message']}), " if seen["exit_code"] else ""
    sent = f"{len(seen['queries'])} queries, {len(seen['connections'])} connections"
    home, temp, elsewhere = (len(seen[place]) for place in ("home", "temp", "elsewhere"))
    return f"{failed}{sent}, {home} files in HOME, {temp} in TMPDIR, {elsewhere} elsewhere"

"""Which artifact of a bundle runs on this device, and why."""

from __future__ import annotations

import importlib
import importlib.util
import operator
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from autosam_edge.error_codes import (
    ARTIFACT_MISSING,
    ENGINE_BROKEN,
    ENGINE_NOT_USABLE,
    ENGINE_UNKNOWN,
    THREADS_TOO_MANY,
)
from autosam_edge.system.machine import available_cores

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autosam_edge.bundle import Bundle
    from autosam_edge.engines.artifact_engine import ArtifactEngine
    from autosam_edge.manifest import Artifact, Manifest


class _EngineEntry(NamedTuple):
    """Where the engine of a target is found.

    Args:
        module: Module below ``autosam_edge.engines``, imported when the engine is used.
    """

    module: str
    class_name: str
    package: str
    install: str


_ONNX = _EngineEntry("onnx_engine", "OnnxEngine", "onnxruntime", "pip install onnxruntime")
_COREML = _EngineEntry("coreml_engine", "CoreMlEngine", "coremltools", "pip install 'autosam-edge[coreml]'")
_ENGINES = {
    **dict.fromkeys(("onnx", "onnx-2d"), _ONNX),
    "openvino": _EngineEntry(
        "openvino_engine", "OpenVinoEngine", "openvino", "pip install 'autosam-edge[openvino]'"
    ),
    "executorch": _EngineEntry(
        "executorch_engine", "ExecuTorchEngine", "executorch", "pip install 'autosam-edge[executorch]'"
    ),
    **dict.fromkeys(("coreml", "coreml-2d", "coreml-ios18"), _COREML),
}
# Artifacts for apps: no Python package runs them.
_APPS_ONLY = {"executorch-coreml": "it is for apps on iPhone, iPad and Mac, see docs/apps.md"}
ENGINES = tuple(_ENGINES)
# Smallest Dice of the worst organ at which an artifact counts as equal to the student. Only among equal
# artifacts does speed decide.
EQUAL_DICE = 0.998
# Speed, as a multiple of float32, that a format must exceed to be preferred to float32.
_MIN_SPEEDUP = {"fp32": 1.0, "fp16": 1.1, "bf16": 1.1, "int8-weights": 1.2, "int8": 1.3}


@dataclass(frozen=True)
class Choice:
    """An artifact and its rank on this device.

    Args:
        artifact: Artifact of the bundle.
        usable: True if this device has its engine.
        auto_selectable: True if it may be selected automatically: it was executed at export, and the Dice
            of its worst organ is at least ``EQUAL_DICE``.
        imitated: True if the processor lacks the number format, so that the time at export says nothing here.
        reason: Reason for the rank, one clause.
    """

    artifact: Artifact
    usable: bool
    auto_selectable: bool
    imitated: bool
    reason: str


def rank_artifacts(manifest: Manifest) -> list[Choice]:
    """Rank the artifacts of a bundle, best first.

    Usable artifacts come first, among them those that are equal to the student, among these the fastest at
    export. A format with fewer bits must be faster by 10 to 30 %, depending on the format, and the processor
    must have it. A format that was only imitated at export has no time. It comes first where the processor
    has it: there bfloat16 was the fastest format wherever it was measured.
    """
    executed = (artifact.name for artifact in manifest.artifacts if artifact.relative_time is not None)
    first = next(executed, "")
    return sorted((_choice(artifact, first) for artifact in manifest.artifacts), key=_rank)


def _choice(artifact: Artifact, first: str) -> Choice:
    """What speaks for and against an artifact here; ``first`` is the one whose time is the measure."""
    missing, dice = why_missing(artifact.target), artifact.worst_organ_dice
    imitated = missing is None and _imitates(artifact)
    if missing is not None:
        reason = missing
    elif artifact.proof == "interpreted":
        reason = "not executed at export, so not timed: only on request, after verification on this device"
    elif dice < EQUAL_DICE:
        reason = f"Dice of the worst organ {dice:.4f}, below {EQUAL_DICE}: only on request"
    elif imitated:
        reason = "equal to the student; this processor has no bfloat16, and imitating it is slow"
    elif artifact.proof == "imitated":
        reason = "equal to the student; not timed, as the processor of the export had no bfloat16"
    else:
        reason = f"equal to the student, {artifact.relative_time:.2f} x the time of {first}"
    auto_selectable = artifact.proof != "interpreted" and dice >= EQUAL_DICE
    return Choice(artifact, missing is None, auto_selectable, imitated, reason)


def _rank(choice: Choice) -> tuple[bool, bool, bool, bool, float]:
    artifact = choice.artifact
    time = (artifact.relative_time or 0.0) * _MIN_SPEEDUP.get(artifact.precision, max(_MIN_SPEEDUP.values()))
    unequal = artifact.worst_organ_dice < EQUAL_DICE
    return not choice.usable, artifact.proof == "interpreted", unequal, choice.imitated, time


def _imitates(artifact: Artifact) -> bool:
    """True if the runtime would imitate the number format, as OpenVINO does bfloat16 (3 times the time)."""
    if artifact.precision != "bf16":
        return False  # the others need no instructions of their own, and no package is imported for them
    try:
        return not engine_class(artifact.target).has_instructions(artifact.precision)
    except Exception:  # a foreign package may raise anything; make_engine tells of it
        return False


def select_artifact(bundle: Bundle, target: str | None = None, precision: str | None = None) -> Artifact:
    """Select the best artifact for this device.

    Args:
        target: Target to select from; None allows every target.
        precision: Precision to select from; None allows every precision.

    Raises:
        EngineError: No engine has the target's name (AE-ENGINE-001), no artifact runs on this device, or
            those that run are not equal to the student and were not requested (AE-ENGINE-006).
        BundleError: The bundle holds no such artifact (AE-BUNDLE-005).
    """
    if target is not None and target not in _ENGINES and target not in _APPS_ONLY:
        raise ENGINE_UNKNOWN(
            f"there is no engine named {target!r}.", remedy=f"Use `engine` with one of: {', '.join(ENGINES)}."
        )
    ranked = rank_artifacts(bundle.manifest)
    wanted = [
        c for c in ranked if target in (None, c.artifact.target) and precision in (None, c.artifact.precision)
    ]
    if not wanted:
        held = ", ".join(choice.artifact.name for choice in ranked) or "nothing"
        asked = "/".join(part for part in (target, precision) if part)
        raise ARTIFACT_MISSING(f"the bundle has no artifact {asked}, it holds {held}.")
    best, choice = wanted[0].artifact, wanted[0]
    if not choice.usable:
        raise ENGINE_NOT_USABLE(f"{best.name} cannot run on this device: {choice.reason}.")
    if target is None and precision is None and not choice.auto_selectable:
        raise ENGINE_NOT_USABLE(
            f"no artifact can be selected automatically on this device; the closest is {best.name}: "
            f"{choice.reason}.",
            remedy=f"Request it with `engine={best.target}` and `precision={best.precision}`, or install the "
            "engine of another artifact.",
        )
    return best


def why_missing(target: str) -> str | None:
    """Reason why this device cannot run a target; None if it can."""
    if target not in _ENGINES:
        return _APPS_ONLY.get(target, "this version has no engine for it")
    entry = _ENGINES[target]
    if entry is _COREML and sys.platform != "darwin":
        return "Core ML runs on macOS and iOS only"
    if importlib.util.find_spec(entry.package):
        return None
    return f"{entry.package} is not installed: {entry.install}"


def engine_package(target: str) -> str:
    """Package that the engine of a target needs."""
    return _ENGINES[target].package


def install_command(target: str) -> str:
    """Command that installs the package of a target's engine."""
    return _ENGINES[target].install


def make_engine(
    target: str, model: Mapping[str, bytes], *, sha256: str, precision: str, threads: int | None = None
) -> ArtifactEngine:
    """Load the files of an artifact into the engine of its target.

    Raises:
        BundleError: They are no allowed model (AE-BUNDLE-007).
        EngineError: They do not load, there are more threads than cores (AE-ENGINE-009), or the package of
            the engine cannot be imported (-011).
        ValueError: ``threads`` is not a whole number above 0.
    """
    cores = available_cores()
    if threads is None and cores < (os.cpu_count() or 1):
        threads = cores  # runtimes do not see the limit of a container
    threads = None if threads is None else _thread_count(threads)
    if threads is not None and threads > cores:
        raise THREADS_TOO_MANY(
            f"{threads} threads were asked for, and this process may use {cores} core{'s' * (cores > 1)}.",
            remedy=f"Leave `threads` out, or give at most {cores}.",
        )
    try:
        engine = engine_class(target)
    except Exception as error:  # a foreign package may raise anything
        package = engine_package(target)
        raise ENGINE_BROKEN(
            f"{package} is installed, and its import fails ({type(error).__name__}).",
            remedy=f"Install it again (pip install --force-reinstall {package}), or give another `engine`.",
        ) from error
    return engine(model, sha256=sha256, precision=precision, threads=threads or 0)


def _thread_count(threads: int) -> int:
    """A whole number of any type, such as NumPy's, as an int.

    Raises:
        ValueError: It is another kind of value, or not above 0.
    """
    try:
        count = 0 if isinstance(threads, bool) else operator.index(threads)
    except TypeError:
        count = 0
    if count < 1:
        raise ValueError(f"`threads` is {threads!r}, expected a whole number above 0")
    return count


def engine_class(target: str) -> type[ArtifactEngine]:
    """Import the engine class of a target, with the packages that it needs."""
    entry = _ENGINES[target]
    found: type[ArtifactEngine] = getattr(
        importlib.import_module(f"autosam_edge.engines.{entry.module}"), entry.class_name
    )
    return found

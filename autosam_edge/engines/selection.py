"""Which artifact of a bundle runs on this device, and why."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autosam_edge.error_codes import ARTIFACT_MISSING, ENGINE_NOT_USABLE, ENGINE_UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from autosam_edge.bundle import Artifact, Bundle, Manifest
    from autosam_edge.engines.engine import Engine

# Target of an artifact -> the module and class that run it, the package they need, and what brings that.
_ENGINES = {
    "onnx": ("autosam_edge.engines.onnx_engine", "OnnxEngine", "onnxruntime", "pip install onnxruntime"),
    "openvino": (
        "autosam_edge.engines.openvino_engine",
        "OpenVinoEngine",
        "openvino",
        "pip install 'autosam-edge[openvino]'",
    ),
    "executorch": (
        "autosam_edge.engines.executorch_engine",
        "ExecuTorchEngine",
        "executorch",
        "pip install 'autosam-edge[executorch]'",
    ),
    **dict.fromkeys(
        ("coreml", "coreml-2d", "coreml-ios18"),
        (
            "autosam_edge.engines.coreml_engine",
            "CoreMlEngine",
            "coremltools",
            "pip install 'autosam-edge[coreml]'",
        ),
    ),
}
# Artifacts that no Python package runs.
_APPS_ONLY = {"executorch-coreml": "it is for apps on iPhone, iPad and Mac: docs/apps.md"}
ENGINES = tuple(_ENGINES)
# From this Dice of the worst organ on, an artifact counts as equal to the student: only then may speed
# decide.
EQUAL_DICE = 0.998
# How many times faster than float32 a format must be to come before it.
_MIN_SPEEDUP = {"fp32": 1.0, "fp16": 1.1, "bf16": 1.1, "int8-weights": 1.2, "int8": 1.3}


@dataclass(frozen=True)
class Choice:
    """An artifact and what speaks for or against it here.

    Args:
        artifact: Of the bundle.
        usable: Whether this device has its engine.
        auto_selectable: Whether it is taken without being asked for: executed at export, and equal to the student.
        reason: One clause for a person.
    """

    artifact: Artifact
    usable: bool
    auto_selectable: bool
    reason: str


def rank_artifacts(manifest: Manifest) -> list[Choice]:
    """The bundle's artifacts, best first.

    Usable ones come first; of those, the ones equal to the student; of those, the fastest at export, where a
    format with fewer bits must be faster by a tenth or more.
    """
    choices = []
    first = next((artifact.name for artifact in manifest.artifacts if artifact.relative_time is not None), "")
    for artifact in manifest.artifacts:
        missing = why_missing(artifact.target)
        if missing is not None:
            reason = missing
        elif artifact.relative_time is None:
            reason = "not executed at export, so not timed: only on request, after `autosam-edge verify` on this device"
        elif artifact.worst_organ_dice < EQUAL_DICE:
            reason = f"worst organ {artifact.worst_organ_dice:.3f}, under {EQUAL_DICE}: only on request"
        else:
            reason = f"equal to the student, {artifact.relative_time:.2f} x the time of {first}"
        auto_selectable = artifact.relative_time is not None and artifact.worst_organ_dice >= EQUAL_DICE
        choices.append(Choice(artifact, missing is None, auto_selectable, reason))
    return sorted(choices, key=_rank)


def _rank(choice: Choice) -> tuple[bool, bool, bool, float]:
    artifact = choice.artifact
    time = (artifact.relative_time or 0.0) * _MIN_SPEEDUP.get(artifact.precision, max(_MIN_SPEEDUP.values()))
    return not choice.usable, artifact.relative_time is None, artifact.worst_organ_dice < EQUAL_DICE, time


def select_artifact(bundle: Bundle, target: str | None = None, precision: str | None = None) -> Artifact:
    """The best artifact for this device among those that are asked for.

    Raises:
        EngineError: No engine has the target's name (AE-ENGINE-001), or none of them can run here, or only
            one that has to be asked for (AE-ENGINE-006).
        BundleError: The bundle holds no such artifact (AE-BUNDLE-005).
    """
    if target is not None and target not in _ENGINES and target not in _APPS_ONLY:
        raise ENGINE_UNKNOWN(
            f"there is no engine named {target!r}.", remedy=f"Use one of: {', '.join(ENGINES)}."
        )
    ranked = rank_artifacts(bundle.manifest)
    wanted = [
        c for c in ranked if target in (None, c.artifact.target) and precision in (None, c.artifact.precision)
    ]
    if not wanted:
        held = _listed([choice.artifact for choice in ranked])
        asked = "/".join(part for part in (target, precision) if part)
        raise ARTIFACT_MISSING(f"the bundle holds {held}, not {asked}.")
    if not wanted[0].usable:
        cannot = f"{wanted[0].artifact.name} cannot run here: {wanted[0].reason}."
        raise ENGINE_NOT_USABLE(cannot)
    if target is None and precision is None and not wanted[0].auto_selectable:
        best = wanted[0].artifact
        raise ENGINE_NOT_USABLE(
            f"nothing that runs here is taken unasked; the best is {best.name}: {wanted[0].reason}.",
            remedy=f"Ask for it with --engine {best.target} --precision {best.precision}, or install the engine of another artifact.",
        )
    return wanted[0].artifact


def why_missing(target: str) -> str | None:
    """Why this device cannot run a target, or None if it can."""
    if target not in _ENGINES:
        return _APPS_ONLY.get(target, "this version has no engine for it")
    _, _, package, install = _ENGINES[target]
    if package == "coremltools" and sys.platform != "darwin":
        return "Core ML runs on macOS and iOS only"
    return None if importlib.util.find_spec(package) else f"{package} is not installed: {install}"


def load_engine(bundle: Bundle, artifact: Artifact, threads: int | None = None) -> Engine:
    """Read an artifact, verified, and make its engine ready.

    Raises:
        BundleError: The file is damaged.
        EngineError: It does not load.
    """
    model, sha256 = bundle.read_artifact(artifact.path), bundle.manifest.sha256_of(artifact.path)
    return make_engine(artifact.target, model, sha256=sha256, precision=artifact.precision, threads=threads)


def make_engine(
    target: str, model: Mapping[str, bytes], *, sha256: str, precision: str, threads: int | None = None
) -> Engine:
    """An engine for the files of an artifact.

    Raises:
        EngineError: It does not load.
    """
    engine: Engine = engine_class(target)(model, sha256=sha256, precision=precision, threads=threads or 0)
    return engine


def engine_class(target: str) -> Any:  # noqa: ANN401  a class whose module is imported only now, with all that it needs
    """The class that runs a target's artifacts."""
    module, name, _, _ = _ENGINES[target]
    return getattr(importlib.import_module(module), name)


def _listed(artifacts: Sequence[Artifact]) -> str:
    return ", ".join(artifact.name for artifact in artifacts) or "nothing"

"""Which artifact of a bundle runs on this device, and why."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autosam_edge.errors import BundleError, EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.bundle import Artifact, Bundle, Manifest
    from autosam_edge.engines.engine import Engine

# Target of an artifact -> the module and class that run it, the package they need, and what brings that.
_ENGINES = {
    "onnx": ("autosam_edge.engines.onnx_engine", "OnnxEngine", "onnxruntime", "pip install onnxruntime"),
    "openvino": ("autosam_edge.engines.openvino_engine", "OpenVinoEngine", "openvino", "pip install 'autosam-edge[openvino]'"),
}
ENGINES = tuple(_ENGINES)
ENGINE_PACKAGES = {target: package for target, (_, _, package, _) in _ENGINES.items()}
# From this Dice of the worst organ on, an artifact counts as equal to the student: only then may speed decide.
EQUAL_DICE = 0.998
# How many times faster than float32 a format must be to come before it.
_MUST_GAIN = {"fp32": 1.0, "fp16": 1.1, "bf16": 1.1, "int8-weights": 1.2, "int8": 1.3}


@dataclass(frozen=True)
class Choice:
    """An artifact and what speaks for or against it here.

    Args:
        artifact: Of the bundle.
        usable: Whether this device has its engine.
        reason: One clause for a person.
    """

    artifact: Artifact
    usable: bool
    reason: str


def rank_artifacts(manifest: Manifest) -> list[Choice]:
    """The bundle's artifacts, best first.

    Usable ones come first; of those, the ones equal to the student; of those, the fastest at export, where a format with fewer bits must
    be faster by a tenth or more.
    """
    choices = []
    for artifact in manifest.artifacts:
        missing = why_missing(artifact.target)
        if missing is not None:
            reason = missing
        elif artifact.worst_organ_dice < EQUAL_DICE:
            reason = f"worst organ {artifact.worst_organ_dice:.3f}, under {EQUAL_DICE}: only on request"
        else:
            reason = f"equal to the student, {artifact.relative_time:.2f} x the time of {manifest.artifacts[0].name}"
        choices.append(Choice(artifact, missing is None, reason))
    return sorted(choices, key=_rank)


def _rank(choice: Choice) -> tuple[bool, bool, float]:
    artifact = choice.artifact
    time = artifact.relative_time * _MUST_GAIN.get(artifact.precision, max(_MUST_GAIN.values()))
    return not choice.usable, artifact.worst_organ_dice < EQUAL_DICE, time


def choose(bundle: Bundle, target: str | None = None, precision: str | None = None) -> Artifact:
    """The best artifact for this device among those that are asked for.

    Raises:
        EngineError: No engine has the target's name (AE-ENGINE-001), or none of them can run here (AE-ENGINE-006).
        BundleError: The bundle holds no such artifact (AE-BUNDLE-005).
    """
    if target is not None and target not in _ENGINES:
        raise EngineError("AE-ENGINE-001", f"there is no engine named {target!r}.", remedy=f"Use one of: {', '.join(ENGINES)}.")
    ranked = rank_artifacts(bundle.manifest)
    wanted = [c for c in ranked if target in (None, c.artifact.target) and precision in (None, c.artifact.precision)]
    if not wanted:
        held = _listed([choice.artifact for choice in ranked])
        asked = "/".join(part for part in (target, precision) if part)
        raise BundleError("AE-BUNDLE-005", f"the bundle holds {held}, not {asked}.", remedy="Export it for this target.")
    if not wanted[0].usable:
        raise EngineError("AE-ENGINE-006", f"{wanted[0].artifact.name} cannot run here: {wanted[0].reason}.", remedy="Install it.")
    return wanted[0].artifact


def why_missing(target: str) -> str | None:
    """Why this device cannot run a target, or None if it can."""
    if target not in _ENGINES:
        return "this version has no engine for it"
    _, _, package, install = _ENGINES[target]
    return None if importlib.util.find_spec(package) else f"{package} is not installed: {install}"


def load_engine(bundle: Bundle, artifact: Artifact, threads: int | None = None) -> Engine:
    """Read an artifact, verified, and make its engine ready.

    Raises:
        BundleError: The file is damaged.
        EngineError: It does not load.
    """
    model, sha256 = bundle.read(artifact.path), bundle.manifest.files[artifact.path]
    return make_engine(artifact.target, model, sha256=sha256, precision=artifact.precision, threads=threads)


def make_engine(target: str, model: bytes, *, sha256: str, precision: str, threads: int | None = None) -> Engine:
    """An engine for the bytes of an artifact.

    Raises:
        EngineError: It does not load.
    """
    module, name, _, _ = _ENGINES[target]
    kind = getattr(importlib.import_module(module), name)
    engine: Engine = kind(model, sha256=sha256, precision=precision, threads=threads or 0)
    return engine


def _listed(artifacts: Sequence[Artifact]) -> str:
    return ", ".join(artifact.name for artifact in artifacts) or "nothing"

"""Does this device compute what the model computed when it was exported? Golden vectors against what runs here; no torch needed.

A bundle's ``golden/`` holds raw little-endian arrays, which any language reads, and ``golden.json``, which
describes them

- ``scan``: a small scan (``hu``, ``affine``), what it is on the model's grid (``model_hu``, every
``stride``-th voxel), and the labels
  that come out when the network is replaced by a formula: the logit of class c is -((hu - ``centers_hu``[c])
  / ``width_hu``)^2. They check everything around the network: orientation, resampling, tiles, blending,
  restoration;
- ``tile``: one tile (``hu``) and what the trained student says of it (``logits``, every ``stride``-th voxel).
"""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.engines.selection import load_engine, rank_artifacts
from autosam_edge.error_codes import MANIFEST_INVALID, VERIFICATION_FAILED
from autosam_edge.errors import BundleError, EngineError
from autosam_edge.geometry import Grid
from autosam_edge.pipeline.resample import ModelGrid
from autosam_edge.session import Session
from autosam_edge.volume import Source, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from autosam_edge.bundle import Artifact, Bundle
    from autosam_edge.engines.engine import Engine
    from autosam_edge.model import InputContract

GOLDEN = "golden/golden.json"
# Two processors may round a sum differently; a voxel between two organs may then change sides.
_LABEL_AGREEMENT = 0.9999
_MODEL_HU = 0.01
_KEYS = {
    "scan": {"hu", "affine", "stride", "model_hu", "labels", "centers_hu", "width_hu"},
    "tile": {"hu", "stride", "logits"},
}


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: ``files``, ``resampling``, ``labels without the network``, or the artifact's.
        verdict: ``passed``, ``failed`` or ``skipped``.
        detail: What was seen and what is allowed.
        figures: The numbers in ``detail``.
    """

    name: str
    verdict: str
    detail: str
    figures: dict[str, float]


def verify_bundle(
    bundle: Bundle,
    *,
    threads: int | None = None,
    stand_ins: Mapping[str, Engine] = MappingProxyType({}),
    say: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Check every hash, everything around the network, and every artifact that this device can run.

    Args:
        bundle: The bundle.
        threads: For the engines; None uses every core.
        stand_ins: By artifact, what evaluates it where its runtime is missing.
        say: Called with one line per step.

    Returns:
        The checks in order, all passed or skipped.

    Raises:
        BundleError: A file is missing, altered or not valid.
        EngineError: A check failed (AE-ENGINE-007); the message names the first, ``error.checks`` holds all.
    """
    say("hashes")
    bundle.verify()
    checks = [Check("files", "passed", f"{len(bundle.manifest.files)} hashes are right", {})]
    say("around the network")
    checks += _check_pipeline(bundle)
    tolerances = _tolerances(bundle)
    for choice in rank_artifacts(bundle.manifest):
        name = choice.artifact.name
        if choice.usable or name in stand_ins:
            say(name)
            engine = None if choice.usable else stand_ins[name]
            checks.append(_check_artifact(bundle, choice.artifact, tolerances[name], threads, engine))
        else:
            checks.append(Check(name, "skipped", choice.reason, {}))
    failed = [check for check in checks if check.verdict == "failed"]
    if failed:
        raise VerificationError(
            VERIFICATION_FAILED.code,
            f"{failed[0].name} does not give what it gave at export: {failed[0].detail}.",
            checks=checks,
        )
    return checks


class VerificationError(EngineError):
    """A check failed.

    Args:
        code, message: See :class:`~autosam_edge.errors.AutosamEdgeError`.
        checks: All of them.
    """

    def __init__(self, code: str, message: str, *, checks: list[Check]) -> None:
        super().__init__(
            code,
            message,
            remedy="Do not use this artifact on this device; try another --engine, and report it.",
        )
        self.checks = checks


def read_golden(bundle: Bundle, part: str) -> dict[str, Any]:
    """The arrays and numbers of ``scan`` or ``tile``, verified.

    Raises:
        BundleError: A file is missing or altered, or the description is not valid (AE-BUNDLE-003).
    """
    with _well_formed(GOLDEN):
        described = json.loads(bundle.read(GOLDEN))[part]
        found = {
            key: _array(bundle, entry) if isinstance(entry, dict) else entry
            for key, entry in described.items()
        }
        if lacking := _KEYS[part] - set(found):
            raise KeyError(min(lacking))
    return found


def _tolerances(bundle: Bundle) -> dict[str, float]:
    """By artifact, how far its logits may be from the student's (root mean square).

    Raises:
        BundleError: ``parity.json`` is not valid or lacks an artifact (AE-BUNDLE-003).
    """
    with _well_formed("parity.json"):
        entries = json.loads(bundle.read("parity.json"))
        found = {
            f"{entry['target']}/{entry['precision']}": float(entry["tolerance"]["logit_rms"])
            for entry in entries
        }
        return {artifact.name: found[artifact.name] for artifact in bundle.manifest.artifacts}


@contextmanager
def _well_formed(name: str) -> Iterator[None]:
    """Whoever wrote the bundle may have written anything: what does not fit is its fault and no internal error."""
    try:
        yield
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise MANIFEST_INVALID(f"{name} is not valid: {type(error).__name__}.") from error


def _array(bundle: Bundle, entry: dict[str, Any]) -> npt.NDArray[Any]:
    return np.frombuffer(bundle.read(entry["file"]), dtype=entry["dtype"]).reshape(entry["shape"])


def _check_pipeline(bundle: Bundle) -> list[Check]:
    golden = read_golden(bundle, "scan")
    contract = bundle.manifest.input
    volume = Volume(golden["hu"], Grid(golden["hu"].shape, np.asarray(golden["affine"])), Source("array"))
    stride = golden["stride"]
    model_hu = on_model_grid(volume, contract)[::stride, ::stride, ::stride]
    same_grid = model_hu.shape == golden["model_hu"].shape
    error = float(np.abs(model_hu - golden["model_hu"]).max()) if same_grid else float("inf")
    detail = f"largest difference {error:.1e} HU, allowed {_MODEL_HU} on a grid of {'x'.join(f'{s:g}' for s in contract.spacing_mm)} mm"
    checks = [Check("resampling", _verdict(error <= _MODEL_HU), detail, {"hu_error": error})]
    engine = ThresholdEngine(golden["centers_hu"], width_hu=golden["width_hu"])
    labels = Session(bundle.model, engine).segment(volume).labels
    agreement = float((labels == golden["labels"]).mean())
    detail = f"{agreement:.6f} of the labels agree, needs {_LABEL_AGREEMENT}"
    return [
        *checks,
        Check(
            "labels without the network",
            _verdict(agreement >= _LABEL_AGREEMENT),
            detail,
            {"agreement": agreement},
        ),
    ]


def on_model_grid(volume: Volume, contract: InputContract) -> npt.NDArray[np.float32]:
    """A whole volume as the network sees it, (D, H, W) HU; for checks on small scans."""
    return ModelGrid(volume.grid, contract.spacing_mm, contract.window_hu).resample(volume.hu)


def _check_artifact(
    bundle: Bundle, artifact: Artifact, allowed_rms: float, threads: int | None, stand_in: Engine | None
) -> Check:
    golden = read_golden(bundle, "tile")
    started = time.perf_counter()
    engine = stand_in or load_engine(bundle, artifact, threads)
    load_s = time.perf_counter() - started
    tile = golden["hu"].astype(np.float32)
    if stand_in is None:
        engine.run(tile)  # the first tile of a runtime is slower
    started = time.perf_counter()
    stride = golden["stride"]
    logits = engine.run(tile)[:, ::stride, ::stride, ::stride]
    tile_s = time.perf_counter() - started
    if logits.shape != golden["logits"].shape:
        detail = f"its logits have the shape {logits.shape}, the student's {golden['logits'].shape}"
        return Check(artifact.name, "failed", detail, {})
    difference = logits.astype(np.float64) - golden["logits"]
    rms, largest = float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())
    agreement = float((logits.argmax(axis=0) == golden["logits"].argmax(axis=0)).mean())
    detail = f"logits differ by {rms:.1e} rms, allowed {allowed_rms:g}; {agreement:.5f} of the labels agree"
    figures = {"logit_rms": rms, "logit_error": largest, "agreement": agreement}
    if stand_in is None:
        figures |= {"load_s": load_s, "tile_ms": tile_s * 1000.0}
    else:
        detail = f"interpreted, not executed: {detail}"
    return Check(artifact.name, _verdict(rms <= allowed_rms), detail, figures)


def _verdict(ok: bool) -> str:
    return "passed" if ok else "failed"

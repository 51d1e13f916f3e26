"""Verification of a bundle on this device against the results of the export, without torch."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.error_codes import VERIFICATION_FAILED
from autosam_edge.errors import EngineError
from autosam_edge.golden import GoldenTile, read_golden_rules, read_golden_scan, read_golden_tile
from autosam_edge.parity import read_parity
from autosam_edge.pipeline.single_steps import decide, first_tile, on_model_grid
from autosam_edge.session import Session
from autosam_edge.system.clock import time_in_turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from autosam_edge.bundle import Bundle
    from autosam_edge.engines.engine import Engine
    from autosam_edge.manifest import Artifact

# Two processors may round a sum differently; a voxel between two organs may then change sides.
_LABEL_AGREEMENT = 0.9999
_MODEL_HU = 0.01
_TIMED_TILES = 3
_AROUND_NETWORK = (
    "resampling",
    "labels without the network",
    "labels of a short scan",
    "scan ends",
    "decision weights",
)
"""Names of the checks that no engine takes part in."""


@dataclass(frozen=True)
class Check:
    """One comparison.

    Args:
        name: ``files``, ``resampling``, ``labels without the network``, or the name of an artifact.
        verdict: ``passed``, ``failed`` or ``skipped``.
        detail: Measured value and limit, or the reason for skipping.
        figures: Numbers of ``detail`` by name.
    """

    name: str
    verdict: str
    detail: str
    figures: dict[str, float]


def verify_bundle(
    bundle: Bundle,
    *,
    threads: int | None = None,
    interpreters: Mapping[str, Engine] = MappingProxyType({}),
    on_message: Callable[[str], None] = lambda _: None,
) -> list[Check]:
    """Check every hash, everything around the network, and every artifact that this device can run.

    Args:
        bundle: Bundle to check.
        threads: Number of threads of each engine; None uses every core.
        interpreters: Engine that evaluates an artifact whose runtime is missing, by the artifact's name.
        on_message: Function that is called with one line per step.

    Returns:
        Checks in order, all passed or skipped.

    Raises:
        BundleError: A file is missing, altered or not valid.
        EngineError: A check failed (AE-ENGINE-007); the message names the first, ``error.checks`` holds all.
    """
    on_message("hashes")
    bundle.verify()
    checks = [Check("files", "passed", f"{len(bundle.manifest.files)} hashes are correct", {})]
    on_message("around the network")
    checks += check_around_network(bundle)
    allowed_rms = read_parity(bundle).allowed_rms
    for choice in rank_artifacts(bundle.manifest):
        name = choice.artifact.name
        if choice.usable or name in interpreters:
            on_message(name)
            engine = None if choice.usable else interpreters[name]
            checks.append(_check_artifact(bundle, choice.artifact, allowed_rms[name], threads, engine))
        else:
            checks.append(Check(name, "skipped", choice.reason, {}))
    require_passed(checks)
    return checks


def require_passed(checks: list[Check]) -> None:
    """Refuse a device on which a check failed.

    Raises:
        EngineError: A check failed (AE-ENGINE-007); the message names the first, ``error.checks`` holds all.
    """
    failed = [check for check in checks if check.verdict == "failed"]
    if failed:
        raise VerificationError(failed[0], checks)


def verify_artifact(bundle: Bundle, artifact: Artifact) -> Check:
    """Run the golden tile through one artifact that this device can run.

    Raises:
        BundleError: A file is missing, altered or not valid.
        EngineError: The artifact does not load or run.
    """
    return _check_artifact(bundle, artifact, read_parity(bundle).allowed_rms[artifact.name], None, None)


class VerificationError(EngineError):
    """A check failed.

    Args:
        failed: The first check that failed.
        checks: All checks, passed and failed.
    """

    def __init__(self, failed: Check, checks: list[Check]) -> None:
        subject = failed.name
        remedy = "Do not use this artifact on this device. Use another `engine`, and report the failure."
        if failed.name in _AROUND_NETWORK:
            subject = f'the check "{failed.name}"'
            remedy = (
                "The golden vectors do not belong to this manifest, or the installation is damaged. Export "
                "the bundle again if its manifest was edited; otherwise install autosam-edge again."
            )
        message = f"{subject} does not give the results of the export: {failed.detail}."
        super().__init__(VERIFICATION_FAILED.code, message, remedy=remedy)
        self.failed, self.checks = failed, checks

    def __reduce__(self) -> tuple[type[VerificationError], tuple[object, ...]]:
        """How to send the error to another process: by the arguments of its own constructor."""
        return type(self), (self.failed, self.checks)


def check_around_network(bundle: Bundle) -> list[Check]:
    """Compare every step around the network with the golden scan.

    Raises:
        BundleError: See :func:`~autosam_edge.golden.read_golden_scan`.
    """
    golden, contract = read_golden_scan(bundle), bundle.manifest.input
    every = (slice(None, None, golden.stride),) * 3
    model_hu = on_model_grid(golden.volume, contract)[every]
    same_grid = model_hu.shape == golden.model_hu.shape
    error = float(np.abs(model_hu - golden.model_hu).max()) if same_grid else float("inf")
    spacing = "x".join(f"{side:g}" for side in contract.spacing_mm)
    detail = f"largest difference {error:.1e} HU, allowed {_MODEL_HU} on a grid of {spacing} mm"
    checks = [Check("resampling", _verdict(error <= _MODEL_HU), detail, {"hu_error": error})]
    session = Session(bundle.model, golden.formula)
    for name, volume, expected in (
        ("labels without the network", golden.volume, golden.labels),
        ("labels of a short scan", golden.short_volume, golden.short_labels),
    ):
        agreement = float((session.segment(volume).labels == expected).mean())
        detail = f"{agreement:.6f} of the labels agree, needs {_LABEL_AGREEMENT}"
        figures = {"agreement": agreement}
        checks.append(Check(name, _verdict(agreement >= _LABEL_AGREEMENT), detail, figures))
    return [*checks, *_check_rules(bundle)]


def _check_rules(bundle: Bundle) -> Iterator[Check]:
    """The two rules that an app most easily leaves out, each by itself."""
    golden, model = read_golden_rules(bundle), bundle.model
    error = max(
        float(np.abs(first_tile(model, hu, golden.patch) - tile).max())
        for hu, tile in zip(golden.scans, golden.tiles, strict=True)
    )
    detail = f"largest difference {error:.1e} HU, allowed {_MODEL_HU}"
    yield Check("scan ends", _verdict(error <= _MODEL_HU), detail, {"hu_error": error})
    wrong = int((decide(model, golden.probabilities) != golden.labels).sum())
    detail = f"{wrong} of {golden.labels.size} labels differ"
    yield Check("decision weights", _verdict(wrong == 0), detail, {"wrong_labels": float(wrong)})


def _check_artifact(
    bundle: Bundle, artifact: Artifact, allowed_rms: float, threads: int | None, interpreter: Engine | None
) -> Check:
    golden = read_golden_tile(bundle)
    started = time.perf_counter()
    engine = interpreter or load_engine(bundle, artifact, threads)
    load_s = time.perf_counter() - started
    tile = golden.hu
    if interpreter is not None:
        check = check_tile(artifact, golden, engine.run(tile), allowed_rms)
        return replace(check, detail=f"interpreted, not executed: {check.detail}")
    found: list[npt.NDArray[np.float32]] = []

    def run() -> None:
        found[:] = [engine.run(tile)]

    timing = time_in_turns({"tile": run}, _TIMED_TILES)
    times = {"load_s": load_s, "tile_ms": timing.median_ms("tile")}
    if timing.others_cores is not None:
        times["others_cores"] = timing.others_cores
    check = check_tile(artifact, golden, found[0], allowed_rms)
    return replace(check, figures={**check.figures, **times})


def check_tile(
    artifact: Artifact, golden: GoldenTile, logits: npt.NDArray[np.float32], allowed_rms: float
) -> Check:
    """Compare the logits of the golden tile with the student's.

    Args:
        artifact: Artifact that made the logits.
        golden: The golden tile.
        logits: (C, D, H, W) float32 logits of that tile.
        allowed_rms: Largest root mean square difference, see :class:`~autosam_edge.parity.Parity`.
    """
    stride = golden.stride
    logits = logits[:, ::stride, ::stride, ::stride]
    if logits.shape != golden.logits.shape:
        detail = f"its logits have the shape {logits.shape}, expected {golden.logits.shape}"
        return Check(artifact.name, "failed", detail, {})
    difference = logits.astype(np.float64) - golden.logits
    rms, largest = float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())
    agreement = float((logits.argmax(axis=0) == golden.logits.argmax(axis=0)).mean())
    detail = f"logits differ by {rms:.1e} rms, allowed {allowed_rms:g}; {agreement:.5f} of the labels agree"
    figures = {"logit_rms": rms, "logit_error": largest, "agreement": agreement}
    return Check(artifact.name, _verdict(rms <= allowed_rms), detail, figures)


def _verdict(ok: bool) -> str:
    return "passed" if ok else "failed"

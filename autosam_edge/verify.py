"""Verification of a bundle on this device against the results of the export, without torch.

A bundle's ``golden/`` holds raw little-endian arrays, which any language reads, and ``golden.json``, which
describes them:

- ``scan``: a small scan (``hu``, ``affine``), the scan on the model's grid (``model_hu``, every
  ``stride``-th voxel), and the ``labels`` that result when a formula replaces the network: the logit of class
  c is -((v - ``centers_hu``[c]) / ``width_hu``)^2, where v is the mean of the HU at the voxel and at
  ``reach_rows`` below and above it in the tile; outside of the tile it is ``centers_hu``[0]. ``short_labels``
  are those of the slices ``short_slices`` alone. These arrays check everything around the network:
  orientation, resampling, tiles and what they show beyond the ends of the scan, blending, decision weights
  and restoration.
- ``tile``: one tile (``hu``) and the logits of the trained student (``logits``, every ``stride``-th voxel).
"""

from __future__ import annotations

import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import rank_artifacts
from autosam_edge.error_codes import MANIFEST_INVALID, VERIFICATION_FAILED
from autosam_edge.errors import BundleError, EngineError
from autosam_edge.geometry import Grid
from autosam_edge.pipeline.resample import ModelGrid
from autosam_edge.session import Session
from autosam_edge.strict_json import build, build_list, parse_json
from autosam_edge.volume import Source, Volume

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt

    from autosam_edge.bundle import Bundle
    from autosam_edge.engines.engine import Engine
    from autosam_edge.manifest import Artifact
    from autosam_edge.model import InputContract

GOLDEN = "golden/golden.json"
# Two processors may round a sum differently; a voxel between two organs may then change sides.
_LABEL_AGREEMENT = 0.9999
_MODEL_HU = 0.01


@dataclass(frozen=True)
class _ArrayFile:
    """Description of an array that is stored as raw bytes."""

    file: str
    dtype: Literal["<i2", "<f4", "|u1"]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class _ScanEntry:
    hu: _ArrayFile
    affine: tuple[tuple[float, ...], ...]
    stride: int
    model_hu: _ArrayFile
    labels: _ArrayFile
    short_slices: tuple[int, int]
    short_labels: _ArrayFile
    centers_hu: tuple[float, ...]
    width_hu: float
    reach_rows: int


@dataclass(frozen=True)
class _TileEntry:
    hu: _ArrayFile
    stride: int
    logits: _ArrayFile


@dataclass(frozen=True)
class _GoldenFile:
    """Content of ``golden.json``."""

    scan: _ScanEntry
    tile: _TileEntry


@dataclass(frozen=True)
class _Tolerance:
    logit_rms: float


@dataclass(frozen=True)
class _ParityEntry:
    """The part of an entry of ``parity.json`` that verification needs."""

    target: str
    precision: str
    tolerance: _Tolerance


@dataclass(frozen=True, eq=False)
class GoldenScan:
    """A small scan and the expected results of all steps around the network.

    Args:
        volume: Scan, HU.
        stride: Step between the voxels of ``model_hu`` along each axis, in voxels of the model's grid.
        model_hu: (D', H', W') float32, every ``stride``-th voxel of the scan on the model's grid, HU.
        labels: (D, H, W) uint8, labels when the formula of the module's text replaces the network.
        short_slices: First slice of a short scan, and the slice after its last.
        short_labels: (short D, H, W) uint8, labels of these slices alone.
        formula: Engine that computes the formula.
    """

    volume: Volume
    stride: int
    model_hu: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]
    short_slices: tuple[int, int]
    short_labels: npt.NDArray[np.uint8]
    formula: ThresholdEngine

    @property
    def short_volume(self) -> Volume:
        """The short scan."""
        return self.volume.slices(*self.short_slices)


@dataclass(frozen=True, eq=False)
class GoldenTile:
    """One tile and the logits of the trained student.

    Args:
        hu: (D, H, W) float32, HU.
        stride: Step between the voxels of ``logits`` along each axis.
        logits: (C, D', H', W') float32, every ``stride``-th voxel.
    """

    hu: npt.NDArray[np.float32]
    stride: int
    logits: npt.NDArray[np.float32]


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
    checks += _check_pipeline(bundle)
    tolerances = _tolerances(bundle)
    for choice in rank_artifacts(bundle.manifest):
        name = choice.artifact.name
        if choice.usable or name in interpreters:
            on_message(name)
            engine = None if choice.usable else interpreters[name]
            checks.append(_check_artifact(bundle, choice.artifact, tolerances[name], threads, engine))
        else:
            checks.append(Check(name, "skipped", choice.reason, {}))
    failed = [check for check in checks if check.verdict == "failed"]
    if failed:
        raise VerificationError(
            VERIFICATION_FAILED.code,
            f"{failed[0].name} does not give the results of the export: {failed[0].detail}.",
            checks=checks,
        )
    return checks


def verify_artifact(bundle: Bundle, artifact: Artifact, *, threads: int | None = None) -> Check:
    """Run the golden tile through one artifact that this device can run.

    Raises:
        BundleError: A file is missing, altered or not valid.
        EngineError: The artifact does not load or run.
    """
    return _check_artifact(bundle, artifact, _tolerances(bundle)[artifact.name], threads, None)


class VerificationError(EngineError):
    """A check failed.

    Args:
        code: Stable identifier of the error.
        message: What was found and what was expected, one line.
        checks: All checks, passed and failed.
    """

    def __init__(self, code: str, message: str, *, checks: list[Check]) -> None:
        super().__init__(
            code,
            message,
            remedy="Do not use this artifact on this device. Use another `engine`, and report the failure.",
        )
        self.checks = checks


def read_golden_scan(bundle: Bundle) -> GoldenScan:
    """Read the golden scan of a bundle, verified.

    Raises:
        BundleError: A file is missing or altered, or the description is not valid (AE-BUNDLE-003).
    """
    with _well_formed(GOLDEN):
        entry = build(_GoldenFile, parse_json(bundle.read(GOLDEN)), GOLDEN).scan
        hu = _array(bundle, entry.hu)
        grid = Grid((hu.shape[0], hu.shape[1], hu.shape[2]), np.asarray(entry.affine, dtype=np.float64))
        return GoldenScan(
            Volume(hu, grid, Source("array")),
            entry.stride,
            _array(bundle, entry.model_hu),
            _array(bundle, entry.labels),
            entry.short_slices,
            _array(bundle, entry.short_labels),
            ThresholdEngine(entry.centers_hu, width_hu=entry.width_hu, reach_rows=entry.reach_rows),
        )


def read_golden_tile(bundle: Bundle) -> GoldenTile:
    """Read the golden tile of a bundle, verified.

    Raises:
        BundleError: See :func:`read_golden_scan`.
    """
    with _well_formed(GOLDEN):
        entry = build(_GoldenFile, parse_json(bundle.read(GOLDEN)), GOLDEN).tile
        hu = _array(bundle, entry.hu).astype(np.float32)
        return GoldenTile(hu, entry.stride, _array(bundle, entry.logits))


def _tolerances(bundle: Bundle) -> dict[str, float]:
    """Largest root mean square difference from the student's logits, by the name of the artifact.

    Raises:
        BundleError: ``parity.json`` is not valid or lacks an artifact (AE-BUNDLE-003).
    """
    with _well_formed("parity.json"):
        parsed = parse_json(bundle.read("parity.json"))
        entries = build_list(_ParityEntry, parsed, "parity.json", other_keys=True)
        allowed = {f"{entry.target}/{entry.precision}": entry.tolerance.logit_rms for entry in entries}
        names = [artifact.name for artifact in bundle.manifest.artifacts]
        if missing := sorted(set(names) - set(allowed)):
            raise ValueError(f"it has no entry for {missing[0]}")
        return {name: allowed[name] for name in names}


@contextmanager
def _well_formed(name: str) -> Iterator[None]:
    """Turn a value that breaks the schema into the bundle's error: its author made the mistake."""
    try:
        yield
    except BundleError:
        raise
    except ValueError as error:
        raise MANIFEST_INVALID(f"{name} is not valid: {error}.") from error


def _array(bundle: Bundle, entry: _ArrayFile) -> npt.NDArray[Any]:
    values = np.frombuffer(bundle.read(entry.file), dtype=entry.dtype)
    if values.size != math.prod(entry.shape):
        raise ValueError(f"{entry.file} holds {values.size} values, expected the shape {entry.shape}")
    return values.reshape(entry.shape)


def _check_pipeline(bundle: Bundle) -> list[Check]:
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
    return checks


def on_model_grid(volume: Volume, contract: InputContract) -> npt.NDArray[np.float32]:
    """A whole volume on the model's grid, (D, H, W) HU; for checks on small scans."""
    return ModelGrid(volume.grid, contract.spacing_mm, contract.window_hu).resample(volume.hu)


def _check_artifact(
    bundle: Bundle, artifact: Artifact, allowed_rms: float, threads: int | None, interpreter: Engine | None
) -> Check:
    golden = read_golden_tile(bundle)
    started = time.perf_counter()
    engine = interpreter or load_engine(bundle, artifact, threads)
    load_s = time.perf_counter() - started
    tile = golden.hu
    if interpreter is None:
        engine.run(tile)  # the first tile of a runtime is slower
    started = time.perf_counter()
    stride = golden.stride
    logits = engine.run(tile)[:, ::stride, ::stride, ::stride]
    tile_s = time.perf_counter() - started
    if logits.shape != golden.logits.shape:
        detail = f"its logits have the shape {logits.shape}, expected {golden.logits.shape}"
        return Check(artifact.name, "failed", detail, {})
    difference = logits.astype(np.float64) - golden.logits
    rms, largest = float(np.sqrt(np.mean(difference**2))), float(np.abs(difference).max())
    agreement = float((logits.argmax(axis=0) == golden.logits.argmax(axis=0)).mean())
    detail = f"logits differ by {rms:.1e} rms, allowed {allowed_rms:g}; {agreement:.5f} of the labels agree"
    figures = {"logit_rms": rms, "logit_error": largest, "agreement": agreement}
    if interpreter is None:
        figures |= {"load_s": load_s, "tile_ms": tile_s * 1000.0}
    else:
        detail = f"interpreted, not executed: {detail}"
    return Check(artifact.name, _verdict(rms <= allowed_rms), detail, figures)


def _verdict(ok: bool) -> str:
    return "passed" if ok else "failed"

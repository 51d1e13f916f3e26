"""The golden vectors of a bundle: what every device must reproduce.

A bundle's ``golden/`` holds raw little-endian arrays, which any language reads, and ``golden.json``, which
describes them:

- ``scan``: a small scan (``hu``, ``affine``), the scan on the model's grid (``model_hu``, every
  ``stride``-th voxel), and the ``labels`` that result when a formula replaces the network: the logit of class
  c is -((v - ``centers_hu``[c]) / ``width_hu``)^2, where v is the mean of the HU at the voxel and at
  ``reach_rows`` below and above it in the tile; outside of the tile it is ``centers_hu``[0]. ``short_labels``
  are those of the slices ``short_slices`` alone. These arrays check everything around the network:
  orientation, resampling, tiles and what they show beyond the ends of the scan, blending, decision weights
  and restoration.
- ``ends``: a scan on the model's grid that is shorter than a tile of the sides ``patch`` (``short_hu``), a
  longer one (``long_hu``), and the first tile that the network sees of each (``short_tile``, ``long_tile``).
- ``decision``: ``probabilities`` of a few voxels, and the ``labels`` that follow with the decision weights.
- ``tile``: one tile (``hu``) and the logits of the trained student (``logits``, every ``stride``-th voxel).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from autosam_edge.ct_grid import MAX_SPACING_MM, MAX_TILT_DEG
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.geometry import MAX_SKEW_DEG, Grid
from autosam_edge.manifest import well_formed
from autosam_edge.model import MAX_ROWS_BEYOND_ENDS, MAX_SIDE
from autosam_edge.strict_json import build, parse_json
from autosam_edge.volume import Source, Volume

if TYPE_CHECKING:
    import numpy.typing as npt

    from autosam_edge.bundle import Bundle

GOLDEN = "golden/golden.json"
_MAX_JSON_BYTES = 1 << 20
_MAX_ARRAY_BYTES = 256 << 20
_MAX_STRIDE = 8
_MAX_MODEL_VOXELS = 1 << 24  # of the golden scan on the model's grid, which verification holds whole
_MAX_TILE_VOXELS = 1 << 27  # of all its tiles, which verification computes
_HU = 32768.0


@dataclass(frozen=True)
class _ArrayFile:
    """Description of an array that is stored as raw bytes."""

    file: str
    dtype: Literal["<i2", "<f4", "|u1"]
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.shape) not in (3, 4) or not all(1 <= side <= MAX_SIDE for side in self.shape):
            raise ValueError(
                f"{self.file[:80]} has the shape {self.shape}, expected sides of 1 to {MAX_SIDE}"
            )
        if self.bytes > _MAX_ARRAY_BYTES:
            raise ValueError(f"{self.file[:80]} has {self.bytes} bytes, expected at most {_MAX_ARRAY_BYTES}")

    @property
    def bytes(self) -> int:
        """Size of the file."""
        return math.prod(self.shape) * np.dtype(self.dtype).itemsize


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
class _EndsEntry:
    patch: tuple[int, int, int]
    short_hu: _ArrayFile
    short_tile: _ArrayFile
    long_hu: _ArrayFile
    long_tile: _ArrayFile


@dataclass(frozen=True)
class _DecisionEntry:
    probabilities: _ArrayFile
    labels: _ArrayFile


@dataclass(frozen=True)
class _GoldenFile:
    """Content of ``golden.json``."""

    scan: _ScanEntry
    ends: _EndsEntry
    decision: _DecisionEntry
    tile: _TileEntry


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


@dataclass(frozen=True, eq=False)
class GoldenRules:
    """Arrays of the two rules that an app most easily leaves out.

    Args:
        patch: Sides (D, H, W) of the tiles, voxels.
        scans: Scans (d, h, w) on the model's grid, HU.
        tiles: First tile (D, H, W) of each scan, HU.
        probabilities: (C, D', H', W') float32 probabilities of a few voxels, 0 to 1.
        labels: (D', H', W') uint8 labels that follow with the decision weights.
    """

    patch: tuple[int, int, int]
    scans: tuple[npt.NDArray[np.int16], ...]
    tiles: tuple[npt.NDArray[np.int16], ...]
    probabilities: npt.NDArray[np.float32]
    labels: npt.NDArray[np.uint8]


def read_golden_scan(bundle: Bundle) -> GoldenScan:
    """Read the golden scan of a bundle, verified.

    Raises:
        BundleError: A file is missing, too large or altered, or a value is not valid (AE-BUNDLE-003).
    """
    with well_formed(GOLDEN):
        entry = _read(bundle).scan
        depth, height, width = entry.hu.shape  # another number of axes is a ValueError
        grid = Grid((depth, height, width), np.asarray(entry.affine, dtype=np.float64))
        _require_scan(entry, grid, bundle)
        hu, labels = _array(bundle, entry.hu), _array(bundle, entry.labels)
        return GoldenScan(
            Volume(hu, grid, Source("array")),
            entry.stride,
            _array(bundle, entry.model_hu),
            labels,
            entry.short_slices,
            _array(bundle, entry.short_labels),
            ThresholdEngine(entry.centers_hu, width_hu=entry.width_hu, reach_rows=entry.reach_rows),
        )


def _require_scan(entry: _ScanEntry, grid: Grid, bundle: Bundle) -> None:
    """Refuse a golden scan whose numbers are out of range or do not fit each other.

    Raises:
        ValueError: The first value at fault.
    """
    first, end = entry.short_slices
    canonical = grid.canonical
    depth, height, width = grid.shape
    contract = bundle.manifest.input
    axes = zip(canonical.spacing_mm, canonical.shape, contract.spacing_mm, strict=True)
    sides = [max(1.0, side_mm * voxels / target_mm) for side_mm, voxels, target_mm in axes]
    tiled = [max(side, p) / (1.0 - contract.overlap) for side, p in zip(sides, contract.patch, strict=True)]
    for holds, what in (
        (max(grid.spacing_mm) <= MAX_SPACING_MM, f"affine: voxels of at most {MAX_SPACING_MM:g} mm"),
        (math.prod(sides) <= _MAX_MODEL_VOXELS, f"affine: at most {_MAX_MODEL_VOXELS} voxels of the model"),
        (math.prod(tiled) <= _MAX_TILE_VOXELS, f"affine: at most {_MAX_TILE_VOXELS} voxels in all tiles"),
        (canonical.skew_deg <= MAX_SKEW_DEG, "affine: rows and columns at a right angle"),
        (canonical.tilt_deg <= MAX_TILT_DEG, f"affine: a tilt of at most {MAX_TILT_DEG:g} degrees"),
        (1 <= entry.stride <= _MAX_STRIDE, f"stride: 1 to {_MAX_STRIDE}"),
        (0 <= first < end <= depth, f"short_slices: two numbers from 0 to {depth}"),
        (len(entry.centers_hu) == bundle.model.classes, f"centers_hu: {bundle.model.classes} numbers"),
        (all(abs(center) <= _HU for center in entry.centers_hu), f"centers_hu: at most {_HU:g} HU"),
        (1e-3 <= entry.width_hu <= _HU, f"width_hu: 0.001 to {_HU:g}"),
        (0 <= entry.reach_rows <= MAX_ROWS_BEYOND_ENDS, f"reach_rows: 0 to {MAX_ROWS_BEYOND_ENDS}"),
        (entry.hu.dtype == "<i2", "hu: the type <i2"),
        (entry.model_hu.dtype == "<f4" and len(entry.model_hu.shape) == 3, "model_hu: <f4 of three axes"),
        (entry.labels.dtype == "|u1" == entry.short_labels.dtype, "labels: the type |u1"),
        (entry.labels.shape == grid.shape, f"labels: the shape {grid.shape}"),
        (entry.short_labels.shape == (end - first, height, width), "short_labels: the shape of short_slices"),
    ):
        _require(holds, f"scan.{what}")


def read_golden_tile(bundle: Bundle) -> GoldenTile:
    """Read the golden tile of a bundle, verified.

    Raises:
        BundleError: See :func:`read_golden_scan`.
    """
    with well_formed(GOLDEN):
        entry, patch = _read(bundle).tile, bundle.manifest.input.patch
        _require(1 <= entry.stride <= _MAX_STRIDE, f"tile.stride: 1 to {_MAX_STRIDE}")
        seen = (bundle.model.classes, *(-(-side // entry.stride) for side in patch))
        _require(entry.hu.dtype == "<i2" and entry.hu.shape == patch, f"tile.hu: <i2 of the shape {patch}")
        logits = entry.logits
        _require(logits.dtype == "<f4" and logits.shape == seen, f"tile.logits: <f4 of the shape {seen}")
        hu = _array(bundle, entry.hu).astype(np.float32)
        return GoldenTile(hu, entry.stride, _array(bundle, logits))


def read_golden_rules(bundle: Bundle) -> GoldenRules:
    """Read the golden arrays of the two rules of a bundle, verified.

    Raises:
        BundleError: See :func:`read_golden_scan`.
    """
    with well_formed(GOLDEN):
        golden = _read(bundle)
        ends, decision = golden.ends, golden.decision
        scans, tiles = (ends.short_hu, ends.long_hu), (ends.short_tile, ends.long_tile)
        _require(all(16 <= side <= MAX_SIDE for side in ends.patch), f"ends.patch: 16 to {MAX_SIDE}")
        _require(all(e.dtype == "<i2" and len(e.shape) == 3 for e in scans), "ends.*_hu: <i2 of three axes")
        _require(all(e.dtype == "<i2" and e.shape == ends.patch for e in tiles), "ends.*_tile: <i2 of patch")
        shape = (bundle.model.classes, *decision.labels.shape)
        _require(decision.labels.dtype == "|u1", "decision.labels: the type |u1")
        given, arrays = decision.probabilities, [_array(bundle, entry) for entry in scans]
        lowest = bundle.manifest.input.window_hu[0] + 1.0
        _require(all(hu.max() >= lowest for hu in arrays), f"ends.*_hu: a voxel of {lowest:g} HU or more")
        _require(given.dtype == "<f4" and given.shape == shape, f"decision.probabilities: <f4, {shape}")
        return GoldenRules(
            ends.patch,
            tuple(arrays),
            tuple(_array(bundle, entry) for entry in tiles),
            _array(bundle, given),
            _array(bundle, decision.labels),
        )


def _read(bundle: Bundle) -> _GoldenFile:
    return build(_GoldenFile, parse_json(bundle.read(GOLDEN, _MAX_JSON_BYTES)), GOLDEN)


def _require(holds: bool, expected: str) -> None:
    if not holds:
        raise ValueError(f"a value is out of range; expected {expected}")


def _array(bundle: Bundle, entry: _ArrayFile) -> npt.NDArray[Any]:
    data = bundle.read(entry.file, entry.bytes)
    if len(data) != entry.bytes:
        raise ValueError(f"{entry.file[:80]} has {len(data)} bytes, expected {entry.bytes}")
    values = np.frombuffer(data, dtype=entry.dtype).reshape(entry.shape)
    if entry.dtype == "<f4" and not np.isfinite(values).all():
        raise ValueError(f"{entry.file[:80]} holds values that are not finite")
    return values

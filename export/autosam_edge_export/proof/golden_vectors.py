"""The golden vectors of a bundle: what a device must reproduce (:mod:`autosam_edge.golden`)."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from autosam_edge.engines.engine import Engine
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.golden import GOLDEN
from autosam_edge.model import InputContract, Model
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.render import smooth_noise
from autosam_edge.pipeline.single_steps import decide, first_tile, on_model_grid
from autosam_edge.session import Session
from autosam_edge.volume import Volume

_SEED = 1
_STRIDE = 5  # odd, so that every tap of a transposed convolution by two is seen
# Slices that fill the two or three tiles of a grid of 3 or 2 mm, so that not all rows beyond the ends fit in.
_SCAN_SHAPE, _SCAN_STRIDE = (78, 56, 144), 2
_BODY = (slice(10, 46), slice(25, 119))  # lines and columns; around it air, wider than the margin of the body
_TISSUE_SLICES, _PARTS_SLICES = slice(0, 36), slice(38, 78)
# Between the voxels that the search for the body looks at (autosam_edge.pipeline.body_box).
_UNSEEN_LINES, _UNSEEN_COLUMNS = slice(27, 28), slice(71, 75)
_AIR_HU, _LEAST_TISSUE_HU = -1000.0, -150.0
_WIDTH_HU = 25.0
_REACH_ROWS = 8  # sees every row that tiles show beyond the ends
_SHORT_SLICES = (26, 31)  # 30 mm: shorter than any tile
_ENDS_PATCH = (16, 16, 16)
_ENDS_ROWS = {"short": 5, "long": 18}  # one tile; two tiles, which cannot reach all rows beyond the ends
_DECISION_SHAPE = (8, 8, 4)


def write_golden(folder: Path, model: Model, student: Engine) -> npt.NDArray[np.float32]:
    """Write ``golden/``.

    Returns:
        The golden tile (D, H, W), whole HU.
    """
    (folder / GOLDEN).parent.mkdir()
    tile = _tile(model.input)
    logits = student.run(tile)[:, ::_STRIDE, ::_STRIDE, ::_STRIDE]
    parts = {
        "scan": _scan(model),
        "ends": _ends(model),
        "decision": _decision(model),
        "tile": {"hu": tile.astype(np.int16), "logits": logits, "stride": _STRIDE},
    }
    described = {
        name: {key: _describe(folder, f"{name}_{key}", value) for key, value in part.items()}
        for name, part in parts.items()
    }
    (folder / GOLDEN).write_text(json.dumps(described, indent=1) + "\n")
    return tile


def _scan(model: Model) -> dict[str, object]:
    """The golden scan, and what every step around the network must make of it."""
    centers_hu = [round(float(value), 3) for value in np.linspace(*model.input.window_hu, model.classes)]
    volume = _scan_volume(model, centers_hu)
    formula = ThresholdEngine(centers_hu, width_hu=_WIDTH_HU, reach_rows=_REACH_ROWS)
    session = Session(model, formula)
    every = (slice(None, None, _SCAN_STRIDE),) * 3
    return {
        "hu": volume.hu,
        "affine": volume.grid.affine.tolist(),
        "stride": _SCAN_STRIDE,
        "model_hu": on_model_grid(volume, model.input)[every],
        "centers_hu": centers_hu,
        "width_hu": _WIDTH_HU,
        "reach_rows": _REACH_ROWS,
        "labels": session.segment(volume).labels,
        "short_slices": list(_SHORT_SLICES),
        "short_labels": session.segment(volume.slices(*_SHORT_SLICES)).labels,
    }


def _scan_volume(model: Model, centers_hu: list[float]) -> Volume:
    """A scan on which a step that is left out or done in another way changes labels (docs/apps.md).

    Its array is turned, its slices are thick, its columns are finer than any grid.
    """
    low, high = centers_hu[0], centers_hu[-1]
    spacing_mm = _scan_spacing_mm(model.input)
    hu = np.full(_SCAN_SHAPE, _AIR_HU)
    hu[(slice(None), *_BODY)] = max(low, _LEAST_TISSUE_HU)
    # Tissue of the upper half of the window: the organs below are then those of the two parts.
    tissue = hu[(_TISSUE_SLICES, *_BODY)]
    noise = smooth_noise(np.random.default_rng(_SEED), tissue.shape, spacing_mm, grain_mm=4 * spacing_mm[1])
    tissue[:] = np.clip(high + (high - low) * (noise / 8 - 0.25), (low + high) / 2, high)
    # Two organs that must be one part, the second with a decision weight if any has one. Each has a small
    # part, and a large one of which the network is less sure.
    one_part = [label.value for label in model.labels if label.name in model.one_part]
    if one_part:
        unsure_hu = 0.44 * (centers_hu[1] - low)
        weighted = max(one_part, key=lambda value: model.class_weights[value])
        for value, line in ((one_part[0], 11), (weighted, 29)):
            hu[_PARTS_SLICES, line : line + 14, 28:72] = centers_hu[value] - unsure_hu
            hu[_PARTS_SLICES, line : line + 6, 80:104] = centers_hu[value]
    # Two sheets that leave the body: beyond the box around it, they are background.
    sheet_hu = np.linspace(low + 50.0, high, _SCAN_SHAPE[0])[:, None, None]
    for sheet in (hu[:, _UNSEEN_LINES, :], hu[:, :, _UNSEEN_COLUMNS]):
        np.copyto(sheet, sheet_hu, where=sheet == _AIR_HU)
    turned = Orientation((0, 1, 2), (False, True, True))
    grid = turned.input_grid(Grid.axis_aligned(_SCAN_SHAPE, spacing_mm))
    return Volume(np.ascontiguousarray(turned.from_canonical(np.rint(hu).astype(np.int16))), grid)


def _scan_spacing_mm(contract: InputContract) -> tuple[float, float, float]:
    """Spacing of the golden scan, mm: small enough that verification reads the scan on a fine grid."""
    d, h, w = (min(1.0, side) for side in contract.spacing_mm)
    return 6.0 * d, 2.4 * h, 0.8 * w


def _ends(model: Model) -> dict[str, object]:
    """Two scans on the model's grid, whole HU inside the window, and the first tile of each."""
    low, high = model.input.window_hu
    ends: dict[str, object] = {"patch": list(_ENDS_PATCH)}
    random = np.random.default_rng(_SEED)
    for name, rows in _ENDS_ROWS.items():
        hu = random.integers(int((low + high) / 2), int(high), (rows, 10, 13), dtype=np.int16)
        ends |= {
            f"{name}_hu": hu,
            f"{name}_tile": np.rint(first_tile(model, hu, _ENDS_PATCH)).astype(np.int16),
        }
    return ends


def _decision(model: Model) -> dict[str, object]:
    """Probabilities of voxels that no rounding can move from one label to another, and their labels."""
    random = np.random.default_rng(_SEED)
    voxels = math.prod(_DECISION_SHAPE)
    clear = np.empty((model.classes, 0), np.float32)
    while clear.shape[1] < voxels:  # the more classes, the fewer voxels are clear
        found = random.dirichlet(np.full(model.classes, 0.5), 2 * voxels).T.astype(np.float32)
        weighted = np.sort(found * np.array(model.class_weights, np.float32)[:, None], axis=0)
        clear = np.hstack([clear, found[:, weighted[-1] - weighted[-2] > 0.01]])
    probabilities = np.ascontiguousarray(clear[:, :voxels].reshape(model.classes, *_DECISION_SHAPE))
    return {"probabilities": probabilities, "labels": decide(model, probabilities)}


def _describe(folder: Path, name: str, value: object) -> object:
    """Write an array to a file and return its description; return any other value as it is."""
    if not isinstance(value, np.ndarray):
        return value
    array = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    file = f"golden/{name}.{array.dtype.kind}{array.dtype.itemsize * 8}"
    (folder / file).write_bytes(array.tobytes())
    return {"file": file, "dtype": array.dtype.str, "shape": list(array.shape)}


def _tile(contract: InputContract) -> npt.NDArray[np.float32]:
    """The middle of a phantom on the model's grid, (D, H, W), whole HU."""
    # On a fine grid, a whole phantom would not fit into the memory.
    shape = contract.patch if min(contract.spacing_mm) < 1.0 else None
    rows = on_model_grid(make_phantom(_SEED, spacing_mm=contract.spacing_mm, shape=shape).volume, contract)
    tile = np.full(contract.patch, contract.window_hu[0], dtype=np.float32)
    middle = tuple(
        slice(max(0, (s - p) // 2), max(0, (s - p) // 2) + p)
        for s, p in zip(rows.shape, contract.patch, strict=True)
    )
    part = np.rint(rows[middle])
    tile[tuple(slice(0, s) for s in part.shape)] = part
    return tile

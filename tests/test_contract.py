"""docs/bundle.md and docs/apps.md are enough to write an app: their steps, with nothing of ours."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
from autosam_edge_test_support import manifest_dict, write_bundle

from autosam_edge.bundle import open_bundle
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.geometry import Orientation
from autosam_edge.phantom import make_phantom
from autosam_edge.session import Session

# The numbers of step 4.
TISSUE_HU, STRIDE_MM, LINE_PERCENT, MARGIN_MM = -200, 4, 1, 12
PAGE = (Path(__file__).parents[1] / "docs" / "bundle.md").read_text()
MIRRORED = Orientation((2, 0, 1), (True, False, True))
ndimage = pytest.importorskip("scipy.ndimage")


@pytest.mark.parametrize("tier", ["fast", "standard"])
def test_the_steps_give_the_golden_vectors_of_both_bundles(tier):
    """Those that the package holds: the scan on the model's grid, and every label of both scans."""
    folder = open_bundle(tier=tier).path
    assert_golden(folder, json.loads((folder / "manifest.json").read_text()))


def test_the_steps_give_the_golden_vectors_of_an_export(tmp_path):
    """Those that this version of the exporter writes."""
    golden = pytest.importorskip("autosam_edge_export.proof.golden_vectors")
    bundle = open_bundle()
    golden.write_golden(tmp_path, bundle.model, ThresholdEngine([0.0, 100.0]))
    assert_golden(tmp_path, json.loads(bundle.manifest_text))


def assert_golden(folder, manifest):
    scan = json.loads((folder / "golden" / "golden.json").read_text())["scan"]
    arrays = {key: read_array(folder, value) for key, value in scan.items() if isinstance(value, dict)}
    model_hu, labels = label_scan(arrays["hu"], scan["affine"], manifest, formula(scan))
    every = (slice(None, None, scan["stride"]),) * 3
    assert np.abs(model_hu[every] - arrays["model_hu"]).max() < 1e-3
    assert (labels != arrays["labels"]).sum() == 0
    short = slice(*scan["short_slices"])
    _, labels = label_scan(arrays["hu"][short], scan["affine"], manifest, formula(scan))
    assert (labels != arrays["short_labels"]).sum() == 0


class PlaceEngine(ThresholdEngine):
    """A network whose answer depends on the place in the tile: another layout of tiles gives other labels."""

    def run(self, tile):
        waves = np.ix_(*(np.sin(np.arange(side, dtype=np.float32) / 3) for side in tile.shape))
        return super().run(tile + np.float32(20) * (waves[0] + waves[1] + waves[2]))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A bundle with small tiles, two organs and both rules after the network."""
    contract = manifest_dict()["input"] | {"spacing_mm": [4.0, 3.5, 3.5], "patch": [24, 32, 32]}
    rules = {"one_part": ["spleen"], "decision_weights": {"kidney_right": 1.5}}
    return open_bundle(write_bundle(tmp_path_factory.mktemp("small"), input=contract, postprocess=rules))


@pytest.mark.parametrize(
    "scan",
    [
        {"shape": (40, 110, 120), "spacing_mm": (6.0, 5.0, 5.0)},  # 600 mm wide, the body is 350 mm
        {"shape": (40, 90, 100), "spacing_mm": (6.0, 4.5, 6.5), "orientation": MIRRORED},
        {"shape": (6, 90, 100), "spacing_mm": (6.0, 5.0, 5.0), "organ": -100.0},  # air is an organ
        {"shape": (5, 280, 340), "spacing_mm": (1.5, 1.6, 1.3)},  # not every voxel is looked at
        {"shape": (4, 90, 96), "spacing_mm": (9.0, 5.0, 5.0)},
        {"shape": (1, 90, 96), "spacing_mm": (9.0, 5.0, 5.0)},
        {"shape": (3, 90, 96), "spacing_mm": (1.3, 5.0, 5.0)},  # one row of the model's grid
    ],
    ids=["air", "mirrored", "sides", "fine", "short", "slice", "row"],
)
def test_the_steps_give_the_labels_of_the_session(small, scan):
    """Also where wide air surrounds the body and where slices are few; not without the crop to the body."""
    scan = {"organ": 100.0, **scan}
    engine = PlaceEngine([0.0, scan.pop("organ"), 200.0], width_hu=50.0)
    volume, manifest = make_phantom(3, **scan).volume, json.loads(small.manifest_text)
    expected = Session(small.model, engine).segment(volume).labels
    _, labels = label_scan(volume.hu, volume.grid.affine, manifest, engine.run)
    assert np.unique(expected).tolist() == [0, 1, 2]
    assert (labels != expected).sum() == 0
    _, labels = label_scan(volume.hu, volume.grid.affine, manifest, engine.run, whole_grid)
    assert (labels != expected).sum() > expected.size / 1000


def test_the_page_has_the_numbers_of_the_crop():
    """Those with which the labels are the session's."""
    page = " ".join(PAGE.split())
    assert f"k is {STRIDE_MM} mm / s" in page
    assert f"A voxel above {TISSUE_HU} HU is tissue" in page
    assert f"at least {LINE_PERCENT} % of the voxels" in page
    assert f"floor(p(first) - {MARGIN_MM} / t)" in page
    assert f"ceil(p(last) + {MARGIN_MM} / t)" in page


def read_array(folder, described):
    return np.frombuffer((folder / described["file"]).read_bytes(), described["dtype"]).reshape(
        described["shape"]
    )


def formula(scan):
    """What docs/apps.md puts in the place of the network, to check everything around it."""
    centers, reach = np.asarray(scan["centers_hu"])[:, None, None, None], scan["reach_rows"]

    def network(tile):
        seen = np.pad(tile, [(reach, reach), (0, 0), (0, 0)], constant_values=centers[0, 0, 0, 0])
        value = (seen[: len(tile)] + seen[reach:-reach] + seen[2 * reach :]) / 3
        return -(((value - centers) / scan["width_hu"]) ** 2)

    return network


def label_scan(hu, affine, manifest, network, find_box=None):
    """The eight steps as docs/bundle.md says them: the whole volume at once, in float64.

    Returns the scan on the model's grid and the labels of the scan.
    """
    contract, rules, affine = manifest["input"], manifest["postprocess"], np.asarray(affine)
    low, high = contract["window_hu"]
    order = [int(np.abs(affine[world, :3]).argmax()) for world in (2, 1, 0)]
    flips = tuple(
        slice(None, None, int(np.sign(affine[world, axis])))
        for world, axis in zip((2, 1, 0), order, strict=True)
    )
    spacing = [np.linalg.norm(affine[:3, axis]) for axis in order]
    canonical = hu.transpose(order)[flips]
    model_hu, positions = np.clip(canonical.astype(np.float64), low, high), []
    for axis, (n, s, t) in enumerate(zip(canonical.shape, spacing, contract["spacing_mm"], strict=True)):
        m = math.ceil(n * s / t - 1e-6)  # 1e-6: a whole number of voxels stays one
        x = (np.arange(m) - (m - 1) / 2) * (t / s) + (n - 1) / 2
        width = max(1.0, t / s if m > 1 else n)
        weights = np.maximum(0.0, 1.0 - np.abs(np.clip(x, 0, n - 1)[:, None] - np.arange(n)) / width)
        weights /= weights.sum(axis=1, keepdims=True)
        model_hu = np.moveaxis(np.tensordot(weights, model_hu, (1, axis)), 0, axis)
        positions.append(x)

    box = (find_box or body_box)(canonical, spacing, contract["spacing_mm"], positions)
    inside_box = model_hu[box]
    patch = contract["patch"]
    steps = [int(p * (1 - contract["overlap"])) for p in patch]

    def tiles(n):
        return 1 + math.ceil(max(0, n - patch[0]) / steps[0])

    rows = len(inside_box)
    extended = max(
        rows + 2 * e for e in range(contract["rows_beyond_ends"] + 1) if tiles(rows + 2 * e) == tiles(rows)
    )
    sides = [extended, *inside_box.shape[1:]]
    whole = [max(p, n) for p, n in zip(patch, sides, strict=True)]
    before = [(w - n) // 2 for w, n in zip(whole, inside_box.shape, strict=True)]
    pads = [(b, w - n - b) for w, n, b in zip(whole, inside_box.shape, before, strict=True)]
    padded = np.pad(inside_box, [(0, 0), *pads[1:]], constant_values=low)
    padded = np.pad(padded, [pads[0], (0, 0), (0, 0)], mode="edge")
    lines = [np.exp(-((np.arange(p) - (p - 1) / 2) ** 2) / (2 * (p / 8) ** 2)) for p in patch]
    gauss = np.maximum(np.einsum("i,j,k->ijk", *lines), 1e-3)
    starts = [[*range(0, n - p, step), n - p] for n, p, step in zip(padded.shape, patch, steps, strict=True)]
    blended, total = np.zeros((1 + len(manifest["labels"]), *padded.shape)), np.zeros(padded.shape)
    for corner in itertools.product(*starts):
        tile = tuple(slice(start, start + p) for start, p in zip(corner, patch, strict=True))
        if padded[tile].max() > low + 0.5:
            logits = network(padded[tile].astype(np.float32)).astype(np.float64)
            exponentials = np.exp(logits - logits.max(axis=0))
            blended[(slice(None), *tile)] += gauss * exponentials / exponentials.sum(axis=0)
        else:
            blended[(0, *tile)] += gauss
        total[tile] += gauss
    inside = tuple(slice(b, b + n) for b, n in zip(before, inside_box.shape, strict=True))
    probability = (blended / total)[(slice(None), *inside)]

    names = [None, *(label["name"] for label in manifest["labels"])]
    weights = np.array([rules["decision_weights"].get(name, 1.0) for name in names])
    weighted = probability * weights[:, None, None, None]
    restored, neighbors, covered = weighted, [], []
    for axis, (x, n, part) in enumerate(zip(positions, canonical.shape, box, strict=True)):
        q = (np.arange(n) - x[0]) / (x[1] - x[0] if len(x) > 1 else 1.0)
        first, last = part.start, part.stop - 1
        covered.append(((q >= first - 0.5) | (first == 0)) & ((q <= last + 0.5) | (last == len(x) - 1)))
        q = np.clip(q, first, last)
        below = np.minimum(np.floor(q).astype(int), max(first, last - 1))
        share = (q - below).reshape([-1 if k == axis + 1 else 1 for k in range(4)])
        below, above = below - first, np.minimum(below + 1, last) - first
        restored = restored.take(below, axis + 1) * (1 - share) + restored.take(above, axis + 1) * share
        neighbors.append((below, above))
    d, h, w = covered
    labels = restored.argmax(axis=0) * (d[:, None, None] & h[:, None] & w)

    winner = weighted.argmax(axis=0)
    certainty = np.take_along_axis(probability, winner[None], axis=0)[0]
    confidence = np.floor(np.clip(510 * certainty - 254, 1, 256))
    for value in [label["value"] for label in manifest["labels"] if label["name"] in rules["one_part"]]:
        parts, count = ndimage.label(winner == value, np.ones((3, 3, 3)))
        kept = 1 + int(np.argmax(ndimage.sum(confidence, parts, range(1, count + 1)))) if count else 0
        near_gone, near_kept = (
            touches(mask, neighbors) for mask in ((parts > 0) & (parts != kept), parts == kept)
        )
        labels[(labels == value) & near_gone & ~near_kept] = 0
    return model_hu, labels[flips].transpose(np.argsort(order))


def body_box(hu, spacing, targets, positions):
    """Step 4."""
    steps = [max(1, round(STRIDE_MM / s)) for s in spacing]
    tissue = hu[:: steps[0], :: steps[1], :: steps[2]] > TISSUE_HU
    ends = np.interp([0, len(hu) - 1], positions[0], np.arange(len(positions[0])))
    box = [slice(math.floor(ends[0]), math.ceil(ends[1]) + 1)]
    for axis in (1, 2):
        line = tissue.sum(axis=3 - axis).max(axis=0)
        body = np.flatnonzero((line >= 1) & (line >= LINE_PERCENT / 100 * tissue.shape[3 - axis]))
        m, margin = len(positions[axis]), MARGIN_MM / targets[axis]
        if len(body):
            p = np.interp(body[[0, -1]] * steps[axis], positions[axis], np.arange(m))
            first, last = max(0, math.floor(p[0] - margin)), min(m - 1, math.ceil(p[1] + margin))
        else:
            first, last = 0, m - 1
        box.append(slice(first, last + 1))
    return tuple(box)


def whole_grid(hu, spacing, targets, positions):
    """In place of step 4: no crop."""
    return tuple(slice(0, len(x)) for x in positions)


def touches(mask, neighbors):
    """Whether one of the eight neighbors of each voxel of the scan is in a mask on the box."""
    return np.logical_or.reduce([mask[np.ix_(*corner)] for corner in itertools.product(*neighbors)])

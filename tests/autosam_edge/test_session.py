"""The streamed labels are the plain ones; memory and air do not change them."""

from __future__ import annotations

import numpy as np
import pytest
from autosam_edge_test_support import NEVER_EXECUTED, artifact_dict, write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.engines.engine import Engine
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import BudgetError, BundleError, EngineError
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Volume

CENTERS = (-125.0, 40.0, 200.0)


def block_volume(shape=(40, 50, 60), spacing=(3.0, 3.0, 3.0), orientation=None):
    """Air, a block of 40 HU, and a smaller one of 200 HU inside it, each made of whole 3 mm voxels."""
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[5:35, 10:40, 10:50] = 40
    hu[10:20, 20:30, 20:30] = 200
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]])
    grid = Grid(shape, affine)
    if orientation is None:
        return Volume(hu, grid)
    turned = orientation.from_canonical(hu)
    columns, corner = np.zeros((3, 3)), affine[:3, 3].copy()
    for axis, (source, flip) in enumerate(zip(orientation.permutation, orientation.flips, strict=True)):
        columns[:, source] = -affine[:3, axis] if flip else affine[:3, axis]
        corner += affine[:3, axis] * (shape[axis] - 1) * flip
    affine[:3, :3], affine[:3, 3] = columns, corner
    return Volume(np.ascontiguousarray(turned), Grid(turned.shape, affine))


def segment(bundle, volume, engine=None, **options):
    return Session(bundle, engine or ThresholdEngine(CENTERS), working_set_mb=0.0, **options).segment(volume)


def test_labels_on_the_models_grid_are_the_threshold(bundle):
    """At the model's own spacing nothing is interpolated: every voxel gets the class of its HU, over all tiles and seams."""
    volume = block_volume()
    result = segment(bundle, volume)
    expected = np.zeros(volume.shape, dtype=np.uint8)
    expected[volume.hu == 40] = 1
    expected[volume.hu == 200] = 2
    np.testing.assert_array_equal(result.labels, expected)
    assert result.grid is volume.grid


@pytest.mark.parametrize("orientation", [Orientation((2, 0, 1), (True, False, True)), Orientation((1, 2, 0), (False, True, True))])
def test_any_orientation_gives_the_same_labels_in_place(bundle, orientation):
    """Turn the scan, segment, turn the labels back: no voxel changes."""
    turned = segment(bundle, block_volume(orientation=orientation))
    plain = segment(bundle, block_volume())
    np.testing.assert_array_equal(orientation.to_canonical(turned.labels), plain.labels)


def test_streaming_equals_one_slab_over_everything(bundle, tmp_path):
    """A patch as deep as the scan blends everything at once; a quarter of it streams. The labels agree up to rounding at ties."""
    volume = block_volume(spacing=(4.1, 2.2, 2.7))
    whole = {**_contract(bundle), "patch": [64, 16, 16]}
    deep = Bundle(write_bundle(tmp_path / "deep.edge", input=whole))
    a, b = segment(bundle, volume).labels, segment(deep, volume).labels
    assert np.count_nonzero(a != b) <= 1e-4 * a.size


def _contract(bundle):
    contract = bundle.manifest.input
    return {name: list(value) if isinstance(value, tuple) else value for name, value in contract.__dict__.items()}


def test_skipping_air_changes_nothing(bundle, monkeypatch):
    """With and without the shortcut: the same labels, fewer calls."""
    hu = np.full((20, 100, 100), -1000, dtype=np.int16)
    hu[:, 2:12, 2:12] = 40
    hu[:, 80:95, 80:95] = 200
    volume = Volume(hu, Grid(hu.shape, block_volume().grid.affine))
    fast = ThresholdEngine(CENTERS)
    skipped = segment(bundle, volume, fast)
    assert skipped.provenance["parameters"]["tiles_of_air"] > 0
    monkeypatch.setattr("autosam_edge.session._holds_only_air", lambda tile, low: False)
    slow = ThresholdEngine(CENTERS)
    asked = segment(bundle, volume, slow)
    assert slow.calls > fast.calls
    np.testing.assert_array_equal(skipped.labels, asked.labels)


def test_a_scan_smaller_than_a_tile_is_padded_with_air(bundle):
    """Three slices of 8 x 8 voxels."""
    volume = block_volume()
    small = Volume(np.ascontiguousarray(volume.hu[10:13, 18:26, 18:26]), Grid((3, 8, 8), volume.grid.affine))
    result = segment(bundle, small)
    np.testing.assert_array_equal(result.labels, np.where(small.hu == 200, 2, 1))


def test_progress_counts_every_tile_and_can_stop_the_run(bundle):
    """What the callback raises comes out."""
    seen = []
    session = Session(bundle, ThresholdEngine(CENTERS), working_set_mb=0.0)
    session.segment(block_volume(), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))

    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.segment(block_volume(), progress=stop)


def test_a_budget_that_is_too_small_is_refused_with_the_one_that_works(bundle):
    """AE-MEMORY-001 before the first tile; the number it names is accepted."""
    engine = ThresholdEngine(CENTERS)
    with pytest.raises(BudgetError, match="AE-MEMORY-001") as caught:
        Session(bundle, engine, working_set_mb=0.0, max_memory_mb=1).segment(block_volume())
    assert engine.calls == 0
    enough = float(caught.value.remedy.split("--max-memory ")[1].split()[0])
    Session(bundle, engine, working_set_mb=0.0, max_memory_mb=enough + 50).segment(block_volume())


def test_there_is_no_budget_for_an_engine_that_nobody_measured(bundle):
    """AE-MEMORY-002, not a promise; without a budget it runs."""
    engine = ThresholdEngine(CENTERS)
    with pytest.raises(BudgetError, match="AE-MEMORY-002"):
        Session(bundle, engine, working_set_mb=None, max_memory_mb=1e6)
    Session(bundle, engine, working_set_mb=None).segment(block_volume())
    assert engine.calls > 0


def test_open_session_asks_the_manifest_what_was_measured(tmp_path, monkeypatch):
    """The artifact's own figure decides about a budget."""
    monkeypatch.setattr("autosam_edge.session.load_engine", lambda *_: ThresholdEngine(CENTERS))
    measured = write_bundle(tmp_path / "measured.edge")
    unknown = write_bundle(tmp_path / "unknown.edge", artifacts=[artifact_dict(**NEVER_EXECUTED)])
    open_session(measured, max_memory_mb=1e6)
    with pytest.raises(BudgetError, match="AE-MEMORY-002"):
        open_session(measured, engine=ThresholdEngine(CENTERS), max_memory_mb=1e6)
    with pytest.raises(BudgetError, match="AE-MEMORY-002"):
        open_session(unknown, engine="onnx", max_memory_mb=1e6)


class Broken(ThresholdEngine):
    """Gives what it is told to."""

    def __init__(self, logits):
        super().__init__(CENTERS)
        self._logits = logits

    def run(self, tile):
        return self._logits


@pytest.mark.parametrize(
    ("logits", "code"),
    [(np.zeros((2, 16, 16, 16), np.float32), "AE-ENGINE-003"), (np.full((3, 16, 16, 16), np.nan, np.float32), "AE-ENGINE-005")],
)
def test_an_engine_that_lies_is_caught(bundle, logits, code):
    """Another number of classes, values that are not finite."""
    with pytest.raises(EngineError, match=code):
        segment(bundle, block_volume(), Broken(logits))


def test_open_session_refuses_what_it_does_not_know(bundle):
    """An unknown engine, a model that does not load, a precision that is not there."""
    with pytest.raises(EngineError, match="AE-ENGINE-001"):
        open_session(bundle, engine="abacus")
    with pytest.raises(EngineError, match="AE-ENGINE-002"):
        open_session(bundle)
    with pytest.raises(BundleError, match="AE-BUNDLE-005"):
        open_session(bundle, precision="int4")


def test_the_fake_is_an_engine():
    """The shipped fake keeps the protocol."""
    assert isinstance(ThresholdEngine(CENTERS), Engine)


def test_provenance_names_software_model_engine_and_use(bundle):
    """What every output carries; no path, no patient data."""
    stamp = segment(bundle, block_volume()).provenance
    for key in ("software", "version", "model", "model_sha256", "engine", "precision", "parameters", "input_hash", "research_use"):
        assert key in stamp
    assert "Research use only" in stamp["research_use"]

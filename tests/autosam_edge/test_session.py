"""The streamed labels are the plain ones; memory and air do not change them."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import NEVER_EXECUTED, RecordingEngine, artifact_dict, make_model, write_bundle

from autosam_edge.engines.engine import Engine
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.engines.selection import ENGINES
from autosam_edge.error_codes import VOLUME_GRID_INVALID
from autosam_edge.errors import BudgetError, BundleError, EngineError, InputError
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.pipeline.run import TileRun
from autosam_edge.session import Session, open_session
from autosam_edge.system.memory import MemoryBudget
from autosam_edge.volume import Source, Volume
from autosam_edge.warning_codes import NO_BODY, THICK_SLICES
from autosam_edge.wording import with_options

CENTERS = (-125.0, 40.0, 200.0)


@pytest.fixture(scope="module")
def model():
    return make_model()


def block_volume(shape=(40, 50, 60), spacing=(3.0, 3.0, 3.0), orientation=None):
    """Air, a block of 40 HU, and a smaller one of 200 HU inside it, each made of whole 3 mm voxels."""
    hu = np.full(shape, -1000, dtype=np.int16)
    hu[5:35, 10:40, 10:50] = 40
    hu[10:20, 20:30, 20:30] = 200
    grid = Grid.axis_aligned(shape, spacing)
    if orientation is None:
        return Volume(hu, grid)
    return Volume(np.ascontiguousarray(orientation.from_canonical(hu)), orientation.input_grid(grid))


def block_labels(volume):
    """Labels of a :func:`block_volume` at the model's own spacing."""
    return np.where(volume.hu == 200, 2, np.where(volume.hu == 40, 1, 0))


def segment(model, volume, engine=None):
    return Session(model, engine or ThresholdEngine(CENTERS)).segment(volume)


def test_labels_on_the_models_grid_are_the_threshold(model):
    """At the model's own spacing nothing is interpolated.

    Every voxel gets the class of its HU, over all tiles and seams.
    """
    volume = block_volume()
    result = segment(model, volume)
    np.testing.assert_array_equal(result.labels, block_labels(volume))
    assert result.grid is volume.grid


@pytest.mark.parametrize(
    "orientation", [Orientation((2, 0, 1), (True, False, True)), Orientation((1, 2, 0), (False, True, True))]
)
def test_any_orientation_gives_the_same_labels_in_place(model, orientation):
    """Turn the scan, segment, turn the labels back: no voxel changes."""
    turned = segment(model, block_volume(orientation=orientation))
    plain = segment(model, block_volume())
    np.testing.assert_array_equal(orientation.to_canonical(turned.labels), plain.labels)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5])
def test_streaming_equals_one_slab_over_everything(overlap):
    """A patch as deep as the scan blends everything at once.

    A quarter of it streams. The labels agree up to rounding at ties.
    """
    volume = block_volume(spacing=(4.1, 2.2, 2.7))
    streamed = segment(make_model(overlap=overlap), volume).labels
    whole = segment(make_model(overlap=overlap, patch=(64, 16, 16)), volume).labels
    assert np.count_nonzero(streamed != whole) <= 1e-4 * streamed.size


def test_skipping_air_changes_nothing(model, monkeypatch):
    """With and without the shortcut: the same labels, fewer calls."""
    hu = np.full((20, 100, 100), -1000, dtype=np.int16)
    hu[:, 2:12, 2:12] = 40
    hu[:, 80:95, 80:95] = 200
    volume = Volume(hu, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)))
    fast = ThresholdEngine(CENTERS)
    skipped = segment(model, volume, fast)
    assert skipped.provenance.parameters["tiles_of_air"] > 0
    monkeypatch.setattr("autosam_edge.pipeline.run._holds_only_air", lambda tile, low: False)
    slow = ThresholdEngine(CENTERS)
    asked = segment(model, volume, slow)
    assert slow.calls > fast.calls
    np.testing.assert_array_equal(skipped.labels, asked.labels)


class ThreadedEngine(ThresholdEngine):
    """A threshold engine that says how many threads it has."""

    def __init__(self, threads):
        super().__init__(CENTERS)
        self.threads = threads

    @property
    def description(self):
        return {**super().description, "threads": self.threads}


@pytest.mark.parametrize("orientation", [None, Orientation((2, 0, 1), (True, False, True))])
def test_threads_change_no_label(model, orientation, monkeypatch):
    """One, three, and as many as there are cores; every number that is measured on the way is the same."""
    monkeypatch.setattr("autosam_edge.planned_run.available_cores", lambda: 64)
    volume = block_volume(spacing=(4.1, 2.2, 2.7), orientation=orientation)
    alone, *others = [segment(model, volume, ThreadedEngine(threads)) for threads in ("1", "3", "all")]
    assert alone.labels.any()
    for other in others:
        np.testing.assert_array_equal(other.labels, alone.labels)
        assert (other.plausibility, other.expected_dice) == (alone.plausibility, alone.expected_dice)


def test_a_scan_smaller_than_a_tile_is_labeled_whole(model):
    """Three slices of 8 x 8 voxels."""
    volume = block_volume()
    small = Volume(np.ascontiguousarray(volume.hu[10:13, 18:26, 18:26]), Grid((3, 8, 8), volume.grid.affine))
    result = segment(model, small)
    np.testing.assert_array_equal(result.labels, np.where(small.hu == 200, 2, 1))


@hazard(
    "Geometry",
    "the scan ends in an organ, or is shorter than what the network sees at once",
    "read; beyond its ends the network sees the last slice again, not air",
)
def test_beyond_the_ends_the_network_sees_the_last_slice_and_beside_the_scan_air(model):
    """Three slices in a tile of 16 rows: the first seven times, the second once, the third eight times."""
    hu = np.empty((3, 8, 8), np.int16)
    hu[:] = np.array([30, 60, 90])[:, None, None]
    engine = RecordingEngine(CENTERS)
    segment(model, Volume(hu, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0))), engine)
    (tile,) = engine.tiles
    assert tile.shape == (16, 16, 16)
    np.testing.assert_allclose(tile[:, 8, 8], [30.0] * 7 + [60.0] + [90.0] * 8)
    beside = np.ones((16, 16), bool)
    beside[4:12, 4:12] = False
    assert (tile[:, beside] == -125.0).all()


def test_tiles_reach_beyond_a_long_scan_too(model):
    """The labels of a scan longer than a tile stay those of its voxels, and the plan counts every tile."""
    volume = block_volume(shape=(37, 50, 60))
    engine = RecordingEngine(CENTERS)
    result = segment(model, volume, engine)
    plan = TileRun(model, volume)
    assert plan.tiles == len(engine.tiles) + result.provenance.parameters["tiles_of_air"]
    np.testing.assert_array_equal(result.labels, block_labels(volume))


@hazard("Plausibility of the labels", "only air, with a bundle that has no limits of plausibility", NO_BODY)
@pytest.mark.parametrize("value", [-1000, -125, -124.99998])
def test_air_is_never_shown_to_the_network(model, value):
    """Nothing is labeled, with a warning; also where resampling rounds the window's lower end up."""
    hu = np.full((30, 30, 30), value, np.float32)
    engine = RecordingEngine(CENTERS)
    result = segment(model, Volume(hu, Grid.axis_aligned(hu.shape, (2.5, 2.7, 2.9))), engine)
    assert engine.tiles == []
    assert result.labels.max() == 0
    assert [warning.code for warning in result.warnings] == [NO_BODY.code]


def test_a_decision_weight_moves_the_border_of_its_organ(model):
    """Between 40 and 200 HU the formula is undecided at 120; a weight of the upper organ lowers that."""
    hu = np.tile(np.linspace(40, 200, 60), (20, 50, 1)).astype(np.float32)
    volume = Volume(hu, Grid.axis_aligned(hu.shape, (3.0, 3.0, 3.0)))
    engine = ThresholdEngine(CENTERS)
    upper = model.labels[1].name
    for weight in (0.1, 1.0, 10.0):
        weighted = dataclasses.replace(model, decision_weights={upper: weight})
        border = 120 - np.log(weight) * 25.0**2 / (2 * 160)
        expected = np.where(hu > border, 2, 1)
        np.testing.assert_array_equal(segment(weighted, volume, engine).labels, expected)


def test_progress_counts_every_tile_and_can_stop_the_run(model):
    """What the callback raises comes out."""
    seen = []
    session = Session(model, ThresholdEngine(CENTERS))
    session.segment(block_volume(), progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, seen[0][1] + 1))

    def stop(_done, _total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.segment(block_volume(), progress=stop)


class SlowRecorder(ThresholdEngine):
    """A threshold engine that keeps the thread of each tile, and leaves another one time to interfere."""

    def __init__(self):
        super().__init__(CENTERS)
        self.threads = []

    def run(self, tile):
        self.threads.append(threading.get_ident())
        time.sleep(0.001)
        return super().run(tile)


@hazard("Model bundles", "two threads share one session", "labeled one after the other")
@pytest.mark.parametrize("with_coarse", [False, True])
def test_runs_of_one_session_follow_one_another(model, with_coarse):
    """An engine's result is valid until its next tile; a run that was stopped holds none."""
    engine = SlowRecorder()
    session = Session(model, engine, coarse=Session(model, engine) if with_coarse else None)

    def nested(_done, _total):
        session.segment(block_volume(shape=(36, 42, 52)))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.segment(block_volume(), progress=nested)
    engine.threads.clear()
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(session.segment, [block_volume()] * 2)
    assert len(list(itertools.groupby(engine.threads))) == 2
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("scan", ["folder", None, np.zeros((4, 4, 4), np.int16)])
def test_only_a_volume_is_segmented(model, scan):
    """A path must be read first."""
    with pytest.raises(TypeError, match=r"expected a Volume, such as autosam_edge\.read gives"):
        segment(model, scan)


@hazard("Geometry", "a `Volume` made in Python on a grid that no CT has", VOLUME_GRID_INVALID)
@pytest.mark.parametrize(
    ("scaled", "sheared", "message"),
    [
        (0.001, 0.0, r"the voxels are 0\.003 x 0\.0005 x 0\.0005 mm"),
        (10.0, 0.0, r"the voxels are 30 x 5 x 5 mm"),
        (1.0, 0.3, r"the axial plane is sheared by"),
    ],
)
@pytest.mark.parametrize("with_coarse", [False, True])
def test_a_grid_made_in_python_is_checked_before_the_work(model, scaled, sheared, message, with_coarse):
    """Meters, a tenth of a millimeter taken for one, and rows that are not at a right angle to columns."""
    affine = Grid.axis_aligned((40, 50, 60), (3.0, 0.5, 0.5)).affine.copy()
    affine[:3, :3] *= scaled
    affine[1, 2] = sheared
    volume = Volume(block_volume().hu, Grid((40, 50, 60), affine))
    session = Session(model, ThresholdEngine(CENTERS))
    with pytest.raises(InputError, match=f"{VOLUME_GRID_INVALID}: {message}"):
        Session(model, session.engine, coarse=session if with_coarse else None).plan(volume)


@pytest.mark.parametrize(("kind", "told"), [("array", [THICK_SLICES.code]), ("nifti", [])])
def test_a_grid_made_in_python_has_the_warnings_of_a_file(model, kind, told):
    """Once; a reader has given those of a file."""
    volume = dataclasses.replace(block_volume(spacing=(8.0, 3.0, 3.0)), source=Source(kind))
    result = segment(model, volume)
    assert [warning.code for warning in result.warnings] == told
    again = segment(model, dataclasses.replace(volume, warnings=result.warnings))
    assert again.warnings == result.warnings


def test_the_help_of_open_session_lists_every_engine():
    assert all(f"``{name}``" in open_session.__doc__ for name in ENGINES)


def test_a_budget_that_is_too_small_is_refused_with_the_one_that_works(model):
    """AE-MEMORY-001 before the first tile; the number it names is accepted."""
    engine = ThresholdEngine(CENTERS)
    with pytest.raises(BudgetError, match="AE-MEMORY-001") as caught:
        Session(model, engine, memory=MemoryBudget(0.0, 1)).segment(block_volume())
    assert engine.calls == 0
    assert with_options(caught.value.remedy).endswith("--tier fast needs less memory than --tier standard.")
    enough = float(caught.value.remedy.split("max_memory_mb=")[1].split("`")[0])
    Session(model, engine, memory=MemoryBudget(0.0, enough + 50)).segment(block_volume())


def test_there_is_no_budget_for_an_engine_that_nobody_measured(model):
    """AE-MEMORY-002, not a promise; without a budget it runs."""
    engine = ThresholdEngine(CENTERS)
    with pytest.raises(BudgetError, match="AE-MEMORY-002"):
        MemoryBudget(None, 1e6)
    Session(model, engine, memory=MemoryBudget(None)).segment(block_volume())
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


def test_a_plan_executes_once_and_knows_its_size(model):
    """What the plan promises is what runs; it holds for one run."""
    engine, seen = ThresholdEngine(CENTERS), []
    session = Session(model, engine)
    planned = session.plan(block_volume())
    assert engine.calls == 0
    assert planned.model_shape == (40, 50, 60)
    assert planned.peak_mb > 0
    labels = planned.execute(progress=lambda done, total: seen.append((done, total))).labels
    assert seen[-1] == (planned.tiles, planned.tiles)
    np.testing.assert_array_equal(labels, session.segment(block_volume()).labels)
    with pytest.raises(RuntimeError, match="plan the volume again"):
        planned.execute()


@pytest.mark.parametrize(("limit", "told"), [(None, False), (1e6, False), (10.0, True)])
def test_a_container_that_is_too_small_is_told_before_the_work(model, limit, told, monkeypatch):
    """On the line of the plan: the kernel that kills the program says nothing."""
    monkeypatch.setattr("autosam_edge.planned_run.memory_limit_mb", lambda: limit)
    planned = Session(model, ThresholdEngine(CENTERS)).plan(block_volume())
    assert planned.summary.endswith("more than the 10 MB that this container or job allows") == told


class Remote:
    """An engine that must be awaited, as a worker or a server must."""

    def __init__(self):
        self._engine = ThresholdEngine(CENTERS)
        self.description = self._engine.description

    async def run(self, tile):
        await asyncio.sleep(0.001)
        return self._engine.run(tile)


def test_an_engine_that_is_awaited_drives_the_same_run(model):
    """Two scans at once on one event loop.

    Each has the labels of an ordinary run, and the wait counts as the network's time.
    """

    async def drive(volume):
        engine = Remote()
        run = TileRun(model, volume)
        steps = run.steps(engine.description)
        try:
            tile = next(steps)
            while True:
                assert (tile.shape, tile.dtype) == (model.input.patch, np.float32)
                tile = steps.send(await engine.run(tile))
        except StopIteration as finished:
            return finished.value

    async def both():
        return await asyncio.gather(*(drive(volume) for volume in volumes))

    volumes = (block_volume(), block_volume(spacing=(4.1, 2.2, 2.7)))
    for volume, awaited in zip(volumes, asyncio.run(both()), strict=True):
        plain = segment(model, volume)
        np.testing.assert_array_equal(awaited.labels, plain.labels)
        assert awaited.provenance == plain.provenance
        parameters = plain.provenance.parameters
        assert awaited.timings_s["network"] >= 0.001 * (parameters["tiles"] - parameters["tiles_of_air"])


def test_a_model_in_memory_and_its_bundle_are_one(bundle):
    """The same parts; a bundle adds its hash and its license."""
    found, made = bundle.model, make_model()
    assert (found.input, found.labels, found.one_part, found.name) == (
        made.input,
        made.labels,
        made.one_part,
        made.name,
    )
    assert (found.sha256, made.sha256) == (bundle.manifest_sha256, "")


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": BTCV_LABELS[1:3]},
        {"one_part": ("liver",)},
        {"decision_weights": {"liver": 2.0}},
        {"decision_weights": {"spleen": 0.0}},
        {"decision_weights": {"spleen": float("nan")}},
    ],
)
def test_a_model_refuses_what_contradicts_itself(model, changes):
    """Labels that do not start at 1, a rule for an organ that it does not know, a weight that is none."""
    with pytest.raises(ValueError, match="labels are numbered|liver|decision weight of spleen"):
        dataclasses.replace(model, **changes)


class Broken(ThresholdEngine):
    """Gives what it is told to."""

    def __init__(self, logits):
        super().__init__(CENTERS)
        self._logits = logits

    def run(self, tile):
        return self._logits


@pytest.mark.parametrize(
    ("logits", "code"),
    [
        (np.zeros((2, 16, 16, 16), np.float32), "AE-ENGINE-003"),
        (np.full((3, 16, 16, 16), np.nan, np.float32), "AE-ENGINE-005"),
    ],
)
def test_an_engine_that_lies_is_caught(model, logits, code):
    """Another number of classes, values that are not finite."""
    with pytest.raises(EngineError, match=code):
        segment(model, block_volume(), Broken(logits))


def test_open_session_refuses_what_it_does_not_know(bundle):
    """An unknown engine, a model that does not load, a precision that is not there."""
    with pytest.raises(EngineError, match="AE-ENGINE-001"):
        open_session(bundle, engine="abacus")
    with pytest.raises(BundleError, match="AE-BUNDLE-007"):
        open_session(bundle)
    with pytest.raises(BundleError, match="AE-BUNDLE-005"):
        open_session(bundle, precision="int4")


def test_the_fake_is_an_engine():
    """The shipped fake keeps the protocol."""
    assert isinstance(ThresholdEngine(CENTERS), Engine)


def test_provenance_names_software_model_engine_and_use(model):
    """What every output carries; no path, no patient data."""
    stamp = segment(model, block_volume()).provenance
    assert (stamp.software, stamp.model, stamp.engine) == ("autosam-edge", "test-model", "threshold")
    assert stamp.version
    assert stamp.parameters["patch"] == [16, 16, 16]
    assert "Research use only" in stamp.research_use

"""A coarse model finds the organs and a finer one labels them; what the coarse one misses is not lost."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import (
    LIMITS,
    NOT_MEASURED,
    ORIENTATIONS,
    RecordingEngine,
    make_model,
    unframed,
    write_bundle,
)
from autosam_edge_test_tilt import tilt_gantry

from autosam_edge import bundle as bundles
from autosam_edge import cli
from autosam_edge.batch.job import Settings
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.error_codes import BUNDLE_AND_TIER, TIER_MISSING, TIME_BUDGET_ALONE
from autosam_edge.errors import BudgetError, BundleError
from autosam_edge.geometry import Grid
from autosam_edge.phantom import make_phantom
from autosam_edge.pipeline.body_box import organ_box
from autosam_edge.pipeline.run import TileRun
from autosam_edge.planned_run import PlannedRun
from autosam_edge.plausibility.thresholds import Threshold
from autosam_edge.session import Session, open_session
from autosam_edge.system.memory import MemoryBudget
from autosam_edge.volume import Volume

FINE = make_model(spacing_mm=(4.0, 4.0, 4.0), patch=(32, 32, 32), overlap=0.25)
COARSE = dataclasses.replace(
    make_model(spacing_mm=(8.0, 8.0, 8.0), overlap=0.25), name="coarse", sha256="c" * 64
)
UPRIGHT = ORIENTATIONS[0]
NOTHING_IS_PLAUSIBLE = dataclasses.replace(LIMITS, share_below_fat=Threshold(0.9, 0.8, *NOT_MEASURED))


def tissue_and_organs(*organs):
    """A body of -60 HU, 320 x 240 x 240 mm in voxels of 4 mm, with blocks of another HU."""
    hu = np.full((80, 66, 66), -1000, np.int16)
    hu[:, 3:63, 3:63] = -60
    for place, value in organs:
        hu[place] = value
    return hu


SPLEEN = (slice(50, 60), slice(26, 36), slice(20, 36))
BODY_WITH_SPLEEN = tissue_and_organs((SPLEEN, 40))


def volume_of(hu, orientation=UPRIGHT, turned_deg=0.0):
    """The array as a scan in an orientation, also turned about the body's axis."""
    grid = orientation.input_grid(Grid.axis_aligned(hu.shape, (4.0, 4.0, 4.0), origin_mm=(5.0, 6.0, 7.0)))
    angle = np.radians(turned_deg)
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return Volume(np.ascontiguousarray(orientation.from_canonical(hu)), Grid(grid.shape, turn @ grid.affine))


CENTERS = (-60.0, 40.0, -20.0)  # of the body, the spleen and another organ, HU


def engine(*centers):
    return ThresholdEngine(centers or CENTERS)


def both(coarse_engine=None, coarse=COARSE, **options):
    """A session of two tiers whose networks are formulas of the HU."""
    return Session(FINE, engine(), coarse=Session(coarse, coarse_engine or engine()), **options)


def test_the_fine_labels_are_those_of_the_fine_model_alone():
    """Fewer tiles, the same labels; the result says what ran where."""
    volume, session, seen = volume_of(BODY_WITH_SPLEEN), both(), []
    found = session.segment(volume, progress=lambda done, total: seen.append((done, total)))
    alone = Session(FINE, engine()).segment(volume)
    np.testing.assert_array_equal(found.labels, alone.labels)
    np.testing.assert_array_equal(found.labels == 1, volume.hu == 40)

    parameters, whole = found.provenance.parameters, alone.provenance.parameters
    assert parameters["region"] == "organs"
    assert parameters["tiles"] < whole["tiles"] / 2
    # The margin of 60 and 30 mm, a voxel of the coarse model, and beside it what tiles of 32 voxels cover.
    for (start, stop), block, margin in zip(parameters["box"], SPLEEN, (15, 8, 8), strict=True):
        assert block.start - margin - 6 <= start <= block.start - margin + 1
        assert block.stop + margin - 1 <= stop <= block.stop + margin + 6
    coarse = parameters["coarse"]
    assert (coarse["found"], coarse["model"], coarse["model_sha256"]) == ("organs", "coarse", "c" * 64)
    assert "coarse" not in whole
    assert found.timings_s["find_organs"] > 0

    tiles = coarse["tiles"] + parameters["tiles"]
    assert [done for done, _ in seen] == list(range(1, tiles + 1))
    totals = [total for _, total in seen]
    assert totals == sorted(totals, reverse=True)
    assert seen[-1] == (tiles, tiles)


@pytest.mark.parametrize(("depth", "rows"), [(1, slice(13, 28)), (9, slice(17, 32))])
def test_around_its_part_the_network_sees_the_patient(depth, rows):
    """A part that is smaller than a tile: no air and no repeated slice where the scan goes on."""
    hu = np.random.default_rng(3).integers(-100, 250, (60, 60, 60)).astype(np.int16)
    recorder = RecordingEngine(CENTERS)
    part = (slice(20, 20 + depth), slice(30, 35), slice(20, 23))
    run = PlannedRun(FINE, recorder, volume_of(hu), part=part)
    labels = run.execute().labels
    (tile,) = recorder.tiles
    first = [part.start - (32 - (part.stop - part.start)) // 2 for part in run.box]
    np.testing.assert_allclose(tile, hu[tuple(slice(start, start + 32) for start in first)], atol=1e-3)
    outside = np.ones(hu.shape, bool)
    outside[run.box] = False
    # With the rest of the tile, but for the 8 rows of each end of a scan.
    assert run.box == (rows, slice(17, 48), slice(6, 37))
    assert not labels[outside].any()
    whole = Session(FINE, engine()).segment(volume_of(hu)).labels
    np.testing.assert_array_equal(labels[run.box], whole[run.box])


def test_a_margin_that_covers_what_the_network_looks_at_changes_no_organ():
    """A formula that reads 3 rows above and below each voxel: other tiles, the same labels."""
    volume = volume_of(BODY_WITH_SPLEEN)
    reach = ThresholdEngine((-60.0, 0.0, 200.0), reach_rows=3)
    alone = Session(FINE, reach).segment(volume)
    found = Session(FINE, reach, coarse=Session(COARSE, engine())).segment(volume)
    assert np.count_nonzero(alone.labels) != np.count_nonzero(BODY_WITH_SPLEEN == 40)
    assert found.provenance.parameters["tiles"] < alone.provenance.parameters["tiles"]
    np.testing.assert_array_equal(found.labels, alone.labels)


@pytest.fixture(scope="module")
def straight():
    return both().segment(volume_of(BODY_WITH_SPLEEN))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_has_the_same_box_in_the_patient(orientation, straight):
    """48 orders of the array, oblique too: the same part of the model's grid, the same labels in place."""
    volume = volume_of(BODY_WITH_SPLEEN, orientation, turned_deg=12.0)
    found = both().segment(volume)
    assert found.provenance.parameters["box"] == straight.provenance.parameters["box"]
    np.testing.assert_array_equal(orientation.to_canonical(found.labels), straight.labels)


def test_the_box_of_a_tilted_scan_has_every_slice_and_the_organs():
    """Along D a tilted scan is not cut; beside its organs it is, and their labels stay."""
    phantom = make_phantom(5, spacing_mm=(5.0, 4.0, 4.0))
    volume = tilt_gantry(phantom, -20.0, step_mm=5.0).volume
    model, centers = make_model(spacing_mm=(6.0, 6.0, 6.0), patch=(32, 32, 32)), (-125.0, 40.0, 400.0)
    part = (slice(5, 9), slice(30, 60), slice(40, 70))
    whole, run = TileRun(model, volume), TileRun(model, volume, part=part)
    assert whole.box[0].start <= run.box[0].start < run.box[0].stop <= whole.box[0].stop
    alone = Session(model, ThresholdEngine(centers)).segment(volume).labels
    limited = PlannedRun(model, ThresholdEngine(centers), volume, part=part)
    inside = (slice(None), *part[1:])
    labels = limited.execute().labels
    assert np.count_nonzero(labels[inside] != alone[inside]) <= 1e-4 * alone.size  # ties of the blending
    assert labels[inside].any()
    assert not limited.cuts(np.zeros(volume.shape, np.uint8))


FAR = (slice(2, 8), *SPLEEN[1:])
LONG = (slice(10, 50), *SPLEEN[1:])


@hazard(
    "Plausibility of the labels", "the coarse model of two tiers finds no organ", "the whole body is labeled"
)
@pytest.mark.parametrize(
    ("place", "coarse", "centers", "found"),
    [
        (FAR, COARSE, (-60.0, 1000.0, 2000.0), "nothing"),
        (FAR, dataclasses.replace(COARSE, plausibility=NOTHING_IS_PLAUSIBLE), (), "implausible labels"),
        (LONG, COARSE, (-60.0, 100.0, 1000.0), "organs"),
    ],
    ids=["nothing found", "implausible", "an organ reaches the side of the box"],
)
def test_what_the_coarse_model_misses_is_labeled_on_the_whole_body(place, coarse, centers, found):
    """The labels are those of the fine model alone, and the count of the tiles goes on to the end."""
    volume, seen = volume_of(tissue_and_organs((place, -20), (SPLEEN, 40))), []
    session = both(engine(*centers), coarse)
    result = session.segment(volume, progress=lambda done, total: seen.append((done, total)))
    alone = Session(FINE, engine()).segment(volume)
    np.testing.assert_array_equal(result.labels, alone.labels)
    assert set(np.unique(result.labels)) == {0, 1, 2}
    parameters = result.provenance.parameters
    assert (parameters["region"], parameters["coarse"]["found"]) == ("body", found)
    assert parameters["box"] == alone.provenance.parameters["box"]
    assert [done for done, _ in seen] == list(range(1, len(seen) + 1))
    assert seen[-1][0] == seen[-1][1]


@pytest.mark.parametrize(("limits", "verdict"), [(None, None), (NOTHING_IS_PLAUSIBLE, "implausible")])
def test_a_fine_model_without_limits_gets_the_verdict_of_the_coarse_one(limits, verdict):
    """With the warnings behind it; a fine model with limits is judged by its own."""
    volume, coarse = volume_of(BODY_WITH_SPLEEN), dataclasses.replace(COARSE, plausibility=limits)
    assert FINE.plausibility is None
    result = both(coarse=coarse).segment(volume)
    assert result.verdict == verdict
    reasons = result.plausibility.reasons if limits else ()
    assert set(reasons) <= set(result.warnings)
    assert all(reason.message.startswith("Labels of the coarse model coarse: ") for reason in reasons)
    assert bool(reasons) == (verdict == "implausible")
    own = dataclasses.replace(FINE, plausibility=LIMITS)
    judged = Session(own, engine(), coarse=Session(coarse, engine())).segment(volume)
    assert judged.plausibility == Session(own, engine()).segment(volume).plausibility


def test_an_organ_that_only_the_fine_model_knows_is_lost_far_from_all_others():
    """The price of the coarse run, by design: 170 mm away from what the coarse model found."""
    volume = volume_of(tissue_and_organs((FAR, -20), (SPLEEN, 40)))
    result = both(engine(-60.0, 100.0, 1000.0)).segment(volume)
    assert result.provenance.parameters["region"] == "organs"
    assert set(np.unique(result.labels)) == {0, 1}
    assert set(np.unique(Session(FINE, engine()).segment(volume).labels)) == {0, 1, 2}


def test_a_piece_far_from_its_organ_does_not_make_the_box_larger():
    """A wrong name in the pelvis, of an organ that the bundle allows to be in pieces."""
    assert FINE.one_part == COARSE.one_part == ()
    pieces, spleen = tissue_and_organs((FAR, 40), (SPLEEN, 40)), BODY_WITH_SPLEEN
    boxes = [
        both(engine(-60.0, 40.0, 1000.0)).segment(volume_of(hu)).provenance.parameters["box"]
        for hu in (pieces, spleen)
    ]
    assert boxes[0] == boxes[1]


def test_a_wrong_piece_at_the_side_of_the_part_is_no_reason_to_label_the_whole_body():
    """Of each organ the largest part counts, and a piece that the side cuts is another one."""
    piece = (slice(20, 38), slice(28, 32), slice(22, 26))
    hu = tissue_and_organs((piece, 40), (SPLEEN, 40))
    found = both(engine(-60.0, 40.0, 1000.0)).segment(volume_of(hu))
    side = found.provenance.parameters["box"][0][0]
    assert piece[0].start < side < piece[0].stop
    assert found.provenance.parameters["region"] == "organs"
    assert found.labels[side : piece[0].stop, 30, 24].all()


def test_there_is_no_box_without_organs():
    """Nothing is guessed where nothing is found; a margin ends with the scan."""
    grid = Grid.axis_aligned((40, 50, 60), (3.0, 2.0, 2.0))
    labels = np.zeros(grid.shape, np.uint8)
    assert organ_box(labels, grid) is None
    labels[30, 20, 58] = 7
    assert organ_box(labels, grid) == (slice(10, 40), slice(5, 36), slice(43, 60))


def test_a_plan_runs_once_and_gives_probabilities_of_the_whole_body():
    """What fits decision weights gets every row of the box that the plan names."""
    planned, rows = both().plan(volume_of(BODY_WITH_SPLEEN)), []
    planned.execute(on_rows=lambda block: rows.append(len(block)))
    assert sum(rows) == planned.box[0].stop - planned.box[0].start
    planned = both().plan(volume_of(BODY_WITH_SPLEEN))
    planned.execute()
    with pytest.raises(RuntimeError, match="plan the volume again"):
        planned.execute()


def test_the_plan_allows_for_both_models():
    """The limit counts both engines before the first tile; the number that the error names works."""
    volume, fine, coarse = volume_of(BODY_WITH_SPLEEN), engine(), engine()
    alone = Session(FINE, fine, memory=MemoryBudget(30.0)).plan(volume).peak_mb

    def session(limit_mb):
        finder = Session(COARSE, coarse, memory=MemoryBudget(20.0, limit_mb))
        return Session(FINE, fine, memory=MemoryBudget(30.0, limit_mb), coarse=finder)

    assert session(1e6).plan(volume).peak_mb == pytest.approx(alone + 20.0, abs=5.0)
    with pytest.raises(BudgetError, match="AE-MEMORY-001") as caught:
        session(alone + 1.0).segment(volume)
    assert fine.calls == coarse.calls == 0
    enough = float(caught.value.remedy.split("max_memory_mb=")[1].split("`")[0])
    assert session(enough + 10.0).segment(volume).labels.any()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Two bundles, of which the package holds the ones that a test names."""
    paths = {tier: write_bundle(tmp_path / f"{tier}.edge", name=tier) for tier in ("fast", "standard")}

    def hold(*tiers):
        monkeypatch.setattr(bundles, "bundles_of_package", lambda: {tier: paths[tier] for tier in tiers})
        return paths

    return hold


@pytest.mark.parametrize(
    ("held", "tier", "names"),
    [
        (("fast",), None, ("fast", None)),
        (("fast",), "fast", ("fast", None)),
        (("fast", "standard"), None, ("fast", None)),
        (("fast", "standard"), "standard", ("standard", "fast")),
        (("fast", "standard"), "fast", ("fast", None)),
        (("standard",), "standard", ("standard", None)),
    ],
)
def test_a_tier_names_bundles_of_the_package(package, monkeypatch, held, tier, names):
    """The fast one by default; the coarse model is the fast tier, where there is one."""
    package(*held)
    bundle, coarse = bundles.open_bundles(None, tier)
    assert (bundle.manifest.name, coarse and coarse.manifest.name) == names
    assert bundles.open_bundle(tier=tier).manifest.name == names[0]
    hashes = Settings(tier=tier).of_results()
    assert hashes["model_sha256"] == bundle.manifest_sha256
    assert hashes["coarse_sha256"] == (coarse.manifest_sha256 if coarse else None)
    monkeypatch.setattr("autosam_edge.session.load_engine", lambda *_: engine())
    planned = open_session(tier=tier).plan(volume_of(BODY_WITH_SPLEEN))
    assert ("coarse tiles" in planned.summary) == (coarse is not None)
    own = open_session(tier=tier, engine=engine()).plan(volume_of(BODY_WITH_SPLEEN))
    assert "coarse tiles" not in own.summary  # one engine runs one model


@hazard("Model bundles", "a tier that this installation does not hold", TIER_MISSING)
@hazard("Model bundles", "a bundle and a tier of the package at once", BUNDLE_AND_TIER)
def test_a_tier_that_is_not_there_or_not_alone_is_refused(package):
    """The message says what there is."""
    paths = package("fast")
    with pytest.raises(BundleError, match="AE-BUNDLE-011: .* no model of the tier standard, it holds fast"):
        open_session(tier="standard")
    with pytest.raises(BundleError, match="AE-BUNDLE-010"):
        open_session(paths["standard"], tier="standard")


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--tier", "standard"], 4, "error AE-BUNDLE-011"),
        (["--tier", "fast", "--bundle", "standard.edge"], 4, "error AE-BUNDLE-010"),
        (["--tier", "turbo"], 2, "turbo"),
    ],
)
def test_the_command_line_refuses_a_wrong_tier(package, tmp_path, monkeypatch, capsys, options, code, words):
    """With options in the words of the command line, and nothing written."""
    package("fast")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["autosam-edge", "info", *options])
    if "--bundle" in options:
        monkeypatch.setattr("sys.argv", ["autosam-edge", "info", "standard.edge", "--tier", "fast"])
    with pytest.raises(SystemExit) as left:
        cli.main()
    printed = capsys.readouterr().err
    assert left.value.code == code
    assert words in printed
    assert "`tier`" not in printed


class Clock:
    """Time that passes only where an engine computes."""

    def __init__(self):
        self.now = 100.0

    def perf_counter(self):
        return self.now


class SlowEngine(ThresholdEngine):
    """A formula whose tiles take the given seconds, the last one again and again."""

    def __init__(self, clock, *tile_s):
        super().__init__(CENTERS)
        self.clock, self.tile_s = clock, tile_s

    def run(self, tile):
        self.clock.now += self.tile_s[min(self.calls, len(self.tile_s) - 1)]
        return super().run(tile)


@pytest.fixture
def timed(monkeypatch):
    """Two tiers on one clock, whose coarse model takes 1 s a tile."""
    clock = Clock()
    monkeypatch.setattr("autosam_edge.planned_run.time", clock)

    def run(volume, budget_s, *fine_s, coarse=COARSE, coarse_engine=None):
        fine = SlowEngine(clock, *fine_s)
        finder = Session(coarse, coarse_engine or SlowEngine(clock, 1.0))
        started = clock.now
        result = Session(FINE, fine, coarse=finder, time_budget_s=budget_s).segment(volume)
        return result, fine.calls, clock.now - started

    return run


def findings(result):
    """All of a result but its labels and the seconds."""
    return result.provenance, result.plausibility, result.expected_dice, result.warnings


def test_a_time_budget_that_is_long_enough_changes_nothing(timed):
    """The same labels and the same provenance; one second less, and the run stops after its first tile."""
    volume = volume_of(BODY_WITH_SPLEEN)
    free, tiles, needed_s = timed(volume, None, 2.0)
    assert tiles > 1
    enough, calls, _ = timed(volume, needed_s, 2.0)
    assert calls == tiles
    np.testing.assert_array_equal(enough.labels, free.labels)
    assert findings(enough) == findings(free)
    _, calls, spent_s = timed(volume, needed_s - 1.0, 2.0)
    assert calls == 1
    assert spent_s < needed_s - 1.0
    _, calls, _ = timed(volume, 0.5, 2.0)
    assert calls == 0  # the coarse model alone took longer


@hazard(
    "Plausibility of the labels",
    "the time budget is too short for the finer of two models",
    "the labels of the faster model, with a warning",
)
def test_out_of_time_the_labels_are_those_of_the_faster_model(timed):
    """Bit for bit, with its verdict and its provenance; a warning names both models."""
    volume = volume_of(tissue_and_organs((SPLEEN, 40), ((slice(70, 72), *SPLEEN[1:]), 40)))
    coarse = dataclasses.replace(COARSE, plausibility=LIMITS)
    _, _, needed_s = timed(volume, None, 2.0, coarse=coarse)
    budget_s = needed_s + 1.0
    result, calls, _ = timed(volume, budget_s, 2.0, 2.0, 60.0, coarse=coarse)
    assert calls == 3  # the third tile took too long
    alone = Session(coarse, engine()).segment(volume)
    np.testing.assert_array_equal(result.labels, alone.labels)
    assert result.verdict is not None
    (short,) = (warning for warning in result.warnings if warning.code == "AE-WARN-082")
    assert {FINE.name, COARSE.name, f"{budget_s:g}"} <= set(
        str(short).replace(",", "").replace(".", "").split()
    )
    rest = tuple(warning for warning in result.warnings if warning != short)
    assert findings(dataclasses.replace(result, warnings=rest)) == findings(alone)
    assert result.timings_s["stopped_run"] > 0


def test_a_budget_that_is_over_in_the_second_run_keeps_the_faster_labels(timed):
    """The first run cut an organ at the side of its part, so its labels are not complete."""
    volume = volume_of(tissue_and_organs((LONG, -20), (SPLEEN, 40)))
    finds_a_spleen = {"coarse_engine": engine(-60.0, 100.0, 1000.0)}
    free, tiles, needed_s = timed(volume, None, 2.0, **finds_a_spleen)
    assert free.provenance.parameters["region"] == "body"
    first_run = tiles - free.provenance.parameters["tiles"]
    assert first_run > 0
    result, calls, _ = timed(volume, needed_s - 1.0, 2.0, **finds_a_spleen)
    assert calls == first_run + 1
    assert result.provenance.model == COARSE.name
    assert not np.any(result.labels == 2)


@hazard("Model bundles", "a time budget for a model that runs alone", TIME_BUDGET_ALONE)
def test_a_time_budget_needs_two_models(package, monkeypatch):
    """There is nothing to fall back to; a budget alone takes the standard tier, which must be installed."""
    paths = package("fast")
    monkeypatch.setattr("autosam_edge.session.load_engine", lambda *_: engine())
    for options in ({"tier": "fast"}, {"bundle": paths["standard"]}):
        with pytest.raises(BundleError, match="AE-BUNDLE-012"):
            open_session(**options, time_budget_s=8.0)
    with pytest.raises(BundleError, match="AE-BUNDLE-011"):
        open_session(time_budget_s=8.0)
    package("fast", "standard")
    assert "coarse tiles" in open_session(time_budget_s=8.0).plan(volume_of(BODY_WITH_SPLEEN)).summary
    with pytest.raises(BundleError, match="AE-BUNDLE-012"):
        open_session(engine=engine(), time_budget_s=8.0)


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), "5", True, 10**400])
def test_a_time_budget_is_a_number_of_seconds(seconds):
    with pytest.raises(
        ValueError, match="`time_budget_s` is .*, expected a finite number of seconds above 0"
    ):
        both(time_budget_s=seconds)


def test_the_plan_counts_the_labels_that_a_time_budget_keeps():
    """One byte for each voxel of the scan."""
    volume = volume_of(np.zeros((200, 300, 300), np.int16))
    kept, free = (both(time_budget_s=budget).plan(volume).peak_mb for budget in (60.0, None))
    assert kept - free == pytest.approx(volume.hu.size / 2**20, abs=3.0)


@pytest.mark.parametrize("text", ["0", "nan", "soon"])
def test_the_command_line_refuses_a_wrong_time_budget(tmp_path, monkeypatch, capsys, text):
    monkeypatch.setattr("sys.argv", ["autosam-edge", "segment", "scan", "-o", "out", "--time-budget", text])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    assert stopped.value.code == 2
    assert "expected seconds above 0" in unframed(capsys.readouterr().err)

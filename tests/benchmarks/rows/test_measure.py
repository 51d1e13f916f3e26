"""The order of the steps, the journal, and what a disturbed step does."""

from __future__ import annotations

import dataclasses
import json

import pytest

pytest.importorskip("psutil")
from autosam_edge_test_rows import DEVICE
from typer.testing import CliRunner

from autosam_edge import bundle as bundles
from autosam_edge.bundle import open_bundle
from autosam_edge.cli import app
from autosam_edge.errors import BenchError, OutputError
from autosam_edge_benchmarks.rows import measure as module
from autosam_edge_benchmarks.rows.measure import measure, read_journal
from autosam_edge_benchmarks.rows.plan import Plan
from autosam_edge_benchmarks.rows.probe import TimedTiles
from autosam_edge_benchmarks.rows.row import read_row
from autosam_edge_benchmarks.rows.whole_scan import ScanRun

QUIET = dataclasses.replace(DEVICE, load_average=0.1, others_cores_before=0.0)


def a_plan(**changes):
    bundle = open_bundle(None)
    plan = Plan(
        bundle,
        bundle.manifest.artifacts[:2],
        (1, 2),
        (160,),
        None,
        3,
        0.0,
        (),
        "mine",
        roofline=False,
        force=False,
    )
    return dataclasses.replace(plan, **changes)


class FakeProcesses:
    """Every tile takes 100 ms, every scan 4 s; others use what ``others`` says, call by call."""

    def __init__(self, monkeypatch, others=(), device=QUIET):
        self.steps, self.others = [], list(others)
        monkeypatch.setattr(module, "_run", self.run)
        monkeypatch.setattr(module, "_series", lambda scan, scratch, count: scratch)
        monkeypatch.setattr(module, "_PAUSE_S", 0.0)
        monkeypatch.setattr(module, "CpuWatch", lambda: self)
        monkeypatch.setattr(
            module, "describe_device", lambda name: (dataclasses.replace(device, name=name), {})
        )

    def others_cores(self):
        return self.others.pop(0) if self.others else 0.0

    def run(self, plan, step, scans):
        self.steps.append(step)
        if step.what.isdecimal():
            scan = ScanRun((160, 512, 512), (2.0, 0.8, 0.8), 4.0, 700.0, 9.0, {"read": 1.0})
            return {"scan": scan}
        tiles = TimedTiles(0.2, 0.1, (100.0,) * 15, 250.0, 30.0, "onnxruntime", "1", "CPU", "CPU", None)
        return {"tiles": tiles}


def test_the_repeats_are_the_outer_loop_and_rows_hold_them(monkeypatch, tmp_path):
    """Two artifacts on one and two threads: each kind of step visits all four before the next."""
    fake = FakeProcesses(monkeypatch)
    rows = measure(a_plan(), tmp_path)
    assert [step.repeat for step in fake.steps] == sorted(step.repeat for step in fake.steps)
    assert len({(step.artifact, step.threads) for step in fake.steps[:4]}) == 4
    assert {step.what for step in fake.steps[:4]} == {"tiles"}
    row = rows[0]
    assert (row.tile_latency.n, row.tile_latency.p90, row.validity.word) == (45, 100.0, "quiet")
    assert (row.end_to_end[0].samples_s, row.end_to_end[0].repeated) == ((4.0,) * 3, False)
    assert (row.energy.joules_per_tile, row.energy.joules_per_scan) == (2.0, 9.0)
    assert sorted(read_row(path).name for path in tmp_path.glob("*.json")) == sorted(row.name for row in rows)


def test_a_stopped_measurement_goes_on(monkeypatch, tmp_path):
    """What the journal holds is not measured again; a line that was cut off is."""
    fake = FakeProcesses(monkeypatch, others=[0.0] * 5 + [2.0] * 3)
    with pytest.raises(BenchError, match=r"AE-BENCH-002: .*2.0 of"):
        measure(a_plan(), tmp_path)
    (journal,) = tmp_path.glob("journal-*.jsonl")
    assert len(read_journal(journal)) == 5
    journal.write_bytes(journal.read_bytes() + b'{"step\xc3\xff')
    assert len(read_journal(journal)) == 5
    before = len(fake.steps)
    measure(a_plan(), tmp_path)
    assert len(fake.steps) - before == len(list(a_plan().steps())) - 5


def test_a_measurement_stopped_while_it_wrote_goes_on_twice(monkeypatch, tmp_path):
    """The line that was cut off does not run into the next one."""
    FakeProcesses(monkeypatch, others=[0.0] * 5 + [2.0] * 3 + [0.0] * 2 + [2.0] * 3)
    for finished in (5, 7):
        with pytest.raises(BenchError, match="AE-BENCH-002"):
            measure(a_plan(), tmp_path)
        (journal,) = tmp_path.glob("journal-*.jsonl")
        assert len(read_journal(journal)) == finished
        with journal.open("a") as file:
            file.write('{"step"')
    assert len(measure(a_plan(), tmp_path)) == 4


def test_a_forced_row_is_noisy(monkeypatch, tmp_path):
    """On a busy machine, and while others disturb it; without `force` nothing is measured."""
    busy = dataclasses.replace(QUIET, others_cores_before=1.5)
    fake = FakeProcesses(monkeypatch, others=[1.9] * 24, device=busy)
    with pytest.raises(BenchError, match="AE-BENCH-001"):
        measure(a_plan(), tmp_path)
    assert not fake.steps
    row = measure(a_plan(force=True), tmp_path)[0]
    assert row.validity.word == "noisy"
    assert [word in " ".join(row.validity.reasons) for word in ("1.5 of", "1.9 of")] == [True, True]
    assert row.device.others_cores_during == 1.9
    quiet = FakeProcesses(monkeypatch)
    assert measure(a_plan(), tmp_path)[0].validity.word == "quiet"  # what was disturbed is measured again
    assert len(quiet.steps) == 24


def test_a_row_keeps_the_reasons_and_the_day_of_its_steps(monkeypatch, tmp_path):
    """Forced on a battery: noisy, and measured anew without `force`. What is quiet then stays so."""
    on_battery = dataclasses.replace(QUIET, power_source="battery")
    FakeProcesses(monkeypatch, device=on_battery)
    monkeypatch.setattr(module, "today", lambda: "2026-01-01")
    row = measure(a_plan(force=True), tmp_path)[0]
    assert row.validity.reasons == ("The machine runs on its battery.",)
    quiet = FakeProcesses(monkeypatch)
    assert measure(a_plan(force=True), tmp_path)[0].validity == row.validity
    assert not quiet.steps
    assert measure(a_plan(), tmp_path)[0].validity.word == "quiet"
    assert len(quiet.steps) == 24
    again = FakeProcesses(monkeypatch, device=on_battery)
    monkeypatch.setattr(module, "today", lambda: "2026-01-02")
    row = measure(a_plan(force=True), tmp_path)[0]
    assert (row.validity.word, row.date, again.steps) == ("quiet", "2026-01-01", [])
    assert row.device.power_source == QUIET.power_source


def test_a_machine_gets_the_name_that_is_given_now(monkeypatch, tmp_path):
    """Also where nothing is measured anew; without one it has that of its steps."""
    FakeProcesses(monkeypatch)
    names = [measure(a_plan(name=name), tmp_path)[0].device.name for name in ("first", "second", None)]
    assert names == ["first", "second", "first"]


@pytest.mark.parametrize(
    ("name", "text"),
    [("onnx-fp32-1.json", b"{"), ("journal", b"garbage\n"), ("journal", b"\xc3\xff\n"), ("journal", None)],
)
def test_a_file_that_was_edited_is_named(name, text, monkeypatch, tmp_path):
    """AE-BENCH-003, before anything is measured; a step without its result is no step either."""
    fake = FakeProcesses(monkeypatch)
    measure(a_plan(), tmp_path)
    (journal,) = tmp_path.glob("journal-*.jsonl")
    path = journal if name == "journal" else tmp_path / name
    without = json.loads(journal.read_text().splitlines()[0]) | {"tiles": None}
    path.write_bytes(text or json.dumps(without).encode() + b"\n")
    fake.steps.clear()
    with pytest.raises(BenchError, match=f"AE-BENCH-003: {path.name}"):
        measure(a_plan(), tmp_path)
    assert not fake.steps


def test_a_file_that_is_no_result_of_evaluate_is_found_before_the_first_step(monkeypatch, tmp_path):
    """AE-BENCH-003, not after an hour; one that is missing too."""
    fake = FakeProcesses(monkeypatch)
    (tmp_path / "other.json").write_text("{}")
    for name in ("other.json", "missing.json"):
        with pytest.raises(BenchError, match=f"AE-BENCH-003: {name}"):
            measure(a_plan(scored=(tmp_path / name,)), tmp_path)
    assert not fake.steps


def test_the_command_refuses_a_busy_machine_and_prints_rows(monkeypatch, tmp_path):
    """Exit code 14; with --force --json, one object for each row."""
    FakeProcesses(monkeypatch, device=dataclasses.replace(QUIET, load_average=9.0))
    command = ["bench", "--engine", "onnx", "--slices", "160"]
    refused = CliRunner().invoke(app, command)
    assert isinstance(refused.exception, BenchError)
    assert refused.exception.exit_code == 14
    found = CliRunner().invoke(app, [*command, "--force", "--json"])
    assert [row["artifact"]["precision"] for row in json.loads(found.stdout)["rows"]] == ["fp32"]
    shown = CliRunner().invoke(app, [*command, "--force"])
    assert "noisy" in shown.stdout


def test_another_scan_of_the_same_name_is_another_measurement(tmp_path):
    """The content counts, not the place."""
    for place, content in (("a", b"1"), ("b", b"2"), ("c", b"1")):
        (tmp_path / place / "CT").mkdir(parents=True)
        (tmp_path / place / "CT" / "slice").write_bytes(content)
    first, other, copy = (a_plan(scan=tmp_path / place / "CT").identity(QUIET) for place in "abc")
    assert first == copy != other


def test_a_tier_runs_as_users_run_it(monkeypatch):
    """Its scans run behind the model that finds the organs, and another such model is another measurement."""
    alone = a_plan()
    assert alone.model == ("--bundle", str(alone.bundle.path))
    tier = a_plan(tier="fast")
    assert tier.model == ("--tier", "fast")
    assert tier.identity(QUIET) == alone.identity(QUIET)
    of_package = bundles.bundles_of_package()
    both = {"fast": of_package["fast"], "standard": of_package["fast"]}
    monkeypatch.setattr(bundles, "bundles_of_package", lambda: both)
    assert a_plan(tier="standard").identity(QUIET) != alone.identity(QUIET)


def test_a_row_of_another_model_is_kept(monkeypatch, tmp_path):
    """Both would have the same name; nothing is measured."""
    fake = FakeProcesses(monkeypatch)
    path = tmp_path / "onnx-fp32-1.json"
    row = measure(a_plan(), tmp_path)[0]
    module.write_row(
        dataclasses.replace(row, artifact=dataclasses.replace(row.artifact, model="other")), tmp_path
    )
    before = len(fake.steps)
    with pytest.raises(OutputError, match="AE-OUTPUT-002.*model other"):
        measure(a_plan(slices=(80,)), tmp_path)
    assert (len(fake.steps), read_row(path).artifact.model) == (before, "other")


def test_a_roofline_belongs_to_the_scan_whose_tiles_it_counts():
    """A plan with other slices does not take it from the journal."""
    first, second = (a_plan(slices=slices, roofline=True) for slices in ((160, 320), (80, 160)))
    (one, *_), (two, *_) = ([s for s in plan.steps() if "roofline" in s.what] for plan in (first, second))
    assert one != two
    assert (first.slices_of(one), second.slices_of(two)) == ((160,), (80,))

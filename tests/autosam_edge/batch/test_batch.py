"""Many scans: what is indexed, what is done once, what a failed or killed scan leaves."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import signal
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock, call

import pytest
from autosam_edge_test_batch import indexed
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from autosam_edge_test_support import unframed
from typer.testing import CliRunner

from autosam_edge.batch import workers
from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.job import Fault, Settings
from autosam_edge.batch.scan import Scanner
from autosam_edge.batch.table import Row, write_table
from autosam_edge.cli import app
from autosam_edge.error_codes import (
    BATCH_IN_USE,
    DISK_FULL,
    OUTPUT_BUSY,
    OUTPUT_NOT_WRITABLE,
    OUTPUT_OCCUPIED,
)
from autosam_edge.errors import AutosamEdgeError, BatchError, OutputError
from autosam_edge.read_choices import ReadChoices
from autosam_edge.system.stop_signals import SIGNALS

SETTINGS = Settings(engine="onnx", threads=1, accept_implausible=True, formats=("nifti", "preview"))


@pytest.fixture
def scans(tmp_path):
    """Three sound series in two folders, one with a slice missing, one whose file is cut, a bolus series."""
    root = tmp_path / "in"
    CtFolder(root / "a").write()
    CtFolder(root / "b").write()
    other = CtFolder(root / "b")
    for d in range(5):
        other.save(other.image(d), f"other{d}")
    gap = CtFolder(root / "gap")
    for d in (0, 1, 3, 4):
        gap.save(gap.image(d), f"im{d}")
    cut = CtFolder(root / "cut").write()[0]
    cut.write_bytes(cut.read_bytes()[:300])
    bolus = CtFolder(root / "bolus")
    bolus.save(bolus.image(0), "one")
    return root


def run(batch, **changes):
    batch.update_index()
    results = dict(batch.run(batch.todo(), **{"workers": 1, **changes}))
    return {job.id: fault.code if fault else None for job, fault in results.items()}


def table(out):
    with (out / "organs.csv").open() as file:
        return list(csv.DictReader(file))


def test_every_scan_has_a_result_or_a_code_and_a_second_call_does_nothing(scans, tmp_path):
    out = tmp_path / "out"
    batch = Batch([scans], out, SETTINGS)
    results = run(batch)
    assert sorted(map(str, results.values())) == ["AE-DICOM-005", "AE-DICOM-016", "None", "None", "None"]
    assert batch.finish() == {"done": 3, "failed": 2, "waiting": 0}
    rows = table(out)
    assert len(rows) == 3 * 13 + 2
    assert {row["remedy"] != "" for row in rows if row["state"] == "failed"} == {True}
    assert {row["touches_border"] for row in rows} <= {"", "true", "false"}
    assert {len(row["ml"].partition(".")[2]) for row in rows if row["ml"]} == {4}  # as in statistics.csv
    assert len(batch.passed_over()) == 1
    before = {path: path.stat().st_mtime_ns for path in (out / "scans").rglob("*")}
    again = Batch([scans], out, SETTINGS)
    assert run(again) == {}
    assert {path: path.stat().st_mtime_ns for path in (out / "scans").rglob("*")} == before


@pytest.mark.parametrize("content", ["{", "[1]", "null"])
def test_settings_that_are_none_of_a_batch_are_refused(tmp_path, content):
    (tmp_path / "settings.json").write_text(content)
    with pytest.raises(BatchError, match="AE-BATCH-002: settings.json in the folder is damaged or none"):
        BatchFolder(tmp_path).check_settings({})


def test_settings_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "settings.json").mkdir()
    with pytest.raises(BatchError, match="AE-BATCH-002: settings.json in the folder cannot be read"):
        BatchFolder(tmp_path).check_settings({})


def test_two_workers_give_the_bytes_of_one(scans, tmp_path):
    for count in (1, 2):
        batch = Batch([scans], tmp_path / str(count), SETTINGS)
        run(batch, workers=count)
        batch.finish()

    def content(out):
        return {
            path.relative_to(out): path.read_bytes()
            for path in out.rglob("*")
            if path.is_file() and path.suffix not in (".sqlite", ".lock", ".jsonl")  # times and order differ
        }

    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_a_series_that_changed_is_segmented_again(scans, tmp_path):
    out = tmp_path / "out"
    run(Batch([scans / "gap"], out, SETTINGS))
    os.utime(scans / "gap" / "im0", ns=(1, 1))
    [failed] = (out / "failed").glob("*.json")
    assert "`--allow-gap`" not in failed.read_text()
    assert "--allow-gap" in failed.read_text()
    assert "segment this scan alone, with `autosam-edge segment`" in failed.read_text()
    assert list(run(Batch([scans / "gap"], out, SETTINGS)).values()) == ["AE-DICOM-016"]
    assert run(Batch([scans / "gap"], out, SETTINGS)) == {}
    assert list(
        run(Batch([scans / "gap"], out, SETTINGS, Selection(retry=frozenset({"AE-DICOM-016"})))).values()
    )


def test_parts_and_limits_choose_each_scan_once(scans, tmp_path):
    chosen = []
    for index in (1, 2, 3):
        batch = indexed([scans], tmp_path / "out", SETTINGS, Selection(part=(index, 3)))
        chosen += [job.id for job in batch.todo()]
    assert sorted(chosen) == [job.id for job in batch.jobs]
    limited = indexed([scans], tmp_path / "out", SETTINGS, Selection(limit=2))
    assert len(limited.todo()) == 2


def test_lists_choose_scans(scans, tmp_path):
    everything = indexed([scans], tmp_path / "out", SETTINGS)
    wanted = everything.jobs[1].id
    (tmp_path / "list.csv").write_text(f"path,series\nin,{wanted[:12]}\n")
    chosen = indexed([tmp_path / "list.csv"], tmp_path / "out", SETTINGS)
    assert [job.id for job in chosen.jobs] == [wanted]
    for text, encoding in (("Kernel;Path\nx;in/a\n", "utf-8-sig"), ("Path\tkernel\nin/a\tx\n", "utf-16")):
        (tmp_path / "list.csv").write_text(text, encoding=encoding)
        chosen = indexed([tmp_path / "list.csv"], tmp_path / "out", SETTINGS)
        assert len(chosen.jobs) == 1
    (tmp_path / "list.csv").write_text("name\nx\n")
    with pytest.raises(AutosamEdgeError, match="AE-BATCH-004"):
        Batch([tmp_path / "list.csv"], tmp_path / "out", SETTINGS)


def test_another_model_or_format_needs_another_folder(scans, tmp_path):
    others = Settings(engine="onnx", accept_implausible=True)
    Batch([scans], tmp_path / "out", others)
    batch = Batch([scans], tmp_path / "out", SETTINGS)  # nothing is there yet
    Batch([scans], tmp_path / "out", replace(SETTINGS, formats=("preview", "nifti", "nifti")))
    with batch.folder.locked("index"), pytest.raises(AutosamEdgeError, match="AE-BATCH-002.*formats"):
        Batch([scans], tmp_path / "out", others)
    with batch.folder.serving(), pytest.raises(AutosamEdgeError, match="AE-BATCH-002.*formats"):
        Batch([scans], tmp_path / "out", others)
    (batch.folder.scans / "0123456789abcdef").mkdir()
    with pytest.raises(AutosamEdgeError, match="AE-BATCH-002.*formats"):
        Batch([scans], tmp_path / "out", others)


def test_a_scan_over_which_workers_die_fails_and_the_others_are_done(scans, tmp_path, monkeypatch):
    batch = indexed([scans / "a", scans / "b"], tmp_path / "out", SETTINGS)
    victim = batch.jobs[0].id
    monkeypatch.setattr(workers, "_Worker", type("_", (workers._Worker,), {"take": _killing(victim)}))
    results = {job.id: fault for job, fault in batch.run(batch.todo(), workers=1)}
    assert results[victim].code == "AE-BATCH-005"
    assert [fault for scan, fault in results.items() if scan != victim] == [None, None]
    assert list((tmp_path / "out" / ".work").iterdir()) == []


def test_a_worker_that_dies_between_two_scans_costs_none(scans, tmp_path, monkeypatch):
    """The scan that it could not take is given to the next one."""
    batch = indexed([scans / "a", scans / "b"], tmp_path / "out", SETTINGS)
    taken = []

    def take(self, job):
        if len(taken) == 1:
            self.process.kill()
            self.process.join()
        taken.append(job.id)
        self.__class__.__base__.take(self, job)

    monkeypatch.setattr(workers, "_Worker", type("_", (workers._Worker,), {"take": take}))
    results = dict(batch.run(batch.todo(), workers=1))
    assert len(taken) == len(results) + 1 == len(batch.jobs) + 1
    assert set(results.values()) == {None}


def _killing(victim):
    def take(self, job):
        self.job = job
        self.connection.send(job)
        if job.id == victim:
            os.kill(self.process.pid, signal.SIGKILL)

    return take


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_reaches_all_processes_of_a_service_ends_no_worker(scans, tmp_path, name):
    if not hasattr(signal, name):
        pytest.skip("the system does not have the signal")

    def on_tile(*_):
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, getattr(signal, name))

    assert list(run(Batch([scans / "a"], tmp_path / "out", SETTINGS), on_tile=on_tile).values()) == [None]


def test_a_dry_run_leaves_the_table_and_the_page(scans, tmp_path):
    command = ["batch", str(scans / "a"), "-o", str(tmp_path), "--dry-run", "--accept-implausible"]
    assert "1 waiting" in CliRunner().invoke(app, command).output
    assert not {"index.html", "organs.csv", "organs.parquet"} & {path.name for path in tmp_path.iterdir()}


def test_what_a_killed_worker_left_is_swept(scans, tmp_path):
    out = tmp_path / "out"
    batch = indexed([scans / "a"], out, SETTINGS)
    (out / ".work" / f"{batch.jobs[0].id}-0123abcd").mkdir()
    (out / ".work" / ".autosam-edge-0123abcd.partial" / "new").mkdir(parents=True)  # killed among its files
    (out / ".work" / ".autosam-edge-0123abcd.partial" / "owner").touch()
    list(batch.run(batch.todo(), workers=1))
    assert list((out / ".work").iterdir()) == []


@pytest.mark.parametrize(
    ("scan", "file", "state"), [("a", "scans/*/statistics.json", "done"), ("gap", "failed/*.json", "failed")]
)
def test_a_scan_whose_result_is_missing_or_damaged_is_segmented_again(scans, tmp_path, scan, file, state):
    batch = Batch([scans / scan], tmp_path / "out", SETTINGS)
    [before] = run(batch).items()
    [path] = (tmp_path / "out").glob(file)
    nothing = {"done": 0, "failed": 0, "waiting": 0}
    path.unlink()
    assert batch.finish() == {**nothing, "waiting": 1}
    for content in ("", "[]", "{}", '{"organs": [', "\0\0\0"):
        path.write_text(content)
        assert batch.finish() == {**nothing, "waiting": 1}
    assert run(batch) == dict([before])
    assert batch.finish() == {**nothing, state: 1}


def test_a_scan_that_fails_after_a_change_keeps_no_older_results(scans, tmp_path):
    batch = Batch([scans / "a"], tmp_path / "out", SETTINGS)
    run(batch)
    [job] = batch.jobs
    batch.finish()
    assert "<img" in (tmp_path / "out" / "index.html").read_text()
    batch.jobs = [changed := replace(job, stamp="another")]
    assert batch.finish() == {"done": 0, "failed": 0, "waiting": 1}
    assert "<img" not in (tmp_path / "out" / "index.html").read_text()
    batch.folder.set_fault(changed, Fault("AE-DICOM-016", "", ""))
    assert list(batch.folder.scans.iterdir()) == []


def test_a_record_that_cannot_be_written_ends_the_batch(scans, tmp_path):
    (tmp_path / "out" / "audit.jsonl").mkdir(parents=True)
    with pytest.raises(OutputError, match="AE-OUTPUT-001: the record of what ran cannot be written"):
        run(Batch([scans / "gap"], tmp_path / "out", SETTINGS))


@pytest.mark.parametrize("place", [DISK_FULL, OUTPUT_BUSY, OUTPUT_NOT_WRITABLE])
def test_a_place_that_takes_no_results_is_no_fault_of_the_scan(scans, tmp_path, monkeypatch, place):
    batch, error = Batch([scans / "a"], tmp_path / "out", SETTINGS), place("the place is to blame.")
    batch.update_index()
    scanner = Scanner(batch.folder, SETTINGS)
    monkeypatch.setattr("autosam_edge.batch.scan.write", Mock(side_effect=error))
    with pytest.raises(OutputError, match=place.code):
        scanner.segment(batch.jobs[0])
    assert batch.finish() == {"done": 0, "failed": 0, "waiting": 1}
    monkeypatch.setattr("autosam_edge.batch.scan.write", Mock(side_effect=OUTPUT_OCCUPIED("it is taken.")))
    assert scanner.segment(batch.jobs[0]).code == "AE-OUTPUT-002"


def test_decisions_of_a_person_hold_for_a_scan_in_a_zip(scans, tmp_path):
    shutil.make_archive(scans / "zip" / "gap", "zip", scans / "gap")
    batch = Batch([scans / "zip"], tmp_path / "out", replace(SETTINGS, choices=ReadChoices(allow_gap=True)))
    assert list(run(batch).values()) == [None]


def test_a_folder_whose_names_are_taken_or_that_cannot_be_found_is_refused(scans, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "scans").write_text("a file")
    with pytest.raises(OutputError, match="AE-OUTPUT-002: scans in the output folder is a file"):
        Batch([scans], tmp_path / "out", SETTINGS)
    monkeypatch.setattr(os, "getcwd", Mock(side_effect=FileNotFoundError))
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        Batch([scans], Path("out"), SETTINGS)


def test_results_are_removed_whole_while_others_look(scans, tmp_path, monkeypatch):
    batch = Batch([scans / "a"], tmp_path / "out", SETTINGS)
    run(batch)
    folder, [job] = batch.folder, batch.jobs
    with monkeypatch.context() as patch:  # killed before its first file is removed
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        folder.remove(job.id)
    assert not (folder.scans / job.id).exists()
    folder.sweep(lambda _: True)
    assert list((tmp_path / "out" / ".work").iterdir()) == []
    monkeypatch.setattr(folder, "is_done", lambda _: True)  # it was, a moment ago
    assert batch.finish() == {"done": 0, "failed": 0, "waiting": 1}


def test_a_worker_is_stopped_before_nobody_listens_to_it():
    order, worker = Mock(), workers._Worker.__new__(workers._Worker)
    worker.connection, worker.process = order.connection, order.process
    worker.end()
    assert order.mock_calls == [call.process.kill(), call.process.join(), call.connection.close()]


def test_a_tile_that_nobody_hears_of_is_no_fault_of_the_scan(scans, tmp_path, monkeypatch):
    batch = indexed([scans / "a"], tmp_path / "out", SETTINGS)
    answers = []

    def send(answer):
        if isinstance(answer, tuple):
            raise BrokenPipeError
        answers.append(answer)

    monkeypatch.setattr(workers, "_end_with_parent", lambda: None)
    monkeypatch.setattr(workers.signal, "signal", lambda *_: None)
    workers._work(
        Mock(send=send, recv=Mock(side_effect=[*batch.jobs, EOFError])), batch.folder.root, SETTINGS
    )
    assert answers == [None]


def test_two_commands_at_once_are_refused(scans, tmp_path):
    first, second = (Batch([scans / "a"], tmp_path / "out", SETTINGS) for _ in range(2))
    first.update_index()
    running = first.run(first.todo(), workers=1)
    next(running)
    second.update_index()
    with pytest.raises(AutosamEdgeError, match="AE-BATCH-003"):
        list(second.run(second.todo(), workers=1))
    running.close()


def test_no_path_and_no_name_of_a_patient_is_in_what_is_shown(scans, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(scans / "a", scans / "Mustermann")
    batch = Batch([scans], out, SETTINGS)
    run(batch)
    batch.finish()
    shown = (
        (out / "organs.csv").read_text()
        + (out / "index.html").read_text()
        + json.dumps([path.name for path in out.rglob("*")])
    )
    for private in ("Mustermann", "SECRET", str(scans)):
        assert private not in shown
    batch.finish(show_paths=True)
    assert str(scans) in (out / "organs.csv").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True], ids=["whole", "killed"])
def test_a_dask_cluster_gives_the_same_table(scans, tmp_path, monkeypatch, killed):
    distributed = pytest.importorskip("distributed")
    local, cluster = tmp_path / "local", tmp_path / "cluster"
    batch = Batch([scans], local, SETTINGS)
    run(batch)
    batch.finish()
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0", local_directory=tmp_path / "dask"
    ) as started:
        monkeypatch.chdir(tmp_path)
        batch = indexed([scans], Path("cluster"), SETTINGS)
        results = batch.run(batch.todo(), workers=1, scheduler=started.scheduler_address)
        next(results)
        if killed:
            os.kill(started.workers[0].pid, signal.SIGKILL)
        assert len(list(results)) == 4
        batch.finish()
    assert (local / "organs.csv").read_text() == (cluster / "organs.csv").read_text()
    assert list((cluster / ".work").iterdir()) == []


def test_workers_of_a_cluster_that_write_elsewhere_end_the_batch(scans, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    client = Mock(submit=lambda *_, **__: Mock(result=lambda: None))
    monkeypatch.setattr(distributed, "Client", lambda _: nullcontext(client))
    monkeypatch.setattr(distributed, "as_completed", list)
    with pytest.raises(BatchError, match="AE-BATCH-007"):
        run(Batch([scans / "a"], tmp_path / "out", SETTINGS), scheduler="tcp://127.0.0.1:9")


def test_the_workers_of_a_scheduler_do_not_share_this_computer(tmp_path, monkeypatch):
    """The limits hold for each worker, whatever this computer has; its number of workers is refused."""
    found = []

    def note(_batch, _inputs, _out, settings, _selection):
        found.append((settings.threads, settings.max_memory_mb))
        raise BATCH_IN_USE("this is enough.")

    monkeypatch.setattr("autosam_edge.cli.batch.Batch.__init__", note)
    monkeypatch.setattr("autosam_edge.cli.batch.available_cores", lambda: 8)
    monkeypatch.setattr("autosam_edge.batch.cluster.has_workers", lambda _: True)
    command = ["batch", str(tmp_path), "-o", str(tmp_path / "out"), "--max-memory", "4000"]
    cluster = [*command, "--scheduler", "tcp://127.0.0.1:9"]
    for one in (command, cluster, [*cluster, "--threads", "2"]):
        CliRunner().invoke(app, one)
    assert found == [(2, 1000), (1, 4000), (2, 4000)]
    refused = CliRunner().invoke(app, [*cluster, "--workers", "2"])
    assert refused.exit_code == 2
    assert "--workers: has no effect with --scheduler" in unframed(refused.output)


@pytest.mark.parametrize("address", ["nonsense", "tcp://127.0.0.1:9"])
def test_a_scheduler_that_cannot_be_reached_is_said_before_a_folder_is_made(tmp_path, address):
    pytest.importorskip("distributed")
    dask = pytest.importorskip("dask")
    out = tmp_path / "out"
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        refused = CliRunner().invoke(app, ["batch", str(tmp_path), "-o", str(out), "--scheduler", address])
    assert isinstance(refused.exception, BatchError), refused.output
    assert refused.exception.code == "AE-BATCH-008"
    assert "the same command goes on" in refused.exception.remedy
    assert not out.exists()


def test_a_scheduler_without_workers_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.batch.cluster.has_workers", lambda _: False)
    (tmp_path / "in").mkdir()
    folders = [str(tmp_path / "in"), "-o", str(tmp_path / "out")]
    command = ["batch", *folders, "--scheduler", "tcp://127.0.0.1:9"]
    assert "waiting for workers" in CliRunner().invoke(app, command).output


def test_a_scheduler_that_ends_during_the_run_is_said(scans, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed")
    future = Mock(result=Mock(side_effect=distributed.client.FutureCancelledError("a", "lost")))
    client = Mock(submit=lambda *_, **__: future)
    monkeypatch.setattr(distributed, "Client", lambda _: nullcontext(client))
    monkeypatch.setattr(distributed, "as_completed", list)
    with pytest.raises(BatchError, match="AE-BATCH-008"):
        run(Batch([scans / "a"], tmp_path / "out", SETTINGS), scheduler="tcp://127.0.0.1:9")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_the_name_of_the_folder_need_not_be_utf_8(tmp_path):
    pytest.importorskip("pyarrow")
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    write_table([Row("0", "waiting")], folder)
    assert (folder / "organs.parquet").read_bytes()[:4] == b"PAR1"


def test_the_command_ends_with_the_table_and_an_error_for_the_failed_scans(scans, tmp_path, command):
    options = ["--engine", "onnx", "--accept-implausible", "--workers", 1]
    code, printed, said = command(scans, "-o", tmp_path / "out", *options)
    assert code == 12
    assert printed.startswith("3 done, 2 failed, 0 waiting, ")
    assert "\n1 series of fewer than three slices passed over\n" in printed
    assert "error AE-BATCH-001" in said
    assert (tmp_path / "out" / "index.html").exists()

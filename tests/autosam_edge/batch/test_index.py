"""What a batch does with files that move, are named oddly or cannot be read, and with empty lists."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from autosam_edge_test_batch import indexed, watching
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from autosam_edge_test_support import wait_until
from typer.testing import CliRunner

from autosam_edge.batch import index as index_module
from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.index import Index
from autosam_edge.batch.job import Fault, Settings
from autosam_edge.cli import app
from autosam_edge.cli.batch import _declared
from autosam_edge.error_codes import (
    INPUT_KIND_UNKNOWN,
    INPUT_UNREADABLE,
    OUTPUT_NOT_WRITABLE,
    PATH_MISSING,
    SEG_SOURCE_UNUSABLE,
)
from autosam_edge.errors import AutosamEdgeError, BundleError
from autosam_edge.formats.metaimage import write_metaimage
from autosam_edge.formats.nifti import write_nifti
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.node.status import Counts
from autosam_edge.node.watch import watch
from autosam_edge.volume import Segmentation

SETTINGS = Settings(engine="onnx", threads=1, accept_implausible=True, formats=("json",))


@pytest.fixture
def scans(tmp_path):
    root = tmp_path / "in"
    CtFolder(root / "a").write()
    return root


def jobs(path, *inputs):
    with closing(Index(path)) as index:
        index.update(inputs)
        return list(index.jobs())


def code_of(*arguments):
    with pytest.raises(AutosamEdgeError) as caught:
        Batch(*arguments)
    return caught.value.code


def test_files_that_move_while_the_index_looks_are_passed_over(scans, tmp_path, monkeypatch):
    arriving, look = scans / "a" / "zz.tmp", Index._look_at
    arriving.write_bytes(b"on its way")
    monkeypatch.setattr(Index, "_look_at", lambda *of: (look(*of), arriving.unlink(missing_ok=True)))
    found = jobs(tmp_path / "i", scans)
    assert [(len(job.files), job.fault) for job in found] == [(5, None)]


def test_a_name_that_is_not_utf8_is_indexed_and_segmented(scans, tmp_path):
    try:
        min((scans / "a").iterdir()).rename(scans / "a" / os.fsdecode(b"M\xfcller.dcm"))
    except OSError:
        pytest.skip("this file system has no such names")
    batch = indexed([scans], tmp_path / "out", SETTINGS)
    assert [len(job.files) for job in batch.jobs] == [5]
    assert [fault for _, fault in batch.run(batch.todo(), workers=1)] == [None]
    assert batch.finish(show_paths=True)["done"] == 1


def test_a_folder_that_cannot_be_read_fails_alone(scans, tmp_path, monkeypatch):
    CtFolder(scans / "a" / "below").write()
    listing = os.scandir

    def scandir(path):
        if str(path).endswith("below"):
            raise PermissionError(13, "denied")
        return listing(path)

    monkeypatch.setattr(index_module.os, "scandir", scandir)
    codes = sorted(job.fault.code if job.fault else "" for job in jobs(tmp_path / "i", scans))
    assert codes == ["", "AE-INPUT-003"]


def test_an_error_is_forgotten_when_the_file_can_be_read(scans, tmp_path, monkeypatch):
    """Permissions change without the time of the file."""
    locked, opened = min((scans / "a").iterdir()), Path.open

    def refuse(path, *arguments, **more):
        if path == locked:
            raise PermissionError(13, "denied")
        return opened(path, *arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        [before] = jobs(tmp_path / "i", scans)
        (scans / "0").write_text("so that the file has another number")
        [again] = jobs(tmp_path / "i", scans)
    assert before.fault.code == "AE-INPUT-003"
    assert (before.stamp, before.fault.code) == (again.stamp, again.fault.code)
    assert [job.fault for job in jobs(tmp_path / "i", scans)] == [None]


def test_files_that_cannot_be_looked_at_fail_alone(scans, tmp_path, monkeypatch):
    CtFolder(scans / "b").write()
    lstat = Path.lstat

    def refuse(path):
        if path.parent.name == "b":
            raise PermissionError(13, "denied")
        return lstat(path)

    monkeypatch.setattr(Path, "lstat", refuse)
    codes = sorted(job.fault.code if job.fault else "" for job in jobs(tmp_path / "i", scans))
    assert codes == ["", "AE-INPUT-003"]


def test_an_input_that_cannot_be_looked_at_is_refused(scans, tmp_path, monkeypatch):
    look = Path.stat

    def refuse(path, **more):
        if path == scans:
            raise PermissionError(13, "denied")
        return look(path, **more)

    monkeypatch.setattr(Path, "stat", refuse)
    assert code_of([scans], tmp_path / "out", SETTINGS) == "AE-INPUT-003"


@pytest.mark.parametrize(
    ("header", "named", "voxels"),
    [
        ("x.mhd", "ObjectType = Image\nElementDataFile = x.raw\n", "x.raw"),
        ("x.nhdr", "NRRD0004\r\ndatafile:x.raw\r\nkey:=data file: y.raw\r\n", "x.raw"),
        ("x.hdr", "", "x.img"),
        ("X.Hdr", "", "x.Img"),
    ],
)
def test_a_volume_in_two_files_is_stamped_by_both(tmp_path, header, named, voxels):
    root = tmp_path / "in"
    root.mkdir()
    (root / header).write_text(named)
    voxels = root / voxels
    stamps = []
    for content, time_s in ((None, 0), ("half", 5e9), ("whole", 5e9), ("other", 1e9)):
        if content:
            voxels.write_text(content)
            os.utime(voxels, (time_s,) * 2)
        [job] = jobs(tmp_path / "i", root)
        stamps.append(job.stamp)
        assert (job.newest_s == 5e9) == (time_s == 5e9)
    assert len(set(stamps)) == 4
    assert [job.stamp for job in jobs(tmp_path / "i", root)] == stamps[-1:]


@pytest.mark.parametrize(
    ("reason", "code"),
    [("database or disk is full", "AE-OUTPUT-003"), ("database disk image is malformed", "AE-OUTPUT-001")],
)
def test_an_index_that_cannot_be_written_is_an_error_with_a_code(scans, tmp_path, monkeypatch, reason, code):
    def fail(*_):
        raise sqlite3.DatabaseError(reason)

    batch = Batch([scans], tmp_path / "out", SETTINGS)
    monkeypatch.setattr(Index, "_look_at", fail)
    with pytest.raises(AutosamEdgeError, match=code):
        batch.update_index()


def test_an_index_that_another_process_writes_is_in_use(scans, tmp_path, monkeypatch):
    batch = indexed([scans], tmp_path / "out", SETTINGS)
    connect = sqlite3.connect
    with closing(connect(tmp_path / "out" / "index.sqlite")) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(sqlite3, "connect", lambda path: connect(path, timeout=0))
        with pytest.raises(AutosamEdgeError, match="AE-BATCH-003"):
            batch.update_index()


def test_a_damaged_index_is_made_again(scans, tmp_path):
    (tmp_path / "i").write_bytes(b"no database" * 100)
    assert len(jobs(tmp_path / "i", scans)) == 1


def test_the_umask_says_who_may_write_the_index(scans, tmp_path):
    """SQLite alone would let nobody but its owner write it, so that a group could not share a batch."""
    before = os.umask(0o002)
    try:
        jobs(tmp_path / "i", scans)
    finally:
        os.umask(before)
    assert (tmp_path / "i").stat().st_mode & 0o777 == 0o664


def test_a_file_that_is_given_is_a_scan_whatever_its_name(tmp_path):
    (tmp_path / "scan").write_bytes(b"\x5c\x01\0\0" + bytes(344))
    assert [job.dicom for job in jobs(tmp_path / "i", tmp_path / "scan")] == [False]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.csv", ""),
        ("list.csv", "series\n \n"),
        ("list.csv", "path,series\n , \n"),
        ("list.csv", "scan\n1.2.3\n"),
        ("list.txt", " \n"),
    ],
)
def test_a_list_without_a_scan_does_not_mean_all(scans, tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert code_of([scans, tmp_path / name], tmp_path / "out", SETTINGS) == "AE-BATCH-004"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("separator", ["\n", ", ", ";", ",\r\n"])
def test_every_series_of_a_text_file_is_wanted(scans, tmp_path, separator):
    """A line may hold several, with commas or semicolons between them."""
    others = [CtFolder(scans / name) for name in ("b", "c")]
    for other in others:
        other.write()
    (tmp_path / "list.txt").write_text(separator.join(other.series_uid for other in others) + separator)
    batch = indexed([scans, tmp_path / "list.txt"], tmp_path / "out", SETTINGS)
    assert (len(batch.jobs), batch.not_found) == (2, 0)


def test_a_series_that_no_folder_holds_is_an_error_at_the_end(scans, tmp_path, command):
    other = CtFolder(scans / "b")
    other.write()
    (tmp_path / "list.txt").write_text(f"{other.series_uid}\n1.2.3.4\n")
    code, _, said = command(
        scans, tmp_path / "list.txt", "-o", tmp_path / "out", "--format", "json", "--accept-implausible"
    )
    assert code == 12
    assert "error AE-BATCH-004: 1 series of the lists are in none of the folders" in said
    assert len(list((tmp_path / "out" / "scans").iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "content", "code", "said"),
    [
        ("list.csv", b"path\nin\nabsent\n", "AE-INPUT-001", "the path in line 3 of the list does not"),
        ("list.csv", "path;Gerät\nin;x\n".encode("cp1252"), "AE-BATCH-004", 'UTF-8.*"CSV UTF-8"'),
        ("list.txt", b"in/a b.nii.gz\n", "AE-BATCH-004", 'heading "path"'),
        ("list.txt", b"b.nii.gz\n", "AE-BATCH-004", 'heading "path"'),
    ],
    ids=["absent", "encoding", "paths", "names"],
)
def test_a_list_that_is_not_what_it_must_be_says_what_it_is(scans, tmp_path, name, content, code, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AutosamEdgeError, match=f"{code}.*{said}"):
        Batch([scans, tmp_path / name], tmp_path / "out", SETTINGS)


def test_own_labels_are_no_scans_unless_they_are_given(tmp_path):
    grid = Grid((3, 4, 5), np.eye(4))
    segmentation = Segmentation(np.ones(grid.shape, np.uint8), grid, BTCV_LABELS)
    (tmp_path / "in").mkdir()
    own = [tmp_path / "in" / name for name in ("a.nii.gz", "b.mha")]
    write_nifti(segmentation, own[0])
    write_metaimage(segmentation, own[1])
    (tmp_path / "in" / "c.nii").write_bytes(bytes(352))
    own[0].with_name("d.zip").write_bytes(own[0].read_bytes())  # as `serve --http` names what is posted
    assert {Path(*job.files).name for job in jobs(tmp_path / "i", tmp_path / "in")} == {"c.nii", "d.zip"}
    assert len(jobs(tmp_path / "i", tmp_path / "in", *own)) == 4
    assert len(jobs(tmp_path / "j", *own, tmp_path / "in")) == 4


def test_a_series_on_a_list_that_is_too_short_is_not_missing(scans, tmp_path):
    short = CtFolder(scans / "short")
    short.write(2)
    (tmp_path / "list.txt").write_text(short.series_uid)
    batch = indexed([scans, tmp_path / "list.txt"], tmp_path / "out", SETTINGS)
    assert (batch.jobs, batch.not_found, len(batch.passed_over())) == ([], 0, 1)


def test_a_code_to_retry_that_does_not_exist_is_wrong_usage(scans, tmp_path, command):
    code, _, said = command(scans, "-o", tmp_path / "out", "--retry", "AE-NO-SUCH")
    assert code == 2
    assert "AE-NO-SUCH" in said
    assert not (tmp_path / "out").exists()
    assert _declared(["ae-nifti-007"]) == {"AE-NIFTI-007"}


def test_inputs_without_a_scan_are_an_error(tmp_path, command):
    (tmp_path / "empty").mkdir()
    code, _, said = command(tmp_path / "empty", "-o", tmp_path / "out")
    assert code == 3
    assert "error AE-INPUT-002: the input holds no CT scan" in said
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert command(tmp_path / "empty", "-o", tmp_path / "out")[0] == 3
    assert (tmp_path / "out" / "notes.txt").exists()


@pytest.mark.parametrize("name", ["batch", "watch", "serve"])
def test_a_wrong_bundle_leaves_no_folder(name, scans, tmp_path):
    source = [] if name == "serve" else [str(scans)]
    arguments = [name, *source, "-o", str(tmp_path / "out"), "--bundle", str(tmp_path / "absent.edge")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, BundleError), refused.output
    assert not (tmp_path / "out").exists()


def test_outputs_that_cannot_be_used_are_refused_and_inputs_come_first(scans, tmp_path):
    (tmp_path / "file").write_text("x")
    assert code_of([scans], tmp_path / "file", SETTINGS) == "AE-OUTPUT-002"
    assert code_of([tmp_path / "absent"], tmp_path / "new", SETTINGS) == "AE-INPUT-001"
    assert not (tmp_path / "new").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "settings.json").write_text("{")
    assert code_of([scans], tmp_path / "out", SETTINGS) == "AE-BATCH-002"


def test_watch_waits_for_a_folder_that_is_away(scans, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.watch._AWAY_S", 0.05)
    batch = Batch([scans], tmp_path / "out", SETTINGS)
    shutil.move(scans, tmp_path / "away")
    with watching(batch) as counts:
        time.sleep(0.3)
        shutil.move(tmp_path / "away", scans)
        wait_until(counts.all)
    assert counts.all() == {"segmented": 1}


def test_watch_waits_longer_each_time_while_its_record_cannot_be_written(scans, tmp_path, monkeypatch):
    """It segments the scan again each time. A look at a folder that is away costs little."""
    monkeypatch.setattr("autosam_edge.node.watch._PAUSE_S", 0.0)
    (tmp_path / "out" / "audit.jsonl").mkdir(parents=True)
    batch = Batch([scans], tmp_path / "out", SETTINGS)
    monkeypatch.setattr(batch, "run", Mock(side_effect=OUTPUT_NOT_WRITABLE("the record cannot be written.")))
    batch.update_index()
    looks = [*[None] * 8, PATH_MISSING("it is away.")]
    monkeypatch.setattr(batch, "update_index", Mock(side_effect=looks))
    stop = Mock()
    stop.wait.side_effect = [False] * 9 + [True]
    watch(batch, stop, counts=Counts())
    pauses = [call.args[0] for call in stop.wait.call_args_list]
    assert pauses == [0.0, 5, 10, 20, 40, 80, 160, 300, 300, 5]


def test_watch_tells_once_of_a_short_series_and_waits_for_another_batch(scans, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("autosam_edge.node.watch._AWAY_S", 0.05)
    CtFolder(scans / "short").write(2)
    batch = Batch([scans], tmp_path / "out", SETTINGS)
    with ExitStack() as watched:
        with batch.folder.locked("index"):
            counts = watched.enter_context(watching(batch))
            time.sleep(1)
        wait_until(lambda: len(counts.all()) == 2)
        time.sleep(1)
    assert counts.all() == {"passed_over": 1, "segmented": 1}
    said = capsys.readouterr().err
    assert said.count(" passed_over scan=") == 1
    assert " waiting code=AE-BATCH-003" in said


@pytest.mark.parametrize("count", [2, 5], ids=["short", "scan"])
@pytest.mark.parametrize("date_s", [-1e6, 1e6], ids=["past", "future"])
def test_a_scan_settles_whatever_the_dates_of_its_files_are(tmp_path, date_s, count, monkeypatch):
    """Each change of its files begins the time anew, also a file that is older than the others."""
    now, root, date = [0.0], tmp_path / "in", (time.time() + date_s,) * 2
    monkeypatch.setattr("autosam_edge.batch.batch.time.monotonic", lambda: now[0])
    files = CtFolder(root).write(count)
    for file in files:
        os.utime(file, date)
    shutil.move(files[0], tmp_path / "late")
    batch = Batch([root], tmp_path / "out", SETTINGS, Selection(settle_s=60))

    def settled_at(time_s):
        now[0] = time_s
        batch.update_index()
        return len([*batch.todo(), *batch.passed_over()])

    assert [settled_at(0), settled_at(59), settled_at(60)] == [0, 0, 1]
    shutil.move(tmp_path / "late", files[0])
    os.utime(files[0], (1e9, 1e9))
    assert [settled_at(61), settled_at(120), settled_at(121)] == [0, 0, 1]
    with files[1].open("ab") as file:
        file.write(b"\0\0")
    os.utime(files[1], date)
    assert [settled_at(122), settled_at(181), settled_at(182)] == [0, 0, 1]
    at_once = indexed([root], tmp_path / "other", SETTINGS)
    assert len([*at_once.todo(), *at_once.passed_over()]) == 1


@pytest.mark.parametrize(
    ("error", "of_index", "options", "tries"),
    [
        (PATH_MISSING, False, {}, 10),
        (INPUT_UNREADABLE, False, {}, 10),
        (SEG_SOURCE_UNUSABLE, False, {}, 10),
        (SEG_SOURCE_UNUSABLE, False, {"retry": frozenset()}, 1),
        (INPUT_UNREADABLE, True, {}, 1),
        (INPUT_KIND_UNKNOWN, False, {}, 1),
    ],
)
def test_watch_tries_a_scan_whose_files_were_away_again_and_ever_less_often(
    scans, tmp_path, monkeypatch, error, of_index, options, tries
):
    """After 10, 20, 40 ... minutes, at most a day.

    A fault that the index still finds is not tried again: when it ends, the scan counts as changed.
    """
    now, fault = [0.0], Fault.of(error("it was away."))
    monkeypatch.setattr("autosam_edge.node.watch.time.monotonic", lambda: now[0])
    batch, counts, stop = Batch([scans], tmp_path / "out", SETTINGS), Counts(), Mock()
    batch.update_index()
    [job] = batch.jobs
    batch.jobs = [replace(job, fault=fault if of_index else None)]
    monkeypatch.setattr(batch, "update_index", lambda: None)

    def run(todo, **_):
        for job in todo:
            batch.folder.set_fault(job, fault)
            yield job, fault

    def wait(_):
        now[0] += 600
        return now[0] > 300_000

    monkeypatch.setattr(batch, "run", run)
    stop.wait = wait
    watch(batch, stop, counts=counts, **options)
    assert counts.all() == {"failed": tries}


def test_a_list_of_paths_and_series_means_both(scans, tmp_path):
    wanted, other = CtFolder(scans / "b"), CtFolder(scans / "c")
    wanted.write()
    other.write()
    (tmp_path / "case.nii").write_bytes(b"\x5c\x01\0\0" + bytes(344))
    (tmp_path / "list.csv").write_text(f"path,series\ncase.nii,\nin,{wanted.series_uid}\n")
    batch = indexed([tmp_path / "list.csv"], tmp_path / "out", SETTINGS)
    assert sorted(len(job.files) for job in batch.jobs) == [1, 5]
    assert batch.not_found == 0

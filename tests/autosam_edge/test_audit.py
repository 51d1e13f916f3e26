"""The record of what ran: whole, or the line that was touched is named."""

from __future__ import annotations

import json
import multiprocessing

import pytest
from typer.testing import CliRunner

from autosam_edge.audit import append, verify
from autosam_edge.cli import app
from autosam_edge.errors import AuditError, OutputError


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "audit.jsonl"
    for number in range(4):
        append(path, {"run": number})
    return path


def test_an_untouched_record_holds(record):
    first = verify(record)
    append(record, {"scan": "0123456789abcdef", "error": "AE-DICOM-016"})
    second = verify(record)
    assert (first.entries, second.entries) == (4, 5)
    assert json.loads(record.read_text().splitlines()[-1])["before"] == first.head != second.head


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: [*lines[:1], lines[1].replace('"run": 1', '"run": 7'), *lines[2:]], 2),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: [*lines, "{"], 5),
        (lambda lines: [*lines, "[]"], 5),
    ],
    ids=["changed", "taken-out", "first-taken", "swapped", "doubled", "cut", "no-object"],
)
def test_a_touched_line_is_named(record, change, line):
    record.write_text("\n".join(change(record.read_text().splitlines())) + "\n")
    with pytest.raises(AuditError, match=f"line {line} ") as caught:
        verify(record)
    assert caught.value.code == "AE-AUDIT-001"


def test_a_last_line_without_its_end_stays_whole(record):
    record.write_bytes(record.read_bytes().rstrip(b"\n"))
    append(record, {"run": 4})
    chain = verify(record)
    assert chain.entries == 5
    noted = CliRunner().invoke(app, ["audit", "verify", str(record), "--head", f" {chain.head.upper()}\n"])
    assert noted.exit_code == 0


def test_nothing_is_added_behind_a_damaged_line(record):
    with record.open("a") as file:
        file.write('{"hash": ')
    with pytest.raises(AuditError, match="last line"):
        append(record, {"run": 5})


def test_a_full_disk_leaves_the_record_as_it_was(record):
    """A limit on the size of files stands for the disk: a part of the line still finds room."""
    resource = pytest.importorskip("resource")
    before, limits = record.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, limits[1]))
    try:
        with pytest.raises(OutputError, match="AE-OUTPUT-003"):
            append(record, {"run": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert record.read_bytes() == before
    append(record, {"run": 4})
    assert verify(record).entries == 5


def _add(path):
    for number in range(20):
        append(path, {"run": number})


def test_processes_that_write_at_once_make_one_chain(record):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_add, args=(record,)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert verify(record).entries == 44

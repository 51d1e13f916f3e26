"""The folder of a batch: whose fault it is when results cannot take their place, and what it removes."""

from __future__ import annotations

import errno
from pathlib import Path
from unittest.mock import Mock

import pytest
from autosam_edge_test_batch import indexed

from autosam_edge.batch.folder import BatchFolder
from autosam_edge.batch.job import Job, Settings
from autosam_edge.errors import InputError, OutputError


@pytest.mark.parametrize(
    ("method", "number", "code"),
    [("rename", errno.ENOSPC, "AE-OUTPUT-003"), ("unlink", errno.EROFS, "AE-OUTPUT-001")],
)
def test_results_that_cannot_take_their_place_are_no_fault_of_the_scan(
    tmp_path, monkeypatch, method, number, code
):
    folder = BatchFolder(tmp_path / "out")
    job = Job("0" * 16, (), dicom=True, newest_s=0.0, stamp="now", fault=None)
    monkeypatch.setattr(Path, method, Mock(side_effect=OSError(number, "")))
    with pytest.raises(OutputError, match=code), folder.new_results(job) as stage:
        stage.mkdir()


@pytest.mark.parametrize("name", ["notes.txt", "scans/notes.txt", "index-2-of-2.sqlite"])
def test_what_others_put_into_a_new_folder_stays(tmp_path, name):
    (tmp_path / "empty").mkdir()
    batch = indexed([tmp_path / "empty"], tmp_path / "out", Settings(engine="onnx"))
    (tmp_path / "out" / name).write_text("theirs")
    with pytest.raises(InputError, match="AE-INPUT-002"):
        batch.require_scans()
    assert (tmp_path / "out" / name).read_text() == "theirs"
    assert (tmp_path / "out" / "index.sqlite").exists() == (name != "notes.txt")

"""A file or a folder appears whole or not at all, and an older one of ours is there until then."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from autosam_edge.errors import OutputError
from autosam_edge.system.atomic_files import explained, staged_file, staged_folder, write_file, write_files
from autosam_edge.system.staging import sync


def write(out, text, **options):
    with staged_folder(out, **options) as stage:
        (stage / "manifest.json").write_text(text)


def test_it_appears_at_the_end(tmp_path):
    """Nothing is there while the block runs; an empty folder is as good as none."""
    for out in (tmp_path / "a" / "b", tmp_path / "empty"):
        if out.name == "empty":
            out.mkdir()
        with staged_folder(out) as stage:
            (stage / "x").write_text("x")
            assert not (out / "x").exists()
        assert [path.name for path in out.parent.iterdir() if path.name.startswith(".")] == []
        assert (out / "x").read_text() == "x"


def test_an_error_leaves_nothing(tmp_path):
    """Whatever is raised in the block goes on; a full disk has its code."""

    def fail(error):
        with staged_folder(tmp_path / "a") as stage:
            (stage / "x").write_text("x")
            raise error

    with pytest.raises(KeyError):
        fail(KeyError())
    with pytest.raises(OutputError, match="AE-OUTPUT-003"):
        fail(OSError(28, "full"))
    assert list(tmp_path.iterdir()) == []


def test_an_older_one_gives_way_only_where_it_may(tmp_path):
    """By the name of a file in it; anything else is refused before the work."""
    write(tmp_path / "a", "old")
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        write(tmp_path / "a", "new")
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        write(tmp_path / "a", "new", replaces="other.json")
    assert (tmp_path / "a" / "manifest.json").read_text() == "old"
    write(tmp_path / "a", "new", replaces="manifest.json")
    assert (tmp_path / "a" / "manifest.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_older_one_comes_back_where_the_new_cannot_take_its_place(tmp_path, monkeypatch):
    """The last rename fails: the old content is there, and nothing else."""
    write(tmp_path / "a", "old")
    honest = Path.replace

    def failing(self, target):
        if self.parent.name == "new":
            raise OSError(5, "no")
        return honest(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        write(tmp_path / "a", "new", replaces="manifest.json")
    assert (tmp_path / "a" / "manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_one_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    """It replaces what was there.

    When the disk fills up the old file stays, and nothing is left beside it.
    """
    path = tmp_path / "new" / "picture.png"
    write_file(b"old", path)

    def full(self, content):
        raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError) as caught:
            write_file(b"new", path)
    assert caught.value.code == "AE-OUTPUT-003"
    assert path.read_bytes() == b"old"
    write_file(b"new", path)
    assert path.read_bytes() == b"new"
    assert [entry.name for entry in path.parent.iterdir()] == ["picture.png"]
    with pytest.raises(OutputError) as caught:
        write_file(b"new", tmp_path / "new")
    assert caught.value.code == "AE-OUTPUT-002"


def test_several_files_are_all_old_or_all_new_when_one_cannot_be_made(tmp_path, monkeypatch):
    """The second of two fails while it is written: the first has not taken its name yet."""
    one, two = tmp_path / "one", tmp_path / "two"
    write_files({one: b"old", two: b"old"})
    honest = Path.write_bytes

    def failing(self, content):
        if self.name == "two":
            raise OSError(errno.EIO, "no")
        return honest(self, content)

    monkeypatch.setattr(Path, "write_bytes", failing)
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        write_files({one: b"new", two: b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"one": b"old", "two": b"old"}


def test_a_full_disk_is_told_also_where_its_number_is_only_in_the_cause():
    """Pydicom raises an OSError of its own from that of the operating system."""

    def fail():
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise OSError("with tag (0008,0018)") from error

    with pytest.raises(OutputError, match="AE-OUTPUT-003"), explained():
        fail()


def test_a_folder_that_cannot_be_written_through_is_passed_over(tmp_path, monkeypatch):
    """Some network shares refuse to do so; for a file it is an error."""

    def refuse(handle):
        raise OSError(errno.EINVAL, "not for this")

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    with pytest.raises(OSError, match="not for this"):
        sync(tmp_path / "file")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_file_whose_making_is_interrupted_leaves_the_old_one(error, tmp_path):
    """What is no error of the disk goes on as it is."""
    write_file(b"old", tmp_path / "weights")

    def fail():
        with staged_file(tmp_path / "weights") as stage:
            stage.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"weights": b"old"}

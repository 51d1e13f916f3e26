"""A folder appears whole or not at all, and an older one of ours is there until then."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")
from autosam_edge.errors import OutputError
from autosam_edge_training.data import staged_folder


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
    honest = Path.rename

    def failing(self, target):
        if self.suffix == ".partial":
            raise OSError(5, "no")
        return honest(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        write(tmp_path / "a", "new", replaces="manifest.json")
    assert (tmp_path / "a" / "manifest.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

"""The list of cases says which data they are, wherever they lie, and refuses a case that is there twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("scipy")
from autosam_edge_test_datasets import SPACING_MM, write_btcv
from autosam_edge_test_support import refused

from autosam_edge.errors import InputError
from autosam_edge_training.data import LAYOUTS, Entry, Manifest, make_manifest
from autosam_edge_training.strict import as_dict

LABELS = ("background", "spleen")


def entry(name, digest="0"):
    return Entry(
        name, Path(f"{name}.nii.gz"), Path(f"{name}-label.nii.gz"), digest * 64, "f" * 64, (3.0, 1.0, 1.0)
    )


AN_ENTRY = as_dict(entry("z"))


@pytest.fixture
def btcv(tmp_path):
    """A manifest of a small BTCV, in a folder beside it."""
    manifest = make_manifest(LAYOUTS["btcv"](write_btcv(tmp_path / "tree" / "data")))
    (tmp_path / "tree" / "prepared").mkdir()
    path = tmp_path / "tree" / "prepared" / "manifest.json"
    manifest.write(path)
    return path


def change(path, **changes):
    """Replace keys of a manifest."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_manifest_comes_back_as_it_was(btcv):
    """Names, paths, hashes, spacing, labels, warnings."""
    manifest = Manifest.read(btcv)
    made = make_manifest(LAYOUTS["btcv"](btcv.parents[1] / "data"))
    assert manifest == made
    assert manifest.sha256 == made.sha256
    (first, _) = manifest.entries("training")
    assert first.image.name == "img0001.nii.gz"
    assert first.image.is_absolute()
    assert first.spacing_mm == SPACING_MM


def test_monai_reads_it(btcv):
    """Decathlon's form: MONAI finds every image and label."""
    data = pytest.importorskip("monai.data")
    listing = data.load_decathlon_datalist(
        btcv,
        is_segmentation=True,
        data_list_key="training",
        base_dir=btcv.parent / json.loads(btcv.read_text())["root"],
    )
    assert [Path(item["image"]).name for item in listing] == ["img0001.nii.gz", "img0002.nii.gz"]
    assert all(Path(item[key]).is_file() for item in listing for key in ("image", "label"))


def test_a_tree_that_is_moved_still_finds_its_files(btcv, tmp_path):
    """The root is relative, and the hash does not depend on it."""
    before = Manifest.read(btcv).sha256
    shutil.move(tmp_path / "tree", tmp_path / "elsewhere")
    moved = Manifest.read(tmp_path / "elsewhere" / "prepared" / "manifest.json")
    assert moved.sha256 == before
    assert len(moved.entries("test")) == 1


def test_an_absolute_root_is_taken_as_it_is(btcv, tmp_path):
    """Data may lie on another disk."""
    change(btcv, root=str(tmp_path / "tree" / "data"))
    assert len(Manifest.read(btcv).entries("training")) == 2


@pytest.mark.parametrize("field", ["labels", "split", "image", "label"])
def test_the_hash_tells_other_data(field):
    """Another name of an organ, another split, another image or label file."""
    manifest = Manifest("d", LABELS, Path(), (entry("a"), entry("b", "1")))
    other = {
        "labels": dataclasses.replace(manifest, labels=("background", "liver")),
        "split": dataclasses.replace(manifest, training=(entry("a"),), test=(entry("b", "1"),)),
        "image": dataclasses.replace(manifest, training=(entry("a", "2"), entry("b", "1"))),
        "label": dataclasses.replace(
            manifest, training=(dataclasses.replace(entry("a"), label_sha256="e" * 64), entry("b", "1"))
        ),
    }[field]
    assert other.sha256 != manifest.sha256
    assert dataclasses.replace(manifest, root=Path("x"), warnings=("w",)).sha256 == manifest.sha256


@pytest.mark.parametrize(
    ("training", "test"),
    [
        (("a",), (entry("a", "1"),)),
        (("a",), (entry("b", "0"),)),
        (("a",), (entry("A", "1"),)),
        (("a", "a"), ()),
    ],
    ids=["same name", "same image", "same file name where disks ignore case", "twice in one split"],
)
def test_a_case_that_is_there_twice_is_refused(training, test):
    """By name or by the hash of its image, in two splits or in one."""
    with refused("AE-DATA-004"):
        Manifest("d", LABELS, Path(), tuple(entry(name) for name in training), test=test)


def test_nothing_to_train_on_is_refused():
    """An empty training split."""
    with refused("AE-DATA-005"):
        Manifest("d", LABELS, Path(), (), test=(entry("a"),))


@pytest.mark.parametrize(
    "changes",
    [
        {"spacing": 3},
        {"schema_version": 1},
        {"labels": {"0": "background", "2": "spleen"}},
        {"labels": ["background"]},
        {"training": [{"name": "a"}]},
        {"training": ["a.nii.gz"]},
        {"training": None},
        {"test": [{**AN_ENTRY, "image": "../z.nii.gz"}]},
        {"test": [{**AN_ENTRY, "name": "../z"}]},
        {"test": [{**AN_ENTRY, "image_sha256": "short"}]},
        {"test": [{**AN_ENTRY, "spacing_mm": [1, 0, 1]}]},
    ],
)
def test_a_manifest_that_cannot_be_used_is_refused(changes, btcv):
    """Unknown keys, another version, gaps in the labels, paths that lead out, wrong hashes and spacings."""
    change(btcv, **changes)
    with refused("AE-DATA-006"):
        Manifest.read(btcv)


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_object_is_refused(text, btcv):
    """Cut short, empty, a list."""
    btcv.write_text(text)
    with refused("AE-DATA-006"):
        Manifest.read(btcv)


def test_a_missing_key_is_named(btcv):
    """Not a traceback."""
    content = json.loads(btcv.read_text())
    del content["labels"]
    btcv.write_text(json.dumps(content))
    with pytest.raises(InputError, match="labels: field required"):
        Manifest.read(btcv)


def test_a_file_that_went_away_is_missed(btcv, tmp_path):
    """Before anything is read."""
    (tmp_path / "tree" / "data" / "labelsTr" / "label0035.nii.gz").unlink()
    manifest = Manifest.read(btcv)
    assert manifest.entries("training")
    with refused("AE-DATA-002", "label0035"):
        manifest.entries("test")


def test_a_file_that_changed_is_refused(btcv):
    """Another label than the one that was prepared would score something else."""
    (case,) = Manifest.read(btcv).entries("test")
    case.check()
    case.label.write_bytes(case.label.read_bytes() + b"\0")
    with refused("AE-DATA-008", "label0035"):
        case.check()

"""A data set is prepared whole or not at all, comes back as it was made, and damage is seen."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
from autosam_edge_test_datasets import (
    prepare_btcv,
    scan_and_labels,
    write_amos,
    write_array,
    write_btcv,
    write_partial,
)
from autosam_edge_test_support import refused
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.errors import OutputError
from autosam_edge.formats.nifti import read_array, read_nifti
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training.data import (
    BTCV_INTENSITY,
    LAYOUTS,
    Prepared,
    phantom_case,
    prepare_case,
    prepare_dataset,
    prepare_phantoms,
)

SPACING_MM = (3.0, 3.0, 3.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small BTCV and what was prepared of it; not to be changed."""
    root = tmp_path_factory.mktemp("btcv")
    write_btcv(root / "data")
    return prepare_btcv(root)


@pytest.fixture
def own(tmp_path):
    """The same, for a test to break."""
    write_btcv(tmp_path / "data")
    return prepare_btcv(tmp_path)


def left_over(folder):
    """What an output folder's parent holds beside the data."""
    return sorted(path.name for path in folder.iterdir() if path.name != "data")


def test_a_data_set_comes_back_with_its_split(made):
    """Splits, labels, intensity and the one hash of all of it."""
    sizes = {split: len(names) for split, names in made.split.items()}
    assert sizes == {"training": 2, "validation": 1, "test": 1}
    assert (made.dataset, made.classes, made.targets) == ("btcv", 14, "occupancy")
    assert made.spacing_mm == SPACING_MM
    assert made.intensity == BTCV_INTENSITY
    assert made.sha256 == Prepared.read(made.folder).sha256
    assert made.manifest.sha256 == made.manifest_sha256
    assert made.manifest.warnings[0].startswith("BTCV has 30 labeled cases; 26 are not here")
    for name, arrays in made.arrays.items():
        assert file_digest(made.folder / f"{name}.image.npy") == arrays.image_sha256
        assert file_digest(made.folder / f"{name}.target.npy") == arrays.target_sha256


def test_cases_are_mapped_and_are_what_preparing_one_gives(made):
    """Memory maps that cannot be written, equal to the case made in memory from the same files."""
    (entry, _) = made.manifest.entries("training")
    volume, (labels, grid) = read_nifti(entry.image), read_array(entry.label)
    expected = prepare_case("0001", volume.hu, labels, grid, spacing_mm=SPACING_MM)
    case = made.cases("training")[0]
    assert case.name == "0001"
    assert isinstance(case.image, np.memmap)
    assert not case.image.flags.writeable
    assert not case.target.flags.writeable
    assert np.array_equal(case.image, expected.image)
    assert np.array_equal(case.target, expected.target)


def test_labels_take_one_byte_a_voxel(tmp_path):
    """AMOS with its own window and 16 classes, at another spacing."""
    prepared = prepare_dataset(
        LAYOUTS["amos"](write_amos(tmp_path / "data")),
        tmp_path / "out",
        spacing_mm=(1.5, 1.0, 1.0),
        targets="labels",
    )
    case = prepared.case("amos_0001")
    assert case.shape == (12, 24, 24)
    assert case.target.shape == case.shape
    assert case.labels.max() == 15
    assert case.image.min() < -125  # below the window of BTCV
    with refused("AE-DATA-005"):
        prepared.cases("validation")


def test_the_same_data_are_not_prepared_twice(own):
    """The folder is taken as it is, with a line that says so; other settings want another folder."""
    before = {path.name: path.stat().st_mtime_ns for path in own.folder.iterdir()}
    listing, said = LAYOUTS["btcv"](own.folder.parent / "data"), []
    again = prepare_dataset(listing, own.folder, log=said.append)
    assert again.sha256 == own.sha256
    assert "taken as it is" in said[-1]
    assert {path.name: path.stat().st_mtime_ns for path in own.folder.iterdir()} == before
    with refused("AE-OUTPUT-002"):
        prepare_dataset(listing, own.folder, spacing_mm=(2.0, 2.0, 2.0))


def test_the_same_data_give_the_same_hash(own, made):
    """Wherever they lie."""
    assert own.folder != made.folder
    assert (own.sha256, own.manifest_sha256) == (made.sha256, made.manifest_sha256)


def test_another_folder_is_never_overwritten(tmp_path):
    """Not even before the data were looked at."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("x")
    with refused("AE-OUTPUT-002"):
        prepare_dataset(LAYOUTS["btcv"](write_btcv(tmp_path / "data")), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.txt").exists()


def wrong_value(data):
    labels = scan_and_labels(35)[1]
    labels[3, 3, 3] = 14
    write_array(data / "labelsTr" / "label0035.nii.gz", labels)


def moved_label(data):
    write_array(data / "labelsTr" / "label0035.nii.gz", scan_and_labels(35)[1], shift_mm=1.0)


def other_shape(data):
    write_array(data / "labelsTr" / "label0035.nii.gz", scan_and_labels(35)[1][1:])


def same_file(data):
    (data / "imagesTr" / "img0035.nii.gz").write_bytes((data / "imagesTr" / "img0001.nii.gz").read_bytes())


def same_scan(data):
    raw = gzip.decompress((data / "imagesTr" / "img0001.nii.gz").read_bytes())
    (data / "imagesTr" / "img0035.nii.gz").write_bytes(gzip.compress(raw, compresslevel=1, mtime=1))


def no_image(data):
    (data / "imagesTr" / "img0035.nii.gz").write_bytes(b"not an image")


def two_slices(data):
    for folder, array in zip(("imagesTr/img", "labelsTr/label"), scan_and_labels(35), strict=True):
        write_array(data / f"{folder}0035.nii.gz", array[:2])


def half_a_scan(data):
    path = data / "imagesTr" / "img0035.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:2000]))


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (wrong_value, "AE-DATA-003"),
        (moved_label, "AE-NIFTI-005"),
        (other_shape, "AE-NIFTI-005"),
        (same_file, "AE-DATA-004"),
        (same_scan, "AE-DATA-004"),
        (no_image, "AE-NIFTI-001"),
        (half_a_scan, "AE-NIFTI-001"),
        (two_slices, "AE-NIFTI-006"),
    ],
)
def test_a_run_that_fails_leaves_nothing(break_it, code, tmp_path):
    """Whatever is wrong with the last case, and the error says which it is."""
    break_it(write_btcv(tmp_path / "data"))
    with refused(code) as caught:
        prepare_dataset(LAYOUTS["btcv"](tmp_path / "data"), tmp_path / "out")
    assert str(caught.value).count("case 0035") == 1
    assert left_over(tmp_path) == []


def test_a_run_that_is_stopped_leaves_nothing(tmp_path):
    """Ctrl-C between two cases."""
    listing = LAYOUTS["btcv"](write_btcv(tmp_path / "data"))

    def stop(done, total):
        assert total == 8
        if done == 6:  # four hashed, two prepared
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_dataset(listing, tmp_path / "out", progress=stop)
    assert left_over(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_a_full_disk_is_told(tmp_path, monkeypatch):
    """NumPy's own error about a file has no number that would say so."""
    listing = LAYOUTS["btcv"](write_btcv(tmp_path / "data", ("0001", "0035")))
    open_path = Path.open

    def opened(path, mode="r", **options):
        return open_path(
            Path("/dev/full") if path.suffix == ".npy" and mode == "wb" else path, mode, **options
        )

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", opened)
        with pytest.raises(OutputError) as caught:
            prepare_dataset(listing, tmp_path / "out")
    assert caught.value.code == "AE-OUTPUT-003"
    assert left_over(tmp_path) == []


def cut(folder):
    path = folder / "0001.image.npy"
    path.write_bytes(path.read_bytes()[:-10])


def other_array(folder):
    np.save(folder / "0001.target.npy", np.zeros((3, 3), np.uint8))


def other_header(folder):
    path = folder / "0001.image.npy"
    content = bytearray(path.read_bytes())
    content[20:60] = b"(" * 40
    path.write_bytes(content)


def gone(folder):
    (folder / "0001.target.npy").unlink()


def pickled(folder):
    np.save(folder / "0001.image.npy", np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize("break_it", [cut, other_array, other_header, pickled, gone])
def test_damage_is_seen_when_the_folder_is_opened(break_it, own):
    """Cut short, replaced, a pickle, gone."""
    break_it(own.folder)
    with refused("AE-DATA-007"):
        Prepared.read(own.folder)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"schema_version": 0},
        {"targets": "masks"},
        {"split": {"training": ["0001"], "validation": [], "test": []}},
        {"spacing_mm": [3, 3]},
        {"intensity": {"window_hu": [0, 0], "offset": 0, "scale": 1}},
        {"cases": 3},
    ],
)
def test_a_description_that_cannot_be_used_is_refused(changes, own):
    """Unknown keys, another version, a split that does not fit the cases."""
    path = own.folder / "prepared.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with refused("AE-DATA-006"):
        Prepared.read(own.folder)


def test_a_manifest_of_other_data_is_refused(own):
    """It would score other files than those that were trained on."""
    path = own.folder / "manifest.json"
    path.write_text(path.read_text().replace('"spleen"', '"lung"'))
    with refused("AE-DATA-007"):
        _ = own.manifest


def test_a_folder_that_was_not_prepared_is_refused(tmp_path):
    """The remedy names the command."""
    with refused("AE-INPUT-010", "data prepare"):
        Prepared.read(tmp_path)


def test_phantoms_make_a_whole_prepared_folder(tmp_path):
    """With the scans that they were made of: every part of a recipe runs without data."""
    folder = prepare_phantoms(
        tmp_path / "out",
        training=1,
        validation=0,
        test=1,
        spacing_mm=(8.0, 8.0, 8.0),
        targets="labels",
        scan_spacing_mm=(8.0, 6.0, 6.0),
    )
    prepared = Prepared.read(folder)
    (entry,) = prepared.manifest.entries("test")
    assert entry.image.parent == folder / "scans"
    volume, (labels, grid) = read_nifti(entry.image), read_array(entry.label)
    assert grid.same_as(volume.grid)
    assert set(np.unique(labels)) == set(range(14))
    (case,) = prepared.cases("test")
    assert case.target.ndim == 3
    assert left_over(tmp_path) == ["out"]


def test_a_phantom_is_a_case_of_14_classes():
    """Synthetic, in the intensity asked for."""
    case = phantom_case(3, spacing_mm=(12.0, 12.0, 12.0))
    assert case.target.shape == (14, *case.shape)
    assert case.name == "phantom-3"


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_prepares_and_says_what(tmp_path):
    """One JSON object, warnings included; progress goes elsewhere."""
    write_amos(tmp_path / "data", training=(1, 2, 3))
    places = ["--src", tmp_path / "data", "-o", tmp_path / "out"]
    result = command("data", "prepare", "amos", *places, "--spacing", "6,3,3", "--validation", 1, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    prepared = Prepared.read(tmp_path / "out")
    assert facts["cases"] == {"training": 2, "validation": 1, "test": 1}
    assert facts["sha256"] == prepared.sha256
    assert prepared.spacing_mm == (6.0, 3.0, 3.0)
    assert len(facts["warnings"]) == 2
    assert "note: AMOS has 200 CT cases" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ("lits",),
        ("btcv", "--spacing", "3,3"),
        ("btcv", "--spacing", "3,0,3"),
        ("btcv", "--spacing", "3,inf,3"),
        ("btcv", "--spacing", "3,1e-5,3"),
        ("btcv", "--spacing", "3,20.1,3"),
        ("btcv", "--targets", "masks"),
        ("btcv", "--validation", "2"),
    ],
)
def test_a_command_that_means_nothing_is_refused(options, tmp_path):
    """Exit code 2, and no folder."""
    result = command("data", "prepare", *options, "--src", tmp_path, "-o", tmp_path / "out")
    assert result.exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("targets", ["occupancy", "labels"])
def test_partly_labeled_scans_keep_what_is_not_known(targets, tmp_path):
    """Shares and labels mark the unlabeled voxels; a scan without labels is unknown; the disk keeps all."""
    listing = LAYOUTS["partial"](write_partial(tmp_path / "data"))
    prepared = prepare_dataset(listing, tmp_path / "out", targets=targets)
    everything, liver, nothing = prepared.cases("training")
    assert [case.known for case in (everything, liver, nothing)] == [{*range(1, 14)}, {6}, set()]
    assert nothing.patch(nothing.whole)[1].max() == 0
    assert everything.possible.all()
    assert liver.possible.nonzero()[0].tolist() == [value for value in range(14) if value != 6]
    assert nothing.possible.all()
    total = liver.patch(liver.whole)[1].sum(axis=0)
    assert set(np.unique(liver.labels)) == {6, 14}
    assert total.min() == 0
    assert total.max() == pytest.approx(1.0)
    assert prepared.manifest.entries("training")[2].label is None


@pytest.mark.parametrize("targets", ["occupancy", "labels"])
def test_a_scan_that_is_labeled_in_part_without_unknown_voxels_is_told(targets, tmp_path):
    """All other organs count as absent there; nothing is told where all are known, or a voxel is 255."""
    data, told = write_partial(tmp_path / "data"), []
    labels = np.zeros_like(scan_and_labels(1)[1])
    labels[:, 4:12, 4:12] = 6
    write_array(data / "labels" / "liver.nii.gz", labels)
    write_array(data / "labels" / "all.nii.gz", np.where(labels == 6, 6, 0).astype(np.uint8))
    prepare_dataset(LAYOUTS["partial"](data), tmp_path / "out", targets=targets, log=told.append)
    (note,) = told
    assert note.startswith("note: no voxel of case liver counts as not known (255)")
    labels[0] = 255
    write_array(data / "labels" / "liver.nii.gz", labels)
    prepare_dataset(LAYOUTS["partial"](data), tmp_path / "out2", targets=targets, log=told.append)
    assert len(told) == 1


def test_a_spacing_that_no_model_can_have_is_refused_in_python(tmp_path):
    """Before anything is hashed, with the range in the message."""
    listing = LAYOUTS["partial"](write_partial(tmp_path / "data"))
    with pytest.raises(ValueError, match=r"spacing_mm is \(3.0, 1e-05, 3.0\), expected .* from 0.1 to 20"):
        prepare_dataset(listing, tmp_path / "out", spacing_mm=(3.0, 1e-5, 3.0))
    assert not (tmp_path / "out").exists()

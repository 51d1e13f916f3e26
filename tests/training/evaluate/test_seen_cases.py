"""Who is scored on cases that a model was trained on is told so, by the metadata of the bundle's weights."""

from __future__ import annotations

import dataclasses
import zipfile

import pytest

pytest.importorskip("monai")
from autosam_edge_test_datasets import prepare_btcv
from autosam_edge_test_support import MODEL, write_bundle

from autosam_edge.bundle import STUDENT_FILE, Bundle, bundles_of_package, open_bundles
from autosam_edge.errors import BundleError
from autosam_edge_training.evaluate.seen_cases import seen_by_bundles


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small BTCV: one case of the training, one of the validation, one of the test; not to be changed."""
    return prepare_btcv(tmp_path_factory.mktemp("btcv"), "0001", "0007", "0035")


@pytest.mark.parametrize(
    ("tier", "split", "seen"),
    [
        ("fast", "training", ["0001"]),
        ("fast", "validation", []),
        ("fast", "test", []),
        ("standard", "training", ["0001"]),
        ("standard", "validation", ["0007"]),
        ("standard", "test", []),
    ],
)
def test_the_bundles_of_the_package_know_what_they_have_seen(tier, split, seen, prepared):
    """A warning for each model that has; no test case is among them."""
    lines = []
    assert seen_by_bundles(open_bundles(tier=tier), prepared, split, log=lines.append) == seen
    assert bool(lines) == bool(seen)
    assert all(f"was trained on {seen[0]} of the {split} split." in line for line in lines)


def test_a_case_of_the_same_name_in_another_data_set_is_told(prepared):
    """Whether it is another scan is not known here: the data set is named."""
    lines = []
    other = dataclasses.replace(prepared, dataset="mine")
    assert seen_by_bundles(open_bundles(), other, "training", log=lines.append) == ["0001"]
    assert "0001 of the data set btcv, and cases of these names are in the training split of mine" in lines[0]


@pytest.mark.parametrize("weights", [None, b"no safetensors", b"\2\0\0\0\0\0\0\0{}", b"\2\0\0\0\0\0\0\0[]"])
def test_of_weights_that_tell_nothing_nothing_is_said(weights, prepared, tmp_path):
    """They are absent, as in the wheel, or those of another tool."""
    files = MODEL if weights is None else {**MODEL, STUDENT_FILE: weights}
    bundle = Bundle(write_bundle(tmp_path / "b.edge", files))
    assert seen_by_bundles([bundle, None], prepared, "training", log=pytest.fail) == []


def test_weights_in_a_zip_tell_the_same(prepared, tmp_path):
    """A `.edge` file holds what a folder holds."""
    weights = (bundles_of_package()["fast"] / STUDENT_FILE).read_bytes()
    folder = write_bundle(tmp_path / "b.edge", {**MODEL, STUDENT_FILE: weights})
    with zipfile.ZipFile(tmp_path / "z.edge", "w") as archive:
        for file in filter(lambda path: path.is_file(), folder.rglob("*")):
            archive.write(file, file.relative_to(folder).as_posix())
    assert seen_by_bundles([Bundle(tmp_path / "z.edge")], prepared, "training", log=print) == ["0001"]


def test_altered_weights_are_refused(prepared, tmp_path):
    """They would hide what the model has seen."""
    folder = write_bundle(tmp_path / "b.edge", {**MODEL, STUDENT_FILE: b"weights"})
    (folder / STUDENT_FILE).write_bytes(b"altered")
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        seen_by_bundles([Bundle(folder)], prepared, "training", log=print)

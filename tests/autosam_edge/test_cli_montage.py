"""The columns of ``montage``: whose error it is, numbers rounded once; no input is replaced."""

from __future__ import annotations

import contextlib

import nibabel as nib
import numpy as np
import pytest

from autosam_edge.cli.montage import _check_inputs_stay, _organ, _read_column
from autosam_edge.errors import InputError, OutputError
from autosam_edge.formats.nifti import write_nifti
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS, label_table
from autosam_edge.volume import Segmentation

GRID = Grid.axis_aligned((4, 4, 4), (3.0, 1.0, 1.0))
ORGANS = {label.value: label.name for label in BTCV_LABELS}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"ObjectType = Image", "AE-NIFTI-001: .* NIfTI header"),
        ((0.0, 14), "AE-DATA-003: .* the value 14"),
        ((9.0, 1), "AE-NIFTI-005: .* different grids"),
        (None, "AE-INPUT-003: .*Check the permissions"),
    ],
)
def test_wrong_labels_of_a_montage_are_named_by_their_heading(tmp_path, content, words):
    """The files of two columns often share one name."""
    path = tmp_path / "labels.nii"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        shift_mm, value = content
        affine = np.diag([-1.0, -1.0, 3.0, 1.0])
        affine[2, 3] = shift_mm
        nib.save(nib.Nifti1Image(np.full((4, 4, 4), value, np.uint8), affine), path)
    with pytest.raises(InputError, match=words) as caught:
        _read_column("y", path, GRID, ORGANS)
    assert caught.value.message.startswith('the labels of "y": ')
    if content:
        assert caught.value.remedy == "Give labels of this scan, such as its segmentation.nii.gz."


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("spleen", "kidney_right"), None),
        (("liver", "kidney_left"), "label 1 is liver, expected spleen"),
        ((*ORGANS.values(), "toe"), "label 14 is toe, expected no organ"),
    ],
)
def test_labels_of_another_model_are_refused(tmp_path, names, words):
    """A file of this package says what its values mean; fewer of the same organs are welcome."""
    path, labels = tmp_path / "labels.nii.gz", np.full(GRID.shape, len(names), np.uint8)
    write_nifti(Segmentation(labels, GRID, label_table(["background", *names])), path)
    with pytest.raises(InputError, match=words) if words else contextlib.nullcontext() as caught:
        _read_column("y", path, GRID, ORGANS)
    if words:
        assert (caught.value.code, "`--bundle`" in caught.value.remedy) == ("AE-DATA-009", True)


def test_a_volume_of_a_montage_is_rounded_once():
    """152.74575 ml are 152.7 in the table and 152.75 in JSON."""
    organ = _organ(BTCV_LABELS[0], {"a": np.ones((1, 1, 1), np.uint8)}, 152.74575)
    assert f"{organ.ml['a']:.1f}" == "152.7"
    assert organ.as_dict()["ml"] == {"a": 152.75}


@pytest.mark.parametrize(
    ("out", "code"), [("scan/m.png", "AE-OUTPUT-004"), ("labels.png", "AE-OUTPUT-002"), ("m.png", None)]
)
def test_a_montage_replaces_nothing_that_it_shows(tmp_path, out, code):
    (tmp_path / "scan").mkdir()
    (tmp_path / "labels.png").touch()
    with pytest.raises(OutputError, match=code) if code else contextlib.nullcontext():
        _check_inputs_stay(tmp_path / out, tmp_path / "scan", [tmp_path / "labels.png"])

"""Dice with and without the one-part rule, on a scan whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai")
import nibabel as nib
from autosam_edge_test_blocks import KIDNEY, SPLEEN, write_blocks
from autosam_edge_test_support import make_model

from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import InputError
from autosam_edge.session import Session
from autosam_edge_benchmarks.studies import one_part


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A spleen of one part, a kidney of two parts, and 200 voxels of the spleen's HU that are no spleen."""
    labels = np.zeros((24, 32, 32), np.uint8)
    labels[4:14, 4:14, 4:14] = 1
    labels[4:14, 18:28, 4:14] = 2
    labels[18:23, 18:28, 4:14] = 2
    hu = np.choose(labels, [-100, 40, 200]).astype(np.int16)
    hu[18:23, 4:14, 20:24] = 40
    prepared = write_blocks(tmp_path, hu, labels)
    prepared.labels += ("liver",)
    session = Session(make_model(), ThresholdEngine((-100.0, 40.0, 200.0)))
    monkeypatch.setattr(one_part.Prepared, "read", lambda folder: prepared)
    monkeypatch.setattr(one_part, "open_session", lambda path: session)
    return tmp_path


def test_an_organ_that_is_labeled_in_part_has_no_dice(data):
    """The kidney is known; what is labeled of the spleen counts for nothing, nor do unknown voxels."""
    labels = nib.load(data / "label.nii.gz")
    values = np.asarray(labels.dataobj)
    nib.save(nib.Nifti1Image(np.where(values == 0, 255, values), labels.affine), data / "label.nii.gz")
    one_part.Prepared.read(data).entry.known = (2,)
    result = one_part.measure_one_part(data, data, "validation")
    assert result["dice"]["as_found"] == {KIDNEY: 1.0}


def test_the_rule_helps_an_organ_of_one_part_and_harms_one_of_two(data):
    """Spleen: 1000 of 1200 voxels are right, then all of 1000. Kidney: 1500 of 1500, then 1000 of 1500."""
    result = one_part.measure_one_part(data, data, "validation")
    assert result["dice"]["as_found"] == pytest.approx({SPLEEN: 2000 / 2200, KIDNEY: 1.0})
    assert result["dice"]["one_part"] == pytest.approx({SPLEEN: 1.0, KIDNEY: 2000 / 2500})
    assert result["harmless"] == [SPLEEN]


def test_an_empty_split_is_refused(data):
    """AE-DATA-005, not a mean of nothing."""
    with pytest.raises(InputError, match="AE-DATA-005"):
        one_part.measure_one_part(data, data, "training")


def test_without_any_organ_there_is_no_mean(data):
    """AE-DATA-011; an organ that no case has is left out of the figures of the other test."""
    labels = nib.load(data / "label.nii.gz")
    nib.save(nib.Nifti1Image(np.zeros(labels.shape, np.uint8), labels.affine), data / "label.nii.gz")
    with pytest.raises(InputError, match="AE-DATA-011"):
        one_part.measure_one_part(data, data, "validation")

"""Label images of any tool: whole numbers on the scan's grid, or an error with a code."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.errors import InputError
from autosam_edge.formats.label_image import as_labels, read_labels, require_same_grid
from autosam_edge.formats.nifti import write_nifti
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Segmentation


def grid(shift_mm=0.0):
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[[2, 1, 0, 3]]
    affine[0, 3] = shift_mm
    return Grid((4, 4, 4), affine)


@pytest.mark.parametrize("value", [-1, 14, 3.5, np.nan, np.inf, 1j])
def test_labels_out_of_range_are_refused(value):
    """A value that is no class, no whole number or no number."""
    values = np.zeros((2, 2, 2), dtype=np.asarray(value).dtype)
    values[1, 1, 1] = value
    with pytest.raises(InputError) as caught:
        as_labels(values, 14)
    assert caught.value.code == "AE-DATA-003"


def test_whole_numbers_of_any_type_are_labels():
    """Tools store labels as floats too."""
    values = np.array([[[0.0, 13.0]]])
    assert as_labels(values, 14).tolist() == [[[0, 13]]]
    assert as_labels(values.astype(np.int64), 14).dtype == np.uint8


def test_grids_may_differ_by_what_float32_loses_and_no_more():
    """A hundredth of a millimeter, not a tenth."""
    here = grid()
    require_same_grid(here, grid(0.005), "two files")
    with pytest.raises(InputError) as caught:
        require_same_grid(here, grid(0.1), "two files")
    assert caught.value.code == "AE-NIFTI-005"


def test_a_label_image_is_read_on_its_scan_and_on_no_other(tmp_path):
    """What was written comes back.

    On a scan that lies elsewhere it is refused, and so is a value that the table lacks.
    """
    labels = np.zeros((4, 4, 4), np.uint8)
    labels[1, 2, 3] = 13
    write_nifti(Segmentation(labels, grid(), BTCV_LABELS), tmp_path / "labels.nii.gz")
    assert np.array_equal(read_labels(tmp_path / "labels.nii.gz", grid(), 14, "labels and scan"), labels)
    for scan, classes, code in ((grid(5.0), 14, "AE-NIFTI-005"), (grid(), 13, "AE-DATA-003")):
        with pytest.raises(InputError) as caught:
            read_labels(tmp_path / "labels.nii.gz", scan, classes, "labels and scan")
        assert caught.value.code == code

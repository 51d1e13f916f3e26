"""MONAI's pipeline is a fair peer: it finds the same organs with the same weights."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai")
import nibabel as nib

from autosam_edge.bundle import default_bundle_path
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge.session import open_session
from autosam_edge_benchmarks.peers import monai_pipeline


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "onnx"])
def test_the_same_organs_at_the_same_places(engine, tmp_path):
    """Kidneys lie on different sides, so that a mirrored or transposed input would be seen."""
    write_dicom_series(make_phantom(0, spacing_mm=(4.0, 3.0, 3.0)).volume, tmp_path / "scan", seed=0)
    volume = read(tmp_path / "scan")
    ours = open_session(engine="onnx", precision="fp32").segment(volume).labels
    out = tmp_path / "monai.nii.gz"
    monai_pipeline.main(str(default_bundle_path()), str(tmp_path / "scan"), str(out), engine, "2")
    theirs = nib.as_closest_canonical(nib.load(out)).get_fdata().T[:, ::-1, ::-1]
    assert theirs.shape == ours.shape
    for value in (1, 2, 3, 6):  # spleen, kidneys, liver
        found, expected = theirs == value, ours == value
        dice = 2 * np.count_nonzero(found & expected) / (np.count_nonzero(found) + np.count_nonzero(expected))
        assert dice > 0.85, value

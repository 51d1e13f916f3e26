"""What the runtime's tests share: a bundle without a network, and data that may be absent."""

from __future__ import annotations

import pytest
from autosam_edge_test_ct import ct, ct_folder, real_scans  # noqa: F401  fixtures
from autosam_edge_test_support import SHARED_DATA, write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series


@pytest.fixture
def bundle_folder(tmp_path):
    return write_bundle(tmp_path / "test.edge")


@pytest.fixture
def bundle(bundle_folder):
    return Bundle(bundle_folder)


@pytest.fixture(scope="session")
def small_scan(tmp_path_factory):
    """A folder with a phantom of coarse voxels as a DICOM series."""
    folder = tmp_path_factory.mktemp("small_scan")
    write_dicom_series(make_phantom(5, spacing_mm=(8.0, 6.0, 6.0)).volume, folder, seed=5)
    return folder


@pytest.fixture(scope="session")
def tcga_series():
    folder = SHARED_DATA / "tcga-ov-abdomen"
    if not folder.is_dir():
        pytest.skip("the real CT series ../shared/data/tcga-ov-abdomen is not on this machine")
    return folder

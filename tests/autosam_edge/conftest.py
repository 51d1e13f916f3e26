"""What the runtime's tests share: a bundle without a network, and data that may be absent."""

from __future__ import annotations

import pytest
from autosam_edge_test_ct import ct, ct_folder, real_scans  # noqa: F401  fixtures
from autosam_edge_test_support import SHARED_DATA, write_bundle

from autosam_edge.bundle import Bundle


@pytest.fixture
def bundle_folder(tmp_path):
    return write_bundle(tmp_path / "test.edge")


@pytest.fixture
def bundle(bundle_folder):
    return Bundle(bundle_folder)


@pytest.fixture(scope="session")
def tcga_series():
    folder = SHARED_DATA / "tcga-ov-abdomen"
    if not folder.is_dir():
        pytest.skip("the real CT series ../shared/data/tcga-ov-abdomen is not on this machine")
    return folder

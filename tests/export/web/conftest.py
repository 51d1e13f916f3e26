"""An exported site for the tests of node and of the browser."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from autosam_edge_test_codings import write_refused, write_twins

from autosam_edge.bundle import open_bundle
from autosam_edge.errors import ExportError


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The site of the default bundle; skips where node or a file of others cannot be had.

    The files of others stay in the folder that AUTOSAM_EDGE_WEB_CACHE names, or in pytest's cache.
    """
    from autosam_edge_export.web.site import write_site
    from autosam_edge_export.web.third_party import ThirdParty

    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    cache = None
    if named := os.environ.get("AUTOSAM_EDGE_WEB_CACHE"):
        cache = Path(named)
    elif hasattr(pytestconfig, "cache"):
        cache = Path(pytestconfig.cache.mkdir("web"))
    site = tmp_path_factory.mktemp("exported") / "site"
    try:
        with ThirdParty(cache=cache, download=True) as third_party:
            write_site(open_bundle(), site, third_party)
    except ExportError as error:
        pytest.skip(str(error))
    return site


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with one small series in five codings; "raw" is the series itself."""
    return write_twins(tmp_path_factory.mktemp("twins"))


@pytest.fixture(scope="session")
def refused(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that are refused, by the code that tells why."""
    return write_refused(tmp_path_factory.mktemp("refused"))

"""An exported site for the tests of node and of the browser."""

from __future__ import annotations

import os
import shutil
import subprocess
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
def node_modules(pytestconfig: pytest.Config) -> Path:
    """The packages of package.json, in NODE_MODULES or pytest's cache; skips without them or a browser."""
    for program in ("node", "npm", "chromium"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install chromium nodejs npm")
    if named := os.environ.get("NODE_MODULES"):
        return Path(named)
    folder = Path(pytestconfig.cache.mkdir("web-node"))
    shutil.copy(Path(__file__).with_name("package.json"), folder)
    command = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
    if subprocess.run(command, cwd=folder, check=False).returncode:
        pytest.skip("npm cannot install the packages of package.json: no network?")
    return folder / "node_modules"


@pytest.fixture(scope="session")
def twins(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders with one small series in five codings; "raw" is the series itself."""
    return write_twins(tmp_path_factory.mktemp("twins"))


@pytest.fixture(scope="session")
def refused_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders that are refused, by the code that tells why."""
    return write_refused(tmp_path_factory.mktemp("refused"))

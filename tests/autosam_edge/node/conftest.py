"""Tools of other projects that the tests of the node need."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session")
def dcmtk():
    """Paths of dcmtk's tools; pynetdicom brings others of the same names."""
    tools = {name: shutil.which(name, path="/usr/bin:/usr/local/bin") for name in ("storescu", "storescp")}
    if not all(tools.values()):
        pytest.skip("dcmtk (Debian's package) is not installed")
    return tools

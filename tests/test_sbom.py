"""A license that is unknown or the GPL is found; `.ci/run` makes the SBOM of an installed wheel itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

_SPEC = importlib.util.spec_from_file_location("sbom", Path(__file__).parents[1] / ".ci" / "sbom.py")
sbom = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sbom)


def component(name, **license_):
    return {"name": name, "licenses": [license_]} if license_ else {"name": name}


@pytest.mark.parametrize(
    ("part", "fault"),
    [
        (component("a", license={"id": "MIT"}), None),
        (component("a", expression="LGPL-2.1-or-later"), None),
        (component("a"), "its license is unknown"),
        (component("a", license={"id": "GPL-3.0-only"}), "its license is GPL-3.0-only"),
        (component("a", expression="MIT AND AGPL-3.0-or-later"), "its license is MIT AND AGPL-3.0-or-later"),
        (
            component(
                "a", license={"name": "License :: OSI Approved :: GNU General Public License v3 (GPLv3)"}
            ),
            "its license is License :: OSI Approved :: GNU General Public License v3 (GPLv3)",
        ),
    ],
)
def test_a_license_that_is_missing_or_the_gpl_is_a_fault(part, fault):
    """The LGPL is none."""
    assert sbom.license_faults({"components": [part]}).get("a") == fault

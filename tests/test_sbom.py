"""The SBOM names every package that an installation brings, each with a license, and none is the GPL."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

pytest.importorskip("cyclonedx_py")
_SPEC = importlib.util.spec_from_file_location("sbom", Path(__file__).parents[1] / ".ci" / "sbom.py")
sbom = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sbom)


def runtime_packages():
    """What ``pip install autosam-edge`` brings, without extras."""
    found, left = set(), ["autosam-edge"]
    while left:
        name = canonicalize_name(left.pop())
        if name in found:
            continue
        found.add(name)
        needs = [Requirement(line) for line in importlib.metadata.requires(name) or ()]
        left += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found - {"autosam-edge"}


def component(name, **license_):
    return {"name": name, "licenses": [license_]} if license_ else {"name": name}


def test_every_package_of_the_runtime_has_a_license_and_none_is_the_gpl():
    """In the environment of the tests, which holds them and more."""
    made = sbom.make_sbom(sys.executable)
    parts = {canonicalize_name(part["name"]): part for part in made["components"]}
    runtime = runtime_packages()
    assert {"numpy", "onnxruntime", "pydicom", "protobuf"} <= runtime
    assert runtime <= set(parts)
    assert sbom.license_faults({"components": [parts[name] for name in runtime]}) == {}
    assert made["metadata"]["component"]["name"] == "autosam-edge"


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

"""The examples of the docstrings run and give what they show."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import autosam_edge

NAMES = [
    module.name
    for module in pkgutil.walk_packages(autosam_edge.__path__, "autosam_edge.")
    if not module.name.endswith(("__main__", "coreml_engine", "executorch_engine", "openvino_engine"))
]


def test_examples_are_found():
    """At least those of the grid, the phantom, the stepper and the strict reader run; others are skipped."""
    finder = doctest.DocTestFinder(exclude_empty=True)
    found = [test for name in NAMES for test in finder.find(importlib.import_module(name)) if test.examples]
    run = {test.name for test in found if not all(doctest.SKIP in e.options for e in test.examples)}
    assert {
        "autosam_edge.geometry.Grid.axis_aligned",
        "autosam_edge.phantom.make_phantom",
        "autosam_edge.pipeline.run.TileRun.steps",
        "autosam_edge.strict_json.build",
    } <= run


@pytest.mark.parametrize("name", NAMES)
def test_the_examples_of_a_module_give_what_they_show(name):
    """Through doctest itself; examples that need a scan of the reader's are marked with SKIP."""
    assert doctest.testmod(importlib.import_module(name)).failed == 0

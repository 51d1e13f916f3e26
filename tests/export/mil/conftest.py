"""What every test of the interpreter has around it."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """A conversion ends with a garbage collection, which need not visit older objects each time."""
    gc.freeze()
    yield
    gc.unfreeze()

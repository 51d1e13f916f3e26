"""The collector is off while one scan is labeled, and as it was afterwards."""

from __future__ import annotations

import gc

import pytest
from autosam_edge_test_support import run_python

from autosam_edge.cli import segment as command
from autosam_edge.system.collector import collector_off

_CYCLE = """
{first}
class Held:
    def __del__(self):
        print("collected")
held = Held()
held.itself = held
del held
"""


@pytest.fixture
def collector():
    """On, before and after."""
    gc.enable()
    yield
    gc.enable()


@pytest.mark.parametrize("on", [True, False])
def test_the_collector_is_as_it_was_also_after_an_error(on, collector):
    """Off within the block."""
    if not on:
        gc.disable()
    with collector_off():
        assert not gc.isenabled()
    with pytest.raises(ZeroDivisionError), collector_off():
        raise ZeroDivisionError
    assert gc.isenabled() == on


def test_segment_runs_without_it(tmp_path, monkeypatch, collector):
    """From the reading on."""
    seen = []

    def read(*_, **__):
        seen.append(gc.isenabled())
        raise FileNotFoundError

    monkeypatch.setattr(command, "read", read)
    with pytest.raises(FileNotFoundError):
        command.segment(tmp_path / "scan", tmp_path / "out")
    assert (seen, gc.isenabled()) == ([False], True)


@pytest.mark.parametrize(
    ("first", "printed"),
    [
        ("", "collected"),
        ("from autosam_edge.system.collector import end_without_collection; end_without_collection()", ""),
    ],
)
def test_the_end_of_a_process_collects_nothing(first, printed):
    """Python alone would."""
    done = run_python("-c", _CYCLE.format(first=first), check=True)
    assert done.stdout.strip() == printed

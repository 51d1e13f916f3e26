"""The short form of `bench long-life`, and that it sees a leak."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from autosam_edge_test_support import RESULTS

from autosam_edge.errors import BenchError
from autosam_edge_benchmarks.stand_in import stand_in_session
from autosam_edge_benchmarks.studies import long_life


@pytest.mark.parametrize(("name", "scans"), [("stand-in", 200), ("onnx", 60), ("openvino", 80)])
def test_stored_result(name, scans):
    """Memory is flat with a formula in the place of the network, and with the default bundle."""
    result = json.loads((RESULTS / f"long-life-{name}.json").read_text())
    assert result["scans"] == len(result["resident_mb"]) >= scans
    assert abs(result["growth_percent"]) <= long_life.MAX_GROWTH_PERCENT


@pytest.mark.slow
def test_twenty_scans_leave_memory_and_files_as_they_were():
    """With a formula in the place of the network; everything else is real."""
    result = long_life.measure_long_life(20, stand_in_session())
    assert len(result["resident_mb"]) == 20
    assert result["growth_percent"] <= long_life.MAX_GROWTH_PERCENT  # less is no leak


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="the system does not list descriptors")
@pytest.mark.slow
def test_a_descriptor_that_is_never_closed_is_seen(monkeypatch):
    """One more after each scan."""
    honest, opened = long_life.write, []

    def leaking(*arguments, **options):
        opened.append(os.open(os.devnull, os.O_RDONLY))
        return honest(*arguments, **options)

    monkeypatch.setattr(long_life, "write", leaking)
    monkeypatch.setattr(long_life, "MAX_GROWTH_PERCENT", 100)  # memory is not the question in so few scans
    with pytest.raises(BenchError, match="AE-BENCH-009.*descriptors"):
        long_life.measure_long_life(8, stand_in_session())
    for handle in opened:
        os.close(handle)

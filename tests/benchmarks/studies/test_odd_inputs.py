"""The memory limit holds on odd inputs: the stored result says so, and a small form of it shows it again."""

from __future__ import annotations

import json
import sys

import pytest
from autosam_edge_test_support import RESULTS

study = pytest.importorskip("autosam_edge_benchmarks.studies.odd_inputs")


def test_stored_result() -> None:
    """Every input is in it; none is above the limit, and each ends with results or with a code."""
    result = json.loads((RESULTS / "odd-inputs.json").read_text())
    measured = [row["input"] for row in result["inputs"]]
    assert sorted(measured) == sorted(study.ODD_INPUTS)
    assert all(row["peak_mb"] <= study.ALLOWED * result["limit_mb"] for row in result["inputs"])
    assert all(row["outcome"] == "written" or row["outcome"].startswith("AE-") for row in result["inputs"])
    assert result["machine"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit of a child's memory is Linux's")
def test_small_form() -> None:
    """Inputs of a fiftieth of the size; some of them are then sound scans."""
    result = study.measure_odd_inputs(scale=0.02)
    assert result["held"]
    assert "hung or died" not in {row["outcome"] for row in result["inputs"]}

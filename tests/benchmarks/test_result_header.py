"""Every result starts with the same entries."""

from __future__ import annotations

import json
import re

from autosam_edge_benchmarks.result_header import new_result


def test_a_result_names_benchmark_date_and_machine():
    """The date is a day in ISO form, and everything can be written as JSON."""
    result = json.loads(json.dumps(new_result("segment")))
    assert list(result) == ["benchmark", "date", "machine"]
    assert result["benchmark"] == "segment"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", result["date"])
    assert result["machine"]["cores"] >= 1

"""The first entries of every result: name of the benchmark, date and machine."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from autosam_edge.system.machine import describe_machine

Result = dict[str, Any]
"""A result as JSON's types, as it is written to ``benchmarks/results``."""


def new_result(benchmark: str) -> Result:
    """Start a result; call it before the measurement, to record the load that other programs cause."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": describe_machine(),
    }

"""The head of every result: what, when, where."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

from autosam_edge.machine import describe_machine


def new_report(benchmark: str) -> dict[str, Any]:
    """Made before the work, so that it shows the load the work met."""
    return {
        "benchmark": benchmark,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "machine": describe_machine(),
    }

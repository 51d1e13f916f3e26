"""The first entries of every result: name of the benchmark, date and machine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from autosam_edge.system.clock import today
from autosam_edge.system.machine import describe_machine

Result = dict[str, Any]
"""A result as JSON's types, as it is written to ``benchmarks/results``."""


def new_result(benchmark: str) -> Result:
    """Start a result; call it before the measurement, to record the load that other programs cause."""
    return {"benchmark": benchmark, "date": today(), "machine": describe_machine()}


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; None where none is, because JSON has no NaN."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def shown(value: float | None, digits: int = 3) -> str:
    """A number as text, ``n/a`` where it is not defined."""
    return "n/a" if value is None else f"{value:.{digits}f}"

"""Errors in the words of the command line: an option in the place of a parameter of Python."""

from __future__ import annotations

import re

_SAME = (
    "accept_implausible allow_gap absent_organ assume_hu bundle cache checkpoint data download engine "
    "ignore_frame_of_reference init interpreted_tiles labels method out patch precision predictions pyodide "
    "require_signature sam series target threads tier workers"
)
OPTIONS = {name: "--" + name.replace("_", "-") for name in _SAME.split()} | {
    "calibration": "--calibrate",
    "dataset_id": "--id",
    "extra": "--extra-data",
    "formats": "--format",
    "max_memory_mb": "--max-memory",
    "precisions": "--precision",
    "spacing_mm": "--spacing",
    "targets": "--target",
    "teachers": "--teacher",
    "time_budget_s": "--time-budget",
    "volumes": "--volume",
}
"""Option of the command line for each parameter of Python that a message names in backticks."""

_IN_BACKTICKS = re.compile(r"`(\w+)(?:=([^`]*))?`")


def with_options(text: str) -> str:
    """A message with options in the place of the parameters of Python, also of ``name=value``."""
    return _IN_BACKTICKS.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    option = OPTIONS.get(found[1])
    if option is None:
        return found[0]
    return option if found[2] is None else f"{option} {_value(found[2])}"


def _value(python: str) -> str:
    """``("nifti", "json")`` of Python as ``nifti,json``."""
    return re.sub(r"[\s()\[\]'\"]", "", python).rstrip(",")

"""Errors in the words of the command line: an option in the place of a parameter of Python."""

from __future__ import annotations

import re

OPTIONS = {
    "accept_implausible": "--accept-implausible",
    "allow_gap": "--allow-gap",
    "absent_organ": "--absent-organ",
    "assume_hu": "--assume-hu",
    "bundle": "--bundle",
    "cache": "--cache",
    "calibration": "--calibrate",
    "checkpoint": "--checkpoint",
    "data": "--data",
    "dataset_id": "--id",
    "download": "--download",
    "engine": "--engine",
    "extra": "--extra-data",
    "formats": "--format",
    "ignore_frame_of_reference": "--ignore-frame-of-reference",
    "init": "--init",
    "interpreted_tiles": "--interpreted-tiles",
    "max_memory_mb": "--max-memory",
    "method": "--method",
    "out": "--out",
    "patch": "--patch",
    "precision": "--precision",
    "precisions": "--precision",
    "pyodide": "--pyodide",
    "require_signature": "--require-signature",
    "predictions": "--predictions",
    "sam": "--sam",
    "series": "--series",
    "spacing_mm": "--spacing",
    "target": "--target",
    "targets": "--target",
    "teacher": "--teacher",
    "threads": "--threads",
    "volumes": "--volume",
    "workers": "--workers",
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

"""The label file of a case of which the labels are needed."""

from __future__ import annotations

from pathlib import Path

from autosam_edge_training.data import Entry
from autosam_edge_training.error_codes import CASE_FILE_MISSING


def label_file(entry: Entry) -> Path:
    """Return the label file of a case.

    Raises:
        InputError: The case is a scan without labels (AE-DATA-002).
    """
    if entry.label is None:
        raise CASE_FILE_MISSING(f"case {entry.name} is a scan without labels; its labels are needed here.")
    return entry.label

"""The label table of any data set: its values, with the names, codes and colors that the runtime gives these organs."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANY = ("91723000", "Anatomical structure")  # of DICOM's CID 7150, for what has no code of its own here
# Organs of AMOS that BTCV has not. Label 15 is the prostate or the uterus, for which SNOMED CT has no one
# code.
_MORE = (
    Label(0, "duodenum", "38848004", "Duodenum", "", (60, 160, 110)),
    Label(0, "urinary_bladder", "89837001", "Urinary bladder", "", (236, 232, 170)),
    Label(0, "prostate", *_ANY, "", (176, 60, 130)),
)
_BY_NAME = {label.name: label for label in (*BTCV_LABELS, *_MORE)}
_GRAY = (160, 160, 160)


def label_table(names: Sequence[str]) -> tuple[Label, ...]:
    """Labels 1, 2, ... from names by value, as a manifest has them.

    Args:
        names: The background first; an organ that is not known here is any anatomical structure, and gray.
    """
    return tuple(
        dataclasses.replace(_BY_NAME.get(name, Label(0, name, *_ANY, "", _GRAY)), value=value)
        for value, name in enumerate(names)
        if value > 0
    )

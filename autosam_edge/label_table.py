"""The label table of a data set: its values with the names, codes and colors of this package."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Label

if TYPE_CHECKING:
    from collections.abc import Sequence

_ANY = ("91723000", "Anatomical structure")  # of DICOM's CID 7150, for what has no code of its own here
# Organs of AMOS that BTCV does not have. Label 15 is the prostate or the uterus; SNOMED CT has no code for
# either of the two.
_MORE = (
    Label(0, "duodenum", "38848004", "Duodenum", "", (60, 160, 110)),
    Label(0, "urinary_bladder", "89837001", "Urinary bladder", "", (236, 232, 170)),
    Label(0, "prostate", *_ANY, "", (176, 60, 130)),
)
_BY_NAME = {label.name: label for label in (*BTCV_LABELS, *_MORE)}
_GRAY = (160, 160, 160)


def label_table(names: Sequence[str]) -> tuple[Label, ...]:
    """Make the label table of a manifest from organ names.

    Args:
        names: Names in the order of their values, the background first. An organ that is not known here
            becomes a gray "Anatomical structure".
    """
    return tuple(
        dataclasses.replace(_BY_NAME.get(name, Label(0, name, *_ANY, "", _GRAY)), value=value)
        for value, name in enumerate(names)
        if value > 0
    )

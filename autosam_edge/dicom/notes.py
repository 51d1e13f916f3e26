"""Findings about slices or files, counted while they are decoded, and the warnings made of them."""

from __future__ import annotations

from collections import Counter

from autosam_edge.hu_histogram import AIR_HU, LOWEST_HU
from autosam_edge.scan_warning import ScanWarning, WarningCode
from autosam_edge.warning_codes import (
    BITS_IGNORED,
    EXCESS_BYTES,
    LOSSY_COMPRESSION,
    PADDING_NOT_APPLIED,
    TRANSFER_SYNTAX_WRONG,
    UNDECLARED_PADDING,
)

Notes = Counter[WarningCode]
"""How many slices, or files, a finding is true of."""

_SENTENCES = {
    UNDECLARED_PADDING: (
        "slice",
        f"held values below {LOWEST_HU} HU that no header declares as padding; they became {AIR_HU} HU",
    ),
    BITS_IGNORED: ("slice", "had bits set outside of BitsStored, which were ignored"),
    PADDING_NOT_APPLIED: (
        "slice",
        "declared padding that is malformed, or is a value of tissue, bone or metal; it was not applied",
    ),
    LOSSY_COMPRESSION: (
        "slice",
        "were compressed with loss, or may have been, which no LossyImageCompression says; labels may differ",
    ),
    TRANSFER_SYNTAX_WRONG: (
        "file",
        "named a transfer syntax that is not that of their data; they were read as what they are",
    ),
    EXCESS_BYTES: ("file", "held bytes beyond the pixels of Rows x Columns, which were ignored"),
}


def warnings_of(notes: Notes) -> list[ScanWarning]:
    """One warning for each finding, with its count."""
    return [
        code(f"{count} {_SENTENCES[code][0]}{'s' if count > 1 else ''} {_SENTENCES[code][1]}.")
        for code, count in notes.items()
    ]

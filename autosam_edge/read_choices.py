"""What a person may decide where a reader alone would refuse."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ReadChoices:
    """Decisions of a person about one scan; each lets the reader go on where it would refuse.

    Args:
        allow_gap: Whether missing slices are filled by interpolation, with a warning.
        assume_hu: Whether values without a rescale are taken as HU, after a check of their range, with a
            warning.
        ignore_frame_of_reference: Whether slices that name several frames of reference are one volume, with a
            warning.
    """

    allow_gap: bool = False
    assume_hu: bool = False
    ignore_frame_of_reference: bool = False

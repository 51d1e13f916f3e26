"""Refusal of labels that are implausible."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.error_codes import (
    ARRANGEMENT_IMPLAUSIBLE,
    BODY_PART_IMPLAUSIBLE,
    LABELS_EMPTY,
    SIZE_IMPLAUSIBLE,
    VALUES_IMPLAUSIBLE,
)
from autosam_edge.warning_codes import (
    NETWORK_UNSURE,
    NOTHING_FOUND,
    ORGANS_ARRANGED_WRONGLY,
    VALUES_NOT_HU,
    WRONG_BODY_PART,
    WRONG_SIZE,
)

if TYPE_CHECKING:
    from autosam_edge.volume import Segmentation

_ERRORS = {
    VALUES_NOT_HU.code: VALUES_IMPLAUSIBLE,
    WRONG_BODY_PART.code: BODY_PART_IMPLAUSIBLE,
    NOTHING_FOUND.code: LABELS_EMPTY,
    WRONG_SIZE.code: SIZE_IMPLAUSIBLE,
    NETWORK_UNSURE.code: BODY_PART_IMPLAUSIBLE,
    ORGANS_ARRANGED_WRONGLY.code: ARRANGEMENT_IMPLAUSIBLE,
}
"""Error of each warning that can refuse the labels."""


def require_plausible(segmentation: Segmentation) -> None:
    """Refuse an implausible segmentation.

    Raises:
        ImplausibleError: Its verdict is ``implausible``; the code and the message are those of the strongest
            reason.
    """
    if segmentation.plausibility is not None and segmentation.plausibility.reasons:
        reason = segmentation.plausibility.reasons[0]
        raise _ERRORS[reason.code](
            f"no labels were written: {reason.message[:1].lower()}{reason.message[1:]}"
        )

"""Typed warnings: what a user should know about a scan or its labels. A program can act on the code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Iterable

Severity = Literal["info", "caution", "doubtful"]
"""``info``: a fact about the scan or the run that alone is no reason to doubt the labels. ``caution``: the
labels may be less exact. ``doubtful``: the labels, or those of one organ, are probably wrong; a person must
look before they are used."""


@dataclass(frozen=True)
class ScanWarning:
    """One finding of the reader or of the run. It holds no patient data.

    Args:
        code: Stable identifier such as ``AE-WARN-041``; docs/errors.md lists all.
        severity: ``info``, ``caution`` or ``doubtful``.
        message: What was found, one sentence.
        organ: Name of the organ that the finding is about, such as ``kidney_left``; None for the whole scan.
    """

    code: str
    severity: Severity
    message: str
    organ: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """The fields by name, as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


@dataclass(frozen=True)
class WarningCode:
    """One kind of finding; calling it makes the warning.

    Args:
        code: Stable identifier such as ``AE-WARN-041``.
        severity: ``info``, ``caution`` or ``doubtful``.
        meaning: What was found, as a phrase.
        advice: What a person can do about it, one or two sentences.
    """

    code: str
    severity: Severity
    meaning: str
    advice: str

    def __str__(self) -> str:
        return self.code

    def __call__(self, message: str, *, organ: str | None = None) -> ScanWarning:
        """The warning to report.

        Args:
            message: What was found, one sentence that starts with a capital letter. No patient data.
            organ: Name of the organ that the finding is about; None for the whole scan.
        """
        return ScanWarning(self.code, self.severity, message, organ)


def most_severe_first(warnings: Iterable[ScanWarning]) -> list[ScanWarning]:
    """The warnings in the order in which a person should read them; equals keep their order."""
    mildest_first = get_args(Severity)
    return sorted(warnings, key=lambda warning: -mildest_first.index(warning.severity))

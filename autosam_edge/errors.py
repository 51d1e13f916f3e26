"""The error tree of the runtime.

::

    AutosamEdgeError                    exit code
    |-- InputError(ValueError)          3   the scan or the labels cannot be read: AE-INPUT-*, AE-DICOM-*,
    |                                       AE-NIFTI-*, AE-NRRD-*, AE-MHA-*, AE-DATA-*
    |-- BundleError(ValueError)         4   the model bundle is missing, altered or not valid: AE-BUNDLE-*
    |-- EngineError(RuntimeError)       5   the inference engine failed or is absent: AE-ENGINE-*
    |-- BudgetError(MemoryError)        6   the memory limit is too small for the plan: AE-MEMORY-*
    |-- OutputError(OSError)            7   the results cannot be written: AE-OUTPUT-*
    |-- MissingExtraError(ImportError)  8   an optional part is not installed: AE-EXTRA-*
    |-- ExportError(RuntimeError)       9   a student cannot be exported, or an artifact differs: AE-EXPORT-*
    |-- TrainingError(RuntimeError)    10   a run, a recipe or a teacher's weights cannot be used: AE-TRAIN-*
    |-- ImplausibleError(ValueError)   11   the labels cannot be those of an abdomen: AE-PLAUSIBLE-*
    |-- BatchError(RuntimeError)       12   scans of a batch failed, or it cannot go on: AE-BATCH-*
    |-- AuditError(ValueError)         13   the record of what ran was changed: AE-AUDIT-*
    |-- BenchError(RuntimeError)       14   this machine cannot be timed, or a row is not valid: AE-BENCH-*
    `-- CancelledError(RuntimeError)  130   the caller asked to stop: AE-CANCEL-*

Every error has a stable code, a message of one line (what was found, what was expected) and a remedy. No
message holds patient data: tags are named, their values are not shown. ``docs/errors.md`` lists all codes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable


def first_line(error: BaseException) -> str:
    """First line of a third-party error, or its class name. Never for errors that may quote patient data."""
    return str(error).partition("\n")[0] or type(error).__name__


class AutosamEdgeError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        code: Stable identifier such as ``AE-DICOM-003``.
        message: What was found and what was expected, one line.
        remedy: What the caller can do, one line.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, remedy: str) -> None:
        super().__init__(code, message, remedy)
        self.code = code
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.code}: {self.message} Remedy: {self.remedy}"

    def __reduce__(self) -> tuple[Callable[..., AutosamEdgeError], tuple[object, ...]]:
        """How to send the error to another process: the remedy is a keyword, which the default leaves out."""
        return partial(type(self), remedy=self.remedy), (self.code, self.message)


class InputError(AutosamEdgeError, ValueError):
    """The input is not a CT volume, or not a labeled data set, that can be read."""

    exit_code = 3


class BundleError(AutosamEdgeError, ValueError):
    """The model bundle is missing, altered, or does not follow the schema."""

    exit_code = 4


class EngineError(AutosamEdgeError, RuntimeError):
    """The inference engine is not available or failed."""

    exit_code = 5


class BudgetError(AutosamEdgeError, MemoryError):
    """The plan needs more memory than the caller allows."""

    exit_code = 6


class OutputError(AutosamEdgeError, OSError):
    """The results cannot be written; nothing was left behind."""

    exit_code = 7

    def __init__(self, code: str, message: str, *, remedy: str) -> None:
        super().__init__(code, message, remedy=remedy)
        # OSError takes the three for errno, strerror and filename.
        self.args, self.errno, self.filename = (code, message, remedy), None, None


class MissingExtraError(AutosamEdgeError, ImportError):
    """A command needs an optional part of the distribution."""

    exit_code = 8


class ExportError(AutosamEdgeError, RuntimeError):
    """A student cannot be exported, or an artifact differs from it."""

    exit_code = 9


class TrainingError(AutosamEdgeError, RuntimeError):
    """A recipe, a run folder or a checkpoint cannot be used as it is."""

    exit_code = 10


class ImplausibleError(AutosamEdgeError, ValueError):
    """The scan is not one that the model can label, so that its labels are not written."""

    exit_code = 11


class BatchError(AutosamEdgeError, RuntimeError):
    """Scans of a batch failed, or the batch cannot go on."""

    exit_code = 12


class AuditError(AutosamEdgeError, ValueError):
    """The record of what ran was changed."""

    exit_code = 13


class BenchError(AutosamEdgeError, RuntimeError):
    """The machine cannot be timed now, or a stored row of a benchmark is not valid."""

    exit_code = 14


class CancelledError(AutosamEdgeError, RuntimeError):
    """The caller asked to stop; nothing was left behind."""

    exit_code = 130


_CLASSES: dict[str, type[AutosamEdgeError]] = {
    **dict.fromkeys(("INPUT", "DICOM", "NIFTI", "NRRD", "MHA", "DATA"), InputError),
    "BUNDLE": BundleError,
    "ENGINE": EngineError,
    "MEMORY": BudgetError,
    "OUTPUT": OutputError,
    "EXTRA": MissingExtraError,
    "EXPORT": ExportError,
    "TRAIN": TrainingError,
    "PLAUSIBLE": ImplausibleError,
    "BATCH": BatchError,
    "AUDIT": AuditError,
    "BENCH": BenchError,
    "CANCEL": CancelledError,
    "INTERNAL": AutosamEdgeError,
}
"""Class of the error by the middle part of its code."""


@dataclass(frozen=True)
class ErrorCode:
    """One kind of failure.

    Args:
        code: Stable identifier such as ``AE-DICOM-016``.
        meaning: What was found, as a phrase.
        remedy: What the caller can do, one or two sentences. Parameters of Python stand in backticks; the
            command line shows its options in their place.
    """

    code: str
    meaning: str
    remedy: str

    @property
    def kind(self) -> type[AutosamEdgeError]:
        """The class of the error, which decides the exit code."""
        return _CLASSES[self.code.split("-")[1]]

    def __str__(self) -> str:
        return self.code

    def __call__(self, message: str, *, remedy: str | None = None) -> AutosamEdgeError:
        """The error to raise.

        Args:
            message: One sentence: what was found, and what was expected. No patient data.
            remedy: A remedy that names values, in place of the general one.
        """
        return self.kind(self.code, message, remedy=self.remedy if remedy is None else remedy)

"""The header of a DICOM file: the values that a CT volume needs, decoded when they are asked for."""

from __future__ import annotations

import logging
import math
import threading
import warnings
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage

from autosam_edge.error_codes import ATTRIBUTE_INVALID, DICOM_DAMAGED
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from pydicom.dataset import Dataset

ENHANCED_CT_IMAGES = frozenset({EnhancedCTImageStorage, LegacyConvertedEnhancedCTImageStorage})
_BINARY_NUMBERS = ("FD", "FL", "UL", "US")
CT_IMAGES = frozenset({CTImageStorage, *ENHANCED_CT_IMAGES})


@dataclass(frozen=True, eq=False)
class Header:
    """Header of one DICOM file.

    Args:
        name: How messages call the file, such as ``file 12 of 40``; its real name may be a patient's.
        dataset: Elements that this package reads; never shown.
        transfer_syntax: UID of the encoding, from the file meta information or, if that is missing, from the
            bytes.
        pixel_offset: Byte at which the pixel data element starts, of the inflated data set if it is
            deflated.
        stamp: Size and time of modification of the file when its header was read; see :func:`stamp_of`.
        deflated_at: Byte at which the deflated data set starts; None if it is not deflated.
    """

    path: Path
    name: str
    dataset: Dataset
    transfer_syntax: str
    pixel_offset: int
    stamp: tuple[int, int]
    deflated_at: int | None = None

    @property
    def size(self) -> int:
        """Size of the file when its header was read, bytes."""
        return self.stamp[0]

    @property
    def is_enhanced(self) -> bool:
        """Whether the file is an Enhanced CT object, whose frames have the positions."""
        return self.text("SOPClassUID") in ENHANCED_CT_IMAGES

    @property
    def frames(self) -> int:
        """NumberOfFrames; 1 when it is absent, empty or 0."""
        return self.integer("NumberOfFrames") or 1

    def text(self, keyword: str) -> str:
        """An attribute as text, empty when absent; see :func:`text_of`."""
        return text_of(self.dataset, keyword, self.name)

    def integer(self, keyword: str) -> int | None:
        """An attribute as an integer, None when absent or empty; see :func:`numbers`."""
        values = numbers(self.dataset, keyword, 1, self.name)
        return None if values is None else int(values[0])

    def raw(self, keyword: str) -> str:
        """An attribute as it stands in the file, in ASCII, to be compared and not to be shown."""
        return raw_of(self.dataset, keyword)


def sniff(head: bytes) -> bool:
    """Whether bytes start a DICOM file.

    Either the preamble of PS3.10, or, from older senders, a data set without it whose first group is 0002 or
    0008.
    """
    if head[128:132] == b"DICM":
        return True
    if len(head) < 8:
        return False
    little = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3] == 0 and head[2] <= 0x18
    big = head[:2] == b"\x00\x08" and head[2] == 0 and head[3] <= 0x18
    explicit = head[4:6] in (b"UL", b"OB", b"UI", b"CS", b"DA", b"TM", b"SH", b"LO")
    implicit = little and int.from_bytes(head[4:8], "little") <= 1024
    return ((little or big) and explicit) or implicit


def stamp_of(status: os.stat_result) -> tuple[int, int]:
    """Size in bytes and time of modification in ns: another stamp means another content."""
    return status.st_size, status.st_mtime_ns


class _Silence:
    """One change for all threads, as filters of warnings and levels of logs are those of the whole process.

    The first thread in makes it, the last one out undoes it.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._undo = threading.Lock(), 0, ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._undo.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")
                for log in map(logging.getLogger, ("pydicom", "highdicom")):
                    self._undo.callback(log.setLevel, log.level)
                    log.setLevel(logging.CRITICAL + 1)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._undo.close()


_silence = _Silence()


def silenced() -> AbstractContextManager[None]:
    """Suppress warnings, and log records of pydicom and highdicom: they quote values that identify a patient.

    While one thread is in such a block, no thread shows a warning.
    """
    return _silence


@cache
def tag_of(keyword: str) -> BaseTag:
    """The tag of an attribute; pydicom would look it up, and check it, each time that a value is read."""
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return BaseTag(tag)


def raw_of(dataset: Dataset, keyword: str) -> str:
    """An attribute without decoding it, empty when absent: ten times as fast, and enough to compare files."""
    tag = tag_of(keyword)
    try:
        element = dataset.get_item(tag)
    except Exception:  # see value_of; what cannot be read cannot be compared
        return ""
    value = None if element is None else element.value
    if not isinstance(value, bytes):
        return str(value).strip(" \0") if value or value == 0 else ""
    text = value.decode("ascii", "replace").strip(" \0")
    return "0" if value and not text and dictionary_VR(tag) in _BINARY_NUMBERS else text


def value_of(dataset: Dataset, keyword: str, name: str, *, expected: str) -> Any:  # noqa: ANN401  by its VR
    """The value of an attribute, None when it is absent.

    All elements are read here, as pydicom decodes an element when it is first used.

    Args:
        dataset: Data set of the file, or an item of a sequence in it.
        keyword: Keyword of the attribute.

    Raises:
        InputError: It cannot be decoded, as when its VR or its length is damaged (AE-DICOM-006).
    """
    tag = tag_of(keyword)
    try:
        return dataset[tag].value if tag in dataset else None
    except Exception:  # NotImplementedError, struct.error, RecursionError and more; all mean "damaged"
        raise malformed(keyword, name, expected) from None  # the cause quotes bytes, which may be a patient's


def texts_of(dataset: Dataset, keyword: str, name: str) -> list[str]:
    """The values of an attribute as text, none when it is absent or empty.

    Raises:
        InputError: It is there but holds bytes or a sequence, or cannot be decoded (AE-DICOM-006).
    """
    value = value_of(dataset, keyword, name, expected="text")
    if isinstance(value, (bytes, Sequence)):
        raise malformed(keyword, name, "text")
    values = value if isinstance(value, MultiValue) else [] if value is None else [value]
    return [str(item).strip() for item in values]


def text_of(dataset: Dataset, keyword: str, name: str) -> str:
    """An attribute as text, values joined by a backslash, empty when absent; see :func:`texts_of`."""
    return "\\".join(texts_of(dataset, keyword, name))


def items_of(dataset: Dataset, keyword: str, name: str) -> list[Dataset]:
    """The items of a sequence, none when it is absent or empty.

    Raises:
        InputError: It is there but is no sequence, or cannot be decoded (AE-DICOM-006).
    """
    value = value_of(dataset, keyword, name, expected="a sequence")
    if value is not None and not isinstance(value, Sequence):
        raise malformed(keyword, name, "a sequence")
    return list(value or ())


def numbers(dataset: Dataset, keyword: str, count: int, name: str) -> tuple[float, ...] | None:
    """An attribute as ``count`` finite numbers, or None when it is absent or empty.

    Raises:
        InputError: It is there but does not hold that many finite numbers (AE-DICOM-006).
    """
    expected = f"{count} finite number{'s' if count > 1 else ''}"
    value = value_of(dataset, keyword, name, expected=expected)
    try:
        if value is None or value == "":
            return None
        values = (value,) if isinstance(value, (int, float, str, bytes)) else tuple(value)
        if not values:
            return None
        parsed = tuple(float(item) for item in values)
    except (TypeError, ValueError, OverflowError):
        parsed = ()
    if len(parsed) != count or not all(math.isfinite(item) for item in parsed):
        raise malformed(keyword, name, expected)
    return parsed


def malformed(keyword: str, name: str, expected: str) -> AutosamEdgeError:
    """The error for an attribute that breaks the standard."""
    return ATTRIBUTE_INVALID(
        f"{keyword} of {name} is malformed, expected {expected}.",
        remedy="Export the series again from the scanner or archive; the header is damaged.",
    )


def missing(keyword: str, name: str) -> AutosamEdgeError:
    """The error for an attribute that is absent or empty."""
    return ATTRIBUTE_INVALID(f"{name} has no {keyword}.")


def damaged(name: str, what: str) -> AutosamEdgeError:
    """The error for a file that ends early or does not follow its own header."""
    return DICOM_DAMAGED(f"{name} is damaged: {what}.")

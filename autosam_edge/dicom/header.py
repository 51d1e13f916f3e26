"""The header values of a DICOM file that a CT volume needs; pixels are not read here."""

from __future__ import annotations

import io
import logging
import math
import os
import stat
import warnings
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pydicom
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from autosam_edge.error_codes import ATTRIBUTE_INVALID, DICOM_DAMAGED, DICOM_TOO_LARGE, INPUT_UNREADABLE
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pydicom.dataset import Dataset

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT_IMAGES = frozenset(
    {"1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2"}
)  # native, and converted from legacy images
_HEAD_BYTES = 65_536  # headers of a CT slice are 2 to 20 kB; parsing from memory halves the time of the scan
_MAX_INFLATED = 64 << 20  # a deflated slice of 2048 x 2048 is 8 MiB
_MAX_INFLATE_RATIO = 50  # CT noise deflates two- to fivefold
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_PIXEL_DATA = {
    True: b"\xe0\x7f",
    False: b"\x7f\xe0",
}  # group 7FE0 by little endian: PixelData, FloatPixelData, DoubleFloatPixelData
_TAGS: list[str] = [
    "ImageType", "SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "StudyInstanceUID",
    "SeriesInstanceUID", "SeriesNumber", "FrameOfReferenceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "LossyImageCompression", "LossyImageCompressionRatio", "ConcatenationUID",
    "InConcatenationTotalNumber", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class Header:
    """Header of one DICOM file.

    Args:
        path: Path of the file.
        name: Path relative to the input, safe to show on one line.
        dataset: Elements that this package reads; never shown.
        transfer_syntax: UID of the encoding, from the file meta information or, if that is missing, from the
            bytes.
        pixel_offset: Byte at which the pixel data element starts; -1 if the data set is deflated.
        size: Size of the file when its header was read, bytes.
        mtime_ns: Modification time of the file when its header was read, ns.
    """

    path: Path
    name: str
    dataset: Dataset
    transfer_syntax: str
    pixel_offset: int
    size: int
    mtime_ns: int

    def text(self, keyword: str) -> str:
        """An attribute as text, empty when absent; see :func:`text_of`."""
        return text_of(self.dataset, keyword, self.name)

    def integer(self, keyword: str) -> int | None:
        """An attribute as an integer, None when absent or empty; see :func:`numbers`."""
        values = numbers(self.dataset, keyword, 1, self.name)
        return None if values is None else int(values[0])


@contextmanager
def silenced() -> Iterator[None]:
    """Suppress pydicom's warnings and log records: they quote values that can identify a patient.

    Python keeps the filter of warnings for the whole process, so volumes are read by one thread at a time.
    """

    def drop(_record: logging.LogRecord) -> bool:
        return False

    log = logging.getLogger("pydicom")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        log.addFilter(drop)
        try:
            yield
        finally:
            log.removeFilter(drop)


def value_of(dataset: Dataset, keyword: str, name: str, *, expected: str) -> Any:  # noqa: ANN401  by its VR
    """The value of an attribute, None when it is absent.

    All elements are read here, as pydicom decodes an element when it is first used.

    Args:
        dataset: Data set of the file, or an item of a sequence in it.
        keyword: Keyword of the attribute.
        name: Name of the file, for the message.
        expected: Expected value, for the message.

    Raises:
        InputError: It cannot be decoded, as when its VR or its length is damaged (AE-DICOM-006).
    """
    try:
        return dataset[keyword].value if keyword in dataset else None
    except (
        Exception
    ):  # NotImplementedError, BytesLengthException, struct.error, RecursionError and more; all mean "damaged"
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


def damaged(name: str, what: str) -> AutosamEdgeError:
    """The error for a file that ends early or does not follow its own header."""
    return DICOM_DAMAGED(f"{name} is damaged: {what}.")


def read_header(path: Path, name: str) -> Header | None:
    """Header of one file, or None when its content is not DICOM.

    Raises:
        InputError: It is damaged (AE-DICOM-005, -006), inflates beyond reason (AE-DICOM-021) or cannot be
            read (AE-INPUT-003).
    """
    name = "".join(letter if letter.isprintable() else "?" for letter in name)
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                return None
            head = file.read(_HEAD_BYTES)
            if not sniff(head):
                if path.suffix.lower() in _DICOM_SUFFIXES and not head.startswith(_APPLE_DOUBLE):
                    # Passing over it could lose the first or the last slice without leaving a gap.
                    raise damaged(name, "it is named like a DICOM file but does not start like one")
                return None
            if DeflatedExplicitVRLittleEndian.encode() in head[:1024]:
                _check_inflation(file, head, name)
            dataset, offset = _parse(file, head, name)
    except OSError as error:
        raise INPUT_UNREADABLE(f"{name} cannot be read ({type(error).__name__}).") from error
    return Header(path, name, dataset, _transfer_syntax(dataset), offset, status.st_size, status.st_mtime_ns)


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


def _parse(file: BinaryIO, head: bytes, name: str) -> tuple[Dataset, int]:
    """The wanted elements, and the byte where the pixel data start."""
    with silenced():
        for source in (io.BytesIO(head), file):
            source.seek(0)
            try:
                dataset = pydicom.dcmread(source, stop_before_pixels=True, force=True, specific_tags=_TAGS)
            except OSError:
                raise
            except (
                Exception
            ) as error:  # pydicom raises many kinds, RecursionError among them; all mean "not a sound header"
                if source is file:
                    raise damaged(
                        name, f"its header cannot be parsed ({type(error).__name__})"
                    ) from None  # the cause may quote bytes
                continue
            offset = source.tell()
            if offset < len(head) - 12:  # otherwise the header goes on beyond what was read ahead
                break
    if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        offset = -1
    sop_class = text_of(dataset, "SOPClassUID", name)
    if not sop_class:
        raise damaged(name, "its header has no SOPClassUID")
    if offset >= 0 and (sop_class == CT_IMAGE or sop_class in ENHANCED_CT_IMAGES):
        # A file cut within its header looks like another kind of object, and would be passed over as such.
        file.seek(offset)
        if file.read(2) != _PIXEL_DATA[bool(dataset.original_encoding[1])]:
            raise damaged(name, "it ends before its pixel data or holds none")
    return dataset, offset


def _transfer_syntax(dataset: Dataset) -> str:
    declared = dataset.file_meta.get("TransferSyntaxUID")
    if declared:
        return str(declared)
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _check_inflation(file: BinaryIO, head: bytes, name: str) -> None:
    """Refuse a deflated data set that inflates beyond reason (PS3.5 A.5); the inflated bytes are counted."""
    file.seek(
        144 + int.from_bytes(head[140:144], "little")
    )  # (0002,0000) gives the length of the group after itself
    inflater, total, limit = zlib.decompressobj(-zlib.MAX_WBITS), 0, 0
    try:
        while chunk := inflater.unconsumed_tail or file.read(_HEAD_BYTES):
            total += len(inflater.decompress(chunk, 1 << 20))
            limit = max(_MAX_INFLATED, _MAX_INFLATE_RATIO * file.tell())
            if total > limit:
                raise DICOM_TOO_LARGE(
                    f"{name} inflates to more than {limit >> 20} MiB, far more than a CT image of its size.",
                    remedy="Remove the file, or store the series without deflation.",
                )
    except zlib.error as error:
        raise damaged(name, "its deflated data set cannot be inflated") from error
    if not inflater.eof:
        raise damaged(name, "its deflated data set ends early")
    file.seek(0)

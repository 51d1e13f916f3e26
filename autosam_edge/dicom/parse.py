"""Parse the header of a DICOM file, in bounded memory; pixels are not read."""

from __future__ import annotations

import io
import os
import stat
import zlib
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from autosam_edge.dicom.header import (
    CT_IMAGES,
    Header,
    damaged,
    malformed,
    missing,
    raw_of,
    silenced,
    sniff,
    stamp_of,
    tag_of,
    text_of,
)
from autosam_edge.dicom.image_kinds import class_title
from autosam_edge.dicom.pixel_element import NATIVE, PIXEL_GROUP
from autosam_edge.dicom.planes import TRAITS
from autosam_edge.encoded_bytes import GZIP_MAGIC, DamagedError, Inflated
from autosam_edge.error_codes import DICOM_TOO_LARGE, FILE_COMPRESSED, INPUT_UNREADABLE
from autosam_edge.errors import InputError
from autosam_edge.system.memory import require_room, resident_mb

if TYPE_CHECKING:
    from pathlib import Path

_HEAD_BYTES = 65_536  # headers of a CT slice are 2 to 20 kB; parsing from memory halves the time of the scan
_STEPS_BETWEEN = 10_000  # reads between two looks at the memory of the process
_MOST_MB = 1024.0  # what headers may take where no limit is set
_DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic", ".ima"})
_APPLE_DOUBLE = b"\x00\x05\x16\x07"
_META_GROUP = b"\x02\0\0\0"  # (0002,0000), the first element behind the preamble
_PIXEL_TAGS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # FloatPixelData, DoubleFloat-, PixelData
_WANTED = [
    *TRAITS, "SOPClassUID", "SOPInstanceUID", "Modality", "PatientID", "PatientName", "PatientBirthDate",
    "PatientSex", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "ImagePositionPatient",
    "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns", "NumberOfFrames", "RescaleSlope",
    "RescaleIntercept", "RescaleType", "ModalityLUTSequence", "PixelPaddingValue", "PixelPaddingRangeLimit",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "LossyImageCompression", "LossyImageCompressionRatio", "ConcatenationUID",
    "InConcatenationTotalNumber", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "InConcatenationNumber", "VolumeBasedCalculationTechnique", "VolumetricProperties", "BurnedInAnnotation",
    "AnatomicalOrientationType", "PatientSpeciesDescription", "PatientSpeciesCodeSequence",
]  # fmt: skip
_TAGS: list[BaseTag | int] = [tag_of(keyword) for keyword in _WANTED]
_GROUPS = frozenset({0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040, 0x5200})
_CLASS_OF_META = "MediaStorageSOPClassUID"
_OF_META = {"SOPClassUID": _CLASS_OF_META, "SOPInstanceUID": "MediaStorageSOPInstanceUID"}


@dataclass
class Allowance:
    """What the long headers of one input may still take together.

    Args:
        size: Bytes that may be read; 4,000 frames of an Enhanced CT object take about 8 MB.
        steps: Reads that may be made, about two for each element; 4,000 frames take about 500,000. Memory
            grows with the elements, however short they are.
        max_memory_mb: Limit for the resident memory of the process, MB; None for what it is now and 1 GB.
    """

    size: int = 64 << 20
    steps: int = 4_000_000
    max_memory_mb: float | None = None

    def __post_init__(self) -> None:
        self._most_mb = self.max_memory_mb or resident_mb() + _MOST_MB
        self._full = False

    @property
    def exhausted(self) -> bool:
        """Whether more was asked for than may be read."""
        return self.size < 0 or self.steps < 0 or self._full

    def spend(self, size: int) -> None:
        """Count one read.

        Raises:
            EOFError: It is beyond what may be read; the parser may make an error of its own from it.
        """
        self.size -= size
        self.steps -= 1
        self._full = self._full or (self.steps % _STEPS_BETWEEN == 0 and resident_mb() > self._most_mb)
        if self.exhausted:
            raise EOFError

    def check(self, name: str) -> None:
        """Refuse an input whose headers took more than they may.

        Args:
            name: Name of the file that was read last, for the message.

        Raises:
            InputError: AE-DICOM-021.
            BudgetError: The process holds more than its limit (AE-MEMORY-001).
        """
        if self._full:
            require_room(0.0, self.max_memory_mb, what="the headers of the input")
        if self.exhausted:
            raise DICOM_TOO_LARGE(
                f"the header of {name} is far longer than that of a CT image, or those of all files are.",
                remedy="Remove the file if it is no CT image, or give the folder of one series only.",
            )


class _Elements(NamedTuple):
    """The elements of a file before its pixels.

    Args:
        pixel_offset: Byte where the pixels start, of the inflated data set if the file is deflated.
        deflated_at: Byte of the file where a deflated data set starts; None if it is not deflated.
        follows: The first two bytes of the pixels' element.
    """

    dataset: Dataset
    pixel_offset: int
    deflated_at: int | None
    follows: bytes


class _Bounded:
    """A file, from its start, that gives no more than an allowance, whatever lengths its elements claim."""

    def __init__(self, file: BinaryIO, allowance: Allowance) -> None:
        self.seek, self.tell, self._file, self._allowance = file.seek, file.tell, file, allowance
        self._end = file.seek(0, os.SEEK_END)
        file.seek(0)

    def read(self, size: int = -1) -> bytes:
        rest = max(0, self._end - self.tell())
        size = min(size, rest) if size >= 0 else rest
        self._allowance.spend(size)
        return self._file.read(size)


class _Inflating:
    """The data set of a deflated file (PS3.5 A.5) as a file that is inflated as far as it is read.

    Args:
        file: The file, at the start of the data set.
        allowance: What long headers may still take; also for elements that the parser passes over.
    """

    def __init__(self, file: BinaryIO, allowance: Allowance) -> None:
        self._stream, self._allowance = Inflated(file, "deflate"), allowance
        self._data, self._place = bytearray(), 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._place = offset + (self._place if whence == os.SEEK_CUR else 0)
        return self._place

    def tell(self) -> int:
        return self._place

    def read(self, size: int) -> bytes:
        missing = max(0, self._place + size - len(self._data))
        self._allowance.spend(missing)
        self._data += self._stream.read(missing)
        part = bytes(self._data[self._place : self._place + size])
        self._place += len(part)
        return part


def read_header(path: Path, name: str, allowance: Allowance) -> Header | None:
    """Header of one file, or None when its content is not DICOM.

    Of objects that are no CT images only the SOP Class is kept.

    Args:
        allowance: What long headers may still take; reading lowers it.

    Raises:
        InputError: The file is damaged (AE-DICOM-005, -006), larger than reasonable (AE-DICOM-021), or cannot
            be read (AE-INPUT-003); it is a DICOM file inside gzip (AE-INPUT-011).
        BudgetError: The headers take more than the limit (AE-MEMORY-001).
    """
    try:
        status = path.stat()  # before it is opened: a change from now on is seen when all was read
        if not stat.S_ISREG(status.st_mode):
            return None
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            if not sniff(head):
                _check_no_dicom(path, head, name)
                return None
            with silenced():
                found = _ct_header(file, head, name, allowance)
                syntax = _transfer_syntax(found.dataset, name)
    except OSError as error:
        raise INPUT_UNREADABLE(f"{name} cannot be read ({type(error).__name__}).") from error
    return Header(path, name, found.dataset, syntax, found.pixel_offset, stamp_of(status), found.deflated_at)


def read_whole_header(path: Path, allowance: Allowance) -> Dataset:
    """All standard elements of a file before its pixels, by the rules of :func:`read_header`.

    Private elements, which may be long, are left out.

    Args:
        path: Path of a file that :func:`read_header` has read.
        allowance: What long headers may still take; reading lowers it.

    Raises:
        InputError: See :func:`read_header`.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        return _header(file, file.read(_HEAD_BYTES), "a source file", allowance, _standard_tags()).dataset


@cache
def _standard_tags() -> list[BaseTag | int]:
    return [tag for tag in DicomDictionary if tag >> 16 in _GROUPS]


def _check_no_dicom(path: Path, head: bytes, name: str) -> None:
    """Refuse what is no DICOM file but may stand for one.

    Passing over it could lose the first or the last slice without leaving a gap.
    """
    if head[:2] == GZIP_MAGIC:
        try:
            inside = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, 132)
        except zlib.error:
            return
        if sniff(inside):
            raise FILE_COMPRESSED(f"{name} is a DICOM file inside gzip.")
    elif head[132:136] == _META_GROUP:
        raise damaged(name, "its preamble does not end with DICM")
    elif path.suffix.lower() in _DICOM_SUFFIXES and not head.startswith(_APPLE_DOUBLE):
        raise damaged(name, "it is named like a DICOM file but does not start like one")


def _ct_header(file: BinaryIO, head: bytes, name: str, allowance: Allowance) -> _Elements:
    """The wanted elements of a CT image.

    Of an object of another kind there are the SOP Class and no more, and its damages do not matter.
    """
    before = allowance.size, allowance.steps
    try:
        found = _header(file, head, name, allowance, _TAGS)
        sop_class = text_of(found.dataset, "SOPClassUID", name)
    except InputError:
        found = _Elements(Dataset(), -1, None, b"")
        found.dataset.file_meta = _file_meta(io.BytesIO(head))
        sop_class = raw_of(found.dataset.file_meta, _CLASS_OF_META)
        if sop_class in CT_IMAGES or not class_title(sop_class):
            raise
    if sop_class and sop_class not in CT_IMAGES:
        if not class_title(sop_class) and raw_of(found.dataset.file_meta, _CLASS_OF_META) in CT_IMAGES:
            # Passing over it could lose the first or the last slice without leaving a gap.
            raise malformed("SOPClassUID", name, "the class that the file meta information names")
        allowance.size, allowance.steps = before
        other = Dataset()
        other.SOPClassUID, other.file_meta = sop_class, FileMetaDataset()
        return found._replace(dataset=other)
    if PIXEL_GROUP.get(found.follows) != bool(found.dataset.original_encoding[1]):
        raise damaged(name, "it ends before its pixel data or holds none")
    if not sop_class:
        raise missing("SOPClassUID", name)
    return found


def _header(
    file: BinaryIO, head: bytes, name: str, allowance: Allowance, tags: list[BaseTag | int]
) -> _Elements:
    """The elements before the pixels; identifiers may come from the file meta information."""
    try:
        found = _elements(file, head, allowance, tags)
    except Exception as error:  # pydicom raises many kinds, RecursionError among them
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's; those of pydicom have no number
        allowance.check(name)
        if isinstance(error, DamagedError):
            raise damaged(name, "its deflated data set cannot be inflated") from None
        what = f"its header cannot be parsed ({type(error).__name__})"
        raise damaged(name, what) from None  # the cause may quote bytes
    allowance.check(name)  # pydicom makes errors of its own from the one of Allowance, or none
    for keyword, of_meta in _OF_META.items():
        value = raw_of(found.dataset.file_meta, of_meta)
        if not text_of(found.dataset, keyword, name) and (keyword != "SOPClassUID" or class_title(value)):
            setattr(found.dataset, keyword, value)
    return found


def _elements(file: BinaryIO, head: bytes, allowance: Allowance, tags: list[BaseTag | int]) -> _Elements:
    """See :func:`_header`; raises what pydicom raises."""
    source: Any
    for source in (io.BytesIO(head), _Bounded(file, allowance)):
        ahead = isinstance(source, io.BytesIO) and len(head) == _HEAD_BYTES
        try:
            meta = _file_meta(source)
            start, deflated = source.tell(), None
            if raw_of(meta, "TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                file.seek(start)
                source, start, deflated, ahead = _Inflating(file, allowance), 0, start, False
            implicit, little = _encoding(meta, source.read(6))
            source.seek(start)
            dataset = read_dataset(source, implicit, little, stop_when=_at_pixels, specific_tags=tags)
        except Exception:
            if not ahead:
                raise
            continue  # the header may go on beyond what was read ahead
        dataset.file_meta = meta
        offset, follows = source.tell(), source.read(2)
        if not ahead or follows in PIXEL_GROUP:
            break
    return _Elements(dataset, offset, deflated, follows)


def _at_pixels(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) in _PIXEL_TAGS


def _file_meta(source: Any) -> FileMetaDataset:  # noqa: ANN401  what read_dataset takes
    """The file meta information, from the start of a file as far as it goes; its group length may lie."""
    start = source.read(132)
    source.seek(132 if start[128:] == b"DICM" else 0)
    try:
        meta = read_dataset(source, is_implicit_VR=False, is_little_endian=True, stop_when=_beyond_meta)
    except EOFError:
        raise
    except Exception:  # see _header; without it the caller knows no more than before
        meta = Dataset()
    return FileMetaDataset(meta)


def _beyond_meta(tag: BaseTag, _vr: str | None, _length: int) -> bool:
    return int(tag) >> 16 != 2


def _transfer_syntax(dataset: Dataset, name: str) -> str:
    declared = text_of(dataset.file_meta, "TransferSyntaxUID", name)
    if declared:
        return declared
    implicit, little = dataset.original_encoding
    if implicit:
        return str(ImplicitVRLittleEndian)
    return str(ExplicitVRLittleEndian if little else ExplicitVRBigEndian)


def _encoding(meta: Dataset, first: bytes) -> tuple[bool, bool]:
    """Whether the VR is implicit and the byte order little endian, as the file says or as its bytes show.

    Args:
        meta: The file meta information.
        first: The first six bytes of the data set.
    """
    syntax = raw_of(meta, "TransferSyntaxUID")
    if syntax:
        explicit, little = NATIVE.get(syntax, (True, True))
        return not explicit, little
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    return not explicit, not (explicit and first[:1] == b"\0")

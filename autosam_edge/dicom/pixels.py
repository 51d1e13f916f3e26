"""Stored pixel values of image planes, whatever their transfer syntax (PS3.5 section 8 and annex A)."""

from __future__ import annotations

import struct
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pydicom
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.utils import iter_pixels
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from autosam_edge.dicom.header import damaged
from autosam_edge.error_codes import FILE_CHANGED, INPUT_UNREADABLE, TRANSFER_SYNTAX_UNSUPPORTED
from autosam_edge.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.planes import ImagePlane

_NATIVE = frozenset({str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian), str(ExplicitVRBigEndian)})
_UNDEFINED = 0xFFFFFFFF
_PIXEL_DATA, _ITEM, _DELIMITER = (0x7FE0, 0x0010), (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)

Words = npt.NDArray[np.uint16]


def stored_words(planes: Sequence[ImagePlane]) -> Iterator[Words]:
    """The stored (H, W) words of each plane, with the bits above HighBit, in the order of ``planes``.

    Raises:
        InputError: The pixel data end early or cannot be decoded (AE-DICOM-005), or their transfer syntax is
            unknown (AE-DICOM-010).
    """
    for header, group in groupby(planes, key=lambda plane: plane.header):
        of_file = list(group)
        try:
            if header.transfer_syntax in _NATIVE:
                yield from _native(header, of_file)
            else:
                yield from _decoded(header, of_file)
        except FileNotFoundError as error:
            raise FILE_CHANGED(
                f"{header.name} vanished while it was read.",
                remedy="Wait until the series has arrived whole.",
            ) from error
        except OSError as error:
            raise INPUT_UNREADABLE(f"{header.name} cannot be read ({type(error).__name__}).") from error


def check_decodable(header: Header) -> None:
    """Refuse a transfer syntax that no installed decoder knows, before any pixel is read.

    Raises:
        InputError: AE-DICOM-010.
    """
    if header.transfer_syntax in _NATIVE:
        return
    uid = UID(header.transfer_syntax)
    title = f"{uid} ({uid.name})" if uid.name != uid else str(uid) if uid.is_valid else "of no valid UID"
    try:
        missing = (
            "; ".join(get_decoder(uid).missing_dependencies) if not get_decoder(uid).is_available else ""
        )
    except NotImplementedError:
        missing = "unknown"
    if missing:
        raise TRANSFER_SYNTAX_UNSUPPORTED(
            f"{header.name} uses the transfer syntax {title}, which no installed decoder reads."
        )


def _native(header: Header, planes: list[ImagePlane]) -> Iterator[Words]:
    """Planes of an uncompressed file, each read straight from its place."""
    little = header.transfer_syntax != ExplicitVRBigEndian
    rows, columns = planes[0].shape
    size = rows * columns * 2
    count = header.integer("NumberOfFrames") or 1
    with header.path.open("rb") as file:
        file.seek(header.pixel_offset)
        start, length = _element(file.read(12), header, little=little)
        surplus = length - size * count
        if length == _UNDEFINED or surplus < 0 or start + length > header.size:
            raise damaged(header.name, "its pixel data are shorter than Rows x Columns")
        if surplus >= 2 * columns:  # less than a row is padding or trailing garbage
            raise damaged(header.name, "its pixel data are longer than Rows x Columns")
        for plane in planes:
            file.seek(start + plane.index * size)
            words = np.fromfile(file, dtype="<u2" if little else ">u2", count=rows * columns)
            if words.size != rows * columns:
                raise damaged(header.name, "its pixel data end early")
            yield words.reshape(rows, columns).astype(np.uint16, copy=False)


def _element(head: bytes, header: Header, *, little: bool) -> tuple[int, int]:
    """Start of the value of the pixel data element in the file, and its length, bytes (PS3.5 7.1)."""
    order = "<" if little else ">"
    if len(head) < 12 or struct.unpack(f"{order}HH", head[:4]) != _PIXEL_DATA:
        raise damaged(header.name, "it ends before its pixel data or holds none")
    if header.transfer_syntax == ImplicitVRLittleEndian:
        return header.pixel_offset + 8, int(struct.unpack("<I", head[4:8])[0])
    return header.pixel_offset + 12, int(struct.unpack(f"{order}I", head[8:12])[0])


def _decoded(header: Header, planes: list[ImagePlane]) -> Iterator[Words]:
    """Planes of a compressed or deflated file, through pydicom's decoders."""
    check_decodable(header)
    if header.pixel_offset >= 0:
        _check_fragments(header)
    decoder = get_decoder(UID(header.transfer_syntax))
    # Pillow's JPEG 2000 path guesses the precision of 16-bit data; OpenJPEG through pylibjpeg reads it.
    plugin = (
        "pylibjpeg"
        if "pylibjpeg" in decoder.available_plugins and decoder.UID.name.startswith(("JPEG 2000", "High-T"))
        else ""
    )
    # pydicom looks for pixel data in the file itself, so a deflated one must be inflated before; its size was
    # checked by the scan.
    source = header.path if header.pixel_offset >= 0 else pydicom.dcmread(header.path)
    try:
        for words in iter_pixels(
            source, indices=[plane.index for plane in planes], raw=True, decoding_plugin=plugin
        ):
            if words.shape != planes[0].shape or words.dtype.itemsize != 2:
                raise damaged(header.name, "its decoded pixels do not fit Rows x Columns of 16 bits")
            yield np.ascontiguousarray(words).view(np.uint16)
    except (InputError, OSError, MemoryError):
        raise
    except Exception as error:  # each codec raises its own kinds; all mean "this stream cannot be decoded"
        raise damaged(
            header.name, f"its compressed pixel data cannot be decoded ({type(error).__name__})"
        ) from error


def _check_fragments(header: Header) -> None:
    """Follow the fragments of encapsulated pixel data (PS3.5 A.4) to their end mark.

    Some codecs complete a truncated stream without an error.
    """
    with header.path.open("rb") as file:
        file.seek(header.pixel_offset)
        position, length = _element(file.read(12), header, little=True)
        if length != _UNDEFINED:
            raise damaged(header.name, "its compressed pixel data are not in fragments")
        while True:
            file.seek(position)
            item = file.read(8)
            if len(item) < 8:
                raise damaged(header.name, "its compressed pixel data end early")
            group, element, length = struct.unpack("<HHI", item)
            if (group, element) == _DELIMITER:
                return
            if (group, element) != _ITEM or position + 8 + length > header.size:
                raise damaged(header.name, "its compressed pixel data end early")
            position += 8 + length

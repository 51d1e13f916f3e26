"""The element that holds the pixels of a file: its place, and its encoding as the bytes show it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from autosam_edge.dicom.header import damaged
from autosam_edge.error_codes import DICOM_DAMAGED
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.pixel_format import PixelFormat

NATIVE = {
    ImplicitVRLittleEndian: (False, True),
    ExplicitVRLittleEndian: (True, True),
    ExplicitVRBigEndian: (True, False),
}
"""Uncompressed transfer syntaxes: whether the VR is explicit, whether the byte order is little endian."""

PIXEL_GROUP = {b"\xe0\x7f": True, b"\x7f\xe0": False}
"""First bytes of the element that holds the pixels: whether the byte order is little endian."""
_FLOAT_BITS = {0x0008: 32, 0x0009: 64, 0x0010: 0}  # by element; 0 for that of integers
_LONG_VRS = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN")
_UNDEFINED = 0xFFFFFFFF
_LAST_GROUPS = range(0x7FE0, 0xFFFD)  # may follow pixel data, up to Data Set Trailing Padding (FFFC,FFFC)


@dataclass(frozen=True)
class PixelElement:
    """Place of the pixel data in a file.

    Args:
        start: Byte at which the value starts.
        length: Length of the value, bytes; None for fragments.
        explicit: Whether the VR is written out.
        little: Whether the byte order is little endian.
    """

    start: int
    length: int | None
    explicit: bool
    little: bool


HEAD_BYTES = 12
"""Length of the head of an element, with the VR written out."""


def pixel_element(head: bytes, header: Header, form: PixelFormat) -> PixelElement:
    """The pixel data element by its head (PS3.5 7.1), whatever encoding the file names.

    Args:
        head: The bytes at ``header.pixel_offset``, 12 of them.
        form: How a pixel is stored by the header.

    Raises:
        InputError: There is none, or its pixels are of another type than the header says (AE-DICOM-005).
    """
    little = PIXEL_GROUP.get(head[:2])
    if len(head) < HEAD_BYTES or little is None:
        raise damaged(header.name, "it ends before its pixel data or holds none")
    order = "<" if little else ">"
    (number,) = struct.unpack(f"{order}H", head[2:4])
    if number not in _FLOAT_BITS:
        raise damaged(header.name, "it holds no pixel data where they are expected")
    if _FLOAT_BITS[number] != form.allocated * form.floating:
        raise damaged(header.name, "its pixel data are not of the type that BitsAllocated says")
    # These letters would be an odd length in implicit VR, which no element has.
    explicit = head[4:6] in _LONG_VRS
    (length,) = struct.unpack(f"{order}I", head[8:12] if explicit else head[4:8])
    return PixelElement(
        header.pixel_offset + (12 if explicit else 8),
        None if length == _UNDEFINED else length,
        explicit,
        little,
    )


def ends_file(file: BinaryIO, header: Header, element: PixelElement, end: int) -> bool:
    """Whether nothing but sound elements follows the pixel data; the first one is looked at."""
    if end >= header.size:
        return True
    file.seek(end)
    head = file.read(8)
    if len(head) < 8:
        return False
    group, _ = struct.unpack("<HH" if element.little else ">HH", head[:4])
    return group in _LAST_GROUPS and (not element.explicit or head[4:6].isalpha())


def contradiction(header: Header, found: str) -> AutosamEdgeError:
    """The error for pixel data that are not what the transfer syntax of their file says."""
    uid = UID(header.transfer_syntax)
    return DICOM_DAMAGED(
        f"{header.name} names the transfer syntax {uid.name if uid.name != uid else 'of an unknown UID'}, "
        f"but {found}.",
        remedy="Export the series again from the archive; the transfer syntax that the files name is wrong.",
    )

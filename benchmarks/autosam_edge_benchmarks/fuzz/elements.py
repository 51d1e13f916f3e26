"""Changes of DICOM files, element by element: of values, lengths, VRs, tags and their order."""

from __future__ import annotations

import struct
from random import Random
from typing import NamedTuple

from autosam_edge_benchmarks.fuzz.mutations import (
    TEXTS,
    change_bytes,
    change_number,
    exchange,
    float_bytes,
    integer_bytes,
    put,
)

_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_VRS = (*sorted(_LONG), b"AT", b"CS", b"DA", b"DS", b"FD", b"FL", b"IS", b"LO", b"PN", b"SS", b"UI", b"UL",
        b"US", b"ZZ", b"\0\0")  # fmt: skip
_ITEM, _PIXEL_DATA, _UNDEFINED = 0xFFFEE000, 0x7FE00010, 0xFFFFFFFF
_META_END = 132


class Encoding(NamedTuple):
    """How the data set of a file is encoded.

    Args:
        explicit: Whether elements name their VR.
        order: ``<`` for little, ``>`` for big endian.
    """

    explicit: bool = True
    order: str = "<"


class Element(NamedTuple):
    """Places of one element in a file, bytes; one whose elements follow in the list has an empty value.

    Args:
        start: First byte of the tag.
        vr_at: First byte of the VR; 0 if it has none.
        length_at: First byte of the length.
        value_at: First byte of the value.
        end: Byte after the value.
    """

    start: int
    vr_at: int
    length_at: int
    value_at: int
    end: int


def elements_of(data: bytes, start: int, encoding: Encoding) -> list[Element]:
    """All elements from a byte on, those inside sequences and the fragments of pixels too."""
    found: list[Element] = []
    in_pixels = False
    while start + 8 <= len(data):
        tag, vr = _tag(data, start, encoding.order), data[start + 4 : start + 6]
        explicit = encoding.explicit and tag >> 16 != 0xFFFE
        length_at, form = start + 4, "I"
        if explicit:
            length_at, form = (start + 8, "I") if vr in _LONG else (start + 6, "H")
        value_at = length_at + struct.calcsize(form)
        if value_at > len(data):
            break
        (length,) = struct.unpack_from(f"{encoding.order}{form}", data, length_at)
        enters = length == _UNDEFINED or vr == b"SQ" or (tag == _ITEM and not in_pixels)
        in_pixels |= tag == _PIXEL_DATA and length == _UNDEFINED
        end = value_at if enters else min(len(data), value_at + length)
        found.append(Element(start, start + 4 if explicit else 0, length_at, value_at, end))
        start = end
    return found


def change_element(data: bytes, encoding: Encoding, draw: Random) -> bytes:
    """Change one element of a file with a preamble."""
    meta = elements_of(data, _META_END, Encoding())
    count = next((i for i, one in enumerate(meta) if data[one.start : one.start + 2] != b"\2\0"), len(meta))
    elements = meta[:count]
    elements += elements_of(data, elements[-1].end if elements else _META_END, encoding)
    if len(elements) < count + 2:
        return change_bytes(data, draw)
    one = elements[-2] if draw.random() < 0.1 else draw.choice(elements)
    whole, value = data[one.start : one.end], data[one.value_at : one.end]
    action = draw.randrange(15)
    if action == 0:
        return data[: one.start] + data[one.end :]
    if action == 1:
        return data[: one.end] + whole * draw.choice((1, 1, 100)) + data[one.end :]
    if action == 2:
        other = draw.choice(elements)
        return exchange(data, (one.start, one.end), (other.start, other.end))
    if action == 3:
        return put(integer_bytes(draw, one.value_at - one.length_at), data, one.length_at)
    if action == 4 and one.vr_at:
        return put(draw.choice(_VRS), data, one.vr_at)
    if action == 5:
        other = draw.choice(elements)
        return put(data[other.start : other.start + 4], data, one.start)
    if action == 6:
        return put(integer_bytes(draw, 2), data, one.start)
    if action == 7:
        return _with_further(data, elements[count:], encoding, draw)
    return _with_value(data, one, _new_value(value, data, elements, draw), encoding)


def _new_value(value: bytes, data: bytes, elements: list[Element], draw: Random) -> bytes:
    other = draw.choice(elements)
    text = draw.choice(TEXTS)
    return draw.choice(
        (
            b"",
            text,
            b"\\".join([text] * draw.choice((2, 3, 6, 7))),
            change_number(value, draw),
            change_number(value, draw),
            change_bytes(value, draw),
            data[other.value_at : other.end],
            value * 2,
            integer_bytes(draw, draw.choice((2, 2, 4))),
            float_bytes(draw),
        )
    )


_FURTHER: tuple[tuple[int, bytes, tuple[bytes, ...]], ...] = (
    (0x00080005, b"CS", (b"ISO_IR 192", b"ISO 2022 IR 87", b"\\ISO 2022 IR 149", b"GB18030", b"NONE")),
    (0x00080020, b"DA", (b"20240230", b"2024.01.02", b"Mustermann", b"99999999")),
    (0x00080021, b"DA", (b"20240102", b"")),
    (0x00080022, b"DA", (b"20240102", b"20240103")),
    (0x00080030, b"TM", (b"250000", b"10:11:12", b"101112.1234567")),
    (0x00080050, b"SH", (b"SECRET-4711",)),
    (0x00080090, b"PN", (b"Mustermann^Max=\x1b$B=x", b"^" * 100)),
    (0x00081110, b"SQ", (b"", b"\xfe\xff\x00\xe0\0\0\0\0", b"Mustermann")),
    (0x00100030, b"DA", (b"19700102", b"1970")),
    (0x00100040, b"CS", (b"F", b"female")),
    (0x00101010, b"AS", (b"054Y", b"54")),
    (0x00181120, b"DS", (b"15", b"-90", b"nan")),
    (0x00200012, b"IS", (b"1", b"2")),
    (0x00280008, b"IS", (b"1", b"2", b"0", b"-1", b"2147483647", b"2147483648")),
    (0x00280006, b"US", (b"\0\0", b"\1\0")),
    (0x00280034, b"IS", (b"1\\1", b"0\\0", b"1\\2")),
    (0x00280106, b"US", (b"\0\0", b"\xff\xff")),
    (0x00280120, b"US", (b"\0\0", b"\x18\0", b"\xff\xff")),
    (0x00280120, b"SS", (b"\0\0", b"\x00\x80")),
    (0x00280121, b"US", (b"\x30\0", b"\xff\xff")),
    (0x00282110, b"CS", (b"01", b"00", b"02")),
    (0x00282112, b"DS", (b"10", b"Mustermann", b"-1")),
    (0x00283000, b"SQ", (b"", b"\xfe\xff\x00\xe0\0\0\0\0")),
    (0x00280301, b"CS", (b"YES", b"NO")),
    (0x7FE00001, b"OV", (bytes(8), b"\xff" * 8)),
    (0x7FE00002, b"OV", (bytes(8), b"\xff" * 8)),
    (0x7FE00008, b"OF", (bytes(480),)),
    (0x00091001, b"UN", (b"Mustermann", b"\xfe\xff\x00\xe0\xff\xff\xff\xff")),
)
"""Tag, VR and values of attributes that a reader may meet."""


def _with_further(data: bytes, elements: list[Element], encoding: Encoding, draw: Random) -> bytes:
    """The file with one more attribute, at its place in the order of tags or somewhere."""
    tag, vr, values = draw.choice(_FURTHER)
    value = draw.choice(values) if draw.random() < 0.8 else draw.choice(TEXTS)
    value += b" " * (len(value) % 2)
    order = encoding.order
    head = struct.pack(f"{order}HH", tag >> 16, tag & 0xFFFF)
    if not encoding.explicit:
        head += struct.pack(f"{order}I", len(value))
    else:
        head += vr + (b"\0\0" if vr in _LONG else b"")
        head += struct.pack(f"{order}{'I' if vr in _LONG else 'H'}", len(value) % 65536)
    later = [one for one in elements if _tag(data, one.start, order) >= tag]
    place = draw.choice(elements) if not later or draw.random() < 0.1 else later[0]
    return data[: place.start] + head + value + data[place.start :]


def _tag(data: bytes, start: int, order: str) -> int:
    group, number = struct.unpack_from(f"{order}HH", data, start)
    return int(group << 16 | number)


def _with_value(data: bytes, one: Element, value: bytes, encoding: Encoding) -> bytes:
    """The file with another value of an element, and its right length."""
    value += b" " * (len(value) % 2)
    size = one.value_at - one.length_at
    order = ">" if encoding.order == ">" and data[one.start : one.start + 2] != b"\2\0" else "<"
    length = struct.pack(f"{order}{'I' if size == 4 else 'H'}", len(value) % (1 << 8 * size))
    if one.value_at == one.end and data[one.length_at : one.value_at].strip(b"\0"):
        length = data[one.length_at : one.value_at]  # its elements follow
    return data[: one.length_at] + length + value + data[one.end :]

"""What a compressed frame says about itself, read before a decoder sees it.

A decoder trusts these numbers: it allocates what they ask for. And each frame must be whole: many decoders
fill in what a cut stream lacks.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Literal

Coding = Literal["JPEG", "JPEG Lossless", "JPEG-LS", "JPEG 2000"]

KIND_BYTES = 16
"""Length of the first part of what a decoder's process gives: the type of a sample, or of an error."""
_START, _END = b"\xff\xd8", b"\xff\xd9"
_CODESTREAM = b"\xff\x4f\xff\x51"  # SOC and SIZ, the first markers of JPEG 2000
_CODINGS: dict[int, Coding] = {0xC0: "JPEG", 0xC1: "JPEG", 0xC3: "JPEG Lossless", 0xF7: "JPEG-LS"}
_FRAMES = (frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}) | {0xF7}  # SOF0 to SOF15, SOF55
_SCAN, _HUFFMAN, _RESTART = 0xDA, 0xC4, 0xDD
_COD, _SOT = 0xFF52, 0xFF90
_NO_END = "the end mark of a compressed image is missing"


@dataclass(frozen=True, eq=False)
class StreamHeader:
    """Header of one compressed frame.

    Args:
        coding: Family of the stream.
        shape: (H, W), pixels.
        components: Samples of a pixel, 1 for gray.
        precision: Bits of a sample.
        signed: Whether the samples are signed, which only JPEG 2000 can tell.
        lossy: Whether the stream was surely made with loss.
        end: Byte behind the end mark.
        huffman: Number of codes of each length, 1 to 16 bits, followed by their symbols; by table (T.81
            B.2.4.2). JPEG only.
        restart: Pixels between restart markers, 0 for none. JPEG only.
        predictor: Predictor of JPEG Lossless, 1 to 7.
        point_transform: Low bits that JPEG Lossless dropped.
        scan: Byte at which the entropy-coded data start. JPEG only.
        table: Huffman table of the scan.
        tiles: Number of tiles of JPEG 2000.
    """

    coding: Coding
    shape: tuple[int, int]
    components: int
    precision: int
    signed: bool
    lossy: bool
    end: int
    huffman: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    restart: int = 0
    predictor: int = 0
    point_transform: int = 0
    scan: int = 0
    table: int = 0
    tiles: int = 1


def read_stream_header(data: bytes) -> StreamHeader:
    """Read the header of a compressed frame and find its end mark.

    Args:
        data: Frame, with up to a few bytes of padding behind it.

    Raises:
        ValueError: The frame is none of the codings above, or is not whole.

    Source:
        T.81 annex B (JPEG), T.87 annex C (JPEG-LS), T.800 annex A (JPEG 2000).
    """
    try:
        if data.startswith(_START):
            return _jpeg(data)
        at = data.find(_CODESTREAM, 0, 4096)  # a file format may stand around the code stream
        if at >= 0:
            return _jpeg_2000(data, at)
    except (struct.error, IndexError):
        raise ValueError("the header of a compressed image is cut off") from None
    raise ValueError("a compressed image does not start as JPEG, JPEG-LS or JPEG 2000 do")


def _jpeg(data: bytes) -> StreamHeader:
    frame: tuple[int, int, int, int, int] | None = None  # marker, precision, rows, columns, components
    huffman: dict[int, tuple[bytes, bytes]] = {}
    restart, position = 0, 2
    while True:
        if data[position] != 0xFF:
            raise ValueError("a marker is missing in the header of a compressed image")
        marker = data[position + 1]
        position += 1
        if marker == 0xFF:  # fill byte
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        content = data[position + 3 : position + 1 + length]
        position += 1 + length
        if marker in _FRAMES and frame is None:
            frame = marker, *struct.unpack_from(">BHHB", content)
        elif marker == _HUFFMAN:
            huffman |= _huffman_tables(content)
        elif marker == _RESTART:
            restart = int.from_bytes(content, "big")
        elif marker == _SCAN:
            break
    if frame is None or frame[0] not in _CODINGS:
        raise ValueError("a compressed image is JPEG of a kind that DICOM does not use for CT")
    coding, count = _CODINGS[frame[0]], content[0]
    selector, _, shift = struct.unpack_from("BBB", content, 1 + 2 * count)
    if coding == "JPEG Lossless" and not 1 <= selector <= 7:
        raise ValueError(f"a compressed image names predictor {selector}, expected 1 to 7")
    end = data.find(_END, position)
    if end < 0:
        raise ValueError(_NO_END)
    lossy = {"JPEG": True, "JPEG Lossless": bool(shift & 15), "JPEG-LS": selector > 0}[coding]
    return StreamHeader(
        coding,
        (frame[2], frame[3]),
        frame[4],
        frame[1],
        signed=False,
        lossy=lossy,
        end=end + 2,
        huffman=huffman,
        restart=restart,
        predictor=selector,
        point_transform=shift & 15,
        scan=position,
        table=content[2] >> 4,
    )


def _huffman_tables(content: bytes) -> dict[int, tuple[bytes, bytes]]:
    tables, position = {}, 0
    while position < len(content):
        counts = content[position + 1 : position + 17]
        following = position + 17 + sum(counts)
        tables[content[position]] = counts, content[position + 17 : following]
        position = following
    return tables


def _jpeg_2000(data: bytes, start: int) -> StreamHeader:
    right, bottom, left, top, tile_w, tile_h, tile_x, tile_y, components, depth = struct.unpack_from(
        ">8IHB", data, start + 8
    )
    if not (tile_w and tile_h and tile_x <= left < right and tile_y <= top < bottom):
        raise ValueError("the sizes of a JPEG 2000 image are impossible")
    tiles = -(-(right - tile_x) // tile_w) * -(-(bottom - tile_y) // tile_h)
    irreversible, position = None, start + 2
    while (marker := struct.unpack_from(">H", data, position)[0]) != _SOT:
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == _COD:
            irreversible = data[position + 13] == 0
        position += 2 + length
    if irreversible is None:
        raise ValueError("a JPEG 2000 image has no coding style")
    return StreamHeader(
        "JPEG 2000",
        (bottom - top, right - left),
        components,
        (depth & 0x7F) + 1,
        signed=bool(depth & 0x80),
        lossy=irreversible,
        end=_end_of_tiles(data, position),
        tiles=tiles,
    )


def _end_of_tiles(data: bytes, position: int) -> int:
    """Byte behind the end mark; each tile-part names its length (T.800 A.4.2), or 0 if it is the last."""
    while data[position : position + 2] == b"\xff\x90":
        (length,) = struct.unpack_from(">I", data, position + 6)
        if length == 0:
            position = data.find(_END, position + 12)
        elif length < 14 or position + length > len(data):
            raise ValueError("a tile of a JPEG 2000 image ends early")
        else:
            position += length
    if position >= 0 and data[position : position + 2] == _END:
        return position + 2
    if position == len(data):  # some encoders leave the mark out; every tile is there
        return position
    raise ValueError(_NO_END)

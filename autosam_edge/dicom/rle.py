"""RLE Lossless (PS3.5 annex G), decoded strictly: a stream that ends early or runs over is refused."""

from __future__ import annotations

import struct
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from autosam_edge.dicom.pixel_format import Words

_HEADER_BYTES = 64


def decode_rle(data: bytes, shape: tuple[int, int], dtype: np.dtype[np.unsignedinteger]) -> Words:
    """Decode one frame of gray pixels.

    Args:
        data: Frame: a header of 64 bytes, then one segment for each byte of a pixel, the highest first.
        shape: (H, W).
        dtype: Type of a pixel, uint16 or uint32.

    Returns:
        (H, W) pixels.

    Raises:
        ValueError: The stream is not that of such a frame.
    """
    if len(data) < _HEADER_BYTES:
        raise ValueError("the RLE header is cut off")
    count, *offsets = struct.unpack("<16I", data[:_HEADER_BYTES])
    if count != dtype.itemsize:
        raise ValueError(f"it holds {count} RLE segments, expected {dtype.itemsize}")
    bounds = [*offsets[:count], len(data)]
    if bounds[0] < _HEADER_BYTES or bounds != sorted(bounds):
        raise ValueError("the offsets of its RLE segments are not in order")
    size = shape[0] * shape[1]
    planes = [_unpack(data[start:end], size) for start, end in pairwise(bounds)]
    in_order = np.frombuffer(b"".join(reversed(planes)), np.uint8).reshape(count, size)
    return np.ascontiguousarray(in_order.T).view(dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _unpack(packed: bytes, size: int) -> bytes:
    """Unpack one segment to exactly ``size`` bytes."""
    out, position, end = bytearray(), 0, len(packed)
    while len(out) < size:
        if position + 1 >= end:
            raise ValueError("an RLE segment ends early")
        length = packed[position]
        if length < 128:
            out += packed[position + 1 : min(position + 2 + length, end)]
            position += 2 + length
        elif length > 128:
            out += packed[position + 1 : position + 2] * (257 - length)
            position += 2
        else:
            position += 1
    if len(out) != size or position > end or packed[position:].strip(b"\x00\x80"):  # padding, or no operation
        raise ValueError("an RLE segment does not fit Rows x Columns")
    return bytes(out)

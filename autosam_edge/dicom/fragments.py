"""Encapsulated pixel data (PS3.5 A.4): the fragments of a file and the frames that they form."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Sequence

_ITEM, _DELIMITER = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
ITEM_TAG = b"\xfe\xff\x00\xe0"
"""First bytes of a fragment."""

_MAX_FRAGMENTS = 1 << 18  # 4,000 frames of 64 fragments each
_END_OF_IMAGE = b"\xff\xd9"

Fragment = tuple[int, int]
"""Byte in the file at which the content of a fragment starts, and its length."""


def frames_of(file: BinaryIO, start: int, size: int, count: int) -> tuple[list[list[Fragment]], int]:
    """The fragments of each frame, found without reading their content.

    Args:
        file: File with the pixel data.
        start: Byte at which the first item stands, the Basic Offset Table.
        size: Bytes of the file.
        count: Number of frames that the header names.

    Returns:
        For each frame its fragments in order; the byte behind the end mark.

    Raises:
        ValueError: The fragments end early or do not form that many frames.
    """
    (table, *fragments), end = _items(file, start, size)
    if not fragments:
        raise ValueError("its compressed pixel data hold no fragment")
    if count == 1 and table[1] <= 4:
        return [fragments], end
    if table[1]:
        return _by_table(file, table, fragments, count), end
    if len(fragments) != count:
        return _by_end_marks(file, fragments, count), end
    return [[fragment] for fragment in fragments], end


def read_frame(file: BinaryIO, fragments: Sequence[Fragment]) -> bytes:
    """The bytes of one frame."""
    parts = []
    for start, length in fragments:
        file.seek(start)
        parts.append(file.read(length))
    return b"".join(parts)


def _items(file: BinaryIO, position: int, size: int) -> tuple[list[Fragment], int]:
    items: list[Fragment] = []
    while True:
        file.seek(position)
        head = file.read(8)
        if len(head) < 8:
            break
        group, element, length = struct.unpack("<HHI", head)
        position += 8
        if (group, element) == _DELIMITER and items:
            return items, position
        if (group, element) != _ITEM or position + length > size:
            break
        if len(items) > _MAX_FRAGMENTS:
            raise ValueError(f"its compressed pixel data have more than {_MAX_FRAGMENTS} fragments")
        items.append((position, length))
        position += length
    raise ValueError("its compressed pixel data end early")


def _by_table(file: BinaryIO, table: Fragment, fragments: list[Fragment], count: int) -> list[list[Fragment]]:
    """Frames that start at the offsets of the Basic Offset Table."""
    if table[1] != 4 * count:
        raise ValueError(f"its offset table names {table[1] // 4} frames, NumberOfFrames {count}")
    file.seek(table[0])
    offsets = struct.unpack(f"<{count}I", file.read(4 * count))
    first = fragments[0][0]
    index_of = {start - first: index for index, (start, _) in enumerate(fragments)}
    starts = [index_of.get(offset, -1) for offset in offsets]
    if starts != sorted(set(starts)) or starts[0] != 0:
        if len(fragments) == count:  # each is a frame, whatever the table says
            return [[fragment] for fragment in fragments]
        raise ValueError("its offset table does not fit its fragments")
    return [fragments[a:b] for a, b in zip(starts, [*starts[1:], len(fragments)], strict=True)]


def _by_end_marks(file: BinaryIO, fragments: list[Fragment], count: int) -> list[list[Fragment]]:
    """Frames that end with the fragment that holds an end-of-image marker, padded to an even length."""
    frames: list[list[Fragment]] = [[]]
    for start, length in fragments:
        frames[-1].append((start, length))
        file.seek(start + max(length - 3, 0))
        if _END_OF_IMAGE in file.read(min(length, 3)):
            frames.append([])
    if frames[-1] or len(frames) - 1 != count:
        raise ValueError(f"its {len(fragments)} fragments do not form the {count} frames of NumberOfFrames")
    return frames[:-1]

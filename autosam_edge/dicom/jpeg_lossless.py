"""Proof that a decoder of JPEG Lossless used exactly the bits of the stream.

Such decoders fill in what a cut or damaged stream lacks. The decoded pixels tell how many bits their code
takes; if the stream holds fewer or more, some pixels are not from the stream.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from autosam_edge.dicom.stream_header import StreamHeader

_RESTART_MARKER = re.compile(rb"\xff+[\xd0-\xd7]")


def check_all_bits_used(data: bytes, header: StreamHeader, pixels: npt.NDArray[np.unsignedinteger]) -> None:
    """Compare the length of the pixels' code with the length of the stream, for each restart interval.

    Args:
        data: Frame.
        header: Its header.
        pixels: (H, W) decoded pixels.

    Raises:
        ValueError: The lengths differ, or the stream has no code for a difference of two pixels.

    Source:
        T.81 annex H (lossless coding), annexes B.1.1.5 and F.1.2.3 (stuffed zeros, padding by ones).
    """
    intervals = _RESTART_MARKER.split(data[header.scan : header.end - 2])
    rows = header.shape[0]
    step = rows if not header.restart else header.restart // header.shape[1]
    if header.restart % header.shape[1] or step == 0 or len(intervals) != -(-rows // step):
        raise ValueError("the restart markers do not fit Rows x Columns")
    lengths = _code_lengths(*header.huffman.get(header.table, (b"", b"")))
    shift = header.point_transform
    values = (pixels >> shift).astype(np.int32)
    for first, coded in zip(range(0, rows, step), intervals, strict=True):
        part = values[first : first + step]
        start = 1 << (header.precision - shift - 1)
        categories = _categories(part - _predictions(part, header.predictor, start))
        if (categories > 0)[lengths == 0].any():
            raise ValueError("it holds pixels that the codes of the stream cannot express")
        used = int(categories @ lengths)
        coded = coded.rstrip(b"\xff")  # fill bytes before the next marker
        held = 8 * (len(coded) - coded.count(b"\xff\x00"))
        spare = held - used
        last = 0xFF if coded.endswith(b"\xff\x00") else coded[-1:][0] if coded else 0
        padding = (1 << max(spare, 0)) - 1
        if not 0 <= spare < 8 or last & padding != padding:
            raise ValueError(f"its pixels take {used} bits, but the stream holds {held}")


def _predictions(x: npt.NDArray[np.int32], predictor: int, start: int) -> npt.NDArray[np.int32]:
    """Prediction of each pixel; the left one in the first row, the upper in the first column (H.1.2.1)."""
    out = np.empty_like(x)
    out[0, 0], out[0, 1:], out[1:, 0] = start, x[0, :-1], x[:-1, 0]
    left, above, diagonal = x[1:, :-1], x[:-1, 1:], x[:-1, :-1]
    if predictor < 4:
        out[1:, 1:] = (left, above, diagonal)[predictor - 1]
    elif predictor == 4:
        out[1:, 1:] = left + above - diagonal
    elif predictor == 5:
        out[1:, 1:] = left + ((above - diagonal) >> 1)
    elif predictor == 6:
        out[1:, 1:] = above + ((left - diagonal) >> 1)
    else:
        out[1:, 1:] = (left + above) >> 1
    return out


def _categories(differences: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
    """How many differences, modulo 65536, need 0, 1, ... 16 bits (H.1.2.2)."""
    size = np.abs(differences.astype(np.int16).astype(np.int32))
    counts = np.bincount(size.ravel(), minlength=32769)
    return np.add.reduceat(counts, [0, *(1 << np.arange(16))])


def _code_lengths(counts: bytes, symbols: bytes) -> npt.NDArray[np.int64]:
    """Bits of each category: its Huffman code and the bits that follow it; 0 if it has no code."""
    lengths = np.zeros(17, np.int64)
    by_symbol = [bits for bits, count in enumerate(counts, 1) for _ in range(count)]
    for symbol, bits in zip(symbols, by_symbol, strict=False):
        if symbol <= 16:
            lengths[symbol] = bits + (symbol if symbol < 16 else 0)
    return lengths

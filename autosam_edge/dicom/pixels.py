"""Stored pixel values of image planes, whatever their transfer syntax (PS3.5 section 8 and annex A)."""

from __future__ import annotations

import math
from collections import deque
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from pydicom.uid import RLELossless

from autosam_edge.dicom.compressed import decode_frame
from autosam_edge.dicom.fragments import ITEM_TAG, frames_of, read_frame
from autosam_edge.dicom.header import damaged
from autosam_edge.dicom.pixel_element import (
    HEAD_BYTES,
    NATIVE,
    PixelElement,
    contradiction,
    ends_file,
    pixel_element,
)
from autosam_edge.encoded_bytes import DamagedError, Inflated
from autosam_edge.error_codes import DICOM_TOO_LARGE, FILE_CHANGED, INPUT_UNREADABLE, PIXEL_FORMAT_INVALID
from autosam_edge.errors import InputError
from autosam_edge.warning_codes import EXCESS_BYTES, TRANSFER_SYNTAX_WRONG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from autosam_edge.dicom.decoder import FrameDecoder
    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.notes import Notes
    from autosam_edge.dicom.pixel_format import Words
    from autosam_edge.dicom.planes import ImagePlane

_MOST_BEHIND = 1 << 20  # bytes that may follow the pixels of a deflated file
_AHEAD = 4  # frames that native decoders work on while earlier ones become HU
_FREE_BYTES = 1 << 20  # a compressed frame below this size is not compared with its pixels


def stored_words(planes: Sequence[ImagePlane], notes: Notes, decoder: FrameDecoder) -> Iterator[Words]:
    """The stored (H, W) words of each plane, in the order of ``planes``.

    Args:
        planes: Planes; those of one file stand together.
        notes: Findings, to which those of the files are added.
        decoder: Decoder of the series.

    Raises:
        InputError: The pixel data end early, contradict the transfer syntax or cannot be decoded
            (AE-DICOM-005), hold more frames than the header says (AE-DICOM-009), or their transfer syntax is
            unknown (AE-DICOM-010).
    """
    waiting: deque[Callable[[], Words]] = deque()
    for header, group in groupby(planes, key=lambda plane: plane.header):
        of_file = list(group)
        try:
            for words in _words_of_file(header, of_file, notes, decoder):
                if callable(words):
                    waiting.append(words)
                while len(waiting) > (_AHEAD if callable(words) else 0):
                    yield waiting.popleft()()
                if not callable(words):
                    yield words
        except FileNotFoundError as error:
            raise FILE_CHANGED(
                f"{header.name} vanished while it was read.",
                remedy="Wait until the series has arrived whole.",
            ) from error
        except OSError as error:
            raise INPUT_UNREADABLE(f"{header.name} cannot be read ({type(error).__name__}).") from error
    for finish in waiting:
        yield finish()


def _words_of_file(
    header: Header, planes: list[ImagePlane], notes: Notes, decoder: FrameDecoder
) -> Iterator[Words | Callable[[], Words]]:
    with header.path.open("rb") as file:
        if header.deflated_at is not None:
            file.seek(header.deflated_at)
            yield from _deflated(Inflated(file, "deflate"), header, planes, notes)
            return
        file.seek(header.pixel_offset)
        element = pixel_element(file.read(HEAD_BYTES), header, planes[0].format)
        if element.length is None:
            yield from _compressed(file, header, element, planes, notes, decoder)
        else:
            yield from _native(file, header, element, planes, notes)


def _native(
    file: BinaryIO, header: Header, element: PixelElement, planes: list[ImagePlane], notes: Notes
) -> Iterator[Words]:
    """Planes of an uncompressed file, each read straight from its place."""
    length = element.length or 0
    rows, columns = planes[0].shape
    word = planes[0].format.word
    size = rows * columns * word.itemsize
    expected = size * header.frames
    declared = NATIVE.get(header.transfer_syntax)
    if declared is None and length != expected:
        raise contradiction(header, "its pixel data have a length, as those that are not compressed have")
    file.seek(element.start)
    if length != expected and file.read(4) == ITEM_TAG:
        raise contradiction(header, "its pixel data are in fragments, as compressed data are")
    if declared != (element.explicit, element.little):
        notes[TRANSFER_SYNTAX_WRONG] += 1
    if element.start + length > header.size:
        raise damaged(header.name, "its pixel data end early")

    def behind(count: int) -> bytes:
        file.seek(element.start + expected)
        return file.read(count)

    _check_length(header, length, expected, size, behind, notes)
    stored = word.newbyteorder("<" if element.little else ">")
    for plane in planes:
        file.seek(element.start + plane.index * size)
        data = file.read(size)
        if len(data) != size:
            raise damaged(header.name, "its pixel data end early")
        words = np.frombuffer(data, stored)
        yield words.reshape(rows, columns).astype(word, copy=False)
    if length == expected and not ends_file(file, header, element, element.start + length):
        notes[EXCESS_BYTES] += 1


def _compressed(
    file: BinaryIO,
    header: Header,
    element: PixelElement,
    planes: list[ImagePlane],
    notes: Notes,
    decoder: FrameDecoder,
) -> Iterator[Words | Callable[[], Words]]:
    """Planes of an encapsulated file."""
    if header.transfer_syntax in NATIVE:
        raise contradiction(header, "its pixel data are in fragments, as compressed data are")
    with _decoding(header):
        frames, end = frames_of(file, element.start, header.size, header.frames)
    for plane in planes:
        with _decoding(header):
            fragments = frames[plane.index]
            if header.transfer_syntax == RLELossless and len(fragments) > 1:
                raise PIXEL_FORMAT_INVALID(
                    f"{header.name} holds {len(fragments)} RLE images, more than NumberOfFrames says."
                )
            stored, pixels = sum(length for _, length in fragments), math.prod(plane.shape)
            if stored > max(_FREE_BYTES, 2 * pixels * plane.format.word.itemsize):
                raise ValueError(f"a compressed frame has {stored} bytes, far more than its {pixels} pixels")
            words = decode_frame(read_frame(file, fragments), plane, notes, decoder)
        yield partial(_decoded, header, words) if callable(words) else words
    if not ends_file(file, header, element, end):
        notes[EXCESS_BYTES] += 1


def _decoded(header: Header, finish: Callable[[], Words]) -> Words:
    with _decoding(header):
        return finish()


@contextmanager
def _decoding(header: Header) -> Iterator[None]:
    """Errors of decoders as those of a damaged file."""
    try:
        yield
    except (InputError, OSError, MemoryError):
        raise
    except ValueError as error:
        raise damaged(header.name, str(error)) from error
    except Exception as error:  # each codec raises its own kinds; all mean "this stream cannot be decoded"
        raise damaged(
            header.name, f"its compressed pixel data cannot be decoded ({type(error).__name__})"
        ) from error


def _deflated(stream: Inflated, header: Header, planes: list[ImagePlane], notes: Notes) -> Iterator[Words]:
    """Planes of a file whose data set is deflated (PS3.5 A.5); no more is inflated than Rows x Columns."""
    word, shape = planes[0].format.word, planes[0].shape
    size = shape[0] * shape[1] * word.itemsize
    expected, most_behind = size * header.frames, max(size, _MOST_BEHIND)
    try:
        stream.read(header.pixel_offset)
        element = pixel_element(stream.read(HEAD_BYTES), header, planes[0].format)
        if not element.explicit or element.length is None:
            raise damaged(header.name, "it holds no pixel data")
        data = stream.read(min(element.length, expected))
        behind = stream.read(most_behind + 1)
    except DamagedError as error:
        raise damaged(header.name, "its deflated data set cannot be inflated") from error
    if len(data) < min(element.length, expected) or not (stream.complete or len(behind) > most_behind):
        raise damaged(header.name, "its deflated data set ends early")
    _check_length(header, element.length, expected, size, lambda count: behind[:count], notes)
    if not stream.complete:
        raise DICOM_TOO_LARGE(
            f"{header.name} inflates to far more than its Rows x Columns.",
            remedy="Remove the file, or store the series without deflation.",
        )
    for plane in planes:
        words = np.frombuffer(data, word.newbyteorder("<"), size // word.itemsize, plane.index * size)
        yield words.reshape(shape).astype(word)


def _check_length(
    header: Header, length: int, expected: int, frame_bytes: int, behind: Callable[[int], bytes], notes: Notes
) -> None:
    """Refuse pixel data that are too short or hold further frames; note other bytes behind (PS3.5 8.1.1)."""
    if length < expected:
        raise damaged(header.name, f"its pixel data hold {length} bytes, expected {expected}")
    surplus = length - expected
    if not surplus:
        return
    if surplus % frame_bytes == 0 and any(behind(frame_bytes)):
        raise PIXEL_FORMAT_INVALID(
            f"{header.name} holds {length // frame_bytes} images, but NumberOfFrames says {header.frames}.",
            remedy="Export each image as a file of its own, or as an Enhanced CT object.",
        )
    notes[EXCESS_BYTES] += 1

"""One compressed frame as stored words: bit for bit what was compressed, or refused."""

from __future__ import annotations

import importlib.util
import zlib
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    RLELossless,
)

from autosam_edge.dicom.decoder import CODINGS
from autosam_edge.dicom.pixel_element import NATIVE, contradiction
from autosam_edge.dicom.rle import decode_rle
from autosam_edge.dicom.stream_header import StreamHeader, read_stream_header
from autosam_edge.error_codes import PIXEL_FORMAT_INVALID, TRANSFER_SYNTAX_UNSUPPORTED
from autosam_edge.warning_codes import EXCESS_BYTES, LOSSY_COMPRESSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.dicom.decoder import FrameDecoder
    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.notes import Notes
    from autosam_edge.dicom.pixel_format import Words
    from autosam_edge.dicom.planes import ImagePlane

_DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"  # Deflated Image Frame Compression
_WITHOUT_EXTRA = frozenset({*NATIVE, DeflatedExplicitVRLittleEndian, RLELossless, _DEFLATED_FRAMES})
_MAY_LOSE = frozenset({JPEGExtended12Bit, JPEGLSNearLossless, JPEG2000, HTJ2K})
_MAX_TILES = 4096  # a tile of CT is the whole image, or 1024 pixels a side
_ANOTHER_IMAGE = b"\xff\xd8\xff"


def check_decodable(header: Header) -> None:
    """Refuse a transfer syntax that cannot be decoded here, before any pixel is read.

    Raises:
        InputError: AE-DICOM-010.
    """
    syntax = header.transfer_syntax
    if syntax in _WITHOUT_EXTRA:
        return
    if syntax in CODINGS and importlib.util.find_spec("imagecodecs"):
        return
    uid = UID(syntax)
    title = f"{uid} ({uid.name})" if uid.name != uid else str(uid) if uid.is_valid else "of no valid UID"
    if syntax in CODINGS:
        raise TRANSFER_SYNTAX_UNSUPPORTED(
            f"{header.name} uses the transfer syntax {title}, whose decoder is not installed.",
            remedy="pip install 'autosam-edge[dicom]', or export the series uncompressed.",
        )
    raise TRANSFER_SYNTAX_UNSUPPORTED(
        f"{header.name} uses the transfer syntax {title}, which autosam-edge does not read.",
        remedy="Export the series uncompressed (Explicit VR Little Endian); no extra brings this decoder.",
    )


def decode_frame(
    data: bytes, plane: ImagePlane, notes: Notes, decoder: FrameDecoder
) -> Words | Callable[[], Words]:
    """Decode one frame, or start to.

    Args:
        data: The frame's fragments, joined.
        plane: Plane of the frame.
        notes: Findings, to which this frame's are added.
        decoder: Decoder of the series.

    Returns:
        (H, W) stored words; or, where a native decoder works on them, a function that gives them. The
        functions of several frames are called in order.

    Raises:
        InputError: The data are of another coding than the file names (AE-DICOM-005), hold a second image or
            pixels of another format (AE-DICOM-009).
        Exception: The frame is not whole, or does not fit Rows x Columns.
    """
    syntax, word = plane.header.transfer_syntax, plane.format.word
    if syntax == RLELossless:
        return decode_rle(data, plane.shape, word)
    if syntax == _DEFLATED_FRAMES:
        return _inflated(data, plane)
    stream = read_stream_header(data)
    if stream.coding != CODINGS[syntax]:
        raise contradiction(plane.header, f"its pixel data are {stream.coding}")
    _check_stream(stream, plane)
    _note_loss(stream, plane, notes)
    behind = data[stream.end :].strip(b"\x00\xff")
    if _ANOTHER_IMAGE in data[stream.end :]:
        raise PIXEL_FORMAT_INVALID(
            f"{plane.header.name} holds a second image behind a frame, more than NumberOfFrames says."
        )
    if behind:
        notes[EXCESS_BYTES] += 1
    finish = decoder.start(data[: stream.end], stream)
    return partial(_finished, finish, stream, plane)


def _finished(finish: Callable[[], np.ndarray], stream: StreamHeader, plane: ImagePlane) -> Words:
    try:
        samples = finish()
    except ImportError as error:  # a build of imagecodecs that lacks one library
        raise TRANSFER_SYNTAX_UNSUPPORTED(
            f"{plane.header.name} is {stream.coding}, which the imagecodecs on this machine cannot decode.",
            remedy="Export the series uncompressed (Explicit VR Little Endian).",
        ) from error
    if samples.shape != plane.shape or samples.dtype.kind not in "iu":
        raise ValueError("its decoded pixels do not fit Rows x Columns")
    return _as_words(samples, stream, plane)


def _check_stream(stream: StreamHeader, plane: ImagePlane) -> None:
    """Compare the sizes in the stream with the header's, before a decoder allocates what the stream asks."""
    if stream.shape != plane.shape:
        raise ValueError(
            f"its compressed image has {stream.shape[0]} x {stream.shape[1]} pixels, "
            f"Rows x Columns say {plane.shape[0]} x {plane.shape[1]}"
        )
    if stream.tiles > _MAX_TILES:
        raise ValueError(f"its compressed image has {stream.tiles} tiles, expected at most {_MAX_TILES}")
    if stream.components != 1 or not 2 <= stream.precision <= 16 or plane.format.word != np.uint16:
        raise PIXEL_FORMAT_INVALID(
            f"{plane.header.name} holds a compressed image of {stream.components} samples of "
            f"{stream.precision} bits, expected one gray sample of up to 16 bits in 16."
        )


def _note_loss(stream: StreamHeader, plane: ImagePlane, notes: Notes) -> None:
    """Count a frame whose loss no attribute tells; what says 01 is reported with its ratio elsewhere."""
    declared = plane.header.text("LossyImageCompression")
    may_lose = plane.header.transfer_syntax in _MAY_LOSE and declared != "00"
    if declared != "01" and (stream.lossy or may_lose):
        notes[LOSSY_COMPRESSION] += 1


def _as_words(samples: np.ndarray, stream: StreamHeader, plane: ImagePlane) -> Words:
    """Samples as words of 16 bits; of a signed type, negative ones as two's complement."""
    form, bits = plane.format, stream.precision
    # A negative value may have been cut to the bits of the stream, or a positive one may need them all.
    if form.signed and not stream.signed and bits < form.stored and (samples >= 1 << (bits - 1)).any():
        raise ValueError(f"its compressed image has {bits} bits, its signed values {form.stored}")
    return np.ascontiguousarray(samples.astype(np.int16 if stream.signed else np.uint16)).view(np.uint16)


def _inflated(data: bytes, plane: ImagePlane) -> Words:
    """One deflated frame; it may not inflate beyond Rows x Columns."""
    word = plane.format.word
    size = plane.shape[0] * plane.shape[1] * word.itemsize
    try:
        inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        raw = inflater.decompress(data, size + 1)
    except zlib.error as error:
        raise ValueError("a deflated frame cannot be inflated") from error
    if len(raw) != size or not inflater.eof:
        raise ValueError("a deflated frame does not fit Rows x Columns")
    return np.frombuffer(raw, word.newbyteorder("<")).astype(word).reshape(plane.shape)

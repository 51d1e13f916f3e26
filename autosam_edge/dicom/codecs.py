"""Decoders of compressed frames, one for each coding; ``imagecodecs`` brings them (the extra ``[dicom]``)."""

from __future__ import annotations

import pickle
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np
import numpy.typing as npt

from autosam_edge.dicom.jpeg_lossless import check_all_bits_used
from autosam_edge.dicom.stream_header import KIND_BYTES

if TYPE_CHECKING:
    from autosam_edge.dicom.stream_header import StreamHeader

_MORE = b"\xa5\x5a\x69\x96" * 8


def run_in_child(_arguments: list[str], data: bytes) -> bytes:
    """Decode one frame for :class:`autosam_edge.dicom.decoder.FrameDecoder`.

    Args:
        data: Arguments of :func:`decode`, pickled.

    Returns:
        The type of a sample, padded to 16 letters, and the samples; or that of an error and its text.
    """
    try:
        samples = decode(*pickle.loads(data))  # noqa: S301  our own process made it
    except ImportError:
        return _reply("ImportError", b"")
    except ValueError as error:
        return _reply("ValueError", str(error).encode())
    except MemoryError:
        raise
    except Exception as error:  # each codec raises its own kinds; all mean "this stream cannot be decoded"
        what = f"its compressed pixel data cannot be decoded ({type(error).__name__})"
        return _reply("ValueError", what.encode())
    return _reply(samples.dtype.str, np.ascontiguousarray(samples).data.cast("B"))


def _reply(kind: str, content: bytes | memoryview) -> bytes:
    return b"".join((kind.encode().ljust(KIND_BYTES), content))


def decode(data: bytes, header: StreamHeader) -> npt.NDArray[Any]:
    """Decode one frame, or refuse it: nothing is filled in for what a stream lacks.

    JPEG-LS by CharLS, which refuses a stream whose end does not fit its pixels. JPEG 2000 and High-Throughput
    JPEG 2000 by OpenJPEG, which refuses cut tiles; bits that changed within a tile cannot be told, as the
    code has no checksum. JPEG by libjpeg-turbo, which fills in, so that its result is checked here.

    Args:
        data: Frame without padding.
        header: Its header.

    Returns:
        (H, W) samples, uint8, uint16, int8 or int16.

    Raises:
        ValueError: The stream is not whole.
        Exception: What the decoder raises for a stream that it refuses.
    """
    if header.coding == "JPEG-LS":
        return imagecodecs.jpegls_decode(data)
    if header.coding == "JPEG 2000":
        return imagecodecs.jpeg2k_decode(data, numthreads=1)
    pixels = imagecodecs.jpeg8_decode(data)
    if pixels.shape != header.shape:
        return pixels  # the caller refuses it
    if header.coding == "JPEG Lossless":
        check_all_bits_used(data, header, pixels)
    elif (imagecodecs.jpeg8_decode(data[:-2] + _MORE + data[-2:]) != pixels).any():
        # A decoder that wants more than the stream holds reads what was put behind it.
        raise ValueError("the stream ends before its last pixels")
    return pixels

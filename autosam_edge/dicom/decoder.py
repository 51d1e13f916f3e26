"""Native decoders in a child process, with limits of memory and time.

What a hostile stream makes of a decoder, a crash, a hang or gigabytes, ends with that process. Where the
system cannot start one, as in a browser, frames are decoded in this process.
"""

from __future__ import annotations

import math
import pickle
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    JPEG2000Lossless,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
)

from autosam_edge.dicom.stream_header import KIND_BYTES, Coding
from autosam_edge.system.child_process import ChildFailed, ChildWorker, can_run_child

if TYPE_CHECKING:
    from collections.abc import Callable

    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.stream_header import StreamHeader

    Samples = npt.NDArray[Any]

CODINGS: dict[str, Coding] = {
    JPEGExtended12Bit: "JPEG",
    JPEGLossless: "JPEG Lossless",
    JPEGLosslessSV1: "JPEG Lossless",
    JPEGLSLossless: "JPEG-LS",
    JPEGLSNearLossless: "JPEG-LS",
    JPEG2000Lossless: "JPEG 2000",
    JPEG2000: "JPEG 2000",
    HTJ2KLossless: "JPEG 2000",
    HTJ2KLosslessRPCL: "JPEG 2000",
    HTJ2K: "JPEG 2000",
}
"""Coding of the frames of each transfer syntax that needs a native decoder."""
_CHILD_MB = 120.0  # without a frame: Python, NumPy and the decoders
_PIXEL_BYTES = 64  # JPEG 2000 takes most
_SECONDS = 30.0  # the start on a busy machine; a frame of 512 x 512 takes milliseconds
_SECONDS_PER_PIXEL = 2e-6


def needs_codec(header: Header) -> bool:
    """Whether the pixels of a file need a native decoder."""
    return header.transfer_syntax in CODINGS


def child_mb(pixels: int) -> float:
    """Memory of the child process, MB.

    Args:
        pixels: Pixels of a frame.
    """
    return _CHILD_MB + pixels * _PIXEL_BYTES / 1e6


class FrameDecoder:
    """Decodes the frames of one series; used in a ``with`` statement, at whose end its child process ends.

    One child serves all frames, as its start takes as long as a hundred of them.
    """

    def __init__(self) -> None:
        self._worker: ChildWorker | None = None

    def __enter__(self) -> FrameDecoder:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.__exit__()
            self._worker = None

    def prepare(self, header: Header) -> None:
        """Start the child if a file needs it and the system can; the caller goes on meanwhile.

        Args:
            header: Header of the file.
        """
        if self._worker is None and needs_codec(header) and can_run_child():
            self._worker = ChildWorker("autosam_edge.dicom.codecs")

    def start(self, data: bytes, header: StreamHeader) -> Callable[[], Samples]:
        """Start to decode one frame; see :func:`autosam_edge.dicom.codecs.decode`.

        Args:
            data: Frame without padding.
            header: Its header, which was compared with that of the file.

        Returns:
            A function that gives the (H, W) samples. The functions of several frames are called in order. It
            raises ValueError if the stream is not whole or the decoder refused it or failed, and ImportError
            if there is no decoder.
        """
        if self._worker is None:
            from autosam_edge.dicom.codecs import decode

            return partial(decode, data, header)
        memory_mb = child_mb(math.prod(header.shape))
        self._worker.send(pickle.dumps((data, header)), seconds=_seconds(header), memory_mb=memory_mb)
        return partial(self._finish, header)

    def _finish(self, header: StreamHeader) -> Samples:
        pixels = math.prod(header.shape)
        assert self._worker is not None
        try:
            reply = self._worker.receive(seconds=_seconds(header), max_output_bytes=4 * pixels + 1024)
        except ChildFailed as failed:
            raise ValueError(f"the decoder of its compressed pixel data failed: {failed.detail}") from None
        kind = bytes(reply[:KIND_BYTES]).strip().decode()
        if kind == "ImportError":
            raise ImportError
        if kind == "ValueError":
            raise ValueError(bytes(reply[KIND_BYTES:]).decode())
        samples = np.frombuffer(reply, np.dtype(kind), offset=KIND_BYTES)
        if samples.size != pixels:
            raise ValueError("its decoded pixels do not fit Rows x Columns")
        return samples.reshape(header.shape)


def _seconds(header: StreamHeader) -> float:
    return _SECONDS + math.prod(header.shape) * _SECONDS_PER_PIXEL

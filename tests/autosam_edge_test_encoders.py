"""Compressed twins of CT images, for tests of the decoders."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.pixels.encoders import RLELosslessEncoder
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
    RLELossless,
)

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
LOSSLESS = (
    RLELossless,
    DEFLATED_FRAMES,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
)


def encoded(pixels: np.ndarray, syntax: str, *, loss: int = 0, predictor: int = 1, bits: int = 16) -> bytes:
    """One frame of gray pixels, (H, W) uint16 or int16, in a transfer syntax.

    Args:
        pixels: The pixels; only JPEG 2000 keeps their sign.
        syntax: UID of the transfer syntax.
        loss: How much may be lost: the largest error of JPEG-LS; for JPEG 2000 and JPEG, anything but 0.
        predictor: Predictor of JPEG Lossless.
        bits: Bits of a sample in JPEG.
    """
    words = np.ascontiguousarray(pixels).view(np.uint16)
    if syntax == RLELossless:
        return RLELosslessEncoder.encode(
            words,
            rows=words.shape[0],
            columns=words.shape[1],
            samples_per_pixel=1,
            number_of_frames=1,
            bits_allocated=16,
            bits_stored=16,
            pixel_representation=0,
            photometric_interpretation="MONOCHROME2",
        )
    if syntax == DEFLATED_FRAMES:
        deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return deflater.compress(words.astype("<u2").tobytes()) + deflater.flush()
    codecs = pytest.importorskip("imagecodecs")
    if syntax in (JPEGLSLossless, JPEGLSNearLossless):
        return bytes(codecs.jpegls_encode(words, level=loss))
    if syntax in (JPEGLossless, JPEGLosslessSV1):
        return bytes(codecs.jpeg8_encode(words, lossless=True, predictor=predictor, bitspersample=bits))
    if syntax == JPEGExtended12Bit:
        return bytes(codecs.jpeg8_encode(words, level=95, bitspersample=12))
    if syntax in (JPEG2000Lossless, JPEG2000):
        return bytes(
            codecs.jpeg2k_encode(pixels, level=85 if loss else 0, reversible=not loss, codecformat="j2k")
        )
    assert syntax in (HTJ2KLossless, HTJ2KLosslessRPCL, HTJ2K)
    if not hasattr(codecs, "htj2k_encode"):  # its decoder is OpenJPEG, which all releases have
        pytest.skip("this imagecodecs cannot write HTJ2K; the last one for Python 3.10 cannot")
    return bytes(codecs.htj2k_encode(pixels, reversible=True))


def compress(
    image: Any, syntax: str, *, frames: list[bytes] | None = None, table: bool = True, **options: Any
) -> Any:
    """Compress an image of one frame in place, or give it the ``frames``."""
    if frames is None:
        kind = "<i2" if image.PixelRepresentation else "<u2"
        pixels = np.frombuffer(image.PixelData, kind).reshape(image.Rows, image.Columns)
        frames = [encoded(pixels, syntax, **options)]
    image.PixelData = encapsulate([frame + b"\0" * (len(frame) % 2) for frame in frames], has_bot=table)
    image["PixelData"].VR = "OB"
    image["PixelData"].is_undefined_length = True
    image.file_meta.TransferSyntaxUID = syntax
    return image


def file_of(image: Any, *, declared: str, implicit: bool = False) -> bytes:
    """A file whose meta information may name any transfer syntax, also one that pydicom does not write."""
    body, meta = DicomBytesIO(), DicomBytesIO()
    for buffer, implicit_vr in ((body, implicit), (meta, False)):
        buffer.is_little_endian, buffer.is_implicit_VR = True, implicit_vr
    write_dataset(body, image)
    image.file_meta.TransferSyntaxUID = declared
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
    write_file_meta_info(meta, image.file_meta)
    return bytes(128) + b"DICM" + meta.getvalue() + body.getvalue()

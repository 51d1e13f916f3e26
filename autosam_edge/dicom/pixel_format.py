"""How a pixel is stored: its bits and its sign, which must be those of a CT image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from autosam_edge.dicom.header import missing
from autosam_edge.error_codes import PIXEL_FORMAT_INVALID
from autosam_edge.errors import AutosamEdgeError

if TYPE_CHECKING:
    from autosam_edge.dicom.header import Header

Words = npt.NDArray[Any]
"""Stored words: uint16 or uint32 with the bits above HighBit; float32 or float64."""

_FLOAT_BITS = (32, 64)  # Float Pixel Data and Double Float Pixel Data (PS3.3 C.7.6.24 and C.7.6.25)
_INTEGER_BITS = (16, 32)


@dataclass(frozen=True)
class PixelFormat:
    """Format of the stored pixels of one file.

    Args:
        allocated: BitsAllocated: 16 or 32; 64 for floating point only.
        stored: BitsStored, 9 to ``allocated``.
        signed: Whether PixelRepresentation is 1.
        floating: Whether the pixels are floating-point numbers.
    """

    allocated: int
    stored: int
    high_bit: int
    signed: bool
    floating: bool = False

    @property
    def word(self) -> np.dtype[Any]:
        """Type of a stored word: uint16, uint32, float32 or float64."""
        return np.dtype(f"{'f' if self.floating else 'u'}{self.allocated // 8}")


def pixel_format(header: Header) -> PixelFormat:
    """Format of the pixels of one file.

    The standard asks for one gray sample of 12 to 16 bits in 16 (PS3.3 C.8.2.1.1); 32-bit integers and
    floating-point numbers are read too, as post-processing writes them.

    Raises:
        InputError: An attribute is missing (AE-DICOM-006), or the pixels are colored, of 8 bits, or of a
            format that contradicts itself (AE-DICOM-009).
    """
    samples, meaning = _required(header, "SamplesPerPixel"), header.text("PhotometricInterpretation")
    if not meaning:
        raise missing("PhotometricInterpretation", header.name)
    if samples != 1 or meaning not in ("MONOCHROME1", "MONOCHROME2"):
        raise _wrong_pixels(header, "color or palette pixels, expected one gray sample")
    allocated, stored = _required(header, "BitsAllocated"), header.integer("BitsStored")
    if allocated in _FLOAT_BITS and stored is None:
        return PixelFormat(allocated, allocated, allocated - 1, signed=True, floating=True)
    stored, signed = _required(header, "BitsStored"), _required(header, "PixelRepresentation")
    if allocated not in _INTEGER_BITS or not 8 < stored <= allocated:
        raise _wrong_pixels(
            header, f"{stored} bits stored in {allocated} allocated, expected 12 to 16 in 16, or 32"
        )
    high_bit = header.integer("HighBit")
    high_bit = stored - 1 if high_bit is None else high_bit
    if signed not in (0, 1) or not stored - 1 <= high_bit < allocated:
        raise _wrong_pixels(header, "HighBit and PixelRepresentation that do not fit together")
    return PixelFormat(allocated, stored, high_bit, signed == 1)


def _required(header: Header, keyword: str) -> int:
    value = header.integer(keyword)
    if value is None:
        raise missing(keyword, header.name)
    return value


def _wrong_pixels(header: Header, found: str) -> AutosamEdgeError:
    return PIXEL_FORMAT_INVALID(f"{header.name} has {found}.")

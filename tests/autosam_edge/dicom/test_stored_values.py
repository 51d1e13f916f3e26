"""Slope, padding and unused bits of the stored values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from autosam_edge.dicom.read import read_dicom
from autosam_edge.warning_codes import (
    BITS_IGNORED,
    BURNED_IN_ANNOTATION,
    LOSSY_COMPRESSION,
    PADDING_NOT_APPLIED,
    PHOTOMETRIC_UNUSUAL,
    UNDECLARED_PADDING,
)

VALUES = "Pixel values"


@hazard(VALUES, "a rescale of its own in each slice", "read")
def test_each_slice_has_its_own_rescale(ct: Any) -> None:
    """PET-like and some CT scanners scale each slice differently; HU come out the same."""
    for d in range(5):
        stored = (ct.hu[d] + 1024 + 10 * d).astype("<u2").tobytes()
        ct.save(ct.image(d, RescaleIntercept=-1024 - 10 * d, PixelData=stored), f"{d}")
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(VALUES, "a slope or intercept that is not a whole number", "read as float32")
def test_fractional_slope_gives_float32(ct: Any) -> None:
    """A slope of 0.5 is applied without rounding; no number of frames, or 0, stands for one."""
    ct.write(RescaleSlope="0.5", RescaleIntercept="-512", NumberOfFrames=0)
    volume = read_dicom(ct.path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, ct.hu / 2)


@hazard(VALUES, "the extended scale of metal, beyond 16 bits", "read as int32")
def test_extended_scale_gives_int32(ct: Any) -> None:
    """Metal at 16 * 4095 - 1024 HU does not wrap around."""
    ct.write(4)
    metal = np.full((6, 8), 64, "<u2")
    metal[2, 3] = 4095
    ct.save(ct.image(4, RescaleSlope=16, PixelData=metal.tobytes()), "metal")
    volume = read_dicom(ct.path)
    assert volume.hu.dtype == np.int32
    np.testing.assert_array_equal(volume.hu[4], np.where(metal == 4095, 16 * 4095 - 1024, 0))
    np.testing.assert_array_equal(volume.hu[:4], ct.hu[:4])


@hazard(VALUES, "declared padding, also with the sign of the other VR or beyond BitsStored", "becomes air")
@pytest.mark.parametrize(
    ("padding", "limit", "stored", "signed", "bits"),
    [
        (-2000, None, -2000, 1, 16),
        (63536, None, -2000, 1, 16),  # the value of an unsigned writer
        (63536, None, 63536, 0, 16),
        (63536, None, 63536, 0, 12),  # does not fit into BitsStored
        (-3024, -2000, -2500, 1, 16),
        (-2000, -3024, -3024, 1, 16),
    ],
)
def test_declared_padding_becomes_air(
    ct: Any, padding: int, limit: int | None, stored: int, signed: int, bits: int
) -> None:
    """Padding is -1024 HU, and only padding is."""
    intercept = 0 if signed else -1024
    for d in range(5):
        words = (ct.hu[d].astype(np.int32) - intercept).astype("<i4")
        words[0, :3] = stored
        extra = {} if limit is None else {"PixelPaddingRangeLimit": limit}
        image = ct.image(
            d, PixelRepresentation=signed, BitsStored=bits, HighBit=bits - 1, RescaleIntercept=intercept
        )
        image.PixelData = (words & 0xFFFF).astype("<u2").tobytes()
        for keyword, value in {"PixelPaddingValue": padding, **extra}.items():
            image.add_new(keyword, "SS" if value < 0 else "US", value)
        ct.save(image, str(d))
    expected = ct.hu.copy()
    expected[:, 0, :3] = -1024
    volume = read_dicom(ct.path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, expected)
    assert volume.warnings == ()


@hazard(VALUES, "declared padding that is a value of tissue, bone or metal", PADDING_NOT_APPLIED)
def test_padding_value_of_tissue_is_not_applied(ct: Any) -> None:
    """A padding value of 0 HU would punch holes into water; it is reported instead."""
    ct.write(PixelPaddingValue=1024)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert "declared padding" in volume.warnings[0].message


@hazard(VALUES, "declared padding that is no number, or several", PADDING_NOT_APPLIED)
@pytest.mark.parametrize("value", [b"\0", b"\0\0\1\0"])
def test_malformed_padding_is_not_applied(ct: Any, value: bytes) -> None:
    """It is no reason to refuse the scan."""
    tag = Tag("PixelPaddingValue")
    for d in range(5):
        image = ct.image(d)
        image[tag] = RawDataElement(tag, "OW" if len(value) == 1 else "US", len(value), value, 0, False, True)
        ct.save(image, str(d))
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == [PADDING_NOT_APPLIED.code]


@hazard(VALUES, "PixelPaddingRangeLimit without PixelPaddingValue", PADDING_NOT_APPLIED)
def test_limit_of_padding_alone(ct: Any) -> None:
    """One end of the range is missing, so nothing is padding."""
    ct.write(PixelPaddingRangeLimit=4000)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == [PADDING_NOT_APPLIED.code]


@hazard(VALUES, "values below -1500 HU that no header declares as padding", UNDECLARED_PADDING)
def test_undeclared_padding_becomes_air_with_a_warning(ct: Any) -> None:
    """-2048 HU is below air; it is padding even if no header says so."""
    ct.write(RescaleIntercept=-2048)
    volume = read_dicom(ct.path)
    shifted = ct.hu - 1024
    np.testing.assert_array_equal(volume.hu, np.where(shifted < -1500, -1024, shifted))
    assert "padding" in volume.warnings[0].message


@hazard(VALUES, "bits set outside of BitsStored, such as an overlay", BITS_IGNORED)
def test_bits_above_bits_stored_are_ignored(ct: Any) -> None:
    """An overlay in bit 15 does not change HU; a 12-bit negative number is extended with its sign."""
    assert read_signed(ct, 0x0FFF, overlay=0x8000) == [BITS_IGNORED.code]


@pytest.mark.parametrize("kept", [0x0FFF, 0xFFFF])
def test_above_a_negative_value_may_be_zeros_or_its_sign(ct: Any, kept: int) -> None:
    """PS3.5 8.1.1 has both; neither is worth a warning."""
    assert read_signed(ct, kept) == []


def read_signed(ct: Any, kept: int, overlay: int = 0) -> list[str]:
    """Codes of the warnings of a series in 12 bits with a sign."""
    for d in range(5):
        words = ct.hu[d].astype(np.int32) & kept | overlay
        ct.save(
            ct.image(d, PixelRepresentation=1, RescaleIntercept=0, PixelData=words.astype("<u2").tobytes()),
            str(d),
        )
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    return codes(volume)


@hazard(VALUES, "MONOCHROME1", PHOTOMETRIC_UNUSUAL)
def test_monochrome1_is_not_inverted(ct: Any) -> None:
    """The interpretation concerns display; HU stay HU."""
    ct.write(PhotometricInterpretation="MONOCHROME1")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert "MONOCHROME1" in volume.warnings[0].message


@hazard(VALUES, "compressed with loss, as LossyImageCompression says", LOSSY_COMPRESSION)
def test_lossy_compression_is_reported(ct: Any) -> None:
    """The ratio stands in the warning."""
    ct.write(LossyImageCompression="01", LossyImageCompressionRatio=[12])
    assert "ratio 12" in read_dicom(ct.path).warnings[0].message


@pytest.mark.parametrize("ratio", [b"DOE^JANE", b"10:1", b"1_0", b"nan"])
def test_a_ratio_that_is_no_number_is_not_repeated(ct: Any, ratio: bytes) -> None:
    """It may be a name, and the warning stands in every result."""
    for d in range(5):
        image = ct.image(d, LossyImageCompression="01")
        image[0x00282112] = RawDataElement(Tag(0x00282112), "DS", len(ratio), ratio, 0, False, True)
        ct.save(image, str(d))
    (warning,) = read_dicom(ct.path).warnings
    assert warning.message == "5 images were compressed with loss; labels may differ from the original's."


@hazard(VALUES, "text burned into the pixels, as BurnedInAnnotation says", BURNED_IN_ANNOTATION)
def test_burned_in_text_is_reported(ct: Any) -> None:
    """One image is enough; a name in it would stand in every picture."""
    ct.write(4, BurnedInAnnotation="NO")
    assert read_dicom(ct.path).warnings == ()
    ct.save(ct.image(4, BurnedInAnnotation="YES"), "last")
    (warning,) = read_dicom(ct.path).warnings
    assert (warning.code, warning.severity) == (BURNED_IN_ANNOTATION.code, "caution")
    assert "1 of 5 images" in warning.message

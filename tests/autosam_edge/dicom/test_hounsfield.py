"""Stored values become Hounsfield units, or are refused or doubted where they cannot be."""

from __future__ import annotations

from typing import Any

import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes, refusal

from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import ATTRIBUTE_INVALID, NOT_HU, PIXEL_FORMAT_INVALID, RESCALE_MISSING
from autosam_edge.read_choices import ReadChoices
from autosam_edge.warning_codes import (
    CONSTANT_PADDING,
    GRAY_LEVELS,
    NO_TISSUE,
    NOTHING_BELOW_WATER,
    RESCALE_ASSUMED,
    RESCALE_TYPE_UNUSUAL,
)

VALUES = "Pixel values"
SIDE = 64
PART = [0, 1, 4]  # the slices that differ
ASSUME = ReadChoices(assume_hu=True)


def disk(radius: float) -> np.ndarray:
    y, x = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    return np.broadcast_to(x * x + y * y < radius * radius, (5, SIDE, SIDE))


def noise(sd: float = 12.0) -> np.ndarray:
    return np.random.default_rng(7).normal(0, sd, (5, SIDE, SIDE)).astype(np.int16)


def body() -> np.ndarray:
    """(5, 64, 64) HU: air, a ring of fat, muscle, a lung and a bone, with the noise of a scanner."""
    hu = np.full((5, SIDE, SIDE), -1000)
    hu[disk(0.8)], hu[disk(0.65)], hu[disk(0.12)] = -100, 50, 700
    hu[:, 18:26, 36:46] = -850
    return hu + noise()


def brain() -> np.ndarray:
    """A brain without skull, on a background of 0."""
    return np.where(disk(0.6), 35 + noise(6), 0)


@pytest.fixture
def scan(ct_folder: Any) -> Any:
    """Write HU as a series: ``scan(hu, **attributes)``, signed with intercept 0 unless told otherwise."""
    made = []

    def write(
        hu: np.ndarray, *, offset: int = 0, kind: str = "<i2", of_part: Any = None, **changes: Any
    ) -> Any:
        ct = ct_folder(f"scan{len(made)}", hu.shape)
        made.append(ct)
        stored = (hu + offset).astype(np.int64)
        format16 = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": -offset}
        for d in range(len(hu)):
            pixels = stored[d].astype(kind) if kind[1] != "f" else hu[d].astype(kind)
            own = of_part if of_part and d in PART else {}
            ct.save(ct.image(d, **{**format16, "PixelData": pixels.tobytes(), **changes, **own}), f"im{d}")
        return ct.path

    return write


# Good scans are never refused


@hazard(VALUES, "air, fat, muscle and bone of a patient", "read")
def test_a_body_is_read_without_a_word(scan: Any) -> None:
    """The scan that the other tests change."""
    volume = read_dicom(scan(body()))
    np.testing.assert_array_equal(volume.hu, body())
    assert volume.warnings == ()


GOOD = {
    "a field of view without air": np.where(disk(0.5), 50, -100) + noise(),
    "a water phantom": np.where(disk(0.9), 0, -1000) + noise(),
    "a cone of air everywhere": np.where(disk(0.2), 40, -1000) + noise(),
    "many voxels of metal": np.where(disk(0.3), 3000 + 10 * noise(), body()),
    "metal at the end of the scale": np.where(disk(0.4), 3071, body()),
    "a bag of bones": np.where(disk(0.7), 900 + 25 * noise(), -1000),
}


@hazard(VALUES, "phantom, metal, bones only, or a field of view without air", "read")
@pytest.mark.parametrize("name", GOOD)
def test_unusual_but_good_scans_are_read(scan: Any, name: str) -> None:
    """No check takes them for something else."""
    hu = GOOD[name].clip(-1024, 3071)
    volume = read_dicom(scan(hu, offset=1024, PixelRepresentation=0, BitsStored=12, HighBit=11))
    np.testing.assert_array_equal(volume.hu, hu)
    assert not {warning.severity for warning in volume.warnings} & {"doubtful"}


@hazard(VALUES, "a brain without skull on a background of 0, or a plastic ring of 1000 HU in water", "read")
@pytest.mark.parametrize("ring", [False, True])
def test_zero_is_not_air_because_it_is_frequent(scan: Any, ring: bool) -> None:
    """HU + 1024 has the peaks of fat and muscle near 1000 HU, these have not."""
    hu = np.where(disk(0.8) & ~disk(0.6), 980 + noise(), noise()) if ring else brain()
    np.testing.assert_array_equal(read_dicom(scan(hu)).hu, hu)


# What cannot be HU is refused, what may not be is doubted


@hazard(VALUES, "HU + 1024 with RescaleIntercept 0", NOT_HU)
@pytest.mark.parametrize("corner", [None, -1, -1000])
def test_offset_of_1024_is_refused(scan: Any, corner: int | None) -> None:
    """One voxel below 0 does not hide it."""
    hu = body().clip(-1024) + 1024
    if corner is not None:
        hu[0, 0, 0] = corner
    error = refusal(scan(hu, PixelRepresentation=int(corner is not None)))
    assert error.code == "AE-DICOM-008"
    assert "HU + 1024" in error.message


def test_offset_of_1024_of_a_patient_is_refused(tcga_series: Any, ct: Any) -> None:
    """The same of a real scan: every third slice, shifted."""
    files = [pydicom.dcmread(path) for path in sorted(tcga_series.glob("*.dcm"))]
    files.sort(key=lambda image: float(image.ImagePositionPatient[2]))
    for d, image in enumerate(files[60:120:3]):
        shifted = image.pixel_array.clip(-1024).astype(np.int32) + 1024
        image.PixelData, image.PixelRepresentation = shifted.astype("<u2").tobytes(), 0
        image.save_as(ct.path / str(d))
    assert "the values are HU + a constant" in refusal(ct.path).message  # its air was cut at -1024 HU


@hazard(VALUES, "HU + 1000 with RescaleIntercept 0", NOT_HU)
@pytest.mark.parametrize(("cut", "told"), [(-99, "(-1000)"), (0, "RescaleIntercept.")])
def test_offset_of_1000_is_refused(scan: Any, cut: int, told: str) -> None:
    """Where values were cut at 0, air does not show what was added."""
    error = refusal(scan((body() + 1000).clip(cut)))
    assert error.code == "AE-DICOM-008"
    assert told in error.remedy
    assert "1024" not in str(error)


@hazard(VALUES, "no rescale, `assume_hu`, and HU + 1000 with air around 0", RESCALE_ASSUMED)
def test_assumed_rescale_of_1000(scan: Any) -> None:
    """-1024 would be wrong by 24 HU."""
    path = scan(body(), offset=1000, RescaleSlope=None, RescaleIntercept=None)
    volume = read_dicom(path, choices=ASSUME)
    np.testing.assert_array_equal(volume.hu, body())
    assert "-1000 was taken as the missing intercept" in volume.warnings[0].message


@hazard(VALUES, "undeclared padding of 0 around slices that were turned", CONSTANT_PADDING)
def test_padding_of_turned_slices_becomes_air(scan: Any) -> None:
    """Not all of what lies outside of the circle is padding, and no row is."""
    y, x = np.ogrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    along, across = 0.98 * x + 0.199 * y, 0.98 * y - 0.199 * x
    outside = np.broadcast_to(np.maximum(np.abs(along), np.abs(across)) > 1, (5, SIDE, SIDE))
    hu = np.where(outside, 0, body().clip(-1024))
    volume = read_dicom(scan(hu))
    assert codes(volume) == [CONSTANT_PADDING.code]
    np.testing.assert_array_equal(volume.hu, np.where(outside, -1024, hu))


@hazard(VALUES, "negative values that PixelRepresentation calls unsigned", NOT_HU)
@pytest.mark.parametrize("bits", [12, 16])
@pytest.mark.parametrize("intercept", [0, -1024])
@pytest.mark.parametrize("clip", [False, True])
def test_wrong_sign_is_refused(scan: Any, bits: int, intercept: int, clip: bool) -> None:
    """-1000 HU would become +64536 HU, also where air is clipped to one value."""
    hu = body().clip(-990 if clip else -1024) & ((1 << bits) - 1)
    path = scan(
        hu, PixelRepresentation=0, BitsStored=bits, HighBit=bits - 1, RescaleIntercept=intercept, kind="<u2"
    )
    error = refusal(path)
    assert error.code == "AE-DICOM-008"
    assert "PixelRepresentation is wrong" in error.message


@hazard(VALUES, "a wrong RescaleIntercept or PixelRepresentation in a part of the slices", NOT_HU)
@pytest.mark.parametrize(
    ("offset", "wrong"), [(1024, {"RescaleIntercept": 0}), (0, {"PixelRepresentation": 0})]
)
def test_wrong_slices_among_right_ones_are_refused(scan: Any, offset: int, wrong: dict[str, int]) -> None:
    """In the whole scan they are too few to be seen."""
    error = refusal(scan(body().clip(-1024), offset=offset, of_part=wrong))
    assert "in 3 of 5 slices" in error.message


@hazard(VALUES, "slices of several intercepts, some of air only", "read")
@pytest.mark.parametrize("air", [[], [0], PART])
def test_right_slices_of_several_intercepts_are_read(scan: Any, air: list[int]) -> None:
    """Slices beside the body hold no tissue and prove nothing."""
    hu = body()
    hu[air] = -1000 + noise()[air]
    path = scan(hu, offset=1024, of_part={"RescaleIntercept": -1000})
    hu[PART] += 24
    np.testing.assert_array_equal(read_dicom(path).hu, hu)


@pytest.mark.parametrize(("bits", "slope"), [(9, 8), (10, 4), (11, 1)])
def test_a_short_range_of_values_is_no_wrong_sign(scan: Any, bits: int, slope: int) -> None:
    """Unsigned values of fewer than 12 bits have soft tissue near their end, and little air is no fault."""
    hu = np.clip(np.where(disk(1.4), 50, -1000) + noise(), -1024, 900) // slope * slope
    changes = {"BitsStored": bits, "HighBit": bits - 1, "RescaleSlope": slope, "RescaleIntercept": -1024}
    volume = read_dicom(scan((hu + 1024) // slope, kind="<u2", PixelRepresentation=0, **changes))
    np.testing.assert_array_equal(volume.hu, hu)


@hazard(VALUES, "undeclared padding of 32767, 3071 or 0 beyond the circle of the scanner", CONSTANT_PADDING)
@pytest.mark.parametrize(
    ("padding", "signed"), [(32767, 1), (3071, 1), (0, 1), (63536, 0), (-2000 + 4096, 1)]
)
def test_constant_padding_beyond_the_circle_becomes_air(scan: Any, padding: int, signed: int) -> None:
    """A scanner reconstructs a circle; metal of the same value within it stays."""
    hu = np.where(disk(1.0), body().clip(-1024), padding)
    hu[:, 30, 30] = padding
    path = scan(hu) if signed else scan(hu, offset=1024, kind="<u2", PixelRepresentation=0)
    volume = read_dicom(path)
    assert codes(volume) == [CONSTANT_PADDING.code]
    assert (volume.hu[~disk(1.0)] == -1024).all()
    assert (volume.hu[:, 30, 30] == (padding if padding < 20_000 else -1024)).all()
    rest = disk(1.0) & (hu != padding)
    np.testing.assert_array_equal(volume.hu[rest], hu[rest])


@hazard(VALUES, "undeclared padding of 32767, 3071 or 0 in rows or columns that were added", CONSTANT_PADDING)
@pytest.mark.parametrize("padding", [32767, 3071, 0])
@pytest.mark.parametrize("where", [np.s_[:, [*range(5), -2, -1]], np.s_[..., -6:], np.s_[:, [0, -1], :]])
def test_added_rows_and_columns_become_air(scan: Any, padding: int, where: Any) -> None:
    """A program that makes images square fills whole lines; equal values in the body stay."""
    hu = body().clip(-1024, 1500)
    hu[where] = padding
    hu[:, [0, 0, -1, -1], [0, -1, 0, -1]] = padding
    volume = read_dicom(scan(hu))
    assert codes(volume) == [CONSTANT_PADDING.code]
    assert (volume.hu[where] == -1024).all()
    changed = volume.hu != hu
    changed[where] = False
    assert changed.sum() <= 4 * len(hu)  # the corners


@hazard(VALUES, "undeclared padding of 32767 in a part of the slices", CONSTANT_PADDING)
def test_padding_beyond_metal_becomes_air(scan: Any) -> None:
    """A volume that was cut anew has corners of its own in every slice."""
    hu = body().clip(-1024)
    hu[len(hu) // 2 :, :20, :30] = 32767
    volume = read_dicom(scan(hu))
    assert codes(volume) == [CONSTANT_PADDING.code]
    np.testing.assert_array_equal(volume.hu, np.where(hu == 32767, -1024, hu))


@hazard(VALUES, "all values within 0 to 255, such as a screenshot in 16 bits", GRAY_LEVELS)
def test_gray_levels_are_doubted(scan: Any) -> None:
    """A window of -160 to 240 HU on 256 levels."""
    gray = ((body().clip(-160, 240) + 160) * 255 // 400).astype(np.int16)
    assert codes(read_dicom(scan(gray))) == [GRAY_LEVELS.code]


@hazard(VALUES, "no voxel below 0 HU", NOTHING_BELOW_WATER)
def test_values_without_negative_ones_are_doubted(scan: Any) -> None:
    """Units other than HU start at 0."""
    assert NOTHING_BELOW_WATER.code in codes(read_dicom(scan(np.abs(body()))))


@hazard(VALUES, "hardly any voxel with the HU of soft tissue, as with an intercept applied twice", NO_TISSUE)
@pytest.mark.parametrize("shift", [-1024, 1500, 3000])
def test_values_without_tissue_are_doubted(scan: Any, shift: int) -> None:
    """A wrong intercept leaves nothing between -200 and 300 HU."""
    hu = np.where(disk(0.65), 50, -1000) + noise() + shift
    assert NO_TISSUE.code in codes(read_dicom(scan(hu)))


# Rescale


@hazard(VALUES, "no RescaleSlope or RescaleIntercept", RESCALE_MISSING)
@pytest.mark.parametrize("keyword", ["RescaleSlope", "RescaleIntercept"])
def test_missing_rescale_names_the_switch(scan: Any, keyword: str) -> None:
    """A person may decide; the reader does not."""
    error = refusal(scan(body(), **{keyword: None}))
    assert error.code == "AE-DICOM-007"
    assert "`assume_hu`" in error.remedy


@hazard(VALUES, "no rescale, `assume_hu`, and air at -1000 or at 0", RESCALE_ASSUMED)
@pytest.mark.parametrize("offset", [0, 1024])
@pytest.mark.parametrize("missing", [("RescaleSlope", "RescaleIntercept"), ("RescaleIntercept",)])
def test_assumed_rescale_comes_from_the_air(scan: Any, offset: int, missing: tuple[str, ...]) -> None:
    """Intercept 0 or -1024, and the warning says which."""
    hu = body().clip(-1024)
    path = scan(hu, offset=offset, PixelRepresentation=int(not offset), **dict.fromkeys(missing))
    volume = read_dicom(path, choices=ASSUME)
    np.testing.assert_array_equal(volume.hu, hu)
    assert codes(volume) == [RESCALE_ASSUMED.code]
    assert f"{-offset} was taken as the missing intercept" in volume.warnings[0].message


@hazard(VALUES, "a rescale that only some slices lack, `assume_hu`", "each slice is read by its own")
def test_only_slices_without_a_rescale_are_assumed(scan: Any) -> None:
    """Two slices are HU + 1024 and say so, three do not."""
    hu = body().clip(-1024)
    path = scan(hu, offset=1024, PixelRepresentation=0, of_part={"RescaleIntercept": None})
    volume = read_dicom(path, choices=ASSUME)
    np.testing.assert_array_equal(volume.hu, hu)
    assert "missing in 3 of 5 slices" in volume.warnings[0].message


@hazard(VALUES, "no rescale, `assume_hu`, and values without the air and tissue of HU", NOT_HU)
@pytest.mark.parametrize("name", ["MR", "gray levels", "offset of 500", "no air"])
def test_assumed_rescale_needs_evidence(scan: Any, name: str) -> None:
    """The switch is no way to read an MR as CT."""
    values = {
        "MR": np.abs(body()) // 3,
        "gray levels": body().clip(-160, 240) + 160,
        "offset of 500": body() + 500,
        "no air": np.where(disk(0.5), 50, -100) + noise(),
    }[name]
    path = scan(values, RescaleSlope=None, RescaleIntercept=None)
    error = refusal(path, choices=ASSUME)
    assert error.code == "AE-DICOM-008"


@hazard(VALUES, "RescaleSlope 0", ATTRIBUTE_INVALID)
def test_slope_of_zero_is_refused(ct: Any) -> None:
    """Every value would be the same."""
    ct.write(RescaleSlope=0)
    assert refusal(ct.path).code == "AE-DICOM-006"


@hazard(VALUES, "values beyond a million HU", NOT_HU)
def test_absurd_slope_is_refused(ct: Any) -> None:
    """No scale of CT reaches that far."""
    ct.write(RescaleSlope=1e9)
    assert refusal(ct.path).code == "AE-DICOM-008"


@hazard(VALUES, "RescaleType HU_MOD or US, with the air and tissue of HU", RESCALE_TYPE_UNUSUAL)
@pytest.mark.parametrize("kind", ["HU_MOD", "US", "hu_mod"])
def test_modified_hu_are_read_if_they_look_like_hu(scan: Any, kind: str) -> None:
    """Metal artifact reduction and mixed spectra write it."""
    volume = read_dicom(scan(body(), RescaleType=kind))
    np.testing.assert_array_equal(volume.hu, body())
    assert codes(volume) == [RESCALE_TYPE_UNUSUAL.code]


@hazard(VALUES, "RescaleType HU_MOD or US, with other values", NOT_HU)
@pytest.mark.parametrize(("kind", "shift"), [("HU_MOD", 3000), ("US", 3000), ("US", 300)])
def test_other_values_of_an_unusual_type_are_refused(scan: Any, kind: str, shift: int) -> None:
    """An effective atomic number or a density is no HU."""
    assert refusal(scan(body() + shift, RescaleType=kind)).code == "AE-DICOM-008"


@hazard(VALUES, "RescaleType of a spectral map, such as Z_EFF or MGML", NOT_HU)
@pytest.mark.parametrize("kind", ["Z_EFF", "MGML", "ED", "PCT", "OD"])
def test_spectral_maps_are_refused(scan: Any, kind: str) -> None:
    """Whatever their values look like."""
    assert refusal(scan(body(), RescaleType=kind)).code == "AE-DICOM-008"


@hazard(VALUES, "a Modality LUT", NOT_HU)
def test_modality_lut_is_refused(ct: Any) -> None:
    """CT has a linear rescale."""
    from pydicom.dataset import Dataset

    lut = Dataset()
    lut.LUTDescriptor, lut.ModalityLUTType = [2, 0, 16], "HU"
    ct.write(ModalityLUTSequence=[lut])
    assert refusal(ct.path).code == "AE-DICOM-008"


# Pixel formats


@hazard(VALUES, "32-bit integers, signed or unsigned", "read")
@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("stored", [20, 32])
def test_32_bit_pixels_are_read(scan: Any, signed: int, stored: int) -> None:
    """As int16 if the values fit."""
    hu = body().clip(-1024)
    path = scan(
        hu,
        offset=0 if signed else 1024,
        kind="<i4",
        BitsAllocated=32,
        BitsStored=32 if signed else stored,
        HighBit=31 if signed else stored - 1,
        PixelRepresentation=signed,
    )
    volume = read_dicom(path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, hu)


@hazard(VALUES, "values of 32 bits beyond a million HU", NOT_HU)
def test_32_bit_range_is_checked(scan: Any) -> None:
    """2,000,000,000 HU is no CT."""
    hu = body()
    hu[0, 0, 0] = 2_000_000_000
    path = scan(hu, kind="<i4", BitsAllocated=32, BitsStored=32, HighBit=31)
    assert refusal(path).code == "AE-DICOM-008"


def as_float(path: Any, hu: np.ndarray, bits: int) -> None:
    for d in range(len(hu)):
        image = pydicom.dcmread(path / f"im{d}")
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del image[keyword]
        image.BitsAllocated = bits
        keyword = "FloatPixelData" if bits == 32 else "DoubleFloatPixelData"
        setattr(image, keyword, hu[d].astype(f"<f{bits // 8}").tobytes())
        image.save_as(path / f"im{d}")


@hazard(VALUES, "Float Pixel Data or Double Float Pixel Data", "read as float32")
@pytest.mark.parametrize("bits", [32, 64])
def test_float_pixels_are_read(scan: Any, bits: int) -> None:
    """Post-processing writes them."""
    hu, path = body() + 0.25, scan(body())
    as_float(path, hu, bits)
    volume = read_dicom(path)
    assert volume.hu.dtype == np.float32
    np.testing.assert_array_equal(volume.hu, hu)


@hazard(VALUES, "NaN or infinity in floating-point pixels", NOT_HU)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_float_pixels_must_be_finite(scan: Any, value: float) -> None:
    """Nothing is put in the place of NaN."""
    hu, path = body().astype(np.float64), scan(body())
    hu[2, 3, 4] = value
    as_float(path, hu, 32)
    assert refusal(path).code == "AE-DICOM-008"


FORMATS: dict[str, dict[str, Any]] = {
    "8 bits": {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7},
    "8 bits in 16": {"BitsStored": 8, "HighBit": 7},
    "color": {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB"},
    "palette": {"PhotometricInterpretation": "PALETTE COLOR"},
    "HighBit below BitsStored": {"BitsStored": 12, "HighBit": 10},
    "PixelRepresentation 2": {"PixelRepresentation": 2},
    "several frames in a classic image": {"NumberOfFrames": 2},
}


@hazard(VALUES, "8 bits, color, a palette, or bits that do not fit together", PIXEL_FORMAT_INVALID)
@pytest.mark.parametrize("name", FORMATS)
def test_pixels_of_a_screenshot_are_refused(ct: Any, name: str) -> None:
    """They are no measurement."""
    ct.write(**FORMATS[name])
    assert refusal(ct.path).code == "AE-DICOM-009"


@hazard(VALUES, "12 bits at the upper end of a word (HighBit 15)", "read")
def test_high_bit_is_heeded(ct: Any) -> None:
    """ACR-NEMA and some detectors store them so."""
    for d in range(5):
        words = ((ct.hu[d] + 1024) << 4).astype("<u2")
        ct.save(ct.image(d, HighBit=15, PixelData=words.tobytes()), str(d))
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(VALUES, "HighBit leaves out low bits that hold data", PIXEL_FORMAT_INVALID)
def test_high_bit_that_cannot_be_right(ct: Any) -> None:
    """The words lie at the lower end."""
    ct.write(HighBit=15)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-009"
    assert "leaves out the lowest 4 bits" in error.message


@hazard(VALUES, "PhotometricInterpretation is absent or empty", ATTRIBUTE_INVALID)
@pytest.mark.parametrize("value", [None, ""])
def test_missing_photometric_interpretation(ct: Any, value: str | None) -> None:
    """The attribute that is missing is named."""
    ct.write(PhotometricInterpretation=value)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert "PhotometricInterpretation" in error.message


@hazard(VALUES, "RescaleType in words, such as HOUNSFIELD UNITS", "read")
def test_rescale_type_in_words(ct: Any) -> None:
    """It means HU."""
    ct.write(RescaleType="HOUNSFIELD UNITS")
    assert codes(read_dicom(ct.path)) == []

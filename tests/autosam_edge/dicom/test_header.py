"""A damaged header ends as a refusal that names file and attribute, never as an error of pydicom's."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import SECRETS, refusal
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from autosam_edge.dicom.header import items_of, numbers, text_of, texts_of
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import ATTRIBUTE_INVALID
from autosam_edge.errors import InputError

VARIANTS = 300
VRS = b"AT CS DA DS FD FL IS LO OB OW SH SL SQ SS ST UI UL UN US".split()


def element(group: int, number: int) -> bytes:
    """The tag of an element as it stands in a little-endian file."""
    return struct.pack("<HH", group, number)


def rewrite(path: Path, tag: bytes, vr: bytes) -> None:
    """Give the first element of a tag another VR."""
    raw = path.read_bytes()
    place = raw.index(tag) + len(tag)
    path.write_bytes(raw[:place] + vr + raw[place + 2 :])


@hazard("Files and folders", "a required attribute of a slice is missing", ATTRIBUTE_INVALID)
@pytest.mark.parametrize(
    "keyword",
    [
        "ImagePositionPatient",
        "ImageOrientationPatient",
        "PixelSpacing",
        "Rows",
        "Columns",
        "BitsAllocated",
        "BitsStored",
        "SamplesPerPixel",
        "PixelRepresentation",
        "SeriesInstanceUID",
        "SOPInstanceUID",
        "SOPClassUID",
    ],
)
@pytest.mark.parametrize("last", [True, False])
def test_a_missing_attribute_is_named(ct: Any, keyword: str, last: bool) -> None:
    """Nothing is invented in its place, in one slice or in all; there is no file meta information either."""
    for d in range(5):
        image = ct.image(d, **({keyword: None} if d == 4 or not last else {}))
        del image.file_meta
        pydicom.dcmwrite(ct.path / f"im{d}", image, implicit_vr=False, little_endian=True)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert f"has no {keyword}" in error.message


@hazard("Files and folders", "an attribute whose bytes are not what its VR says", ATTRIBUTE_INVALID)
@pytest.mark.parametrize(
    ("keyword", "tag", "vr"),
    [
        ("RescaleIntercept", element(0x0028, 0x1052), b"Dk"),
        ("RescaleSlope", element(0x0028, 0x1053), b"FD"),  # four bytes are no double
        ("SOPClassUID", element(0x0008, 0x0016), b"U0"),
        ("ImageType", element(0x0008, 0x0008), b"FL"),
        ("ImageType", element(0x0008, 0x0008), b"CX"),
        ("SeriesNumber", element(0x0020, 0x0011), b"I\0"),
        ("PatientID", element(0x0010, 0x0020), b"FD"),
        ("Rows", element(0x0028, 0x0010), b"UL"),
        ("BitsStored", element(0x0028, 0x0101), b"U-"),
    ],
)
def test_a_damaged_vr_names_file_and_attribute(ct: Any, keyword: str, tag: bytes, vr: bytes) -> None:
    """AE-DICOM-006; pydicom's error, which quotes the value, is not even the cause."""
    path = ct.write()[-1]
    rewrite(path, tag, vr)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert f"{keyword} of {ct.shown(path)} is malformed" in error.message
    assert error.__cause__ is None
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("keyword", "tag", "vr"),
    [
        ("PixelMeasuresSequence", element(0x0028, 0x9110), b"Sa"),
        ("PlanePositionSequence", element(0x0020, 0x9113), b"OB"),
        ("FrameContentSequence", element(0x0020, 0x9111), b"UT"),
        ("PixelValueTransformationSequence", element(0x0028, 0x9145), b"OB"),
        ("SharedFunctionalGroupsSequence", element(0x5200, 0x9229), b"UT"),
    ],
)
def test_a_damaged_sequence_names_file_and_attribute(ct: Any, keyword: str, tag: bytes, vr: bytes) -> None:
    """Bytes or text in place of items."""
    path = ct.save(ct.enhanced([0, 1, 2, 3, 4]), "multi")
    rewrite(path, tag, vr)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert f"{keyword} of {ct.shown(path)} is malformed" in error.message


def variants(raw: bytes, tag_after: bytes, seed: int) -> Any:
    """Copies of a file with one or two bytes of its header changed, at random or to another VR."""
    rng = random.Random(seed)
    end = raw.rindex(tag_after) + 12
    places = [i for i in range(132, end - 1) if raw[i : i + 2] in VRS]
    for _ in range(VARIANTS):
        changed = bytearray(raw)
        if rng.random() < 0.7:
            for _ in range(rng.choice((1, 2))):
                changed[rng.randrange(132, end)] = rng.randrange(256)
        else:
            place = rng.choice(places)
            changed[place : place + 2] = rng.choice(VRS)
        yield bytes(changed)


def prepare(ct: Any, kind: str) -> Path:
    """A series of the kind; the file whose header will be changed."""
    if kind == "enhanced":
        return ct.save(ct.enhanced([0, 1, 2]), "x")
    for d in range(3):
        image = ct.image(
            d,
            RescaleType="HU",
            PixelPaddingValue=0,
            LossyImageCompression="01",
            LossyImageCompressionRatio="2.5",
        )
        if kind == "implicit":
            image.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        path = ct.save(image, f"im{d}")
    return path


@pytest.mark.parametrize("kind", ["explicit", "implicit", "enhanced"])
def test_a_header_changed_at_random_is_read_or_refused(ct: Any, kind: str) -> None:
    """Some changes mean nothing; every other one is an InputError of one line without patient data."""
    path = prepare(ct, kind)
    read_dicom(ct.path)
    codes = set()
    for changed in variants(path.read_bytes(), element(0x7FE0, 0x0010), seed=len(kind)):
        path.write_bytes(changed)
        try:
            read_dicom(ct.path)
            codes.add("read")
        except InputError as error:
            codes.add(error.code)
            assert not [secret for secret in SECRETS if secret in str(error)]  # noqa: PT017  some of the changes may be read
            assert "\n" not in str(error)  # noqa: PT017
    assert {"read", "AE-DICOM-005", "AE-DICOM-006"} <= codes


def test_a_damaged_position_is_not_a_number_of_missing_slices(ct: Any) -> None:
    """One digit that became an exponent."""
    ct.write(step_mm=0.5)
    ct.save(ct.image(5, ImagePositionPatient=["-100", "-50", "9e307"]), "x")
    assert refusal(ct.path).code == "AE-DICOM-017"


def test_values_are_of_the_kind_that_is_asked_for() -> None:
    """Absent and empty are nothing; text is not a sequence, bytes are neither text nor numbers."""
    dataset, item = Dataset(), Dataset()
    item.StackID = "1"
    dataset.ImageType, dataset.SeriesNumber, dataset.PatientID = ["A", "B "], 7, ""
    dataset.SharedFunctionalGroupsSequence = [item]
    dataset.add_new("PixelSpacing", "OB", b"\x01\x02")
    assert texts_of(dataset, "ImageType", "x") == ["A", "B"]
    assert text_of(dataset, "ImageType", "x") == "A\\B"
    assert text_of(dataset, "SeriesNumber", "x") == "7"
    assert (text_of(dataset, "PatientID", "x"), text_of(dataset, "Modality", "x")) == ("", "")
    assert items_of(dataset, "SharedFunctionalGroupsSequence", "x") == [item]
    assert items_of(dataset, "PerFrameFunctionalGroupsSequence", "x") == []
    assert numbers(dataset, "SeriesNumber", 1, "x") == (7.0,)
    assert numbers(dataset, "PatientID", 1, "x") is None
    for read, keyword in (
        (items_of, "ImageType"),
        (text_of, "SharedFunctionalGroupsSequence"),
        (text_of, "PixelSpacing"),
    ):
        with pytest.raises(InputError, match=f"AE-DICOM-006: {keyword} of x is malformed"):
            read(dataset, keyword, "x")
    with pytest.raises(
        InputError, match="AE-DICOM-006: PixelSpacing of x is malformed, expected 2 finite numbers"
    ):
        numbers(dataset, "PixelSpacing", 2, "x")

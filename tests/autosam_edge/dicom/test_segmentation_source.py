"""What a DICOM SEG takes from its source series, and which sources allow none."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_seg import NAME, read_back, rewrite, stored
from pydicom.dataset import Dataset
from pydicom.uid import ImplicitVRLittleEndian

from autosam_edge.dicom.segmentation import write_dicom_seg
from autosam_edge.errors import OutputError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.filterwarnings("ignore")
def test_odd_patient_tags_are_copied_and_never_shown(
    series, segmentation, tmp_path: Path, recwarn, caplog
) -> None:
    """A name of one part and a sex of X are copied as they are.

    No warning and no log quotes them, or any UID.
    """
    rewrite(series[0], PatientName=b"SECRETNAME", PatientSex=b"X ")
    recwarn.clear()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert not list(recwarn)
    assert caplog.text == ""
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.PatientName, ds.PatientSex) == ("SECRETNAME", "X")


KANJI = b"Yamada^Tarou=\033$B;3ED\033(B^\033$BB@O:\033(B=\033$B$d$^$@\033(B^\033$B$?$m$&\033(B"


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "values",
    [
        {"StudyTime": b"12:30:00"},  # the form of ACR-NEMA
        {"StudyTime": b"996000"},
        {"StudyDate": b"bad Erika "},
        {"StudyDate": b"20240102\\20240103 "},
        {"PatientBirthDate": b"1.1.1970"},
        {"StudyID": b"odd"},  # an odd number of bytes, which no element may have
        {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"M\xfcller^Erika"},
        {"SpecificCharacterSet": b"Erika ", "PatientName": b"M\xfcller^Ida"},
        {"SpecificCharacterSet": b"ISO IR 100", "StudyID": b"B\xe4uche"},
        {"SpecificCharacterSet": b"ISO_IR 192", "StudyID": b"B\xe4uche"},  # which is not UTF-8
        {"SpecificCharacterSet": b"\\ISO 2022 IR 87 ", "PatientName": KANJI},
        {"SpecificCharacterSet": b"\\ISO 2022 IR 999", "PatientName": KANJI},
    ],
)
def test_odd_texts_are_copied_byte_for_byte(
    values: dict[str, bytes], series, segmentation, tmp_path: Path
) -> None:
    """A time with colons, a date that is none, a character set that nobody knows.

    The copy says what the source says, in its letters.
    """
    rewrite(series[0], **values)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert stored(tmp_path / "out.dcm", "PatientName") == (values.get("PatientName") or NAME.encode())
    for keyword, value in values.items():
        expected = (
            stored(series[0][0], keyword)
            if keyword == "SpecificCharacterSet"
            else value + b" " * (len(value) % 2)
        )
        assert stored(tmp_path / "out.dcm", keyword) == expected, keyword
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


def test_texts_of_an_implicit_source_are_written_with_their_type(
    series, segmentation, tmp_path: Path
) -> None:
    """Implicit VR names no type in the file, and a SEG in Explicit VR needs one for each element."""
    files = []
    for file in series[0]:
        ds = pydicom.dcmread(file)
        ds.AccessionNumber, ds.StudyTime = "A77", "1011"
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        files.append(tmp_path / file.name)
        ds.save_as(files[-1], implicit_vr=True, little_endian=True)
    write_dicom_seg(segmentation, files, tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.PatientName, ds.StudyTime, ds.AccessionNumber) == (NAME, "1011", "A77")
    assert [ds.get_item(keyword).VR for keyword in ("PatientName", "StudyTime", "AccessionNumber")] == [
        "PN",
        "TM",
        "SH",
    ]


@pytest.mark.parametrize(
    ("date", "time", "expected"),
    [
        ("20240103", "235959", ("20240103", "235959")),
        ("20240103", "101530.25", ("20240103", "101530.25")),
        (
            "20201301",
            "101530",
            ("20240102", "000000"),
        ),  # no thirteenth month; the date of the study, whose time has colons
        ("20240230", "101530", ("20240102", "000000")),
        ("Erika^Ma", "101530", ("20240102", "000000")),
        ("20240103", "996000", ("20240103", "000000")),
        ("20240103", "1015", ("20240103", "000000")),
        ("20240103", "101530.Erika", ("20240103", "000000")),
        ("20240103", "101530.", ("20240103", "000000")),
    ],
)
def test_content_date_is_the_first_that_exists(
    date: str, time: str, expected: tuple[str, str], series, segmentation, tmp_path: Path
) -> None:
    """Content Date is required: an invalid date is replaced by the study's, an invalid time by midnight."""
    rewrite(series[0], ContentDate=date.encode(), ContentTime=time.encode(), StudyTime=b"10:11:12")
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.ContentDate, ds.ContentTime) == expected


def test_deidentified_source_without_dates_and_names(series, segmentation, tmp_path: Path) -> None:
    """Attributes of type 2 that a de-identifier removed are written empty."""
    for file in series[0]:
        ds = pydicom.dcmread(file)
        for keyword in (
            "PatientName",
            "PatientBirthDate",
            "PatientSex",
            "StudyID",
            "AccessionNumber",
            "StudyDate",
            "StudyTime",
            "ContentDate",
            "ContentTime",
        ):
            del ds[keyword]
        ds.save_as(file)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (str(ds.PatientName), ds.StudyDate or "") == ("", "")


@pytest.mark.parametrize("change", ["missing", "moved", "resized", "vanished", "none", "unplaced"])
def test_changed_source_is_refused(change: str, series, segmentation, tmp_path: Path) -> None:
    """Labels are never placed on a series that is not the one that was segmented."""
    files = list(series[0])
    if change == "missing":
        files.pop()
    elif change == "vanished":
        files[2].unlink()
    elif change == "none":
        files = []
    elif change == "unplaced":
        rewrite(files[2:3], ImagePositionPatient=NAME.encode())
    else:
        ds = pydicom.dcmread(files[2])
        if change == "moved":
            ds.ImagePositionPatient = [0.0, 0.0, 0.0]
        else:
            ds.Rows = 99
        ds.save_as(files[2])
    with pytest.raises(OutputError) as caught:
        write_dicom_seg(segmentation, files, tmp_path / "out.dcm")
    assert caught.value.code == "AE-OUTPUT-006"
    assert NAME not in str(caught.value)
    assert (
        caught.value.__context__ is None or caught.value.__suppress_context__
    )  # what pydicom said may quote a value


GOOD_UID = b"2.25.99"


FAULTS = {
    "one SOPInstanceUID for all slices": (
        {"SOPInstanceUID": GOOD_UID},
        6,
        "hold 1 SOPInstanceUID for 6 images",
    ),
    "a slice without StudyInstanceUID": ({"StudyInstanceUID": b""}, 1, "lack StudyInstanceUID"),
    "a SOPInstanceUID with letters": (
        {"SOPInstanceUID": b"1.2.SECRET"},
        1,
        "SOPInstanceUID that is not a valid",
    ),
    "a StudyInstanceUID that is too long": ({"StudyInstanceUID": b"1." + b"2" * 64}, 6, "not a valid UID"),
    "no StudyInstanceUID": ({"StudyInstanceUID": b""}, 6, "lack StudyInstanceUID"),
    "a StudyInstanceUID of its own in one slice": ({"StudyInstanceUID": GOOD_UID}, 1, "name several studies"),
    "no FrameOfReferenceUID": ({"FrameOfReferenceUID": b""}, 6, "lack FrameOfReferenceUID"),
    "two frames of reference": ({"FrameOfReferenceUID": GOOD_UID}, 2, "name several frames of reference"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("values", "slices", "fault"), FAULTS.values(), ids=FAULTS)
def test_headers_that_allow_no_seg_are_named_with_a_way_out(
    values: dict[str, bytes], slices: int, fault: str, series, segmentation, tmp_path: Path
) -> None:
    """What is wrong is named, no value is shown, and the remedy is an option of the command."""
    rewrite(series[0][:slices], **values)
    with pytest.raises(OutputError, match=fault) as caught:
        write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert caught.value.code == "AE-OUTPUT-006"
    assert "`formats=('nifti', 'json', 'csv', 'preview')`" in caught.value.remedy
    assert "SECRET" not in str(caught.value)
    assert not (tmp_path / "out.dcm").exists()


def test_a_series_uid_of_its_own_for_each_slice_is_referred_to(series, segmentation, tmp_path: Path) -> None:
    """Each image is named under its own series."""
    for d, file in enumerate(series[0]):
        rewrite([file], SeriesInstanceUID=f"2.25.7{d}".encode())
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert {
        (item.SeriesInstanceUID, image.ReferencedSOPInstanceUID)
        for item in ds.ReferencedSeriesSequence
        for image in item.ReferencedInstanceSequence
    } == {(f"2.25.7{d}", f"2.25.1000{d}") for d in range(6)}
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


@pytest.mark.filterwarnings("ignore")
def test_zeros_at_the_start_of_a_component_are_no_fault(series, segmentation, tmp_path: Path) -> None:
    """Many anonymizers write them, and readers compare UIDs as texts."""
    rewrite(series[0], FrameOfReferenceUID=b"1.2.03.004", StudyInstanceUID=b"1.02.3")
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.FrameOfReferenceUID, ds.StudyInstanceUID) == ("1.2.03.004", "1.02.3")


def test_free_texts_of_the_source_stay_out(series, segmentation, tmp_path: Path) -> None:
    """Neither the patient's nor the equipment's or the series': only what the standard requires."""
    texts = (
        "PatientComments",
        "AdditionalPatientHistory",
        "OtherPatientNames",
        "PatientAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "StationName",
        "StudyDescription",
        "SeriesDescription",
        "ImageComments",
        "PerformingPhysicianName",
        "OperatorsName",
        "DeviceSerialNumber",
        "PositionReferenceIndicator",
        "ProtocolName",
    )
    rewrite(series[0], **dict.fromkeys(texts, b"SECRET"))
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert b"SECRET" not in (tmp_path / "out.dcm").read_bytes()
    assert NAME.encode() in (tmp_path / "out.dcm").read_bytes()


@pytest.mark.filterwarnings("ignore")
@hazard("Results", "a sequence of the source is written as text, or its text is broken", "left out")
@pytest.mark.parametrize(
    "keyword", ["ReferencedStudySequence", "ProcedureCodeSequence", "SpecimenDescriptionSequence"]
)
@pytest.mark.parametrize("text", [b"Header Anonymizer text", b"\xfe\xff\x00\xe0\xff\xff\xff\x7f"])
def test_damaged_sequences_of_the_source_do_no_harm(
    keyword: str, text: bytes, series, segmentation, tmp_path: Path
) -> None:
    """Nothing but identifiers is taken from the source."""
    rewrite(series[0], **{keyword: text})
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert keyword not in pydicom.dcmread(tmp_path / "out.dcm")


@pytest.mark.parametrize(
    ("ratio", "method", "told"),
    [(b"9.5 ", b"ISO_10918_1 ", (9.5, "ISO_10918_1")), (b"10:1", b"DOE JANE", (None, None))],
)
def test_a_lossy_source_is_told(
    ratio: bytes, method: bytes, told: tuple[object, object], series, segmentation, tmp_path: Path
) -> None:
    """What is derived from images that lost something says so, PS3.3 C.7.6.1.1.5.

    A ratio that is no number and a method that is none of the standard's may be a name: they are left out.
    """
    rewrite(
        series[0],
        LossyImageCompression=b"01",
        LossyImageCompressionRatio=ratio,
        LossyImageCompressionMethod=method,
    )
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert ds.LossyImageCompression == "01"
    assert (ds.get("LossyImageCompressionRatio"), ds.get("LossyImageCompressionMethod")) == told
    assert "DOE" not in str(ds)


def test_one_lossy_image_is_enough(series, segmentation, tmp_path: Path) -> None:
    """Also when it is not the first."""
    rewrite(series[0][-1:], LossyImageCompression=b"01")
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert pydicom.dcmread(tmp_path / "out.dcm").LossyImageCompression == "01"


@pytest.mark.filterwarnings("ignore")
def test_a_source_without_preamble_is_referred_to(series, segmentation, tmp_path: Path) -> None:
    """Older senders leave it out, and the reader of the volume takes such files."""
    for file in series[0]:
        ds = pydicom.dcmread(file)
        with file.open("wb") as stream:
            pydicom.filewriter.dcmwrite(stream, Dataset(ds), implicit_vr=False, little_endian=True)
    assert series[0][0].read_bytes()[128:132] != b"DICM"
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert ds.PatientName == NAME

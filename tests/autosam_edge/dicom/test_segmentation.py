"""DICOM SEG out: highdicom reads back the labels in their place, with the organs named in SNOMED CT."""

from __future__ import annotations

import logging
import shutil
import subprocess
import warnings
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from autosam_edge.dicom.segmentation import write_dicom_seg
from autosam_edge.errors import OutputError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import RESEARCH_USE, Provenance, Segmentation
from autosam_edge.warning_codes import PARTS_REMOVED, THICK_SLICES

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 12, 16)
SPACING_MM = (2.5, 0.5, 0.9)  # not square: rows and columns must not be mixed up
NAME = "Doe^Jane"
OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
PROVENANCE = Provenance(
    version="1.2.3", model="student", model_sha256="ab" * 32, engine="fake", precision="fp32"
)


def header(d: int, orientation: tuple[float, ...]) -> Dataset:
    """One CT image without pixels, as far as a SEG needs it."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"2.25.1000{d}"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = NAME, "4711", "19700102", "F"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.FrameOfReferenceUID = "2.25.11", "2.25.12", "2.25.13"
    ds.StudyDate, ds.StudyTime, ds.ContentDate, ds.ContentTime = "20240102", "101112", "20240102", "101530.25"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "", ""
    ds.Modality, ds.SeriesNumber, ds.InstanceNumber, ds.Manufacturer = "CT", 3, d + 1, "Scanner maker"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    ds.ImageOrientationPatient = list(orientation)
    ds.ImagePositionPatient = [
        round(float(value), 6) for value in affine(orientation)[:3] @ np.array([d, 0, 0, 1.0])
    ]
    ds.PixelSpacing, ds.SliceThickness = list(SPACING_MM[1:]), SPACING_MM[0]
    ds.Rows, ds.Columns = SHAPE[1:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation, ds.PixelRepresentation = 1, "MONOCHROME2", 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit = 16, 16, 15
    ds.RescaleSlope, ds.RescaleIntercept = 1, 0
    ds.PositionReferenceIndicator = ""
    return ds


def affine(orientation: tuple[float, ...]) -> np.ndarray:
    """Grid of the series: (d, h, w) to LPS, mm."""
    along_columns, along_rows = np.array(orientation[:3]), np.array(orientation[3:])
    result = np.eye(4)
    result[:3, 0] = np.cross(along_columns, along_rows) * SPACING_MM[0]
    result[:3, 1] = along_rows * SPACING_MM[1]
    result[:3, 2] = along_columns * SPACING_MM[2]
    result[:3, 3] = (-100.5, -80.25, 1200.0)
    return result


@pytest.fixture(params=[(1.0, 0.0, 0.0, 0.0, 1.0, 0.0), OBLIQUE], ids=["axial", "oblique"])
def series(request, tmp_path: Path) -> tuple[list[Path], Grid]:
    """Files of a small CT series in slice order, and its grid."""
    folder = tmp_path / "series"
    folder.mkdir()
    files = []
    for d in range(SHAPE[0]):
        files.append(folder / f"{d}.dcm")
        header(d, request.param).save_as(files[-1], enforce_file_format=True)
    return files, Grid(SHAPE, affine(request.param))


@pytest.fixture
def segmentation(series) -> Segmentation:
    """Random labels without gallbladder and esophagus; first and last slice are empty."""
    labels = np.random.default_rng(2).integers(0, 14, SHAPE).astype(np.uint8)
    labels[np.isin(labels, (4, 5))] = 0
    labels[[0, -1]] = 0
    return Segmentation(labels, series[1], BTCV_LABELS, PROVENANCE)


def read_back(path: Path, files: list[Path]) -> np.ndarray:
    """Labels (D, H, W) from a SEG, by source image and by the names in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = hd.seg.segread(path)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    masks = seg.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )  # (D, H, W, segments)
    values = {label.name: label.value for label in BTCV_LABELS}
    labels = np.zeros(masks.shape[:3], np.uint8)
    for number in seg.segment_numbers:
        labels[masks[..., number - 1] > 0] = values[seg.get_segment_description(number).SegmentDescription]
    return labels


def test_labels_come_back_voxel_for_voxel(series, segmentation, tmp_path: Path) -> None:
    """Every voxel has its organ, on the source image that it was found on."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


def test_segments_lie_where_the_labels_lie(series, segmentation, tmp_path: Path) -> None:
    """The affine of the SEG leads each voxel to the position that our own grid gives it, oblique too."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    volume = hd.seg.segread(tmp_path / "out.dcm").get_volume(combine_segments=True)
    to_ours = np.linalg.inv(segmentation.grid.affine) @ volume.affine
    for index in np.argwhere(volume.array > 0)[::37]:
        place = to_ours @ np.array([*index, 1.0])
        np.testing.assert_allclose(place, np.rint(place), atol=1e-3)
        assert segmentation.labels[tuple(np.rint(place[:3]).astype(int))] > 0


def test_organs_are_coded(series, segmentation, tmp_path: Path) -> None:
    """Present organs only, numbered from 1, with category, type, side, algorithm and color."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    seg = hd.seg.segread(tmp_path / "out.dcm")
    present = [label for label in BTCV_LABELS if label.value not in (4, 5)]
    assert [item.SegmentNumber for item in seg.SegmentSequence] == list(range(1, 12))
    for item, label in zip(seg.SegmentSequence, present, strict=True):
        kind = item.SegmentedPropertyTypeCodeSequence[0]
        assert (item.SegmentLabel, item.SegmentDescription) == (label.title, label.name)
        assert item.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "123037004"
        assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == (
            label.snomed_code,
            "SCT",
            label.snomed_meaning,
        )
        sides = [side.CodeValue for side in kind.get("SegmentedPropertyTypeModifierCodeSequence", ())]
        assert sides == {"left": ["7771000"], "right": ["24028007"], "": []}[label.laterality]
        assert item.SegmentAlgorithmType == "AUTOMATIC"
        color = hd.color.CIELabColor.from_dicom_value(tuple(item.RecommendedDisplayCIELabValue)).to_rgb()
        np.testing.assert_allclose(color, label.color, atol=1)


def test_object_belongs_to_the_study_of_its_source(series, segmentation, tmp_path: Path) -> None:
    """Same patient, study and frame of reference; another series that refers to every source image."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex) == (
        NAME,
        "4711",
        "19700102",
        "F",
    )
    assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == ("2.25.11", "2.25.13")
    assert ds.SeriesInstanceUID != "2.25.12"
    assert {
        item.ReferencedSOPInstanceUID for item in ds.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    } == {f"2.25.1000{d}" for d in range(6)}
    assert (ds.Manufacturer, ds.SoftwareVersions, ds.DeviceSerialNumber) == (
        "autosam-edge",
        "1.2.3",
        "ab" * 8,
    )
    assert "Research use only" in ds.SeriesDescription


def test_same_input_gives_identical_bytes_and_other_labels_another_uid(
    series, segmentation, tmp_path: Path
) -> None:
    """A UID that is derived names one content only; the series stays that of the model and the source."""
    for name in ("one.dcm", "two.dcm"):
        write_dicom_seg(segmentation, series[0], tmp_path / name)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    changed = segmentation.labels.copy()
    changed[2, 2, 2] = 14 - max(changed[2, 2, 2], 1)
    write_dicom_seg(
        Segmentation(changed, segmentation.grid, BTCV_LABELS, PROVENANCE), series[0], tmp_path / "three.dcm"
    )
    one, three = (pydicom.dcmread(tmp_path / name) for name in ("one.dcm", "three.dcm"))
    assert one.SOPInstanceUID != three.SOPInstanceUID
    assert one.SeriesInstanceUID == three.SeriesInstanceUID
    assert all(
        uid.is_valid and uid.startswith("2.25.") for uid in (one.SOPInstanceUID, one.SeriesInstanceUID)
    )


def test_multi_frame_source_is_matched_frame_by_frame(series, segmentation, tmp_path: Path) -> None:
    """Frames of one Enhanced object may lie in any order: each gets the labels of its own position."""
    files, grid = series
    sources = [pydicom.dcmread(file) for file in files]
    for source in sources:
        source.PixelData = np.zeros(SHAPE[1:], np.int16).tobytes()
        source["PixelData"].VR = "OW"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        multi = hd.legacy.LegacyConvertedEnhancedCTImage(
            sources,
            series_instance_uid="2.25.77",
            series_number=5,
            sop_instance_uid="2.25.78",
            instance_number=1,
        )
    frames = list(multi.PerFrameFunctionalGroupsSequence)
    order = [3, 0, 5, 1, 4, 2]
    positions = {
        float(np.dot(grid.direction[:, 0], frame.PlanePositionSequence[0].ImagePositionPatient)): frame
        for frame in frames
    }
    by_slice = [positions[key] for key in sorted(positions)]
    multi.PerFrameFunctionalGroupsSequence = [by_slice[d] for d in order]
    multi.save_as(tmp_path / "multi.dcm")
    write_dicom_seg(segmentation, [tmp_path / "multi.dcm"], tmp_path / "out.dcm")
    seg = hd.seg.segread(tmp_path / "out.dcm")
    masks = seg.get_pixels_by_source_frame(
        "2.25.78", [order.index(d) + 1 for d in range(6)], assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal((masks > 0).any(axis=-1), segmentation.labels > 0)


def test_shuffled_files_still_land_on_their_slices(series, segmentation, tmp_path: Path) -> None:
    """Positions decide, not the order of the list."""
    files = [series[0][d] for d in (4, 1, 5, 0, 3, 2)]
    write_dicom_seg(segmentation, files, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


def rewrite(files: list[Path], **values: bytes) -> None:
    """Put elements into the files as these bytes, whatever they are."""
    for file in files:
        ds = pydicom.dcmread(file)
        for keyword, value in values.items():
            tag = Tag(keyword)
            ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
        ds.set_original_encoding(
            False, True, convert_encodings(ds.get("SpecificCharacterSet"))
        )  # else pydicom decodes them when it saves
        ds.save_as(file)


def stored(file: Path, keyword: str) -> bytes:
    """An element in the bytes of its file.

    Pydicom itself needs Specific Character Set, and has it as text.
    """
    return pydicom.dcmread(file).get_item(keyword).value


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


def test_no_organ_is_refused(series, segmentation, tmp_path: Path) -> None:
    """A SEG without a segment does not exist in DICOM."""
    empty = Segmentation(np.zeros(SHAPE, np.uint8), segmentation.grid, BTCV_LABELS)
    with pytest.raises(OutputError) as caught:
        write_dicom_seg(empty, series[0], tmp_path / "out.dcm")
    assert caught.value.code == "AE-OUTPUT-005"


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


SPACINGS = {
    "SpacingBetweenSlices is negative": {"SpacingBetweenSlices": b"-2.5"},
    "SpacingBetweenSlices is 0": {"SpacingBetweenSlices": b"0 "},
    "SpacingBetweenSlices is not the distance of the slices": {"SpacingBetweenSlices": b"1 "},
    "SpacingBetweenSlices is no number": {"SpacingBetweenSlices": b"thin"},
    "SliceThickness is empty": {"SliceThickness": b""},
    "SliceThickness is 0": {"SliceThickness": b"0 "},
    "SliceThickness is not the distance of the slices": {"SliceThickness": b"5 "},
    "SliceThickness is no number": {"SliceThickness": b"thin"},
    "SliceThickness is absent": {"SliceThickness": None},
}


def with_rows_of(conditions: dict[str, object], outcome: str):
    """Mark a test as the proof of one row for each condition."""

    def mark(test):
        for condition in reversed(conditions):
            test = hazard("Results", condition, outcome)(test)
        return test

    return mark


@pytest.mark.filterwarnings("ignore")
@with_rows_of(SPACINGS, "not used: spacings in every result are those of the slices' positions")
@pytest.mark.parametrize("values", SPACINGS.values(), ids=SPACINGS)
def test_spacings_of_the_source_are_not_copied(
    values: dict[str, bytes | None], series, segmentation, tmp_path: Path
) -> None:
    """Pixel Measures come from the grid of the labels, so the file is the same whatever the tags say."""
    write_dicom_seg(segmentation, series[0], tmp_path / "sound.dcm")
    absent = [keyword for keyword, value in values.items() if value is None]
    rewrite(series[0], **{keyword: value for keyword, value in values.items() if value is not None})
    for file in series[0]:
        ds = pydicom.dcmread(file)
        for keyword in absent:
            del ds[keyword]
        if absent:
            ds.save_as(file)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert (tmp_path / "out.dcm").read_bytes() == (tmp_path / "sound.dcm").read_bytes()
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    measures = ds.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    assert tuple(measures.PixelSpacing) == SPACING_MM[1:]
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (2.5, 2.5)


@hazard("Results", "an old viewer shows the DICOM SEG (dcmjs 0.28, OHIF to 3.7)", "organs on their slices")
def test_only_the_frames_name_their_source_images(series, segmentation, tmp_path: Path) -> None:
    """Such a viewer takes a Source Image Sequence of the whole object for that of the frames."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert "SourceImageSequence" not in ds
    for frame in ds.PerFrameFunctionalGroupsSequence:
        place = frame.PlanePositionSequence[0].ImagePositionPatient
        uid = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        source = next(it for it in map(pydicom.dcmread, series[0]) if it.SOPInstanceUID == uid)
        np.testing.assert_allclose(place, source.ImagePositionPatient, atol=1e-5)


def test_positions_are_those_of_the_grid(series, segmentation, tmp_path: Path) -> None:
    """Rounded positions of the source are not copied: the frames lie on one regular grid."""
    for file in series[0]:
        ds = pydicom.dcmread(file)
        ds.ImagePositionPatient = [round(float(value), 1) for value in ds.ImagePositionPatient]
        ds.save_as(file)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    volume = hd.seg.segread(tmp_path / "out.dcm").get_volume(combine_segments=True)
    to_ours = np.linalg.inv(segmentation.grid.affine) @ volume.affine
    np.testing.assert_allclose(to_ours, np.rint(to_ours), atol=1e-6)


def test_warnings_stand_in_the_object(series, segmentation, tmp_path: Path) -> None:
    """All of them in Image Comments, those about one organ in its Segment Description too."""
    found = (
        THICK_SLICES("Slices are 5 mm apart \u2013 thick."),
        PARTS_REMOVED("Parts were removed.", organ="liver"),
    )
    warned = Segmentation(segmentation.labels, segmentation.grid, BTCV_LABELS, PROVENANCE, {}, found)
    write_dicom_seg(segmentation, series[0], tmp_path / "plain.dcm")
    write_dicom_seg(warned, series[0], tmp_path / "out.dcm")
    plain, ds = (pydicom.dcmread(tmp_path / name) for name in ("plain.dcm", "out.dcm"))
    assert plain.ImageComments == RESEARCH_USE
    assert ds.ImageComments.split("\r\n") == [
        RESEARCH_USE,
        "AE-WARN-040 (caution): Slices are 5 mm apart ? thick.",
        "AE-WARN-080 (info, liver): Parts were removed.",
    ]
    texts = {item.SegmentLabel: item.SegmentDescription for item in ds.SegmentSequence}
    assert texts["Liver"] == "liver; AE-WARN-080 (info, liver): Parts were removed."
    assert texts["Spleen"] == "spleen"
    assert ds.SOPInstanceUID != plain.SOPInstanceUID  # another content has another name


def test_more_warnings_than_a_text_can_hold_are_cut(series, segmentation, tmp_path: Path) -> None:
    """LT holds 10240 characters, ST holds 1024."""
    found = tuple(PARTS_REMOVED("Parts were removed. " * 9, organ="liver") for _ in range(99))
    warned = Segmentation(segmentation.labels, segmentation.grid, BTCV_LABELS, PROVENANCE, {}, found)
    write_dicom_seg(warned, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(ds.ImageComments) == 10240
    assert ds.ImageComments.endswith("...")
    assert max(len(item.SegmentDescription) for item in ds.SegmentSequence) == 1024


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


def test_a_pseudonym_makes_another_object(series, segmentation, tmp_path: Path) -> None:
    """Nothing of the patient is left, and the two objects have different UIDs."""
    write_dicom_seg(segmentation, series[0], tmp_path / "named.dcm")
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm", pseudonymize=True)
    content = (tmp_path / "out.dcm").read_bytes()
    for text in (NAME.encode(), b"4711", b"19700102", b"2024"):
        assert text not in content
    named, ds = (pydicom.dcmread(tmp_path / name) for name in ("named.dcm", "out.dcm"))
    assert (ds.StudyInstanceUID, ds.FrameOfReferenceUID) == ("2.25.11", "2.25.13")
    assert ds.SOPInstanceUID != named.SOPInstanceUID
    assert ds.SeriesInstanceUID != named.SeriesInstanceUID
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


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


def test_a_lossy_source_is_told(series, segmentation, tmp_path: Path) -> None:
    """What is derived from images that lost something says so, PS3.3 C.7.6.1.1.5."""
    rewrite(
        series[0],
        LossyImageCompression=b"01",
        LossyImageCompressionRatio=b"9.5 ",
        LossyImageCompressionMethod=b"ISO_10918_1 ",
    )
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.LossyImageCompression, ds.LossyImageCompressionRatio) == ("01", 9.5)
    assert ds.LossyImageCompressionMethod == "ISO_10918_1"


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


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")
def test_dciodvfy_finds_no_error(series, segmentation, tmp_path: Path) -> None:
    """David Clunie's validator reads the object without an error."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    result = subprocess.run(
        ["dciodvfy", str(tmp_path / "out.dcm")], capture_output=True, text=True, check=False
    )
    assert "Error" not in result.stderr + result.stdout

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
from autosam_edge.volume import Provenance, Segmentation, Source
from autosam_edge.write_results import check_writable

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
    """A name of one part, a sex of X and a UID that is none are copied as they are.

    No warning and no log quotes them, or any UID.
    """
    rewrite(series[0], PatientName=b"SECRETNAME", PatientSex=b"X ", StudyInstanceUID=b"1.2.SECRETNAME")
    recwarn.clear()
    caplog.clear()
    caplog.set_level(logging.DEBUG)
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert not list(recwarn)
    assert caplog.text == ""
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.PatientName, ds.PatientSex, ds.StudyInstanceUID) == ("SECRETNAME", "X", "1.2.SECRETNAME")


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
        {"StudyDescription": b"odd"},  # an odd number of bytes, which no element may have
        {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"M\xfcller^Erika"},
        {"SpecificCharacterSet": b"Erika ", "PatientName": b"M\xfcller^Ida"},
        {"SpecificCharacterSet": b"ISO IR 100", "StudyDescription": b"B\xe4uche"},
        {"SpecificCharacterSet": b"ISO_IR 192", "StudyDescription": b"B\xe4uche"},  # which is not UTF-8
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
        ds.StudyDescription, ds.PatientAge = "Abdomen", "030Y"
        ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        files.append(tmp_path / file.name)
        ds.save_as(files[-1], implicit_vr=True, little_endian=True)
    write_dicom_seg(segmentation, files, tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert (ds.PatientName, ds.PatientAge, ds.StudyDescription) == (NAME, "030Y", "Abdomen")
    assert [ds.get_item(keyword).VR for keyword in ("PatientName", "PatientAge", "StudyDescription")] == [
        "PN",
        "AS",
        "LO",
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


def test_headers_that_allow_no_seg_are_named_with_a_way_out(series, segmentation, tmp_path: Path) -> None:
    """What is missing is named, no value is shown, and the remedy is an option of the command."""
    ds = pydicom.dcmread(series[0][3])
    ds.StudyInstanceUID = "1.2.99.4711"
    ds.save_as(series[0][3])
    with pytest.raises(OutputError, match="do not allow a DICOM SEG") as caught:
        write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert "4711" not in str(caught.value)
    for file in series[0]:
        ds = pydicom.dcmread(file)
        del ds.FrameOfReferenceUID
        ds.save_as(file)
    with pytest.raises(OutputError, match="lack FrameOfReferenceUID") as caught:
        write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert caught.value.code == "AE-OUTPUT-006"
    assert "`formats=('nifti', 'json', 'csv', 'preview')`" in caught.value.remedy
    assert "placed" not in caught.value.message
    source = Source("dicom", "", tuple(series[0]))
    with pytest.raises(OutputError, match="lack FrameOfReferenceUID"):  # and before the inference
        check_writable(tmp_path / "out", source=source)
    assert check_writable(tmp_path / "out", source=source, formats=("nifti",)) == ("nifti",)


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed")
def test_dciodvfy_finds_no_error(series, segmentation, tmp_path: Path) -> None:
    """David Clunie's validator reads the object without an error."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    result = subprocess.run(
        ["dciodvfy", str(tmp_path / "out.dcm")], capture_output=True, text=True, check=False
    )
    assert "Error" not in result.stderr + result.stdout

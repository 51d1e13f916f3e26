"""DICOM SEG out: highdicom reads back the labels in their place, with the organs named in SNOMED CT."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import as_enhanced
from autosam_edge_test_hazards import hazard
from autosam_edge_test_seg import (
    NAME,
    PROVENANCE,
    SHAPE,
    SPACING_MM,
    dciodvfy,
    needs_dciodvfy,
    read_back,
    rewrite,
    segread,
)

from autosam_edge.dicom.labelmap import write_dicom_labelmap
from autosam_edge.dicom.segmentation import write_dicom_seg
from autosam_edge.errors import OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import RESEARCH_USE, Segmentation
from autosam_edge.warning_codes import PARTS_REMOVED, THICK_SLICES

if TYPE_CHECKING:
    from pathlib import Path


def test_labels_come_back_voxel_for_voxel(series, segmentation, tmp_path: Path) -> None:
    """Every voxel has its organ, on the source image that it was found on."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


def test_segments_lie_where_the_labels_lie(series, segmentation, tmp_path: Path) -> None:
    """The affine of the SEG leads each voxel to the position that our own grid gives it, oblique too."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    volume = segread(tmp_path / "out.dcm").get_volume(combine_segments=True)
    to_ours = np.linalg.inv(segmentation.grid.affine) @ volume.affine
    for index in np.argwhere(volume.array > 0)[::37]:
        place = to_ours @ np.array([*index, 1.0])
        np.testing.assert_allclose(place, np.rint(place), atol=1e-3)
        assert segmentation.labels[tuple(np.rint(place[:3]).astype(int))] > 0


def test_organs_are_coded(series, segmentation, tmp_path: Path) -> None:
    """Present organs only, numbered from 1, with category, type, side, algorithm and color."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    seg = segread(tmp_path / "out.dcm")
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
    multi = as_enhanced(sources)
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
    seg = segread(tmp_path / "out.dcm")
    masks = seg.get_pixels_by_source_frame(
        "2.25.78", [order.index(d) + 1 for d in range(6)], assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal((masks > 0).any(axis=-1), segmentation.labels > 0)


def test_shuffled_files_still_land_on_their_slices(series, segmentation, tmp_path: Path) -> None:
    """Positions decide, not the order of the list."""
    files = [series[0][d] for d in (4, 1, 5, 0, 3, 2)]
    write_dicom_seg(segmentation, files, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", series[0]), segmentation.labels)


def test_no_organ_is_refused(series, segmentation, tmp_path: Path) -> None:
    """A SEG without a segment does not exist in DICOM."""
    empty = Segmentation(np.zeros(SHAPE, np.uint8), segmentation.grid, BTCV_LABELS)
    with pytest.raises(OutputError) as caught:
        write_dicom_seg(empty, series[0], tmp_path / "out.dcm")
    assert caught.value.code == "AE-OUTPUT-005"


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
    volume = segread(tmp_path / "out.dcm").get_volume(combine_segments=True)
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


def test_a_label_with_a_side_is_cut_and_own_organs_are_not_called_abdominal(
    series, segmentation, tmp_path: Path
) -> None:
    """LO holds 64 characters: as many as a name may have without its side."""
    table = [dataclasses.replace(label, name=f"o{label.value}".ljust(64, "x")) for label in BTCV_LABELS]
    table = [dataclasses.replace(label, laterality="right") for label in table]
    own = dataclasses.replace(segmentation, table=tuple(table))
    for write, name in ((write_dicom_seg, "seg.dcm"), (write_dicom_labelmap, "labelmap.dcm")):
        write(own, series[0], tmp_path / name)
        ds = pydicom.dcmread(tmp_path / name)
        labels = [item.SegmentLabel for item in ds.SegmentSequence if item.SegmentNumber]
        assert {len(label) for label in labels if label.startswith("Right")} == {64}
        assert ds.SeriesDescription == "Organs (AI) - Research use only"


def test_more_warnings_than_a_text_can_hold_are_cut(series, segmentation, tmp_path: Path) -> None:
    """LT holds 10240 characters, ST holds 1024."""
    found = tuple(PARTS_REMOVED("Parts were removed. " * 9, organ="liver") for _ in range(99))
    warned = Segmentation(segmentation.labels, segmentation.grid, BTCV_LABELS, PROVENANCE, {}, found)
    write_dicom_seg(warned, series[0], tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert len(ds.ImageComments) == 10240
    assert ds.ImageComments.endswith("...")
    assert max(len(item.SegmentDescription) for item in ds.SegmentSequence) == 1024


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


@needs_dciodvfy
def test_dciodvfy_finds_no_error(series, segmentation, tmp_path: Path) -> None:
    """David Clunie's validator reads the object without an error."""
    write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    assert "Error" not in dciodvfy(tmp_path / "out.dcm")

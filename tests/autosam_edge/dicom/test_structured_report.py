"""The structured report: highdicom reads back each number under its code, and where it was measured."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import PATIENT, CtFolder
from autosam_edge_test_hazards import hazard
from autosam_edge_test_seg import PROVENANCE, dciodvfy, needs_dciodvfy, segread
from pydicom.charset import convert_encodings
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from autosam_edge.dicom.structured_report import write_dicom_sr
from autosam_edge.errors import OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import organ_statistics
from autosam_edge.read_scan import read
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.write_results import write

if TYPE_CHECKING:
    from pathlib import Path

LIVER, KIDNEY_LEFT = 6, 3
WARNINGS = (
    ScanWarning("AE-WARN-040", "caution", "Slices are 5 mm apart."),
    ScanWarning("AE-WARN-100", "doubtful", "The liver is small.", "liver"),
    ScanWarning("AE-WARN-101", "caution", "There is no spleen.", "spleen"),
)


@pytest.fixture
def scan(ct: CtFolder) -> Volume:
    """A series of five slices."""
    ct.write(SliceThickness=2.5, PositionReferenceIndicator="")
    return read(ct.path)


@pytest.fixture
def segmentation(scan: Volume) -> Segmentation:
    """A liver inside, on slices 1 to 3, and a left kidney that reaches the last slice."""
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 1:3, 1:4] = LIVER
    labels[4, 1:3, 5:7] = KIDNEY_LEFT
    return Segmentation(labels, scan.grid, BTCV_LABELS, PROVENANCE, {}, WARNINGS)


def report(scan: Volume, segmentation: Segmentation, path: Path, **options: object) -> pydicom.Dataset:
    """Write and read the report."""
    write_dicom_sr(segmentation, organ_statistics(scan, segmentation), scan.source.files, path, **options)
    return hd.sr.srread(path)


def texts(items: pydicom.Dataset) -> list[str]:
    """Every text of a group or of the report, in its order."""
    found = []
    for item in items.get("ContentSequence", ()):
        found += [item.TextValue] if item.ValueType == "TEXT" else []
        found += texts(item)
    return found


def test_every_number_is_read_back_under_its_code(scan, segmentation, tmp_path: Path) -> None:
    """Volume in mL, mean and SD in Hounsfield units, rounded as in the statistics; the side of the organ."""
    sr = report(scan, segmentation, tmp_path / "sr.dcm")
    groups = {group.tracking_identifier: group for group in sr.content.get_image_measurement_groups()}
    found = {organ.title: organ for organ in organ_statistics(scan, segmentation) if organ.voxels}
    assert set(groups) == set(found) == {"Liver", "Left kidney"}
    for title, group in groups.items():
        organ = found[title]
        (volume,) = group.get_measurements(hd.sr.CodedConcept("118565006", "SCT", "Volume"))
        assert (volume.value, volume.unit.value) == (round(organ.ml, 4), "mL")
        of_hu = group.get_measurements(hd.sr.CodedConcept("112031", "DCM", "Attenuation Coefficient"))
        assert {item.derivation.meaning: item.value for item in of_hu} == {
            "Mean": round(organ.mean_hu, 3),
            "Standard Deviation": round(organ.sd_hu, 3),
        }
        assert {item.unit.value for item in of_hu} == {"[hnsf'U]"}
    (site,) = groups["Left kidney"].finding_sites
    assert (site.value.value, site.laterality.value) == ("64033007", "7771000")
    (site,) = groups["Liver"].finding_sites
    assert (site.value.value, site.laterality) == ("10200004", None)
    assert groups["Liver"].finding_type.value == "10200004"


def test_a_group_refers_to_its_segment_of_the_same_run(scan, segmentation, tmp_path: Path) -> None:
    """Written together, the report names the SEG and the number of each segment."""
    out = tmp_path / "out"
    paths = write(scan, segmentation, out, formats=("dicom-sr", "dicom-seg"))
    seg, sr = segread(paths["dicom-seg"]), hd.sr.srread(paths["dicom-sr"])
    for group in sr.content.get_volumetric_roi_measurement_groups():
        segment = group.referenced_segment
        assert segment.referenced_sop_instance_uid == seg.SOPInstanceUID
        described = seg.get_segment_description(segment.referenced_segment_numbers[0])
        assert described.segment_label == group.tracking_identifier
        assert (
            segment.source_series_for_segmentation.value
            == pydicom.dcmread(scan.source.files[0]).SeriesInstanceUID
        )
    assert len(sr.content.get_volumetric_roi_measurement_groups()) == 2
    evidence = {uid for _, _, uid, _ in sr.get_evidence(current_procedure_only=True)}
    assert seg.SOPInstanceUID in evidence
    assert len(evidence) == len(scan.source.files) + 1


def test_a_labelmap_serves_where_there_is_no_binary_seg(scan, segmentation, tmp_path: Path) -> None:
    """Segments are found by their organ, whatever their numbers are."""
    paths = write(scan, segmentation, tmp_path / "out", formats=("dicom-sr", "dicom-seg-labelmap"))
    labelmap = pydicom.dcmread(paths["dicom-seg-labelmap"])
    groups = hd.sr.srread(paths["dicom-sr"]).content.get_volumetric_roi_measurement_groups()
    assert {
        group.tracking_identifier: group.referenced_segment.referenced_segment_numbers for group in groups
    } == {"Liver": [LIVER], "Left kidney": [KIDNEY_LEFT]}
    assert {group.referenced_segment.referenced_sop_instance_uid for group in groups} == {
        labelmap.SOPInstanceUID
    }


@hazard(
    "Results",
    "a structured report alone is written beside the DICOM SEG of an earlier run",
    "the report refers to the source images, not to that SEG",
)
def test_the_seg_of_another_run_is_not_referred_to(scan, segmentation, tmp_path: Path) -> None:
    """Without a SEG of this run each organ refers to the images that show it."""
    out = tmp_path / "out"
    write(scan, segmentation, out, formats=("dicom-seg",))
    sr = hd.sr.srread(write(scan, segmentation, out, formats=("dicom-sr",))["dicom-sr"])
    assert sr.content.get_volumetric_roi_measurement_groups() == []
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in scan.source.files]
    shown = {
        group.tracking_identifier: [item.referenced_sop_instance_uid for item in group.source_images]
        for group in sr.content.get_image_measurement_groups()
    }
    assert shown == {"Liver": uids[1:4], "Left kidney": uids[4:]}
    assert len(sr.get_evidence()) == len(uids)


@pytest.mark.parametrize("with_seg", [False, True])
def test_no_image_is_referred_to_in_place_of_one_that_is_missing(
    with_seg: bool, ct: CtFolder, tmp_path: Path
) -> None:
    """Slice 2 was filled in: the images behind it keep their places; an organ on it alone has none."""
    files = ct.write(SliceThickness=2.5)
    files[2].unlink()
    scan = read(ct.path, allow_gap=True)
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 1:3, 1:4] = LIVER
    labels[2, 1:3, 5:7] = KIDNEY_LEFT
    segmentation = Segmentation(
        labels, scan.grid, BTCV_LABELS, PROVENANCE, filled=scan.source.filled, warnings=scan.warnings
    )
    formats = ("dicom-seg", "dicom-sr") if with_seg else ("dicom-sr",)
    sr = hd.sr.srread(write(scan, segmentation, tmp_path / "out", formats=formats)["dicom-sr"])
    shown = {
        group.tracking_identifier: [image.referenced_sop_instance_uid for image in group.source_images]
        for group in sr.content.get_image_measurement_groups()
    }
    images = [pydicom.dcmread(files[place]).SOPInstanceUID for place in (1, 3)]
    assert shown == ({"Left kidney": []} if with_seg else {"Liver": images, "Left kidney": []})


def test_organs_with_one_title_refer_to_their_own_segments(scan, segmentation, tmp_path: Path) -> None:
    """As of a foreign bundle, whose names alone must differ."""
    names = {LIVER: "kidney", KIDNEY_LEFT: "kidney left"}
    table = tuple(
        dataclasses.replace(label, name=names.get(label.value, label.name), laterality="left")
        for label in BTCV_LABELS
        if label.value in names
    )
    assert [label.title for label in table] == ["Left kidney"] * 2
    two = dataclasses.replace(segmentation, table=table)
    out = write(scan, two, tmp_path / "out", formats=("dicom-sr", "dicom-seg"))
    groups = hd.sr.srread(out["dicom-sr"]).content.get_volumetric_roi_measurement_groups()
    assert sorted(group.referenced_segment.referenced_segment_numbers[0] for group in groups) == [1, 2]


def test_a_multi_frame_source_is_referred_to_as_one(ct: CtFolder, tmp_path: Path) -> None:
    """One file holds every slice."""
    file = ct.save(ct.enhanced([3, 0, 4, 1, 2]), "multi.dcm")
    scan = read(file)
    labels = np.full(scan.shape, LIVER, np.uint8)
    segmentation = Segmentation(labels, scan.grid, BTCV_LABELS, PROVENANCE)
    (group,) = report(scan, segmentation, tmp_path / "sr.dcm").content.get_image_measurement_groups()
    (image,) = group.source_images
    assert image.referenced_sop_instance_uid == pydicom.dcmread(file).SOPInstanceUID


def test_warnings_stand_where_they_belong(scan, segmentation, tmp_path: Path) -> None:
    """Those of a present organ in its group, all others in the report, below the intended use."""
    sr = report(scan, segmentation, tmp_path / "sr.dcm")
    groups = {
        group.tracking_identifier: texts(group[0]) for group in sr.content.get_image_measurement_groups()
    }
    assert "doubtful AE-WARN-100: The liver is small." in groups["Liver"]
    assert any("reaches the edge" in text for text in groups["Left kidney"])
    assert not any("reaches the edge" in text for text in groups["Liver"])
    remarks = texts(sr.ContentSequence[-1])
    assert remarks[0].startswith("Research use only")
    assert remarks[1:3] == [
        "caution AE-WARN-040: Slices are 5 mm apart.",
        "caution AE-WARN-101: There is no spleen.",
    ]
    assert remarks[3].startswith("Not found: Spleen, Right kidney, Gallbladder")
    assert "Research use only" in sr.SeriesDescription


@hazard("Results", "a structured report of a scan in which no organ was found", "the report says so")
def test_nothing_found_is_a_report_without_measurements(scan, segmentation, tmp_path: Path) -> None:
    """The report is there although no SEG can be, and an old SEG is removed."""
    empty = dataclasses.replace(segmentation, labels=np.zeros(scan.shape, np.uint8))
    out = tmp_path / "out"
    write(scan, segmentation, out)
    paths = write(scan, empty, out, formats=("dicom-seg", "dicom-sr"))
    assert set(paths) == {"dicom-sr"}
    assert not (out / "segmentation.dcm").exists()
    sr = hd.sr.srread(paths["dicom-sr"])
    assert sr.content.get_image_measurement_groups() == []
    assert "Not found: Spleen" in texts(sr)[-1]


def test_same_input_gives_identical_bytes_and_other_content_another_uid(
    scan, segmentation, tmp_path: Path
) -> None:
    """A UID names one content: another warning is another report, in the same series."""
    for name in ("one.dcm", "two.dcm"):
        one = report(scan, segmentation, tmp_path / name)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    other = report(scan, dataclasses.replace(segmentation, warnings=()), tmp_path / "three.dcm")
    assert other.SOPInstanceUID != one.SOPInstanceUID
    assert other.SeriesInstanceUID == one.SeriesInstanceUID
    assert one.file_meta.MediaStorageSOPInstanceUID == one.SOPInstanceUID
    assert "InstanceCreationDate" not in one


def test_the_report_belongs_to_the_study_and_holds_no_other_patient_data(
    ct: CtFolder, tmp_path: Path
) -> None:
    """Name and ID as the standard asks; a pseudonym on demand; no free text in either."""
    ct.write(
        PatientComments="SECRET", StudyDescription="SECRET", InstitutionName="SECRET", StudyDate="20240102"
    )
    scan = read(ct.path)
    segmentation = Segmentation(np.full(scan.shape, LIVER, np.uint8), scan.grid, BTCV_LABELS, PROVENANCE)
    sr = report(scan, segmentation, tmp_path / "sr.dcm")
    assert (sr.PatientName, sr.PatientID, sr.StudyInstanceUID) == (*PATIENT, ct.study_uid)
    assert (sr.ContentDate, sr.Modality, sr.VerificationFlag) == ("20240102", "SR", "UNVERIFIED")
    assert b"SECRET" not in (tmp_path / "sr.dcm").read_bytes().replace(PATIENT[1].encode(), b"")
    report(scan, segmentation, tmp_path / "pseudonym.dcm", pseudonymize=True)
    content = (tmp_path / "pseudonym.dcm").read_bytes()
    for secret in ("Mustermann", PATIENT[1], "20240102"):
        assert secret.encode() not in content


@pytest.mark.filterwarnings("ignore")
def test_odd_texts_are_copied_and_ours_stay_in_ascii(scan, segmentation, tmp_path: Path) -> None:
    """The character set is that of the patient's name, so other letters in our texts are escaped."""
    for file in scan.source.files:
        ds = pydicom.dcmread(file)
        for keyword, vr, value in (
            ("SpecificCharacterSet", "CS", b"ISO_IR 999"),
            ("PatientName", "PN", b"M\xfcller^Erika"),
        ):
            ds[keyword] = RawDataElement(Tag(keyword), vr, len(value), value, 0, False, True)
        ds.set_original_encoding(False, True, convert_encodings("ISO_IR 999"))
        ds.save_as(file)
    warnings = (ScanWarning("AE-WARN-040", "caution", "5 ± 1 mm."),)
    report(scan, dataclasses.replace(segmentation, warnings=warnings), tmp_path / "sr.dcm")
    content = (tmp_path / "sr.dcm").read_bytes()
    assert b"M\xfcller^Erika" in content
    assert b"5 \\xb1 1 mm." in content


@hazard(
    "Results", "the source files vanish before the structured report is written", "refused: AE-OUTPUT-006"
)
def test_a_source_that_vanished_is_refused(scan, segmentation, tmp_path: Path) -> None:
    """Nothing is written without the series that it belongs to."""
    scan.source.files[2].unlink()
    with pytest.raises(OutputError, match="AE-OUTPUT-006"):
        write(scan, segmentation, tmp_path / "out", formats=("dicom-sr",))
    assert not (tmp_path / "out").exists()


@needs_dciodvfy
@pytest.mark.parametrize("empty", [False, True])
@pytest.mark.parametrize("formats", [("dicom-sr",), ("dicom-seg", "dicom-sr")])
def test_dciodvfy_finds_no_error(
    formats: tuple[str, ...], empty: bool, scan, segmentation, tmp_path: Path
) -> None:
    """With and without a SEG, with and without organs."""
    if empty:
        segmentation = dataclasses.replace(segmentation, labels=np.zeros(scan.shape, np.uint8))
    paths = write(scan, segmentation, tmp_path / "out", formats=formats)
    assert "Error" not in dciodvfy(paths["dicom-sr"])


def test_the_tracked_organ_is_that_of_the_series(scan, segmentation, tmp_path: Path) -> None:
    """Two reports about one series name the same organ by the same UID; organs differ."""
    uids = []
    for name, changed in (("one", segmentation), ("two", dataclasses.replace(segmentation, warnings=()))):
        sr = report(scan, changed, tmp_path / name)
        uids.append([group.tracking_uid for group in sr.content.get_image_measurement_groups()])
    assert uids[0] == uids[1]
    assert len(set(uids[0])) == 2

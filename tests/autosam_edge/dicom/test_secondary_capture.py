"""The secondary capture: the pixels of the preview, in the patient's study, of the source series."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import PATIENT, CtFolder
from autosam_edge_test_hazards import hazard
from autosam_edge_test_seg import PROVENANCE, dciodvfy, needs_dciodvfy
from PIL import Image

from autosam_edge.dicom.secondary_capture import write_secondary_capture
from autosam_edge.errors import OutputError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS, label_table
from autosam_edge.read_scan import read
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Segmentation, Source, Volume
from autosam_edge.write_results import check_writable, write

if TYPE_CHECKING:
    from pathlib import Path

NEW = ("dicom-sr", "secondary-capture")


@pytest.fixture
def scan(ct: CtFolder) -> Volume:
    """A series of five slices."""
    ct.write(PatientComments="SECRET", StudyDate="20240102")
    return read(ct.path)


@pytest.fixture
def segmentation(scan: Volume) -> Segmentation:
    """A liver."""
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 1:3, 1:4] = 6
    return Segmentation(labels, scan.grid, BTCV_LABELS, PROVENANCE)


def capture(scan: Volume, segmentation: Segmentation, folder: Path, **options: bool) -> pydicom.Dataset:
    """Write and read the secondary capture."""
    paths = write(scan, segmentation, folder, formats=("secondary-capture",), **options)
    return pydicom.dcmread(paths["secondary-capture"])


def test_the_pixels_are_those_of_the_preview(scan, segmentation, tmp_path: Path) -> None:
    """2000 x 1400, RGB, uncompressed; every value as in preview.png."""
    paths = write(scan, segmentation, tmp_path / "out", formats=("secondary-capture", "preview"))
    ds = pydicom.dcmread(paths["secondary-capture"])
    with Image.open(paths["preview"]) as picture:
        np.testing.assert_array_equal(ds.pixel_array, np.asarray(picture))
    assert (ds.Rows, ds.Columns, ds.PhotometricInterpretation) == (1400, 2000, "RGB")
    assert not ds.file_meta.TransferSyntaxUID.is_compressed
    assert ds.SOPClassUID.name == "Secondary Capture Image Storage"


def test_it_belongs_to_the_study_and_says_what_it_is(scan, segmentation, tmp_path: Path) -> None:
    """Patient and study of the source, each source image, the tool, and what it is not for."""
    ds = capture(scan, segmentation, tmp_path / "out")
    sources = [pydicom.dcmread(file) for file in scan.source.files]
    assert (ds.PatientName, ds.PatientID) == PATIENT
    assert ds.StudyInstanceUID == sources[0].StudyInstanceUID
    assert ds.SeriesInstanceUID != sources[0].SeriesInstanceUID
    referred = [item.ReferencedSOPInstanceUID for item in ds.SourceImageSequence]
    assert referred == [source.SOPInstanceUID for source in sources]
    assert ds.SeriesDescription == "autosam-edge preview - Research use only"
    assert (ds.ConversionType, ds.BurnedInAnnotation) == ("WSD", "NO")
    assert list(ds.ImageType) == ["DERIVED", "SECONDARY"]
    assert "PatientComments" not in ds
    assert (ds.ContentDate, "InstanceCreationDate" in ds) == ("20240102", False)


def test_a_backslash_in_the_names_of_a_model_does_not_make_two_values(scan, segmentation, tmp_path):
    """DICOM separates values by it, and these attributes have one: in the SEG and in the capture."""
    made_by = dataclasses.replace(PROVENANCE, model="one\\two", version="1\\2")
    named = dataclasses.replace(segmentation, provenance=made_by)
    for path in write(scan, named, tmp_path / "out", formats=("dicom-seg", "secondary-capture")).values():
        ds = pydicom.dcmread(path)
        assert (ds.ManufacturerModelName, ds.SoftwareVersions) == ("one/two", "1/2")


@pytest.mark.parametrize(
    ("stated", "own", "pseudonymize", "expected"),
    [
        (None, False, False, "ABDOMEN"),
        ("CHEST", False, False, "CHEST"),
        ("CHEST", False, True, "ABDOMEN"),
        ("CHEST\\HEAD", False, False, "ABDOMEN"),
        ("HEAD", True, False, "HEAD"),
        (None, True, False, None),
    ],
)
def test_the_body_part_is_that_of_the_source(
    stated: str | None,
    own: bool,
    pseudonymize: bool,
    expected: str | None,
    ct: CtFolder,
    segmentation,
    tmp_path: Path,
) -> None:
    """Where it states none, only organs that the package knows say what it is; a pseudonym keeps no text."""
    ct.write(BodyPartExamined=stated)
    if own:
        table = label_table(["background", *(f"zone {label.value}" for label in BTCV_LABELS)])
        segmentation = dataclasses.replace(segmentation, table=table)
    ds = capture(read(ct.path), segmentation, tmp_path / "out", pseudonymize=pseudonymize)
    assert ds.get("BodyPartExamined") == expected


def test_same_input_gives_identical_bytes_and_another_picture_another_uid(
    scan, segmentation, tmp_path: Path
) -> None:
    """A warning is on the picture, so it makes another object."""
    one, two, other = (
        write(scan, labels, tmp_path / name, formats=("secondary-capture",))["secondary-capture"]
        for name, labels in (
            ("one", segmentation),
            ("two", segmentation),
            (
                "other",
                dataclasses.replace(
                    segmentation, warnings=(ScanWarning("AE-WARN-100", "doubtful", "The liver is small."),)
                ),
            ),
        )
    )
    assert one.read_bytes() == two.read_bytes()
    assert pydicom.dcmread(one).SOPInstanceUID != pydicom.dcmread(other).SOPInstanceUID
    assert pydicom.dcmread(one).SeriesInstanceUID == pydicom.dcmread(other).SeriesInstanceUID


def test_a_pseudonym_gets_a_series_of_its_own(scan, segmentation, tmp_path: Path) -> None:
    """No DICOM result of the patient shares a series or an instance UID with that of the pseudonym."""
    formats = ("dicom-seg", "dicom-sr", "secondary-capture")
    plain, hidden = (
        write(scan, segmentation, tmp_path / str(pseudonymize), formats=formats, pseudonymize=pseudonymize)
        for pseudonymize in (False, True)
    )
    for name in formats:
        one, other = pydicom.dcmread(plain[name]), pydicom.dcmread(hidden[name])
        assert one.StudyInstanceUID == other.StudyInstanceUID
        assert one.SeriesInstanceUID != other.SeriesInstanceUID
        assert one.SOPInstanceUID != other.SOPInstanceUID


def test_a_pseudonym_stands_in_the_place_of_the_patient(scan, tmp_path: Path) -> None:
    """An odd number of bytes is padded, as DICOM asks."""
    pixels = np.arange(3 * 5 * 3, dtype=np.uint8).reshape(3, 5, 3)
    path = tmp_path / "capture.dcm"
    write_secondary_capture(pixels, PROVENANCE, scan.source.files, path, pseudonymize=True)
    np.testing.assert_array_equal(pydicom.dcmread(path).pixel_array, pixels)
    content = path.read_bytes()
    assert not [secret for secret in ("Mustermann", PATIENT[1], "20240102") if secret.encode() in content]


def test_burned_in_text_and_loss_of_the_source_are_told(scan, segmentation, tmp_path: Path) -> None:
    """The picture shows pixels of the source, so both stay true of it (PS3.3 C.7.6.1)."""
    plain = capture(scan, segmentation, tmp_path / "plain")
    assert (plain.BurnedInAnnotation, plain.LossyImageCompression) == ("NO", "00")
    ds = pydicom.dcmread(scan.source.files[-1])
    ds.BurnedInAnnotation, ds.LossyImageCompression = "YES", "01"
    ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod = "9.5", "ISO_10918_1"
    ds.save_as(scan.source.files[-1])
    ds = capture(read(scan.source.folder), segmentation, tmp_path / "out")
    assert (ds.BurnedInAnnotation, ds.LossyImageCompression) == ("YES", "01")
    assert (ds.LossyImageCompressionRatio, ds.LossyImageCompressionMethod) == (9.5, "ISO_10918_1")


@hazard(
    "Results",
    "a secondary capture with a pseudonym, of images that say that text is burned into their pixels",
    "written; it says so too, and not that the identity was removed",
)
@pytest.mark.parametrize(("burned_in", "removed"), [("YES", "NO"), ("NO", "YES")])
def test_no_pseudonym_reaches_the_pixels(
    burned_in: str, removed: str, ct: CtFolder, segmentation, tmp_path: Path
) -> None:
    """PatientIdentityRemoved YES would speak for the pixels too (PS3.3 C.7.1.1)."""
    ct.write(BurnedInAnnotation=burned_in)
    pixels = np.zeros((4, 4, 3), np.uint8)
    path = tmp_path / "capture.dcm"
    write_secondary_capture(pixels, PROVENANCE, read(ct.path).source.files, path, pseudonymize=True)
    ds = pydicom.dcmread(path)
    assert (ds.BurnedInAnnotation, ds.PatientIdentityRemoved) == (burned_in, removed)
    assert ("DeidentificationMethodCodeSequence" in ds) == (removed == "YES")
    assert str(ds.PatientName).startswith("AE-")


def test_the_new_formats_are_written_only_when_named(scan, segmentation, tmp_path: Path) -> None:
    """No run gets them without asking; named alone, they are alone."""
    source = scan.source
    assert not set(NEW) & set(check_writable(tmp_path / "out", source=source))
    paths = write(scan, segmentation, tmp_path / "out", formats=NEW)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"measurements.dcm", "preview.dcm"}
    assert tuple(paths) == NEW


@hazard(
    "Results",
    "a structured report or a secondary capture is asked of input that is not DICOM",
    "refused before the inference: AE-OUTPUT-005",
)
@pytest.mark.parametrize("name", NEW)
def test_input_that_is_not_dicom_is_refused_before_the_work(name: str, tmp_path: Path) -> None:
    """The message names the format, the remedy the formats that are left."""
    with pytest.raises(OutputError, match=f"AE-OUTPUT-005: {name} must refer") as caught:
        check_writable(tmp_path / "out", source=Source("nifti", "", ()), formats=(name, "csv"))
    assert "`formats=('nifti', 'json', 'csv', 'preview')`" in caught.value.remedy


@hazard(
    "Results",
    "the source of a structured report or a secondary capture has no StudyInstanceUID",
    "refused before the inference: AE-OUTPUT-006",
)
@pytest.mark.parametrize("name", NEW)
def test_missing_identifiers_are_found_before_the_work(name: str, scan, tmp_path: Path) -> None:
    """As for a SEG; and again when the file is written."""
    source = dataclasses.replace(scan.source, identifier_fault="lack StudyInstanceUID")
    with pytest.raises(OutputError, match="lack StudyInstanceUID") as caught:
        check_writable(tmp_path / "out", source=source, formats=(name,))
    assert caught.value.code == "AE-OUTPUT-006"


@pytest.mark.parametrize("name", NEW)
def test_identifiers_that_went_are_found_when_the_file_is_written(
    name: str, scan, segmentation, tmp_path: Path
) -> None:
    """The files may have changed since they were read."""
    for file in scan.source.files:
        ds = pydicom.dcmread(file)
        del ds.StudyInstanceUID
        ds.save_as(file)
    with pytest.raises(OutputError, match="AE-OUTPUT-006: .*lack StudyInstanceUID"):
        write(scan, segmentation, tmp_path / "out", formats=(name,))
    assert not (tmp_path / "out").exists()


@hazard(
    "Results",
    "a structured report or a secondary capture of images that share no frame of reference",
    "written: neither places anything on the images",
)
@pytest.mark.parametrize("name", NEW)
def test_no_frame_of_reference_is_needed(name: str, ct: CtFolder, tmp_path: Path) -> None:
    """Only a SEG needs one."""
    ct.write(FrameOfReferenceUID=None)
    scan = read(ct.path, ignore_frame_of_reference=True)
    assert scan.source.frame_of_reference_fault
    labels = Segmentation(np.full(scan.shape, 6, np.uint8), scan.grid, BTCV_LABELS, PROVENANCE)
    assert set(write(scan, labels, tmp_path / "out", formats=(name,))) == {name}


@needs_dciodvfy
def test_dciodvfy_finds_no_error(scan, segmentation, tmp_path: Path) -> None:
    """David Clunie's validator reads the object without an error."""
    path = write(scan, segmentation, tmp_path / "out", formats=("secondary-capture",))["secondary-capture"]
    assert "Error" not in dciodvfy(path)


def test_nothing_found_is_still_a_picture(scan, segmentation, tmp_path: Path) -> None:
    """A PACS shows the scan, and that no organ was found."""
    empty = dataclasses.replace(segmentation, labels=np.zeros(scan.shape, np.uint8))
    assert set(write(scan, empty, tmp_path / "out", formats=NEW)) == set(NEW)


def test_an_array_has_no_dicom_formats(tmp_path: Path) -> None:
    """A scan made in memory refers to nothing."""
    volume = Volume(np.zeros((3, 4, 5), np.int16), Grid.axis_aligned((3, 4, 5), (1.0, 1.0, 1.0)))
    labels = Segmentation(np.zeros((3, 4, 5), np.uint8), volume.grid, BTCV_LABELS)
    with pytest.raises(OutputError, match="AE-OUTPUT-005"):
        write(volume, labels, tmp_path / "out", formats=("secondary-capture",))

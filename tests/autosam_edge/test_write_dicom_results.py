"""Results of a DICOM series: what refers to it, and what is left out or refused where nothing can."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import lenient_writing, write_enhanced  # noqa: F401  used by every test
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import write_small_series

from autosam_edge.error_codes import SEG_SOURCE_UNUSABLE
from autosam_edge.errors import OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.output_formats import DEFAULT_FORMATS, DICOM_FORMATS, FILE_NAMES, FORMATS
from autosam_edge.read_scan import read
from autosam_edge.volume import Segmentation, Source, Volume
from autosam_edge.warning_codes import SEG_LEFT_OUT
from autosam_edge.write_results import check_writable, warnings_of_outputs, write

NOT_DICOM = set(DEFAULT_FORMATS) - set(DICOM_FORMATS)


def small_series(folder: Path, keyword: str = "", value: str = "", **choices: bool) -> Volume:
    """Six slices of 8 x 8 as read from DICOM files, with an identifier replaced."""
    for d, file in enumerate(write_small_series(folder)):
        if keyword:
            ds = pydicom.dcmread(file)
            setattr(ds, keyword, value.format(d=d))
            ds.save_as(file)
    return read(folder, **choices)


def with_liver(scan: Volume) -> Segmentation:
    """A liver on three of the six slices."""
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 2:4] = 6
    return Segmentation(labels, scan.grid, BTCV_LABELS)


@pytest.mark.parametrize("organs", [(6,), (2, 6)])
def test_a_dicom_scan_gives_all_five_files(organs: tuple[int, ...], tmp_path: Path) -> None:
    """Also when one organ alone was found."""
    scan = small_series(tmp_path / "scan")
    labels = np.zeros(scan.shape, np.uint8)
    for row, organ in enumerate(organs):
        labels[1:4, 2 * row : 2 * row + 2] = organ
    written = write(scan, Segmentation(labels, scan.grid, BTCV_LABELS), tmp_path / "out")
    assert set(written) == set(DEFAULT_FORMATS)


def test_every_format_can_be_asked_for(tmp_path: Path, monkeypatch) -> None:
    """Those that are not written by default too; one core writes the bytes that two write."""
    scan = small_series(tmp_path / "scan")
    segmented = with_liver(scan)
    for cores in (1, 2):
        monkeypatch.setattr("autosam_edge.write_results.available_cores", lambda cores=cores: cores)
        out = tmp_path / str(cores)
        assert list(write(scan, segmented, out, formats=FORMATS)) == list(FORMATS)
        assert {path.name for path in out.iterdir()} == set(FILE_NAMES.values())
    for name in FILE_NAMES.values():
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_copies_that_are_ignored_change_no_result(tmp_path: Path) -> None:
    """A file that is there twice, with one identifier."""
    scan = small_series(tmp_path / "scan")
    shutil.copy(scan.source.files[2], tmp_path / "scan" / "again.dcm")
    again = read(tmp_path / "scan")
    for name, volume in (("one", scan), ("two", again)):
        write(volume, with_liver(scan), tmp_path / name, formats=["dicom-seg"])
    one, two = (pydicom.dcmread(tmp_path / name / "segmentation.dcm") for name in ("one", "two"))
    assert one.ReferencedSeriesSequence == two.ReferencedSeriesSequence


def test_a_frame_that_is_there_twice_is_refused_before_the_inference(tmp_path: Path) -> None:
    """Its number would be that of another slice in every DICOM result."""
    scan = small_series(tmp_path / "scan")
    multi = pydicom.dcmread(write_enhanced(scan.source.files, tmp_path / "multi.dcm"))
    multi.PerFrameFunctionalGroupsSequence.append(multi.PerFrameFunctionalGroupsSequence[-1])
    multi.PixelData += multi.PixelData[-len(multi.PixelData) // multi.NumberOfFrames :]
    multi.NumberOfFrames += 1
    multi.save_as(tmp_path / "multi.dcm")
    volume = read(tmp_path / "multi.dcm")
    assert volume.shape == scan.shape
    with pytest.raises(OutputError, match="AE-OUTPUT-006.*name a slice in two frames"):
        check_writable(tmp_path / "out", source=volume.source)


def test_an_organ_on_filled_slices_alone_leaves_the_seg_out(tmp_path: Path) -> None:
    """No image shows it; the other results hold it."""
    scan = small_series(tmp_path / "scan")
    scan.source.files[2].unlink()
    volume = read(tmp_path / "scan", allow_gap=True)
    labels = np.zeros(volume.shape, np.uint8)
    labels[2, 2:4] = 6
    segmentation = Segmentation(labels, volume.grid, BTCV_LABELS, filled=volume.source.filled)
    assert set(write(volume, segmentation, tmp_path / "out")) == NOT_DICOM


# What every slice of a series, or each of them, has in place of a sound identifier.
UNSOUND: dict[str, list[str]] = {
    "one SOPInstanceUID for all slices": ["SOPInstanceUID", "1.2.3"],
    "a SOPInstanceUID with letters": ["SOPInstanceUID", "1.2.a{d}"],
    "a StudyInstanceUID with letters": ["StudyInstanceUID", "1.2.a"],
}


@pytest.mark.filterwarnings("ignore:Invalid value for VR UI")
@hazard("Results", "identifiers of the images are ill-formed, or one for several images", SEG_SOURCE_UNUSABLE)
@pytest.mark.parametrize(("keyword", "value"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_identifiers_are_refused_before_the_inference(
    keyword: str, value: str, tmp_path: Path
) -> None:
    """A DICOM SEG could not refer to the slices; without it everything else is written."""
    scan = small_series(tmp_path / "scan", keyword, value)
    for formats in (None, ("dicom-seg",), ("nifti", "dicom-seg-labelmap")):
        with pytest.raises(OutputError, match=f"AE-OUTPUT-006: the source headers .*{keyword}") as caught:
            check_writable(tmp_path / "out", source=scan.source, formats=formats)
        assert "`formats=('nifti', 'json', 'csv', 'preview')`" in caught.value.remedy
    assert check_writable(tmp_path / "out", source=scan.source, formats=("nifti",)) == ("nifti",)


@hazard("Results", "a series without a frame of reference, or with several, is segmented", SEG_LEFT_OUT)
def test_without_a_frame_of_reference_the_seg_is_left_out(tmp_path: Path) -> None:
    """Every other result is written and says so; an older DICOM SEG in the folder goes."""
    scan = small_series(tmp_path / "scan", "FrameOfReferenceUID", "", ignore_frame_of_reference=True)
    segmented = with_liver(scan)
    assert set(check_writable(tmp_path / "out", source=scan.source)) == NOT_DICOM
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "segmentation.dcm").write_bytes(b"old")
    paths = write(scan, segmented, tmp_path / "out")
    assert set(paths) == NOT_DICOM
    assert {path.name for path in (tmp_path / "out").iterdir()} == {FILE_NAMES[name] for name in NOT_DICOM}
    found = json.loads(paths["json"].read_text())["warnings"]
    assert [warning["code"] for warning in found] == ["AE-WARN-141"]
    assert found[0]["message"] == "No DICOM SEG was written: the images lack FrameOfReferenceUID."
    # The warning was given before the inference already.
    told = dataclasses.replace(segmented, warnings=warnings_of_outputs(scan.source))
    paths = write(scan, told, tmp_path / "out")
    assert json.loads(paths["json"].read_text())["warnings"] == found


@hazard(
    "Results", "a DICOM SEG is asked for, and the images share no frame of reference", SEG_SOURCE_UNUSABLE
)
@pytest.mark.parametrize("fault", ["lack FrameOfReferenceUID", "name several frames of reference"])
def test_a_seg_that_is_asked_for_is_refused_without_a_frame_of_reference(fault: str, tmp_path: Path) -> None:
    """Before the inference, with the cause."""
    source = Source("dicom", "", (tmp_path / "series" / "1.dcm",), frame_of_reference_fault=fault)
    for formats in (("dicom-seg",), ("nifti", "dicom-seg-labelmap")):
        with pytest.raises(OutputError, match=f"AE-OUTPUT-006: the source headers {fault}"):
            check_writable(tmp_path / "out", source=source, formats=formats)
        assert warnings_of_outputs(source, formats) == ()


def test_a_pseudonym_is_in_every_dicom_result(tmp_path: Path) -> None:
    """The patient of the phantom appears in none of them."""
    scan = small_series(tmp_path / "scan")
    segmented = with_liver(scan)
    paths = write(scan, segmented, tmp_path / "out", formats=FORMATS, pseudonymize=True)
    objects = [pydicom.dcmread(paths[name]) for name in sorted(DICOM_FORMATS)]
    assert len({ds.PatientID for ds in objects}) == 1
    for ds in objects:
        assert ds.PatientIdentityRemoved == "YES"
        assert "PHANTOM" not in str(ds)

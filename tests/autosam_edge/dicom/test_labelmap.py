"""Label Map Segmentation out: the same voxels as the DICOM SEG, one frame a slice."""

from __future__ import annotations

from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import as_enhanced
from autosam_edge_test_seg import PROVENANCE, dciodvfy, needs_dciodvfy, segread
from autosam_edge_test_support import write_small_series
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from autosam_edge.dicom import labelmap, segmentation
from autosam_edge.dicom.labelmap import write_dicom_labelmap
from autosam_edge.dicom.segmentation import write_dicom_seg
from autosam_edge.errors import AutosamEdgeError, OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.warning_codes import PARTS_REMOVED

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=[(6, 8, 8), (5, 7, 9)])
def scan(request, tmp_path: Path) -> Volume:
    """A small series; frames of 7 x 9 voxels have an odd number of bytes."""
    write_small_series(tmp_path / "scan", request.param)
    return read(tmp_path / "scan")


@pytest.fixture
def segmented(scan: Volume) -> Segmentation:
    """Three organs whose values are not consecutive; one slice is empty."""
    labels = np.random.default_rng(3).choice([0, 0, 2, 6, 13], size=scan.shape).astype(np.uint8)
    labels[2] = 0
    warning = PARTS_REMOVED("Parts were removed.", organ="liver")
    return Segmentation(labels, scan.grid, BTCV_LABELS, PROVENANCE, {}, (warning,))


def read_back(path: Path, scan: Volume) -> np.ndarray:
    """Label values (D, H, W) as highdicom reads them."""
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in scan.source.files]
    seg = segread(path)
    return seg.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )


def test_highdicom_reads_the_same_voxels(scan, segmented, tmp_path: Path) -> None:
    """The number of a segment is the value of its organ in every other result."""
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "out.dcm")
    np.testing.assert_array_equal(read_back(tmp_path / "out.dcm", scan), segmented.labels)
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert ds.file_meta.TransferSyntaxUID == DeflatedExplicitVRLittleEndian
    # Label Map Segmentation Storage
    assert (ds.SOPClassUID, ds.SegmentationType) == ("1.2.840.10008.5.1.4.1.1.66.7", "LABELMAP")
    assert ds.NumberOfFrames == len(scan.source.files) - 1  # the empty slice has none
    assert [item.SegmentNumber for item in ds.SegmentSequence] == [0, 2, 6, 13]
    assert "SourceImageSequence" not in ds


def test_it_is_what_highdicom_makes_of_all_voxels(scan, segmented, tmp_path: Path, monkeypatch) -> None:
    """The object that is built from a sketch is that which highdicom builds from the labels."""
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "out.dcm")

    def build_all(content, sketch, numbers):
        ordered = content.segmentation.labels[content.order]
        segmentation.build(content, ordered, numbers).save_as(tmp_path / "theirs.dcm")
        return segmentation.build(content, sketch, numbers)

    monkeypatch.setattr(labelmap, "build", build_all)
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "again.dcm")
    assert (tmp_path / "again.dcm").read_bytes() == (tmp_path / "out.dcm").read_bytes()
    ours, theirs = (pydicom.dcmread(tmp_path / name) for name in ("out.dcm", "theirs.dcm"))
    size = ours.NumberOfFrames * ours.Rows * ours.Columns
    assert ours.PixelData[:size] == theirs.PixelData[:size]
    del ours.PixelData, theirs.PixelData
    assert ours.to_json_dict() == theirs.to_json_dict()


def test_a_multi_frame_source_is_matched_frame_by_frame(scan, segmented, tmp_path: Path) -> None:
    """Each frame of the object names the source frame that it shows."""
    multi = as_enhanced([pydicom.dcmread(file) for file in scan.source.files])
    multi.save_as(tmp_path / "multi.dcm")
    write_dicom_labelmap(segmented, [tmp_path / "multi.dcm"], tmp_path / "out.dcm")
    seg = segread(tmp_path / "out.dcm")
    positions = [frame.PlanePositionSequence[0] for frame in multi.PerFrameFunctionalGroupsSequence]
    along = [
        float(np.dot(scan.grid.direction[:, 0], position.ImagePositionPatient)) for position in positions
    ]
    numbers = [int(index) + 1 for index in np.argsort(along)]
    found = seg.get_pixels_by_source_frame(
        "2.25.78", numbers, combine_segments=True, assert_missing_frames_are_empty=True
    )
    np.testing.assert_array_equal(found, segmented.labels)


def test_same_input_gives_identical_bytes(scan, segmented, tmp_path: Path) -> None:
    """And other UIDs than those of the binary object and of the pseudonymized one."""
    for name in ("one.dcm", "two.dcm"):
        write_dicom_labelmap(segmented, scan.source.files, tmp_path / name)
    assert (tmp_path / "one.dcm").read_bytes() == (tmp_path / "two.dcm").read_bytes()
    write_dicom_seg(segmented, scan.source.files, tmp_path / "binary.dcm")
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "hidden.dcm", pseudonymize=True)
    objects = [pydicom.dcmread(tmp_path / name) for name in ("one.dcm", "binary.dcm", "hidden.dcm")]
    for keyword in ("SOPInstanceUID", "SeriesInstanceUID"):
        assert len({ds[keyword].value for ds in objects}) == 3
    assert objects[2].PatientIdentityRemoved == "YES"


def test_warnings_stand_in_it(scan, segmented, tmp_path: Path) -> None:
    """As in the binary object."""
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    assert "AE-WARN-080 (info, liver): Parts were removed." in ds.ImageComments
    texts = {item.SegmentNumber: item.get("SegmentDescription") for item in ds.SegmentSequence}
    assert "AE-WARN-080" in texts[6]
    assert texts[2] == "kidney_right"


def test_no_organ_is_refused(scan, tmp_path: Path) -> None:
    """An object without a segment does not exist in DICOM."""
    empty = Segmentation(np.zeros(scan.shape, np.uint8), scan.grid, BTCV_LABELS)
    with pytest.raises(OutputError, match="AE-OUTPUT-005"):
        write_dicom_labelmap(empty, scan.source.files, tmp_path / "out.dcm")


def test_another_layout_of_highdicom_is_not_the_fault_of_the_scan(
    scan, segmented, tmp_path: Path, monkeypatch
) -> None:
    """A frame that names no source image cannot be filled."""

    def build_otherwise(*parts):
        dataset = segmentation.build(*parts)
        del dataset.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence
        return dataset

    monkeypatch.setattr(labelmap, "build", build_otherwise)
    with pytest.raises(AutosamEdgeError, match=rf"^AE-INTERNAL-001: highdicom {hd.__version__} lays out"):
        write_dicom_labelmap(segmented, scan.source.files, tmp_path / "out.dcm")


def test_it_is_a_fiftieth_of_the_binary_object(tmp_path: Path) -> None:
    """Of blocks of 13 organs on 40 slices of 128 x 128: one deflated frame a slice, not one an organ."""
    phantom = make_phantom(1, spacing_mm=(3.0, 3.0, 3.0), shape=(40, 128, 128))
    write_dicom_series(phantom.volume, tmp_path / "scan", seed=1)
    scan = read(tmp_path / "scan")
    labels = np.zeros(scan.shape, np.uint8)
    for value in range(1, 14):
        row, column = divmod(value - 1, 4)
        labels[:, 30 * row : 25 + 30 * row, 30 * column : 25 + 30 * column] = value
    segmented = Segmentation(labels, scan.grid, BTCV_LABELS)
    write_dicom_seg(segmented, scan.source.files, tmp_path / "binary.dcm")
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "labelmap.dcm")
    sizes = [(tmp_path / name).stat().st_size for name in ("binary.dcm", "labelmap.dcm")]
    assert sizes[0] > 50 * sizes[1]


@needs_dciodvfy
def test_dciodvfy_finds_no_error(scan, segmented, tmp_path: Path) -> None:
    """David Clunie's validator reads the object without an error; it cannot inflate, so it is inflated."""
    write_dicom_labelmap(segmented, scan.source.files, tmp_path / "out.dcm")
    ds = pydicom.dcmread(tmp_path / "out.dcm")
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.save_as(tmp_path / "inflated.dcm")
    said = dciodvfy(tmp_path / "inflated.dcm")
    if "Information Object Not found" in said:
        pytest.skip("this dciodvfy is older than Supplement 243")
    assert "Error" not in said

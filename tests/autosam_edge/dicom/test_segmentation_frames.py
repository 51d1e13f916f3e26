"""The frames that we write are, byte for byte, those that highdicom writes."""

from __future__ import annotations

import sqlite3

import highdicom as hd
import numpy as np
import pydicom
import pytest
from autosam_edge_test_seg import segread
from autosam_edge_test_support import write_small_series

from autosam_edge.dicom import segmentation as dicom_seg
from autosam_edge.dicom import segmentation_frames
from autosam_edge.dicom.read import read_dicom
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Segmentation


def read_small_series(folder, shape=(6, 8, 8)):
    """A phantom that was written as a series and read."""
    write_small_series(folder, shape)
    return read_dicom(folder)


def by_highdicom_alone(monkeypatch, labels, values):
    """Every voxel goes through highdicom, every frame is an object, and pydicom saves it all."""
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[values] = np.arange(1, len(values) + 1)
    build = dicom_seg.build

    def build_all(content, _sketch, numbers):
        return build(content, lookup[labels], numbers)

    monkeypatch.setattr(dicom_seg, "build", build_all)
    monkeypatch.setattr(
        dicom_seg,
        "save_with_frames",
        lambda dataset, *_, stream: dataset.save_as(stream, enforce_file_format=True),
    )


@pytest.mark.parametrize("shape", [(6, 8, 8), (5, 7, 9)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_file_is_highdicoms(tmp_path, monkeypatch, shape, seed):
    """Random labels, organs missing on some slices, empty slices, frames that end inside a byte (7 x 9)."""
    volume = read_small_series(tmp_path / "scan", shape)
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 0, 0, 2, 5, 13], size=volume.shape).astype(np.uint8)
    labels[2] = 0
    labels[3][labels[3] == 5] = 0
    segmentation = Segmentation(labels, volume.grid, BTCV_LABELS)
    ours, theirs = both(segmentation, volume.source.files, [2, 5, 13], tmp_path, monkeypatch)
    if (
        labels[0].size % 8
    ):  # an odd number of bytes: PS3.5 7.1.1 pads with zero, highdicom 0.28 with the digit "0"
        assert ours[-1] == 0
        ours, theirs = ours[:-1], theirs[:-1]
    assert ours == theirs


def several_frames(labels):
    labels[1:4, 2:5, 1:6] = 6


def one_frame(labels):
    labels[2, 2:5, 1:6] = 6


def an_organ_on_one_frame_only(labels):
    labels[1:5, :4] = 6
    labels[3, 5:, 2:6] = 13


@pytest.mark.parametrize("draw", [several_frames, one_frame, an_organ_on_one_frame_only])
def test_few_segments_and_frames_are_highdicoms_too(tmp_path, monkeypatch, draw):
    """One organ (whose segment stands in the shared groups), one frame, an organ on one frame.

    The same bytes, every voxel read back.
    """
    volume = read_small_series(tmp_path / "scan")
    labels = np.zeros(volume.shape, dtype=np.uint8)
    draw(labels)
    values = sorted(set(np.unique(labels)) - {0})
    ours, theirs = both(
        Segmentation(labels, volume.grid, BTCV_LABELS), volume.source.files, values, tmp_path, monkeypatch
    )
    assert ours == theirs
    assert_read_back(tmp_path / "ours.dcm", volume.source.files, labels, values)


def test_a_source_of_one_slice_is_highdicoms_too(tmp_path, monkeypatch):
    """One slice with one organ.

    Nothing tells the distance of slices, and the object is whole all the same.
    """
    volume = read_small_series(tmp_path / "scan")
    labels = np.zeros((1, 8, 8), dtype=np.uint8)
    labels[0, 2:5, 1:6] = 6
    files = volume.source.files[:1]
    ours, theirs = both(
        Segmentation(labels, Grid((1, 8, 8), volume.grid.affine), BTCV_LABELS),
        files,
        [6],
        tmp_path,
        monkeypatch,
    )
    assert ours == theirs
    assert_read_back(tmp_path / "ours.dcm", files, labels, [6])


def both(segmentation, files, values, folder, monkeypatch):
    """The bytes of our file (ours.dcm) and those of highdicom's (theirs.dcm)."""
    dicom_seg.write_dicom_seg(segmentation, files, folder / "ours.dcm")
    by_highdicom_alone(monkeypatch, segmentation.labels, values)
    dicom_seg.write_dicom_seg(segmentation, files, folder / "theirs.dcm")
    return (folder / "ours.dcm").read_bytes(), (folder / "theirs.dcm").read_bytes()


def assert_read_back(path, files, labels, values):
    """Each organ's voxels are found on the source images by highdicom, and no frame holds none."""
    seg = segread(path)
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in files]
    masks = seg.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(masks, labels[..., None] == np.array(values))
    assert seg.NumberOfFrames == sum((labels == value).any(axis=(1, 2)).sum() for value in values)


def test_the_database_of_highdicom_is_closed(series, segmentation, tmp_path, monkeypatch):
    """Python 3.13 warns of one that is left open."""
    built, build = [], dicom_seg.build
    monkeypatch.setattr(dicom_seg, "build", lambda *parts: built.append(build(*parts)) or built[0])
    dicom_seg.write_dicom_seg(segmentation, series[0], tmp_path / "out.dcm")
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        built[0]._db_con.execute("SELECT 1")


def drop_the_index(item):
    del item.FrameContentSequence


def add_a_group(item):
    item.FrameAnatomySequence = []


def add_a_label_after_the_index(item):
    item.FrameContentSequence[0].FrameLabel = "last"


@pytest.mark.parametrize("change", [drop_the_index, add_a_group, add_a_label_after_the_index])
def test_another_layout_of_highdicom_is_not_the_fault_of_the_scan(tmp_path, monkeypatch, change):
    """AE-INTERNAL-001 with the version of highdicom; nothing is said of the source headers."""
    volume = read_small_series(tmp_path / "scan")
    labels = np.zeros(volume.shape, dtype=np.uint8)
    an_organ_on_one_frame_only(labels)
    build = dicom_seg.build

    def build_otherwise(*parts):
        dataset = build(*parts)
        for item in dataset.PerFrameFunctionalGroupsSequence:
            change(item)
        return dataset

    monkeypatch.setattr(dicom_seg, "build", build_otherwise)
    with pytest.raises(AutosamEdgeError, match=rf"^AE-INTERNAL-001: highdicom {hd.__version__} lays out"):
        dicom_seg.write_dicom_seg(
            Segmentation(labels, volume.grid, BTCV_LABELS), volume.source.files, tmp_path / "s.dcm"
        )


def test_a_sketch_marks_every_slice_and_every_segment():
    """One voxel per slice that holds an organ, more only where a segment would be left out."""
    present = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1]], dtype=bool)
    pixels = segmentation_frames.sketch(present, [1, 2, 3])
    assert (pixels.reshape(4, -1).any(axis=1) == present.any(axis=0)).all()
    assert set(np.unique(pixels)) == {0, 1, 2, 3}
    for segment, frames in enumerate(present, start=1):
        assert not (pixels == segment).any(axis=(1, 2))[~frames].any()

"""The frames that we write are, byte for byte, those that highdicom writes."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.io import dicom_seg, seg_frames
from autosam_edge.io.dicom_series import read_dicom
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.volume import Segmentation


def by_highdicom_alone(monkeypatch, labels, values):
    """Every voxel goes through highdicom, every frame is an object, and pydicom saves it all."""
    lookup = np.zeros(256, dtype=np.uint8)
    lookup[values] = np.arange(1, len(values) + 1)
    build = dicom_seg._build

    def build_all(segmentation, sources, _sketch, organs, identity):
        for source in sources:
            source.Rows, source.Columns = labels.shape[1:]
        return build(segmentation, sources, lookup[labels], organs, identity)

    monkeypatch.setattr(dicom_seg, "_build", build_all)
    monkeypatch.setattr(dicom_seg, "save_with_frames", lambda dataset, *_, stream: dataset.save_as(stream, enforce_file_format=True))


@pytest.mark.parametrize("shape", [(6, 8, 8), (5, 7, 9)])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_file_is_highdicoms(tmp_path, monkeypatch, shape, seed):
    """Random labels, organs missing on some slices, slices without any, and frames that end inside a byte (7 x 9 pixels)."""
    (tmp_path / "scan").mkdir()
    write_dicom_series(make_phantom(1, spacing_mm=(8.0, 8.0, 8.0), shape=shape).volume, tmp_path / "scan", seed=1)
    volume = read_dicom(tmp_path / "scan")
    generator = np.random.default_rng(seed)
    labels = generator.choice([0, 0, 0, 2, 5, 13], size=volume.shape).astype(np.uint8)
    labels[2] = 0
    labels[3][labels[3] == 5] = 0
    segmentation = Segmentation(labels, volume.grid, BTCV_LABELS)
    dicom_seg.write_dicom_seg(segmentation, volume.source.files, tmp_path / "ours.dcm")

    by_highdicom_alone(monkeypatch, labels, [2, 5, 13])
    dicom_seg.write_dicom_seg(segmentation, volume.source.files, tmp_path / "theirs.dcm")
    ours, theirs = (tmp_path / "ours.dcm").read_bytes(), (tmp_path / "theirs.dcm").read_bytes()
    if labels[0].size % 8:  # an odd number of bytes: PS3.5 7.1.1 pads with zero, highdicom 0.28 with the digit "0"
        assert ours[-1] == 0
        ours, theirs = ours[:-1], theirs[:-1]
    assert ours == theirs


def test_a_sketch_marks_every_slice_and_every_segment():
    """One voxel per slice that holds an organ, more only where a segment would be left out."""
    present = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [0, 1, 0, 1]], dtype=bool)
    pixels = seg_frames.sketch(present)
    assert (pixels.reshape(4, -1).any(axis=1) == present.any(axis=0)).all()
    assert set(np.unique(pixels)) == {0, 1, 2, 3}
    for segment, frames in enumerate(present, start=1):
        assert not (pixels == segment).any(axis=(1, 2))[~frames].any()

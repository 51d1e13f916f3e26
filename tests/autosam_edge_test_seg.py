"""A series in DICOM, labels on it, and ways to look at the objects that are written of them."""

from __future__ import annotations

import shutil
import subprocess
import warnings
import weakref
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
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Provenance, Segmentation

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (6, 12, 16)
SPACING_MM = (2.5, 0.5, 0.9)  # not square: rows and columns must not be mixed up
NAME = "Doe^Jane"
OBLIQUE = (0.96, 0.28, 0.0, -0.28, 0.96, 0.0)
PROVENANCE = Provenance(
    version="1.2.3", model="student", model_sha256="ab" * 32, engine="fake", precision="fp32"
)
needs_dciodvfy = pytest.mark.skipif(
    shutil.which("dciodvfy") is None, reason="dciodvfy of dicom3tools is not installed"
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


def segread(path: Path) -> hd.seg.Segmentation:
    """A SEG as highdicom reads it; its database is closed when it goes: Python 3.13 warns of an open one."""
    seg = hd.seg.segread(path)
    weakref.finalize(seg, seg._db_con.close)
    return seg


def read_back(path: Path, files: list[Path]) -> np.ndarray:
    """Labels (D, H, W) from a SEG, by source image and by the names in it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seg = segread(path)
    uids = [pydicom.dcmread(file).SOPInstanceUID for file in files]
    masks = seg.get_pixels_by_source_instance(
        uids, assert_missing_frames_are_empty=True
    )  # (D, H, W, segments)
    values = {label.name: label.value for label in BTCV_LABELS}
    labels = np.zeros(masks.shape[:3], np.uint8)
    for number in seg.segment_numbers:
        labels[masks[..., number - 1] > 0] = values[seg.get_segment_description(number).SegmentDescription]
    return labels


def dciodvfy(path: Path) -> str:
    """What David Clunie's validator says of an object."""
    result = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False)
    return result.stderr + result.stdout


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

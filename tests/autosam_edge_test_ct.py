"""Small synthetic CT series whose every voxel and position is known."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

PATIENT = ("Mustermann^Erika", "SECRET-4711")
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ORIGIN_MM = (-100.0, -50.0, 300.0)


@dataclass
class CtFolder:
    """A folder to which CT images are written.

    The value of voxel (d, h, w) is -1000 + 100 d + 10 h + w HU; slice d lies at origin + d * step along the
    normal.
    """

    path: Path
    shape: tuple[int, int, int] = (5, 6, 8)

    def __post_init__(self) -> None:
        self.series_uid, self.study_uid, self.frame_uid = generate_uid(), generate_uid(), generate_uid()
        d, h, w = np.indices(self.shape)
        self.hu = (-1000 + 100 * d + 10 * h + w).astype(np.int16)

    def image(
        self, d: int, *, step_mm: float = 2.5, orientation: tuple[float, ...] = AXIAL, **changes: Any
    ) -> Dataset:
        """Slice ``d`` as a data set; ``changes`` set attributes, None removes them."""
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        ds.SOPClassUID, ds.SOPInstanceUID = CTImageStorage, f"{self.series_uid[:55].rstrip('.')}.{d + 1}"
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.PatientName, ds.PatientID = PATIENT
        ds.Modality, ds.ImageType = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"]
        ds.SeriesNumber, ds.InstanceNumber = 7, 99 - d
        ds.StudyInstanceUID, ds.SeriesInstanceUID = self.study_uid, self.series_uid
        ds.FrameOfReferenceUID = self.frame_uid
        normal = np.cross(orientation[:3], orientation[3:])
        ds.ImageOrientationPatient = list(orientation)
        ds.ImagePositionPatient = [
            round(float(value), 6) for value in np.asarray(ORIGIN_MM) + d * step_mm * normal
        ]
        ds.PixelSpacing = [0.5, 0.9]
        ds.Rows, ds.Columns = self.shape[1:]
        ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
        ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 12, 11, 0
        ds.RescaleSlope, ds.RescaleIntercept = 1, -1024
        ds.PixelData = (self.hu[min(d, self.shape[0] - 1)] + 1024).astype("<u2").tobytes()
        ds["PixelData"].VR = "OW"
        for keyword, value in changes.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                setattr(ds, keyword, value)
        return ds

    def save(self, ds: Dataset, name: str) -> Path:
        """Write a data set with a preamble in the transfer syntax that its file meta information names."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        ds.save_as(path, enforce_file_format=True)
        return path

    def shown(self, path: Path) -> str:
        """How messages call a file of the folder."""
        everything = sorted(str(other) for other in self.path.rglob("*") if not other.is_dir())
        return f"file {everything.index(str(path)) + 1} of {len(everything)}"

    def write(self, count: int | None = None, **changes: Any) -> list[Path]:
        """Write slices 0 to ``count``; the file names run against the slice order."""
        count = self.shape[0] if count is None else count
        return [self.save(self.image(d, **changes), f"im{99 - d:03d}") for d in range(count)]

    def enhanced(self, order: list[int], **changes: Any) -> Dataset:
        """An Enhanced CT object whose frames stand in the given order."""
        ds = self.image(0, **changes)
        ds.SOPClassUID = EnhancedCTImageStorage
        ds.NumberOfFrames = len(order)
        shared, measures, orientation = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing = ds.PixelSpacing
        orientation.ImageOrientationPatient = ds.ImageOrientationPatient
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
        ds.SharedFunctionalGroupsSequence = [shared]
        ds.PerFrameFunctionalGroupsSequence = []
        for d in order:
            group, position, content, rescale = Dataset(), Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = self.image(d).ImagePositionPatient
            content.StackID = "1"
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024, "HU"
            group.PlanePositionSequence, group.FrameContentSequence = [position], [content]
            group.PixelValueTransformationSequence = [rescale]
            ds.PerFrameFunctionalGroupsSequence.append(group)
        ds.PixelData = (self.hu[order] + 1024).astype("<u2").tobytes()
        for keyword in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "RescaleSlope",
            "RescaleIntercept",
        ):
            del ds[keyword]
        return ds


@pytest.fixture
def ct(tmp_path: Path) -> CtFolder:
    """An empty folder for a series of 5 slices, 2.5 mm apart, of 6 x 8 pixels of 0.5 mm (rows) x 0.9 mm."""
    folder = tmp_path / "scan"
    folder.mkdir()
    return CtFolder(folder)


@pytest.fixture
def ct_folder(tmp_path: Path) -> Any:
    """Makes further series: ``ct_folder("name")``, in folders of their own below one root."""

    def make(name: str, shape: tuple[int, int, int] = (5, 6, 8)) -> CtFolder:
        folder = tmp_path / "scans" / name
        folder.mkdir(parents=True, exist_ok=True)
        return CtFolder(folder, shape)

    return make


@pytest.fixture
def real_scans() -> Path:
    """The folder of real scans beside the project, which no checkout holds."""
    folder = Path(__file__).parents[1].parent / "shared" / "data"
    if not (folder / "tcga-ov-abdomen").is_dir():
        pytest.skip("the real scans (../shared/data) are not on this machine")
    return folder


@pytest.fixture(autouse=True)
def lenient_writing() -> Any:
    """Let tests write invalid DICOM on purpose."""
    before = pydicom.config.settings.writing_validation_mode
    pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE
    yield
    pydicom.config.settings.writing_validation_mode = before


def vary(ct: Any, changes: list[dict[str, Any]]) -> None:
    """Slice d with the changes at d."""
    for d, of_slice in enumerate(changes):
        ct.save(ct.image(d, **of_slice), f"im{d:02}")


def as_enhanced(sources: list[Dataset]) -> Dataset:
    """The slices as one multi-frame object."""
    import highdicom as hd

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return hd.legacy.LegacyConvertedEnhancedCTImage(
            sources,
            series_instance_uid="2.25.77",
            series_number=5,
            sop_instance_uid="2.25.78",
            instance_number=1,
        )


def write_enhanced(files: Sequence[Path], path: Path) -> Path:
    """The slices of some files as one file."""
    as_enhanced([pydicom.dcmread(file) for file in files]).save_as(path)
    return path

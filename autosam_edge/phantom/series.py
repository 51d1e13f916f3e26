"""A phantom as a classic DICOM series (PS3.3 A.3), one file per slice, Explicit VR Little Endian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filewriter import dcmwrite
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.volume import Volume

_INTERCEPT_HU = -1024


def write_dicom_series(
    volume: Volume,
    folder: Path,
    *,
    seed: int = 0,
    left_out: Collection[int] = (),
    position_decimals: int = 12,
) -> list[Path]:
    """Write a volume as a series of slices along its first axis.

    Args:
        volume: HU between -1024 and 31743; the rows and columns of the grid must be perpendicular, as DICOM
            asks. The first axis may lean, as after a tilted gantry.
        folder: Folder for ``IM0001.dcm``, ...; made if absent.
        seed: Number in the UIDs and in the patient's identifier: the same seed gives the same files.
        left_out: Slices that are not written.
        position_decimals: Decimals of the positions, 0 to 12; some scanners write one.

    Returns:
        The files in slice order.

    Raises:
        ValueError: DICOM cannot describe the grid, or a value does not fit 16 bits.
    """
    right, down = volume.grid.direction[:, 2], volume.grid.direction[:, 1]
    if abs(float(right @ down)) > 1e-4:
        raise ValueError("a DICOM slice has perpendicular rows and columns; this grid is sheared")
    stored = np.rint(volume.hu).astype(np.int64) - _INTERCEPT_HU
    if stored.min() < -32768 or stored.max() > 32767:
        raise ValueError(f"the values span {volume.hu.min()} to {volume.hu.max()} HU, more than 16 bits hold")
    pixels = stored.astype("<i2")
    folder.mkdir(parents=True, exist_ok=True)
    shared = _shared(volume, seed)
    files = []
    for index in range(volume.shape[0]):
        if index in left_out:
            continue
        path = folder / f"IM{index + 1:04d}.dcm"
        position_mm = volume.grid.affine[:3, 3] + index * volume.grid.affine[:3, 0]
        image = _slice(shared, volume, pixels[index], index, position_mm.round(position_decimals), seed)
        dcmwrite(path, image, enforce_file_format=True)
        files.append(path)
    return files


def _uid(seed: int, what: str) -> str:
    return str(generate_uid(entropy_srcs=["autosam-edge phantom", str(seed), what]))


def _shared(volume: Volume, seed: int) -> Dataset:
    """The attributes that all slices have in common."""
    _, step_h, step_w = volume.grid.spacing_mm
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = dataset.ContentDate = "20200101"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = dataset.ContentTime = "120000"
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = "autosam-edge phantom"
    dataset.ManufacturerModelName = "make_phantom"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "Synthetic abdomen"
    dataset.SeriesDescription = "Portal venous, synthetic"
    dataset.PatientName = "Phantom^Abdomen"
    dataset.PatientID = f"PHANTOM-{seed}"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.BodyPartExamined = "ABDOMEN"
    dataset.SliceThickness = dataset.SpacingBetweenSlices = _decimal(volume.grid.slice_distance_mm)
    dataset.KVP = "120"
    dataset.ConvolutionKernel = "SYNTHETIC"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = _uid(seed, "study")
    dataset.SeriesInstanceUID = _uid(seed, "series")
    dataset.FrameOfReferenceUID = _uid(seed, "frame of reference")
    dataset.PositionReferenceIndicator = ""
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.ImageComments = "Synthetic phantom; not a patient"
    # Rows run along W, columns along H; the orientation lists the row's direction first (PS3.3 C.7.6.2.1.1).
    direction = volume.grid.direction
    dataset.ImageOrientationPatient = [_decimal(value) for value in (*direction[:, 2], *direction[:, 1])]
    dataset.PixelSpacing = [_decimal(step_h), _decimal(step_w)]
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = volume.shape[1], volume.shape[2]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.RescaleIntercept = str(_INTERCEPT_HU)
    dataset.RescaleSlope = "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = "40", "400"
    return dataset


def _slice(
    shared: Dataset,
    volume: Volume,
    pixels: npt.NDArray[np.int16],
    index: int,
    position_mm: npt.NDArray[np.float64],
    seed: int,
) -> Dataset:
    """One image of the series."""
    dataset = Dataset()
    dataset.update(shared)
    dataset.SOPInstanceUID = _uid(seed, f"image {index}")
    dataset.InstanceNumber = index + 1
    dataset.ImagePositionPatient = [_decimal(value) for value in position_mm]
    normal = np.cross(volume.grid.direction[:, 2], volume.grid.direction[:, 1])
    dataset.SliceLocation = _decimal(float(normal @ position_mm))
    dataset.PixelData = pixels.tobytes()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return dataset


def _decimal(value: float) -> str:
    """A decimal string of at most 16 characters (VR DS)."""
    for digits in range(12, 0, -1):
        text = f"{value + 0.0:.{digits}f}".rstrip("0").rstrip(".")
        if len(text) <= 16:
            return "0" if text == "-0" else text
    raise ValueError(f"{value} does not fit a DICOM decimal string")

"""Small series in several codings, and folders that are refused, for the tests of the web worker."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from autosam_edge_test_encoders import compress, file_of
from pydicom.uid import (
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    MRImageStorage,
    RLELossless,
)

from autosam_edge.geometry import Grid
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.volume import Volume

_JPEG_XL = "1.2.840.10008.1.2.4.110"
_SYNTAXES = (RLELossless, JPEGLosslessSV1, JPEGLSLossless, JPEG2000Lossless, HTJ2KLossless)
CODINGS = tuple(syntax.name for syntax in _SYNTAXES)
"""Names of the five codings."""


def ten_slices() -> Volume:
    """Ten slices of a phantom, for one tile."""
    return make_phantom(spacing_mm=(6.0, 6.0, 6.0), shape=(10, 48, 48)).volume


def write_twins(root: Path) -> dict[str, Path]:
    """Folders with one series in each of the codings, by name; "raw" is the series itself."""
    write_dicom_series(ten_slices(), root / "raw")
    folders = {"raw": root / "raw"}
    for syntax in _SYNTAXES:
        folder = folders[syntax.name] = root / str(syntax)
        folder.mkdir()
        for number, file in enumerate(sorted((root / "raw").iterdir())):
            compress(pydicom.dcmread(file), syntax).save_as(folder / f"{number}.dcm")
    return folders


def write_refused(root: Path) -> dict[str, Path]:
    """Folders that are refused, by the code that tells why."""
    folders = {code: root / code for code in ("AE-DICOM-010", "AE-DICOM-018", "AE-DICOM-002")}
    unknown, tilted, mr = folders.values()
    scan = ten_slices()
    affine = scan.grid.affine.copy()
    affine[1, 0] = affine[2, 0] * np.tan(np.radians(40))  # no gantry tilts so far
    files = write_dicom_series(Volume(scan.hu, Grid(scan.shape, affine), scan.source), tilted)
    for folder in (unknown, mr):
        folder.mkdir()
        (folder / "notes.txt").write_text("hello")
    image = pydicom.dcmread(files[0])
    (unknown / "1.dcm").write_bytes(file_of(image, declared=_JPEG_XL))
    image.SOPClassUID, image.Modality = MRImageStorage, "MR"
    (mr / "1.dcm").write_bytes(file_of(image, declared=str(ExplicitVRLittleEndian)))
    return folders

"""Many small series for the study of batches: sound ones of many shapes, and ten broken in known ways."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pydicom

from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    DICOM_DAMAGED,
    IDENTITIES_DIFFER,
    NIFTI_DAMAGED,
    POSITION_TWICE,
    RESCALE_MISSING,
    SLICES_MISSING,
    SPACING_INVALID,
    ZIP_DAMAGED,
)
from autosam_edge.errors import ErrorCode
from autosam_edge.geometry import Grid
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_MIN_SLICES, _MAX_SLICES = 12, 38


def make_sound(root: Path, count: int) -> None:
    """Write parts of phantoms as DICOM series, each in a folder of its own.

    Args:
        root: Folder for the series.
        count: Number of series.
    """
    for seed in range(count):
        rng = np.random.default_rng(seed)
        whole = make_phantom(seed, spacing_mm=(8.0, *rng.uniform(5.0, 7.0, 1).repeat(2))).volume
        slices = int(rng.integers(_MIN_SLICES, _MAX_SLICES))
        start = int(rng.integers(0, max(1, whole.shape[0] - slices)))
        write_dicom_series(whole.slices(start, start + slices), root / f"series{seed:04d}", seed=seed)


def make_tiny(root: Path, count: int) -> None:
    """Write series of three slices of 8 x 8 pixels of air, for the cost of a job without its inference."""
    air = np.full((3, 8, 8), -1000, np.int16)
    volume = Volume(air, Grid.axis_aligned(air.shape, (2.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0)))
    for seed in range(count):
        write_dicom_series(volume, root / f"{seed // 1000:03d}" / f"{seed:06d}", seed=1_000_000 + seed)


def make_broken(root: Path) -> dict[str, str]:
    """Write ten inputs that must fail.

    Args:
        root: Folder for the inputs.

    Returns:
        Code that each input must fail with, by the name of its folder.
    """
    expected = {}
    for number, (name, (code, break_it)) in enumerate(_BROKEN.items()):
        folder = root / name
        files = write_dicom_series(
            make_phantom(9000 + number, spacing_mm=(8.0, 8.0, 8.0)).volume, folder, seed=9000 + number
        )
        break_it(sorted(files))
        expected[name] = code.code
    return expected


def _change(files: list[Path], index: int, **values: object) -> None:
    """Set attributes of one file, or of all for index -1; None removes them."""
    for path in files if index < 0 else [files[index]]:
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        dataset.save_as(path)


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _as_damaged_zip(files: list[Path]) -> None:
    archive = files[0].parent / "series.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in files:
            packed.write(path, path.name)
            path.unlink()
    _cut(archive, archive.stat().st_size // 2)


def _as_cut_nifti(files: list[Path]) -> None:
    for path in files:
        path.unlink()
    path = files[0].parent / "scan.nii"
    nib.Nifti1Image(np.zeros((8, 8, 8), np.int16), np.eye(4)).to_filename(path)
    _cut(path, path.stat().st_size // 2)


_BROKEN: dict[str, tuple[ErrorCode, Callable[[list[Path]], object]]] = {
    "slice-missing": (SLICES_MISSING, lambda files: files[5].unlink()),
    "file-cut-in-its-header": (DICOM_DAMAGED, lambda files: _cut(files[3], 400)),
    "file-cut-in-its-pixels": (DICOM_DAMAGED, lambda files: _cut(files[3], files[3].stat().st_size - 900)),
    "no-orientation": (ATTRIBUTE_INVALID, lambda files: _change(files, -1, ImageOrientationPatient=None)),
    "no-rescale": (RESCALE_MISSING, lambda files: _change(files, -1, RescaleSlope=None)),
    "two-patients": (
        IDENTITIES_DIFFER,
        lambda files: _change(files, 2, PatientID="OTHER", PatientName="Other"),
    ),
    "one-position-twice": (
        POSITION_TWICE,
        lambda files: _change(
            files, 4, ImagePositionPatient=list(pydicom.dcmread(files[5]).ImagePositionPatient)
        ),
    ),
    "pixel-spacing-of-zero": (SPACING_INVALID, lambda files: _change(files, -1, PixelSpacing=[0, 0])),
    "zip-damaged": (ZIP_DAMAGED, _as_damaged_zip),
    "nifti-cut": (NIFTI_DAMAGED, _as_cut_nifti),
}

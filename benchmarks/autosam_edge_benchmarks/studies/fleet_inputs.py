"""Many small series for the study of batches: sound ones of many shapes, and ten broken in known ways."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

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
from autosam_edge.read_scan import read
from autosam_edge.volume import Volume

TINY_SLICES = 3
_LEAST, _MOST = 12, 30  # voxels along each side of a series
_STEP_MM = 5.0, 7.0  # the longest side is then a tile of the network


def make_sound(root: Path, count: int, scan: Path | None = None) -> None:
    """Write small parts of phantoms and of a scan as DICOM series of many shapes, each in its own folder.

    Args:
        root: Folder for the series.
        count: Number of series.
        scan: Folder of a CT series, of which every second series is a part; None for phantoms only.
    """
    real = None if scan is None else read(scan)
    for seed in range(count):
        rng = np.random.default_rng(seed)
        if real is not None and seed % 2:
            whole = real
        else:
            whole = make_phantom(seed, spacing_mm=(6.0, *rng.uniform(*_STEP_MM, 1).repeat(2))).volume
        write_dicom_series(_part(whole, rng), root / f"series{seed:04d}", seed=seed)


def _part(whole: Volume, rng: np.random.Generator) -> Volume:
    """A box at a random place, with every n-th voxel of a fine scan."""
    chosen = []
    affine = whole.grid.affine.copy()
    for axis, (size, spacing_mm) in enumerate(zip(whole.shape, whole.grid.spacing_mm, strict=True)):
        step = max(1, round(_STEP_MM[0] / spacing_mm))
        length = min(size // step, int(rng.integers(_LEAST, _MOST)))
        start = int(rng.integers(0, size - (length - 1) * step))
        chosen.append(slice(start, start + (length - 1) * step + 1, step))
        affine[:3, 3] += start * affine[:3, axis]
        affine[:3, axis] *= step
    hu = np.ascontiguousarray(whole.hu[tuple(chosen)])
    return Volume(hu, Grid(hu.shape, affine))


def make_tiny(root: Path, count: int) -> None:
    """Write series of three slices of 8 x 8 pixels of air, for the cost of a job without its inference.

    Args:
        root: Folder for the series, which lie in folders of a thousand.
        count: Number of series; each has UIDs of its own.
    """
    air = np.full((TINY_SLICES, 8, 8), -1000, np.int16)
    volume = Volume(air, Grid.axis_aligned(air.shape, (2.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0)))
    files = write_dicom_series(volume, root / "000" / "000000")
    contents = {path.name: path.read_bytes() for path in files}
    headers = [pydicom.dcmread(path) for path in files]
    uids = {header[f"{what}InstanceUID"].value for header in headers for what in ("Study", "Series", "SOP")}
    for number in range(1, count):
        folder = root / f"{number // 1000:03d}" / f"{number:06d}"
        folder.mkdir(parents=True)
        for name, content in contents.items():
            for uid in uids:  # pydicom takes milliseconds to write a file
                content = content.replace(uid.encode(), f"{uid[:-7]}{number:07d}".encode())
            (folder / name).write_bytes(content)


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

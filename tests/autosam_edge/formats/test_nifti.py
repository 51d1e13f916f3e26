"""A NIfTI volume has its values and its place, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.errors import InputError
from autosam_edge.formats.nifti import read_array, read_nifti
from autosam_edge.formats.nifti_header import lps_affine, ras_affine

HU_XYZ = (np.arange(3 * 4 * 5).reshape(5, 4, 3).T - 1000).astype(np.int16)  # (x, y, z)
RAS = np.array([[-0.9, 0, 0, 100], [0, -0.5, 0, 50], [0, 0, 2.5, 300], [0, 0, 0, 1.0]])
SHEARED = np.array(RAS)
SHEARED[1, 2] = 2.5 * np.tan(np.radians(22))  # what a tilted gantry leaves when nobody corrects it


def save(
    path: Path,
    data: Any = HU_XYZ,
    *,
    slope: float | None = None,
    inter: float = 0,
    affine: Any = RAS,
    **header: Any,
) -> Path:
    """Write a NIfTI-1 file; slope and inter go into the header while the stored values stay as they are."""
    image = nib.Nifti1Image(data, affine)
    for key, value in header.items():
        image.header[key] = value
    if slope is not None:
        image.header.set_slope_inter(slope, inter)
        path.write_bytes(
            image.header.binaryblock[:344] + b"n+1\0" + b"\0" * 4 + np.asarray(data).tobytes(order="F")
        )
        raw = bytearray(path.read_bytes())
        raw[108:112] = np.float32(352).tobytes()
        path.write_bytes(bytes(raw))
    else:
        nib.save(image, path)
    return path


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_values_and_place(tmp_path: Path, name: str) -> None:
    """Voxel (d, h, w) lies at (-100 + 0.9 w, -50 + 0.5 h, 300 + 2.5 d) in LPS."""
    volume = read_nifti(save(tmp_path / name))
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
    assert volume.hu.dtype == np.int16
    assert volume.hu.flags.c_contiguous
    np.testing.assert_allclose(volume.grid.affine @ [2, 1, 1, 1], [-99.1, -49.5, 305, 1], atol=1e-5)
    assert volume.warnings == ()


@given(st.lists(st.floats(-1000, 1000), min_size=12, max_size=12))
def test_affine_there_and_back(values: list[float]) -> None:
    """The two directions are exact inverses."""
    affine = np.vstack([np.reshape(values, (3, 4)), [0, 0, 0, 1]])
    np.testing.assert_array_equal(ras_affine(lps_affine(affine)), affine)


@pytest.mark.parametrize(
    ("stored", "slope", "inter", "dtype"),
    [
        (np.int16, 1, 0, np.int16),
        (np.int16, 2, -24, np.int16),
        (np.uint16, 1, -1024, np.int16),
        (np.int16, 100, 0, np.int32),
        (np.int16, 0.5, 0.25, np.float32),
        (np.float32, 1, 0, np.float32),
        (np.float64, 1, 0, np.float32),
        (np.int32, 1, 0, np.int16),
        (np.uint8, 1, -100, np.int16),
    ],
)
def test_scaling_is_exact_in_the_smallest_type(
    tmp_path: Path, stored: type, slope: float, inter: float, dtype: type
) -> None:
    """Whole numbers stay whole; fractions are not cut off."""
    data = (np.arange(60).reshape(3, 4, 5) + 20).astype(stored)
    if np.issubdtype(stored, np.signedinteger) or np.issubdtype(stored, np.floating):
        data = data - stored(1000)
    if np.issubdtype(stored, np.floating):
        data = data + stored(0.5)
    volume = read_nifti(save(tmp_path / "v.nii", data, slope=slope, inter=inter))
    assert volume.hu.dtype == dtype
    np.testing.assert_array_equal(volume.hu, data.T.astype(np.float64) * slope + inter)


def test_no_negative_value_is_suspicious(tmp_path: Path) -> None:
    """Air is below 0 HU in every CT."""
    assert (
        "Hounsfield" in read_nifti(save(tmp_path / "v.nii", np.ones((3, 4, 5), np.int16))).warnings[0].message
    )


def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    """Some tools write (x, y, z, 1)."""
    assert read_nifti(save(tmp_path / "v.nii", HU_XYZ[..., None])).shape == (5, 4, 3)


def test_thick_slices_are_told(tmp_path: Path) -> None:
    """As for DICOM: 5 mm or more."""
    thick = RAS @ np.diag([1, 1, 2, 1])
    (warning,) = read_nifti(save(tmp_path / "v.nii", affine=thick)).warnings
    assert warning.message == "Slices are 5 mm apart; small organs are uncertain at 5 mm or more."


def test_labels_may_lie_on_any_grid(tmp_path: Path) -> None:
    """The limits are those of a CT: the labels of one are read as they were written."""
    values, grid = read_array(save(tmp_path / "v.nii", HU_XYZ[:, :, :1], affine=SHEARED))
    assert values.shape == grid.shape == (1, 4, 3)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"data": np.zeros((3, 4, 5, 2), np.int16)}, "AE-NIFTI-002"),
        ({"data": np.zeros((3, 4), np.int16)}, "AE-NIFTI-002"),
        ({"affine": None}, "AE-NIFTI-003"),
        ({"xyzt_units": 1}, "AE-NIFTI-003"),  # meters
        ({"data": np.full((3, 4, 5), np.nan, np.float32)}, "AE-NIFTI-004"),
        ({"data": np.full((3, 4, 5), np.inf, np.float32)}, "AE-NIFTI-004"),
        ({"data": np.zeros((3, 4, 5), np.complex64)}, "AE-NIFTI-004"),
        ({"data": np.zeros((3, 4, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])}, "AE-NIFTI-004"),
        ({"affine": SHEARED}, "AE-NIFTI-006"),
        ({"affine": RAS * [[1000], [1000], [1000], [1]]}, "AE-NIFTI-006"),  # micrometers, be they called mm
        (
            {"affine": RAS * [[1000], [1000], [1000], [1]], "xyzt_units": 0},
            "AE-NIFTI-006",
        ),  # or nothing at all
        ({"affine": RAS / [[1000], [1000], [1000], [1]]}, "AE-NIFTI-006"),  # meters
        ({"data": HU_XYZ[:, :, :1]}, "AE-NIFTI-006"),
    ],
)
def test_refusals(tmp_path: Path, options: dict[str, Any], code: str) -> None:
    """What is not a CT volume with a place is refused."""
    with pytest.raises(InputError) as caught:
        read_nifti(save(tmp_path / "v.nii", **options))
    assert caught.value.code == code


@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_truncated_file(tmp_path: Path, name: str) -> None:
    """No zero fill."""
    path = save(tmp_path / name)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="AE-NIFTI-001"):
        read_nifti(path)

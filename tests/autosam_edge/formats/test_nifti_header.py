"""A NIfTI header has one place for each voxel, or is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_nifti import HU_XYZ, PIXDIM, QUATERNION, RAS, UNITS, patched

from autosam_edge.error_codes import NIFTI_FORMS_DIFFER, NIFTI_ORIENTATION_INVALID
from autosam_edge.errors import InputError
from autosam_edge.formats.nifti import read_nifti
from autosam_edge.formats.nifti_header import lps_affine
from autosam_edge.warning_codes import ALIGNED_FORM_IGNORED, TILT_CORRECTED

AREA = "NIfTI, NRRD and MetaImage"


def with_forms(path: Path, sform: Any, qform: Any, codes: tuple[int, int] = (1, 1), **header: Any) -> Path:
    """A NIfTI file with both forms."""
    image = nib.Nifti1Image(HU_XYZ, None)
    image.header.set_sform(sform, codes[0])
    image.header.set_qform(qform, codes[1])
    for key, value in header.items():
        image.header[key] = value
    nib.save(image, path)
    return path


def moved(mm: float) -> Any:
    """RAS, moved along x."""
    return RAS + np.array([[0, 0, 0, mm], *[[0, 0, 0, 0]] * 3])


FLIPPED = RAS * [[-1], [1], [1], [1]]
HALF = RAS @ np.diag([2, 2, 2, 1])


@hazard(
    AREA, "sform and qform that contradict each other (mirrored, moved, another spacing)", NIFTI_FORMS_DIFFER
)
@pytest.mark.parametrize("qform", [FLIPPED, moved(5), HALF], ids=["flip", "shift", "spacing"])
@pytest.mark.parametrize("codes", [(1, 1), (2, 2)])
def test_two_places_for_one_voxel_are_refused(tmp_path: Path, qform: Any, codes: tuple[int, int]) -> None:
    """Other tools would place the labels elsewhere, or measure other volumes."""
    with pytest.raises(InputError, match="AE-NIFTI-007.*mm apart") as caught:
        read_nifti(with_forms(tmp_path / "v.nii", RAS, qform, codes))
    assert ("mirror" in caught.value.message) == (qform is FLIPPED)
    assert "Convert the scan again" in caught.value.remedy


@hazard(
    AREA,
    "sform and qform that differ by rounding, below a quarter of a voxel",
    "read by the sform, without a warning",
)
def test_rounding_between_the_forms_is_silent(tmp_path: Path) -> None:
    """No label changes at a fifth of a voxel of 0.9 mm."""
    volume = read_nifti(with_forms(tmp_path / "v.nii", moved(0.18), RAS))
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.grid.affine, lps_affine(moved(0.18)), atol=1e-5)


@hazard(
    AREA,
    "qform near half a turn, where float32 is exact to 0.06 degrees only",
    "read by the sform, in silence",
)
def test_coarse_quaternion_is_silent(tmp_path: Path) -> None:
    """The fourth part of the quaternion, sqrt(1 - b*b - c*c - d*d), is lost in rounding."""
    turn = np.eye(4)
    for (one, two), degrees in (((0, 2), 2), ((1, 2), 3)):
        step = np.eye(4)
        step[one, one] = step[two, two] = np.cos(np.radians(degrees))
        step[one, two], step[two, one] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
        turn = step @ turn
    affine = turn @ np.diag([-2.06, -2.06, 3.0, 1.0])
    values = np.full((256, 256, 60), -1000, np.int16)
    values[50:200, 50:200] = 40
    image = nib.Nifti1Image(values, None)
    image.header.set_sform(affine, 1)
    image.header.set_qform(affine, 1)
    nib.save(image, tmp_path / "v.nii")
    far = np.array([255, 255, 59, 1])
    assert np.linalg.norm((affine - image.header.get_qform()) @ far) > 0.5
    volume = read_nifti(tmp_path / "v.nii")
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.grid.affine, lps_affine(affine), atol=1e-6)


@hazard(AREA, "sform of an aligned space beside the qform of the scanner", ALIGNED_FORM_IGNORED)
@pytest.mark.parametrize(("codes", "used"), [((2, 1), RAS), ((4, 1), RAS), ((1, 2), moved(40))])
def test_the_form_of_the_scanner_is_used(tmp_path: Path, codes: tuple[int, int], used: Any) -> None:
    """The format provides for a second space (nifti1.h, "5 coordinate systems"); the patient lay in one."""
    volume = read_nifti(with_forms(tmp_path / "v.nii", moved(40), RAS, codes))
    assert [warning.code for warning in volume.warnings] == [ALIGNED_FORM_IGNORED.code]
    np.testing.assert_allclose(volume.grid.affine, lps_affine(used), atol=1e-5)


@hazard(AREA, "sform of an aligned space that mirrors the scanner's qform", NIFTI_FORMS_DIFFER)
@pytest.mark.parametrize("sform", [FLIPPED, HALF, RAS @ np.diag([-1, -1, 1, 1])])
def test_no_alignment_mirrors_or_scales(tmp_path: Path, sform: Any) -> None:
    """A patient is not mirrored, turned by half a circle or enlarged by an alignment."""
    with pytest.raises(InputError, match="AE-NIFTI-007"):
        read_nifti(with_forms(tmp_path / "v.nii", sform, RAS, (2, 1)))


@hazard(AREA, "sform alone whose spacing contradicts pixdim", NIFTI_FORMS_DIFFER)
def test_pixdim_must_agree_with_the_sform(tmp_path: Path) -> None:
    """ITK takes the size of a voxel from pixdim, nibabel from the sform."""
    path = with_forms(tmp_path / "v.nii", RAS, RAS, (1, 0))
    assert read_nifti(path).grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))
    patched(path, PIXDIM + 4, np.ones(3, np.float32))
    with pytest.raises(InputError, match="AE-NIFTI-007.*2.5 x 0.5 x 0.9 mm.*1 x 1 x 1 mm by pixdim"):
        read_nifti(path)
    assert read_nifti(patched(path, PIXDIM + 4, np.zeros(3, np.float32))).warnings == ()  # not set


@hazard(AREA, "qform alone whose pixdim is zero or negative", NIFTI_ORIENTATION_INVALID)
@pytest.mark.parametrize("pixel", [0.0, -0.9, np.nan])
def test_a_missing_spacing_is_never_1_mm(tmp_path: Path, pixel: float) -> None:
    """The qform has its sizes from pixdim."""
    path = with_forms(tmp_path / "v.nii", RAS, RAS, (0, 1))
    assert read_nifti(path).grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))
    with pytest.raises(InputError, match="AE-NIFTI-003.*qform"):
        read_nifti(patched(path, PIXDIM + 4, np.float32(pixel)))


@hazard(
    AREA,
    "sform whose axes are not at right angles by rounding, with a sound qform or none",
    "read by the sform",
)
@pytest.mark.parametrize("code", [0, 1])
def test_rounded_sform_is_read(tmp_path: Path, code: int) -> None:
    """Three decimals of a turned grid; the exact form is the qform."""
    angle = np.radians(3)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    rounded = turn @ RAS
    rounded[:3, :3] = np.round(rounded[:3, :3], 3)
    volume = read_nifti(with_forms(tmp_path / "v.nii", rounded, turn @ RAS, (1, code)))
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.grid.affine, lps_affine(rounded), atol=1e-4)


@hazard(AREA, "tilted NIfTI whose qform is the nearest rotation, as ITK writes it", TILT_CORRECTED)
@pytest.mark.parametrize("degrees", [0.3, 12.0, -25.0])
def test_the_sform_holds_the_tilt(tmp_path: Path, degrees: float) -> None:
    """A quaternion has no shear, so the forms cannot say the same; that is no contradiction."""
    tilted = RAS.copy()
    tilted[1, 2] = 2.5 * np.tan(np.radians(degrees))
    volume = read_nifti(with_forms(tmp_path / "v.nii", tilted, tilted))
    assert [warning.code for warning in volume.warnings] == [TILT_CORRECTED.code]
    np.testing.assert_allclose(volume.grid.affine, lps_affine(tilted), atol=1e-5)


@hazard(AREA, "quaternion that is longer than 1 by rounding, with or without a sform", "read, like ITK")
@pytest.mark.parametrize("codes", [(0, 1), (1, 1)])
@pytest.mark.parametrize("quaternion", [(0, 0, 1.0000005), (0.707107, 0.707107, 0), (0.7075, 0.7068, 0)])
def test_quaternion_beyond_unit_length(tmp_path: Path, codes: tuple[int, int], quaternion: Any) -> None:
    """Six digits of a square root are enough for it; nifti1_io.c takes 0 for the real part."""
    sitk = pytest.importorskip("SimpleITK")
    b, c, d = np.array(quaternion) / np.linalg.norm(quaternion)
    turn = np.diag([1.0, 1, 1, 1])
    turn[:3, :3] = 2 * np.outer((b, c, d), (b, c, d)) - np.eye(3)
    affine = turn @ np.diag([0.9, 0.5, 2.5, 1])
    path = with_forms(tmp_path / "v.nii", affine, affine, codes)
    volume = read_nifti(patched(path, QUATERNION, np.array(quaternion, np.float32)))
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.grid.affine, lps_affine(affine), atol=1e-5)
    by_itk = np.reshape(sitk.ReadImage(str(path)).GetDirection(), (3, 3))
    np.testing.assert_allclose(volume.grid.direction[:, ::-1], by_itk, atol=1e-5)


@hazard(
    AREA,
    "quaternion far longer than 1, or a size of voxels that is missing, and no sform",
    NIFTI_ORIENTATION_INVALID,
)
@pytest.mark.parametrize("quaternion", [(0, 0, 1.1), (0.8, 0.8, 0), (np.nan, 0, 1), (np.inf, 0, 0)])
def test_quaternion_that_is_none(tmp_path: Path, quaternion: Any) -> None:
    """No rounding does that."""
    path = with_forms(tmp_path / "v.nii", RAS, RAS, (0, 1))
    with pytest.raises(InputError, match="AE-NIFTI-003.*qform"):
        read_nifti(patched(path, QUATERNION, np.array(quaternion, np.float32)))


@hazard(AREA, "pixdim[0] other than 1 and -1", "its sign counts, as in nifti1_io.c")
@pytest.mark.parametrize("codes", [(0, 1), (1, 1)])
@pytest.mark.parametrize("factor", [0, 2, 3, np.nan, -2])
def test_sign_of_the_third_axis(tmp_path: Path, codes: tuple[int, int], factor: float) -> None:
    """The format knows 1, -1, and 0 for 1."""
    affine = RAS @ np.diag([1, 1, -1, 1]) if factor < 0 else RAS
    path = with_forms(tmp_path / "v.nii", affine, affine, codes)
    volume = read_nifti(patched(path, PIXDIM, np.array([factor], np.float32)))
    assert volume.warnings == ()
    np.testing.assert_allclose(volume.grid.affine, lps_affine(affine), atol=1e-5)


@hazard(AREA, "qform that is not usable beside the sform of the scanner", "read by the sform")
@pytest.mark.parametrize("codes", [(1, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize(("place", "value"), [(QUATERNION, 1.5), (QUATERNION, np.nan), (PIXDIM + 4, 0)])
def test_an_unusable_qform_decides_nothing(tmp_path: Path, codes: Any, place: int, value: float) -> None:
    """The sform is used whatever the qform says."""
    path = with_forms(tmp_path / "v.nii", RAS, RAS, codes)
    volume = read_nifti(patched(path, place, np.array([value], np.float32)))
    np.testing.assert_allclose(volume.grid.affine, lps_affine(RAS), atol=1e-5)


@hazard(
    AREA,
    "qform of the scanner that is not usable beside the sform of another space",
    NIFTI_ORIENTATION_INVALID,
)
def test_an_unusable_qform_of_the_scanner(tmp_path: Path) -> None:
    """It is the one that would be used."""
    path = with_forms(tmp_path / "v.nii", RAS, RAS, (2, 1))
    with pytest.raises(InputError, match="AE-NIFTI-003.*qform"):
        read_nifti(patched(path, QUATERNION, np.array([1.5], np.float32)))


@hazard(AREA, "xyzt_units with any bits about time", "read: the unit of length counts")
@pytest.mark.parametrize("units", [2, 10, 0xC2, 2 | 56, 0, 0xC0])
def test_unit_of_length(tmp_path: Path, units: int) -> None:
    """XYZT_TO_SPACE of nifti1.h takes the lowest three bits."""
    path = patched(with_forms(tmp_path / "v.nii", RAS, RAS), UNITS, np.array([units], np.uint8))
    assert read_nifti(path).warnings == ()


@hazard(AREA, "NIfTI in meters, in micrometers, or in a unit that is not defined", NIFTI_ORIENTATION_INVALID)
@pytest.mark.parametrize("units", [1, 3, 4, 7, 0xC3])
def test_other_units_of_length(tmp_path: Path, units: int) -> None:
    """Nothing is converted."""
    path = patched(with_forms(tmp_path / "v.nii", RAS, RAS), UNITS, np.array([units], np.uint8))
    with pytest.raises(InputError, match="AE-NIFTI-003.*unit"):
        read_nifti(path)

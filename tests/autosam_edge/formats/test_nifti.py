"""A NIfTI volume has its values and its place, or is refused."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_nifti import DIM, HU_XYZ, OFFSET, RAS, SCALE, patched
from hypothesis import given
from hypothesis import strategies as st

from autosam_edge.error_codes import (
    COMPANION_MISSING,
    NIFTI_DAMAGED,
    NIFTI_GRID_INVALID,
    NIFTI_NOT_3D,
    NIFTI_ORIENTATION_INVALID,
    NIFTI_VALUES_INVALID,
    VOLUME_TOO_LARGE,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.companion import companion_status
from autosam_edge.formats.nifti import read_array, read_nifti
from autosam_edge.formats.nifti_header import lps_affine, ras_affine
from autosam_edge.read_scan import read
from autosam_edge.warning_codes import EXTRA_AXES

AREA = "NIfTI, NRRD and MetaImage"
SHEARED = np.array(RAS)
SHEARED[1, 2] = 2.5 * np.tan(np.radians(22))  # what a tilted gantry leaves when nobody corrects it
SKEWED = np.array(RAS)
SKEWED[0, 1] = 0.1  # rows and columns of the axial plane are not perpendicular


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
    nib.save(image, path)
    return path if slope is None else patched(path, SCALE, np.array([slope, inter], np.float32))


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
    if slope < 100 and (np.issubdtype(stored, np.signedinteger) or np.issubdtype(stored, np.floating)):
        data = data - stored(600)
    elif slope == 100:
        data = data * stored(10)
    if np.issubdtype(stored, np.floating):
        data = data + stored(0.5)
    volume = read_nifti(save(tmp_path / "v.nii", data, slope=slope, inter=inter))
    assert volume.hu.dtype == dtype
    np.testing.assert_array_equal(volume.hu, data.T.astype(np.float64) * slope + inter)


@hazard(AREA, "NIfTI with further axes of length 1", EXTRA_AXES)
def test_trailing_axis_of_one_is_dropped(tmp_path: Path) -> None:
    """Some tools write (x, y, z, 1)."""
    volume = read_nifti(save(tmp_path / "v.nii", HU_XYZ[..., None]))
    assert volume.shape == (5, 4, 3)
    (warning,) = volume.warnings
    assert (warning.code, warning.message[:22]) == (EXTRA_AXES.code, "3 of 4 axes were kept;")


def test_thick_slices_are_told(tmp_path: Path) -> None:
    """As for DICOM: 5 mm or more."""
    thick = RAS @ np.diag([1, 1, 2, 1])
    (warning,) = read_nifti(save(tmp_path / "v.nii", affine=thick)).warnings
    assert warning.message == "Slices are 5 mm apart; small organs are uncertain at 5 mm or more."


def test_a_tilted_grid_is_read_as_it_is(tmp_path: Path) -> None:
    """The voxels stay where they are; the run straightens them."""
    volume = read_nifti(save(tmp_path / "v.nii", affine=SHEARED))
    assert [warning.code for warning in volume.warnings] == ["AE-WARN-041"]
    np.testing.assert_allclose(volume.grid.affine, lps_affine(SHEARED), atol=1e-6)


def test_labels_may_lie_on_any_grid(tmp_path: Path) -> None:
    """The limits are those of a CT: the labels of one are read as they were written."""
    values, grid = read_array(save(tmp_path / "v.nii", HU_XYZ[:, :, :1], affine=SHEARED))
    assert values.shape == grid.shape == (1, 4, 3)


@hazard(AREA, "NIfTI of a series in time, of vectors, or 2D", NIFTI_NOT_3D)
@hazard(AREA, "NIfTI without sform and qform, or not in mm", NIFTI_ORIENTATION_INVALID)
@hazard(AREA, "NIfTI with NaN, infinity, colors or complex numbers", NIFTI_VALUES_INVALID)
@hazard(AREA, "NIfTI with lengths in micrometers or meters called mm", NIFTI_GRID_INVALID)
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
        ({"affine": SKEWED}, "AE-NIFTI-006"),
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


@hazard(AREA, "NIfTI that ends early, compressed or not", NIFTI_DAMAGED)
@pytest.mark.parametrize("cut", [1, 20, 400])
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_truncated_file(tmp_path: Path, name: str, cut: int) -> None:
    """No zero fill; a compressed file whose checksum alone is missing is not trusted either."""
    noise = np.random.default_rng(0).integers(-1000, 1000, (9, 8, 7)).astype(np.int16)
    path = save(tmp_path / name, noise)
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(InputError, match="AE-NIFTI-001.*end") as caught:
        read_nifti(path)
    assert "Copy the file again" in caught.value.remedy


@hazard(AREA, "gzip NIfTI whose compressed bytes are damaged", NIFTI_DAMAGED)
def test_damaged_gzip(tmp_path: Path) -> None:
    """The checksum at the end of gzip is compared."""
    path = save(tmp_path / "v.nii.gz", np.random.default_rng(0).integers(-1000, 0, (20, 20, 20)).astype("i2"))
    raw = bytearray(path.read_bytes())
    raw[-8] ^= 1
    path.write_bytes(bytes(raw))
    with pytest.raises(InputError, match="AE-NIFTI-001.*damaged"):
        read_nifti(path)


@hazard(AREA, "`.nii.gz` that is not gzip, `.nii` that is, or another name", "read")
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz", "V.NII.GZ", "v", "v.nii (1).gz", "v.dcm"])
@pytest.mark.parametrize("zipped", [False, True])
def test_content_counts_and_not_the_name(tmp_path: Path, name: str, zipped: bool) -> None:
    """A file keeps its content when it is renamed."""
    raw = save(tmp_path / "plain.nii").read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(raw) if zipped else raw)
    np.testing.assert_array_equal(read(tmp_path / name).hu, HU_XYZ.T)


def pair(folder: Path, *, ending: str = "") -> tuple[Path, Path]:
    """A NIfTI-1 pair, each file compressed if ``ending`` is ``.gz``."""
    nib.save(nib.Nifti1Pair(HU_XYZ, RAS), folder / f"case.img{ending}")
    return folder / f"case.hdr{ending}", folder / f"case.img{ending}"


@hazard(AREA, "NIfTI pair of `.hdr` and `.img`, either of them given", "read")
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_both_files_of_a_pair_are_a_way_in(tmp_path: Path, ending: str) -> None:
    """Header and voxels give the same volume, and both files belong to the input."""
    files = pair(tmp_path, ending=ending)
    for path in files:
        volume = read(path)
        np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
        np.testing.assert_allclose(volume.grid.affine, lps_affine(RAS))
        assert volume.source.files == files
    assert companion_status(files[0]) == files[1].stat()


@hazard(AREA, "NIfTI pair whose names differ in upper and lower case", "read")
def test_case_of_the_names_of_a_pair_does_not_matter(tmp_path: Path) -> None:
    """Some systems write CASE.HDR and case.img."""
    header, voxels = pair(tmp_path)
    header = header.rename(tmp_path / "CASE.HDR")
    assert read(header).shape == read(voxels).shape == (5, 4, 3)
    assert companion_status(header) == voxels.stat()


@hazard(AREA, "NIfTI header of a pair without its `.img`", COMPANION_MISSING)
def test_header_alone(tmp_path: Path) -> None:
    """The header is sound, so the message says what is missing."""
    header, voxels = pair(tmp_path)
    voxels.unlink()
    with pytest.raises(InputError, match=r"AE-INPUT-012.*\.img file"):
        read(header)


@hazard(AREA, "link to the voxels of a pair that leads out of the folder", COMPANION_MISSING)
def test_voxels_of_a_pair_stay_in_the_folder(tmp_path: Path) -> None:
    """A pair is one folder's."""
    (tmp_path / "here").mkdir()
    header, voxels = pair(tmp_path)
    header = header.rename(tmp_path / "here" / "case.hdr")
    (tmp_path / "here" / "case.img").symlink_to(voxels)
    with pytest.raises(InputError, match="AE-INPUT-012.*link"):
        read(header)


@hazard(AREA, "Analyze 7.5, which holds no orientation", NIFTI_ORIENTATION_INVALID)
def test_analyze_is_refused_for_its_reason(tmp_path: Path) -> None:
    """Left and right cannot be known, which is no damage."""
    nib.save(nib.AnalyzeImage(HU_XYZ, None), tmp_path / "case.img")
    for name in ("case.hdr", "case.img"):
        with pytest.raises(InputError, match="AE-NIFTI-003.*Analyze.*left and right"):
            read(tmp_path / name)


@hazard(AREA, "NIfTI whose header tells of more voxels than the file can hold", NIFTI_DAMAGED)
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_a_header_that_promises_too_much_is_refused_before_anything_is_allocated(
    tmp_path: Path, name: str
) -> None:
    """A billion voxels would need two GB; the file has a few hundred bytes."""
    path = patched(save(tmp_path / "v.nii"), DIM + 2, np.full(3, 1000, np.int16))
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match="AE-NIFTI-001.*ends early.*2000000000 bytes"):
        read_nifti(tmp_path / name)


@hazard(AREA, "NIfTI whose voxels would start within the header", NIFTI_DAMAGED)
@pytest.mark.parametrize("offset", [3.0, 351.0, -1.0, np.nan, np.inf])
def test_voxels_start_after_the_header(tmp_path: Path, offset: float) -> None:
    """The header would be read as voxels."""
    path = patched(save(tmp_path / "v.nii"), OFFSET, np.float32(offset))
    with pytest.raises(InputError, match="AE-NIFTI-001"):
        read_nifti(path)


@hazard(AREA, "more than 2**30 voxels", VOLUME_TOO_LARGE)
def test_too_many_voxels(tmp_path: Path) -> None:
    """As for DICOM."""
    path = patched(save(tmp_path / "v.nii"), DIM + 2, np.full(3, 32767, np.int16))
    with pytest.raises(InputError, match="AE-INPUT-013"):
        read_nifti(path)


@hazard(AREA, "NIfTI-2, or big-endian NIfTI", "read")
def test_other_layouts_of_the_header(tmp_path: Path) -> None:
    """The same voxels in every layout."""
    nib.save(nib.Nifti2Image(HU_XYZ, RAS), tmp_path / "two.nii")
    big = nib.Nifti1Image(HU_XYZ.astype(">i2"), RAS, nib.Nifti1Header(endianness=">"))
    (tmp_path / "big.nii").write_bytes(big.to_bytes())
    assert (tmp_path / "big.nii").read_bytes()[:4] == (348).to_bytes(4, "big")
    for name in ("two.nii", "big.nii"):
        np.testing.assert_array_equal(read_nifti(tmp_path / name).hu, HU_XYZ.T)

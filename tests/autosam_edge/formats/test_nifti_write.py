"""NIfTI out: the same grid to 1e-4 mm in other readers, the same bytes twice, no patient data."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard

from autosam_edge.formats.nifti import read_array, write_nifti
from autosam_edge.formats.nifti_header import ras_affine
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Provenance, Segmentation

if TYPE_CHECKING:
    from pathlib import Path

SHAPE = (12, 40, 50)


def rotation(degrees: tuple[float, float, float]) -> np.ndarray:
    """Rotation about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        one, two = [k for k in range(3) if k != axis]
        turn[[one, two], [one, two]] = np.cos(angle)
        turn[one, two], turn[two, one] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


PROVENANCE = Provenance(version="1.2.3")


def make(
    degrees: tuple[float, float, float],
    corner: tuple[float, float, float],
    provenance: Provenance = PROVENANCE,
) -> Segmentation:
    """Random labels on a rotated grid of 2.5 x 0.7 x 0.9 mm."""
    affine = np.eye(4)
    affine[:3, :3] = rotation(degrees)[:, [2, 1, 0]] * np.array([2.5, 0.7, 0.9])
    affine[:3, 3] = corner
    labels = np.random.default_rng(1).integers(0, 14, SHAPE).astype(np.uint8)
    return Segmentation(labels, Grid(SHAPE, affine), BTCV_LABELS, provenance)


CASES = {
    "axial": ((0.0, 0.0, 0.0), (-276.3671, -263.6718, 1532.0)),
    "oblique": ((20.0, -35.0, 70.0), (-276.37, 12.13, 1033.77)),
    "nearly straight": ((0.05, -0.03, 0.02), (-200.1, -180.2, -1033.3)),
    "prone": ((0.0, 0.0, 180.0), (200.1, 180.2, -900.3)),
    "far": ((10.0, 0.0, 0.0), (-276.37123, 12.1, 5033.1233)),
}
TOLERANCE_MM = {case: 3e-4 if case == "far" else 1e-4 for case in CASES}


@pytest.mark.parametrize("case", CASES)
def test_simpleitk_sees_the_same_grid_and_labels(case: str, tmp_path: Path) -> None:
    """Every corner lies within 1e-4 mm of where it was, oblique too.

    Five meters out float32 is worth 3e-4 mm.
    """
    sitk = pytest.importorskip("SimpleITK")
    segmentation = make(*CASES[case])
    path = tmp_path / "labels.nii.gz"
    write_nifti(segmentation, path)
    image = sitk.ReadImage(str(path))
    for corner in np.ndindex(2, 2, 2):
        d, h, w = (int(place) for place in np.array(corner) * (np.array(SHAPE) - 1))
        expected = (segmentation.grid.affine @ np.array([d, h, w, 1.0]))[:3]
        np.testing.assert_allclose(
            image.TransformIndexToPhysicalPoint((w, h, d)), expected, rtol=0, atol=TOLERANCE_MM[case]
        )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), segmentation.labels)


@pytest.mark.parametrize("case", CASES)
def test_our_reader_gives_back_what_was_written(case: str, tmp_path: Path) -> None:
    """Labels and grid survive the way out and in."""
    segmentation = make(*CASES[case])
    write_nifti(segmentation, tmp_path / "labels.nii.gz")
    labels, grid = read_array(tmp_path / "labels.nii.gz")
    assert grid.same_as(segmentation.grid, tolerance_mm=TOLERANCE_MM[case])
    np.testing.assert_array_equal(labels, segmentation.labels)


def test_header_says_what_and_whose(tmp_path: Path) -> None:
    """uint8 labels in mm, scanner coordinates in both forms, software and research use in descrip."""
    write_nifti(make(*CASES["oblique"]), tmp_path / "labels.nii.gz")
    header = nib.load(tmp_path / "labels.nii.gz").header
    assert header.get_data_dtype() == np.uint8
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    assert header.get_xyzt_units()[0] == "mm"
    assert header["descrip"].tobytes().rstrip(b"\0") == b"autosam-edge 1.2.3; Research use only"
    np.testing.assert_allclose(header.get_qform(), header.get_sform(), atol=1e-3)


def test_extension_holds_table_provenance_and_exact_affine(tmp_path: Path) -> None:
    """The comment extension is JSON with what a reader needs to know what each value means."""
    segmentation = make(
        *CASES["oblique"], Provenance(version="1.2.3", model_sha256="ab" * 32, parameters={"overlap": 0.5})
    )
    write_nifti(segmentation, tmp_path / "labels.nii.gz")
    (extension,) = nib.load(tmp_path / "labels.nii.gz").header.extensions
    assert extension.get_code() == 6
    text = extension.get_content()
    content = json.loads(text if isinstance(text, str) else text.rstrip(b"\0"))
    assert content["research_use"].startswith("Research use only")
    assert [label["name"] for label in content["labels"]] == [label.name for label in BTCV_LABELS]
    assert content["provenance"] == segmentation.provenance.as_dict()
    np.testing.assert_array_equal(content["affine_lps_mm"], segmentation.grid.affine)


@hazard(
    "Results",
    "a tilted (sheared) input: sform exact, qform the nearest rotation",
    "opens in ITK, without tilt",
)
@pytest.mark.parametrize("degrees", [0.2, 15.0])
def test_sheared_grid_opens_in_itk_and_comes_back(degrees: float, tmp_path: Path) -> None:
    """A quaternion has no shear, and ITK opens no file without a qform then; our reader takes the sform."""
    sitk = pytest.importorskip("SimpleITK")
    straight = make(*CASES["oblique"])
    affine = straight.grid.affine.copy()
    affine[:3, 0] += np.tan(np.radians(degrees)) * 2.5 * straight.grid.direction[:, 1]
    sheared = Segmentation(straight.labels, Grid(SHAPE, affine), BTCV_LABELS)
    path = tmp_path / "labels.nii.gz"
    write_nifti(sheared, path)
    header = nib.load(path).header
    assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
    image = sitk.ReadImage(str(path))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image), sheared.labels)
    np.testing.assert_allclose(image.GetOrigin(), affine[:3, 3], atol=1e-3)
    labels, grid = read_array(path)
    np.testing.assert_array_equal(labels, sheared.labels)
    assert grid.same_as(sheared.grid)


@hazard(
    "Results",
    "axes of the input that are not quite at right angles, by rounding",
    "opens in ITK at its place",
)
def test_rounded_axes_open_in_itk(tmp_path: Path) -> None:
    """Three decimals of a turned grid: ITK sees every corner within a tenth of a voxel."""
    sitk = pytest.importorskip("SimpleITK")
    exact = make(*CASES["oblique"])
    affine = exact.grid.affine.copy()
    affine[:3, :3] = np.round(affine[:3, :3], 3)
    rounded = Segmentation(exact.labels, Grid(SHAPE, affine), BTCV_LABELS)
    path = tmp_path / "labels.nii.gz"
    write_nifti(rounded, path)
    image = sitk.ReadImage(str(path))
    for d, h, w in (tuple(int(n) for n in np.array(c) * (np.array(SHAPE) - 1)) for c in np.ndindex(2, 2, 2)):
        expected = (affine @ [d, h, w, 1.0])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint((w, h, d)), expected, atol=0.07)
    np.testing.assert_allclose(nib.load(path).header.get_sform(), ras_affine(affine), atol=1e-4)
    assert read_array(path)[1].same_as(rounded.grid)


def test_same_input_gives_identical_bytes(tmp_path: Path) -> None:
    """No time and no file name in the gzip header."""
    for name in ("one.nii.gz", "two.nii.gz"):
        write_nifti(make(*CASES["oblique"]), tmp_path / name)
    one = (tmp_path / "one.nii.gz").read_bytes()
    assert one == (tmp_path / "two.nii.gz").read_bytes()
    assert one[4:8] == b"\0\0\0\0"
    assert b"one" not in gzip.decompress(one)[:352]


def test_views_are_written_in_the_right_order(tmp_path: Path) -> None:
    """A flipped view is written as it reads, not as it lies in memory."""
    segmentation = make(*CASES["axial"])
    flipped = Segmentation(segmentation.labels[::-1, :, ::-1], segmentation.grid, BTCV_LABELS)
    write_nifti(flipped, tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(read_array(tmp_path / "labels.nii.gz")[0], flipped.labels)


def test_long_version_fits_the_header(tmp_path: Path) -> None:
    """The field descrip holds 80 bytes; the research-use statement is never what is cut."""
    write_nifti(make(*CASES["axial"], Provenance(version="1.0.dev" + "9" * 90)), tmp_path / "labels.nii.gz")
    assert (
        nib.load(tmp_path / "labels.nii.gz")
        .header["descrip"]
        .tobytes()
        .rstrip(b"\0")
        .endswith(b"Research use only")
    )

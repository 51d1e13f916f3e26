"""A CT series becomes the right HU at the right place, or a refusal with a code and without patient data."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from autosam_edge.dicom.read import read_dicom
from autosam_edge.warning_codes import COPIES_IGNORED

AXIAL_AFFINE = [[0, 0, 0.9, -100], [0, 0.5, 0, -50], [2.5, 0, 0, 300], [0, 0, 0, 1]]


def test_axial_series_has_its_values_and_its_place(ct: Any) -> None:
    """Slices are ordered by position, although names and InstanceNumber run the other way."""
    ct.write()
    volume = read_dicom(ct.path)
    assert volume.hu.dtype == np.int16
    np.testing.assert_array_equal(volume.hu, ct.hu)
    np.testing.assert_allclose(volume.grid.affine, AXIAL_AFFINE, atol=1e-9)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))
    assert volume.warnings == ()
    assert [path.name for path in volume.source.files] == ["im099", "im098", "im097", "im096", "im095"]
    assert volume.source.kind == "dicom"
    assert len(volume.source.series_hash) == 64


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # DS of more than 16 letters
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    quaternion=st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: sum(x * x for x in q) > 0.1),
    order=st.permutations(range(5)),
)
def test_any_rotation_and_any_order(ct: Any, quaternion: tuple[float, ...], order: list[int]) -> None:
    """Slices of a rotated stack, saved in any order, are read as the stack."""
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    row = (1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w))
    column = (2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w))
    for d, name in enumerate(order):
        ct.save(ct.image(d, orientation=(*map(float, row), *map(float, column))), f"file{name}")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9), abs=1e-5)
    expected = [-100, -50, 300] + 10 * np.cross(row, column) + 2.5 * np.array(column) + 6.3 * np.array(row)
    np.testing.assert_allclose((volume.grid.affine @ [4, 5, 7, 1])[:3], expected, atol=1e-4)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
)
def test_native_transfer_syntaxes_are_equal(ct: Any, syntax: str) -> None:
    """The encoding of a file does not change its values."""
    for d in range(5):
        image = ct.image(d)
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
        ct.save(image, str(d))
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


def test_header_longer_than_the_read_ahead_is_read(ct: Any) -> None:
    """A private block of 100 kB before the pixels is no obstacle."""
    for d in range(5):
        image = ct.image(d)
        image.private_block(0x0029, "TEST", create=True).add_new(1, "OB", b"\0" * 100_000)
        ct.save(image, str(d))
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard("Choice of the series", "a slice is there twice, with the same values", COPIES_IGNORED)
def test_exact_copy_of_a_slice_is_ignored_with_a_warning(ct: Any) -> None:
    """The same file twice is one slice."""
    paths = ct.write()
    shutil.copy(paths[2], ct.path / "copy")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert [w.message for w in volume.warnings] == ["Ignored 1 exact copy of slices."]


def test_copies_in_another_encoding_are_ignored(ct: Any) -> None:
    """The same HU as signed words of 16 bits without an intercept."""
    ct.write()
    for d in range(5):
        words = {"BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1, "RescaleIntercept": 0}
        image = ct.image(d, SOPInstanceUID=f"1.2.{d}", PixelData=ct.hu[d].astype("<i2").tobytes(), **words)
        ct.save(image, f"copy{d}")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert [w.code for w in volume.warnings] == ["AE-WARN-004"]


def test_rounded_positions_are_tolerated(ct: Any) -> None:
    """Positions rounded to 0.01 mm are not an uneven spacing."""
    for d in range(5):
        ct.save(ct.image(d, ImagePositionPatient=[-100, -50, round(300 + 0.625 * d, 2)]), str(d))
    assert read_dicom(ct.path).grid.spacing_mm[0] == pytest.approx(0.625, abs=2e-3)


@hazard(
    "Files and folders", "one Enhanced CT file, or a folder that holds it, with frames in any order", "read"
)
def test_enhanced_ct_is_ordered_by_position(ct: Any) -> None:
    """Frames in any order give the volume of the classic series."""
    path = ct.save(ct.enhanced([3, 0, 4, 1, 2]), "enhanced.dcm")
    for root in (ct.path, path):
        volume = read_dicom(root)
        np.testing.assert_array_equal(volume.hu, ct.hu)
        np.testing.assert_allclose(volume.grid.affine, AXIAL_AFFINE, atol=1e-9)
        assert volume.source.files == (path,)


def test_mixed_frames_are_named(ct: Any) -> None:
    """Two frames of one file by their numbers."""
    image, measures = ct.enhanced([0, 1, 2]), Dataset()
    measures.PixelSpacing = [0.5, 0.8]
    image.PerFrameFunctionalGroupsSequence[1].PixelMeasuresSequence = [measures]
    ct.save(image, "enhanced")
    assert "frame 2 of file 1 of 1 and frame 1 of file 1 of 1 differ" in refusal(ct.path).message


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # those of writing invalid test data
def test_no_pydicom_warning_or_log_record_escapes(ct: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Pydicom's warnings and log records quote values, so none may reach the console."""
    ct.write(StudyInstanceUID="not.a.valid.uid.Mustermann", PatientID="x" * 100)
    caplog.clear()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        read_dicom(ct.path)
    assert not seen
    assert not caplog.records


@pytest.mark.parametrize(
    ("folder", "code"),
    [
        ("notavolume/001", "AE-DICOM-015"),
        ("slicecount/001", "AE-DICOM-002"),  # MR
        ("sliceincrement/001", "AE-DICOM-016"),
        ("sliceincrement/002", "AE-DICOM-016"),  # tilted as well, and says so
        ("sliceorientation/001", "AE-DICOM-002"),  # MR
    ],
)
def test_real_broken_series_is_refused(real_scans: Path, folder: str, code: str) -> None:
    """The series that dicom2nifti collected."""
    assert refusal(real_scans / "dicom2nifti-failing" / folder).code == code


@pytest.mark.parametrize(
    ("folder", "code"), [("slicecount/001", "AE-DICOM-011"), ("sliceorientation/001", "AE-DICOM-012")]
)
def test_real_broken_mr_series_is_refused_as_ct_too(
    real_scans: Path, tmp_path: Path, folder: str, code: str
) -> None:
    """Said to be CT, the MR series show the fault that they were collected for."""
    for path in (real_scans / "dicom2nifti-failing" / folder).glob("*.dcm"):
        image: Dataset = pydicom.dcmread(path)
        image.SOPClassUID, image.Modality, image.RescaleSlope, image.RescaleIntercept = (
            "1.2.840.10008.5.1.4.1.1.2",
            "CT",
            1,
            0,
        )
        image.FrameOfReferenceUID = "1.2.3"
        image.save_as(tmp_path / path.name)
    assert refusal(tmp_path).code == code


def test_real_series_equals_simpleitk(real_scans: Path) -> None:
    """Values, spacing, origin and direction of a Toshiba abdomen, against an independent reader."""
    sitk = pytest.importorskip("SimpleITK")
    folder = str(real_scans / "tcga-ov-abdomen")
    volume = read_dicom(Path(folder))
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(folder))
    expected = sitk.GetArrayViewFromImage(image)
    assert volume.shape == expected.shape == (160, 512, 512)
    for d in range(0, 160, 7):
        np.testing.assert_array_equal(volume.hu[d], np.where(expected[d] < -1500, -1024, expected[d]))
    for index in [(0, 0, 0), (159, 0, 0), (80, 511, 13)]:
        np.testing.assert_allclose(
            (volume.grid.affine @ [*index, 1])[:3],
            image.TransformIndexToPhysicalPoint([int(i) for i in index[::-1]]),
            atol=1e-4,
        )

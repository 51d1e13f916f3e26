"""What cannot be read rightly is refused: its code, one line, and no patient data."""

from __future__ import annotations

from typing import Any

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from pydicom.uid import DeflatedExplicitVRLittleEndian

from autosam_edge.dicom import find, hounsfield, read
from autosam_edge.error_codes import ATTRIBUTE_INVALID, DICOM_DAMAGED, DICOM_TOO_LARGE, FILE_CHANGED


def missing(ct: Any, keyword: str) -> None:
    ct.write(4)
    ct.save(ct.image(4, **{keyword: None}), "last")


def positions(ct: Any, values_mm: list[tuple[float, float, float]], **changes: Any) -> None:
    for d, value in enumerate(values_mm):
        ct.save(ct.image(d, ImagePositionPatient=list(value), **changes), f"im{d}")


REFUSALS: dict[str, tuple[str, Any]] = {
    "two slices": ("AE-DICOM-011", lambda ct: ct.write(2)),
    "mixed orientation": (
        "AE-DICOM-012",
        lambda ct: (ct.write(4), ct.save(ct.image(4, orientation=(0, 1, 0, 0, 0, -1)), "x")),
    ),
    "mixed matrix": ("AE-DICOM-013", lambda ct: (ct.write(4), ct.save(ct.image(4, Rows=8, Columns=6), "x"))),
    "mixed pixel spacing": (
        "AE-DICOM-013",
        lambda ct: (ct.write(4), ct.save(ct.image(4, PixelSpacing=[0.5, 0.8]), "x")),
    ),
    "two phases": (
        "AE-DICOM-015",
        lambda ct: (ct.write(), ct.save(ct.image(2, PixelData=bytes(96), SOPInstanceUID="1.2"), "x")),
    ),
    "missing slice": ("AE-DICOM-016", lambda ct: [ct.save(ct.image(d), str(d)) for d in (0, 1, 2, 4, 5)]),
    "two missing slices": (
        "AE-DICOM-016",
        lambda ct: [ct.save(ct.image(d), str(d)) for d in (0, 1, 2, 5, 6)],
    ),
    "uneven": ("AE-DICOM-017", lambda ct: positions(ct, [(0, 0, z) for z in (0, 2.5, 5, 7.7, 10.2)])),
    "slice out of line": (
        "AE-DICOM-018",
        lambda ct: positions(ct, [(0, 3 * (z == 5), z) for z in (0, 2.5, 5, 7.5)]),
    ),
    "axes not unit": ("AE-DICOM-019", lambda ct: ct.write(ImageOrientationPatient=[1.1, 0, 0, 0, 1, 0])),
    "axes not at a right angle": (
        "AE-DICOM-019",
        lambda ct: ct.write(ImageOrientationPatient=[1, 0, 0, 0.1, 0.995, 0]),
    ),
    "axes zero": ("AE-DICOM-019", lambda ct: ct.write(ImageOrientationPatient=[0, 0, 0, 0, 0, 0])),
    "12 mm apart": ("AE-DICOM-020", lambda ct: ct.write(step_mm=12.0)),
    "pixel spacing zero": ("AE-DICOM-020", lambda ct: ct.write(PixelSpacing=[0, 0.9])),
    "enhanced copy": ("AE-DICOM-015", lambda ct: twice(ct)),
}


def twice(ct: Any) -> None:
    ds = ct.enhanced([0, 1, 2, 3])
    ds.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = [-100, -50, 300]
    ct.save(ds, "x")


@pytest.mark.parametrize("case", REFUSALS)
def test_refusal_has_its_code_and_no_patient(ct: Any, case: str) -> None:
    """Whatever cannot be read rightly is refused; nothing is invented."""
    code, prepare = REFUSALS[case]
    prepare(ct)
    assert refusal(ct.path).code == code


@hazard(
    "Geometry", "a number with a decimal comma, that is none, or too few or many of them", ATTRIBUTE_INVALID
)
@pytest.mark.parametrize("text", ["0,5\\0,9", "nan\\0.9", "0.5", "x\\y"])
def test_malformed_number_is_refused(ct: Any, text: str) -> None:
    """A decimal comma, NaN, one number for two, and letters are not a pixel spacing."""
    for path in ct.write():
        raw = path.read_bytes()
        path.write_bytes(
            raw.replace(
                b"DS\x08\x000.5\\0.9 ",
                b"DS" + len(text.ljust(8)).to_bytes(2, "little") + text.ljust(8).encode(),
            )
        )
    assert refusal(ct.path).code == "AE-DICOM-006"


@hazard("Files and folders", "a slice is cut off anywhere in its header or pixels", DICOM_DAMAGED)
@pytest.mark.parametrize("lost", [1, 50, 96, 100, 200, 300, 400, 500, 600])
@pytest.mark.parametrize("which", [0, 2, 4])
def test_truncated_file_is_named(ct: Any, lost: int, which: int) -> None:
    """A file cut anywhere is refused, at the ends of the stack too, where no gap would show it."""
    path = ct.write()[which]
    path.write_bytes(path.read_bytes()[:-lost])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-005"
    assert ct.shown(path) in error.message


@hazard("Pixel values", "a deflated data set that is cut", DICOM_DAMAGED)
def test_truncated_deflated_file_is_named(ct: Any) -> None:
    """Nothing is filled in for what is lost."""
    for d in range(5):
        image = ct.image(d)
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        path = ct.save(image, f"im{d}")
    path.write_bytes(path.read_bytes()[:-20])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-005"
    assert ct.shown(path) in error.message


@hazard("Pixel values", "fewer bytes than Rows x Columns", DICOM_DAMAGED)
def test_pixel_data_shorter_than_the_matrix_are_refused(ct: Any) -> None:
    """No zero fill."""
    ct.write(4)
    ct.save(ct.image(4, PixelData=bytes(90)), "short")
    assert refusal(ct.path).code == "AE-DICOM-005"


def test_unknown_transfer_syntax_is_named_with_a_remedy(ct: Any) -> None:
    """The UID stands in the message; the remedy names no extra, as none would help."""
    for path in ct.write():
        path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\x00", b"1.2.840.10008.9.9.9\x00"))
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-010"
    assert "1.2.840.10008.9.9.9" in error.message
    assert "uncompressed" in error.remedy
    assert "[dicom]" not in error.remedy


@hazard("Pixel values", "more voxels than a volume may have", DICOM_TOO_LARGE)
def test_volume_beyond_the_limit_is_refused_before_allocation(
    ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The product of the sides is checked first."""
    monkeypatch.setattr(hounsfield, "MAX_VOXELS", 100)
    ct.write()
    assert refusal(ct.path).code == "AE-DICOM-021"


def test_too_many_files_are_refused(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The root of a disk is not a scan."""
    monkeypatch.setattr(find, "MAX_FILES", 3)
    ct.write()
    assert refusal(ct.path).code == "AE-DICOM-023"


@hazard("Files and folders", "the series is still arriving, or a file changes while it is read", FILE_CHANGED)
def test_series_that_changes_while_it_is_read_is_refused(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice that arrives, grows or vanishes during reading means that the series is not whole."""

    def arriving(frames: Any, *options: Any) -> Any:
        result = hounsfield.read_hu(frames, *options)
        ct.save(ct.image(5), "late")
        return result

    ct.write()
    monkeypatch.setattr(read, "read_hu", arriving)
    assert refusal(ct.path).code == "AE-DICOM-022"

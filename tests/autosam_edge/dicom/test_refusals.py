"""What cannot be read rightly is refused: its code, one line, and no patient data."""

from __future__ import annotations

from typing import Any

import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from pydicom.uid import DeflatedExplicitVRLittleEndian

from autosam_edge.dicom import find, hounsfield, read
from autosam_edge.error_codes import ATTRIBUTE_INVALID, DICOM_DAMAGED, DICOM_TOO_LARGE, FILE_CHANGED


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

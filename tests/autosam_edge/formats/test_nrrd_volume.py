"""NRRD gives the same place in the patient whatever space it is written in, or a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest

from autosam_edge.errors import InputError
from autosam_edge.formats.nrrd_volume import read_nrrd

HU_XYZ = (np.arange(3 * 4 * 5).reshape(5, 4, 3).T - 1000).astype(np.int16)  # (x, y, z)
DIRECTIONS = np.diag([0.9, 0.5, 2.5])
ORIGIN = np.array([-100.0, -50.0, 300.0])


def write(path: Path, data: Any = HU_XYZ, **changes: Any) -> Path:
    """Write an LPS volume; ``changes`` set header fields (underscores for spaces), None removes them."""
    header: dict[str, Any] = {
        "space": "left-posterior-superior",
        "space directions": DIRECTIONS,
        "space origin": ORIGIN,
    }
    for key, value in changes.items():
        header[key.replace("_", " ")] = value
    nrrd.write(str(path), data, {key: value for key, value in header.items() if value is not None})
    return path


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize(
    ("space", "signs"),
    [("left-posterior-superior", (1, 1, 1)), ("RAS", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1))],
)
def test_every_space_names_the_same_place(
    tmp_path: Path, space: str, signs: tuple[int, int, int], encoding: str
) -> None:
    """Voxel (d, h, w) lies at origin + (0.9 w, 0.5 h, 2.5 d) in LPS."""
    volume = read_nrrd(
        write(
            tmp_path / "v.nrrd",
            space=space,
            space_directions=DIRECTIONS * signs,
            space_origin=ORIGIN * signs,
            encoding=encoding,
        )
    )
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
    assert volume.hu.dtype == np.int16
    np.testing.assert_allclose(volume.grid.affine @ [2, 1, 1, 1], [-99.1, -49.5, 305, 1])
    assert volume.warnings == ()


def test_rotated_directions_keep_their_order(tmp_path: Path) -> None:
    """Rows of 'space directions' belong to x, y and z of the array."""
    directions = np.array([[0, 0, -0.9], [0.5, 0, 0], [0, 2.5, 0]])
    affine = read_nrrd(write(tmp_path / "v.nrrd", space_directions=directions)).grid.affine
    np.testing.assert_allclose(affine[:3, :3], np.array([[0, 2.5, 0], [0.5, 0, 0], [0, 0, -0.9]]).T)


def test_thick_slices_are_told(tmp_path: Path) -> None:
    """As for DICOM: 5 mm or more."""
    volume = read_nrrd(write(tmp_path / "v.nrrd", space_directions=DIRECTIONS * [[1], [1], [2]]))
    (warning,) = volume.warnings
    assert (warning.code, warning.severity) == ("AE-WARN-040", "caution")
    assert warning.message == "Slices are 5 mm apart; small organs are uncertain at 5 mm or more."


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"space": None}, "AE-NRRD-003"),
        ({"space": "scanner-xyz"}, "AE-NRRD-003"),
        ({"space_origin": None}, "AE-NRRD-003"),
        ({"space_directions": None}, "AE-NRRD-003"),
        ({"space_directions": np.zeros((3, 3))}, "AE-NRRD-003"),
        ({"space_units": ["cm", "cm", "cm"]}, "AE-NRRD-003"),
        ({"data": HU_XYZ[0]}, "AE-NRRD-002"),
        ({"data": np.full((3, 4, 5), np.nan, np.float32)}, "AE-NRRD-004"),
        (
            {"space_directions": DIRECTIONS + np.eye(3, k=-1) * [0.2, 0, 0]},
            "AE-NRRD-005",
        ),  # rows and columns of the axial plane are not perpendicular
        ({"space_directions": DIRECTIONS * 1000}, "AE-NRRD-005"),  # micrometers
        ({"space_directions": DIRECTIONS / 1000, "space_units": ["mm", "mm", "mm"]}, "AE-NRRD-005"),
        ({"data": HU_XYZ[:, :, :1]}, "AE-NRRD-005"),
    ],
)
def test_refusals(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    """A place that is not given is not guessed."""
    with pytest.raises(InputError) as caught:
        read_nrrd(write(tmp_path / "v.nrrd", **changes))
    assert caught.value.code == code


def test_detached_header_may_not_name_a_file(tmp_path: Path) -> None:
    """A header could otherwise read any file of the machine."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    head = path.read_bytes().split(b"\n\n")[0]
    path.write_bytes(head + b"\ndata file: /etc/passwd\n\n")
    with pytest.raises(InputError, match="AE-NRRD-001.*detached"):
        read_nrrd(path)


@pytest.mark.parametrize("encoding", ["raw", "gzip"])
def test_truncated_file(tmp_path: Path, encoding: str) -> None:
    """No zero fill."""
    path = write(tmp_path / "v.nrrd", encoding=encoding)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="AE-NRRD-001"):
        read_nrrd(path)


def test_absurd_size_is_refused_before_reading(tmp_path: Path) -> None:
    """The header is checked first."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    path.write_bytes(path.read_bytes().replace(b"sizes: 3 4 5", b"sizes: 99999 99999 99999"))
    with pytest.raises(InputError, match="AE-NRRD-001.*voxels"):
        read_nrrd(path)

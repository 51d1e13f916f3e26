"""NRRD gives the same place in the patient whatever space it is written in, or a refusal."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nrrd
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard

from autosam_edge.error_codes import (
    COMPANION_MISSING,
    NRRD_DAMAGED,
    NRRD_GRID_INVALID,
    NRRD_NOT_3D,
    NRRD_ORIENTATION_INVALID,
    NRRD_VALUES_INVALID,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.nrrd_volume import read_nrrd
from autosam_edge.read_scan import read
from autosam_edge.warning_codes import EXTRA_AXES

AREA = "NIfTI, NRRD and MetaImage"
HU_XYZ = (np.arange(3 * 4 * 5).reshape(5, 4, 3).T - 1000).astype(np.int16)  # (x, y, z)
DIRECTIONS = np.diag([0.9, 0.5, 2.5])
ORIGIN = np.array([-100.0, -50.0, 300.0])
HEADER: dict[str, Any] = {
    "space": "left-posterior-superior",
    "space directions": DIRECTIONS,
    "space origin": ORIGIN,
}


def write(path: Path, data: Any = HU_XYZ, **changes: Any) -> Path:
    """Write an LPS volume; ``changes`` set header fields (underscores for spaces), None removes them."""
    header = dict(HEADER)
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


@hazard(AREA, "NRRD without space, directions, origin, or not in mm", NRRD_ORIENTATION_INVALID)
@hazard(AREA, "NRRD with another number of axes than three", NRRD_NOT_3D)
@hazard(AREA, "NRRD whose values are no HU", NRRD_VALUES_INVALID)
@hazard(AREA, "NRRD whose grid is no CT's", NRRD_GRID_INVALID)
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"space": None}, "AE-NRRD-003"),
        ({"space": "scanner-xyz"}, "AE-NRRD-003"),
        ({"space_origin": None}, "AE-NRRD-003"),
        ({"space_directions": None}, "AE-NRRD-003"),
        ({"space_directions": np.zeros((3, 3))}, "AE-NRRD-003"),
        ({"space_units": ["cm", "cm", "cm"]}, "AE-NRRD-003"),
        ({"space_units": ["micrometer"] * 3}, "AE-NRRD-003"),
        ({"data": HU_XYZ[0]}, "AE-NRRD-002"),
        ({"space": "right-anterior-superior-time"}, "AE-NRRD-002"),
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


@hazard(AREA, "detached NRRD header beside its voxels", "read")
@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
@pytest.mark.parametrize("prefix", ["", "./"])
def test_detached_header_is_read_beside_its_voxels(tmp_path: Path, encoding: str, prefix: str) -> None:
    """Both files belong to the input."""
    nrrd.write(str(tmp_path / "v.nhdr"), HU_XYZ, {**HEADER, "encoding": encoding}, detached_header=True)
    (voxels,) = (path for path in tmp_path.iterdir() if path.name != "v.nhdr")
    header = (tmp_path / "v.nhdr").read_bytes()
    (tmp_path / "v.nhdr").write_bytes(header.replace(b"file: ", b"file: " + prefix.encode()))
    volume = read(tmp_path / "v.nhdr")
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
    assert volume.source.files == (tmp_path / "v.nhdr", voxels)


@hazard(AREA, "detached NRRD header whose voxels are missing or elsewhere", COMPANION_MISSING)
@pytest.mark.parametrize("name", ["/etc/passwd", "../v.raw", "sub/v.raw", "v.raw", ".."])
def test_detached_header_may_not_name_a_file_elsewhere(tmp_path: Path, name: str) -> None:
    """A header could otherwise read any file of the machine."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    head = path.read_bytes().split(b"\n\n")[0]
    path.write_bytes(head + f"\ndata file: {name}\n\n".encode())
    with pytest.raises(InputError, match="AE-INPUT-012.*data file") as caught:
        read_nrrd(path)
    assert name not in str(caught.value)


@hazard(AREA, "detached NRRD header of several files, by a list or a pattern", COMPANION_MISSING)
@pytest.mark.parametrize(
    "names", ["LIST\ns0.raw\ns1.raw", "LIST 2\ns0.raw\ns1.raw", "LIST", "s%d.raw 0 1 1", "s%03d.raw 0 1 1 2"]
)
def test_several_files_are_told_for_what_they_are(tmp_path: Path, names: str) -> None:
    """They are in the folder, and of no use there."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    head = path.read_bytes().split(b"\n\n")[0]
    for name in ("s0.raw", "s1.raw", "s000.raw", "s001.raw"):
        (tmp_path / name).write_bytes(b"")
    path.write_bytes(head + f"\ndata file: {names}\n".encode())
    with pytest.raises(InputError, match="AE-INPUT-012.*several files.*one .nrrd file"):
        read_nrrd(path)


PLAIN = """NRRD0004
type: short
dimension: 3
space: left-posterior-superior
sizes: 3 4 5
space directions: (0.9,0,0) (0,0.5,0) (0,0,2.5)
endian: little
encoding: raw
space origin: (-100,-50,300)
"""


@hazard(AREA, "NRRD fields in capitals, as one word, with blanks in vectors, or keys with a colon", "read")
@pytest.mark.parametrize(
    "changes",
    [
        [("type:", "Type:"), ("sizes:", "SIZES:"), ("space directions:", "Space Directions:")],
        [("(0.9,0,0) (0,0.5,0) (0,0,2.5)", "(0.9, 0, 0) ( 0, 0.5 ,0 )  (0,\t0, 2.5)")],
        [("(-100,-50,300)", "( -100, -50, 300 )")],
        [("space directions", "spacedirections"), ("space origin", "spaceorigin")],
        [("encoding: raw\n", "encoding: raw\nscan:date:=2026\nscan:time:=12\n")],
        [("encoding: raw\n", "encoding: raw\nkey:=a: b\nkey:=c\ntype:=float\nencoding:=gzip\n")],
        [("encoding: raw\n", "encoding: raw\ncontent: a:=b\n")],
        [("type: short", "type:short")],
        [("encoding: raw\n", 'encoding: raw\nspace units: "millimeter" "millimeter" "Millimeters"\n')],
        [("encoding: raw\n", 'encoding: raw\nspaceunits: "mm" "mm" "mm"\n')],
        [("encoding: raw\n", "encoding: raw\nmeasurement frame: (1, 0, 0) (0, 1, 0) (0, 0, 1)\n")],
        [("\n", "\r\n")],
    ],
)
def test_other_ways_to_write_a_header(tmp_path: Path, changes: list[tuple[str, str]]) -> None:
    """As teem, which defines the format, reads them."""
    header = PLAIN
    for old, new in changes:
        assert old in header
        header = header.replace(old, new)
    end = "\r\n" if "\r" in header else "\n"
    (tmp_path / "v.nrrd").write_bytes((header + end).encode() + HU_XYZ.tobytes(order="F"))
    volume = read_nrrd(tmp_path / "v.nrrd")
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
    np.testing.assert_allclose(volume.grid.affine @ [2, 1, 1, 1], [-99.1, -49.5, 305, 1])


@pytest.mark.parametrize(
    "vectors", ["(0.9 0 0) (0 0.5 0) (0 0 2.5)", "(0.9 1, 0, 0) (0, 0.5, 0) (0, 0, 2.5)"]
)
def test_blanks_separate_no_numbers_of_a_vector(tmp_path: Path, vectors: str) -> None:
    """Two numbers never become one."""
    header = PLAIN.replace("(0.9,0,0) (0,0.5,0) (0,0,2.5)", vectors)
    (tmp_path / "v.nrrd").write_bytes((header + "\n").encode() + HU_XYZ.tobytes(order="F"))
    with pytest.raises(InputError, match="AE-NRRD-001"):
        read_nrrd(tmp_path / "v.nrrd")


@hazard(AREA, "NRRD in hexadecimal digits", "read")
@pytest.mark.parametrize(("endian", "kind"), [("little", "<i2"), ("big", ">i2")])
def test_hexadecimal(tmp_path: Path, endian: str, kind: str) -> None:
    """Two digits for each byte, in lines of any length, also in a file of several pieces."""
    values = np.tile(HU_XYZ, (30, 30, 15)).astype(kind)
    header = PLAIN.replace("raw", "hex").replace("little", endian).replace("3 4 5", "90 120 75")
    digits = values.tobytes(order="F").hex("\n", 35).upper()
    (tmp_path / "v.nrrd").write_text(header + "\n" + digits + "\n", newline="")
    np.testing.assert_array_equal(read_nrrd(tmp_path / "v.nrrd").hu, values.T)


@hazard(AREA, "NRRD in hexadecimal digits that are damaged or end early", NRRD_DAMAGED)
@pytest.mark.parametrize(
    "damage", [lambda text: text[:-1], lambda text: text[:-4], lambda text: "x" + text[1:]]
)
def test_damaged_hexadecimal(tmp_path: Path, damage: Any) -> None:
    """Nothing is filled in."""
    digits = damage(HU_XYZ.tobytes(order="F").hex())
    (tmp_path / "v.nrrd").write_text(PLAIN.replace("raw", "hex") + "\n" + digits)
    with pytest.raises(InputError, match="AE-NRRD-001"):
        read_nrrd(tmp_path / "v.nrrd")


@hazard(AREA, "NRRD with line skip or byte skip", "read")
@pytest.mark.parametrize(
    ("encoding", "fields", "before"),
    [
        ("raw", "line skip: 2", b"one\ntwo\n"),
        ("raw", "byte skip: 5", b"12345"),
        ("raw", "byte skip: -1", b"of any length"),
        ("raw", "line skip: 1\nbyte skip: 2", b"one\n12"),
        ("gzip", "byte skip: 5", b"12345"),
    ],
)
def test_skips(tmp_path: Path, encoding: str, fields: str, before: bytes) -> None:
    """Voxels of another format can be described by a header."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    head, _, data = path.read_bytes().partition(b"\n\n")
    data = gzip.compress(before + data) if encoding == "gzip" else before + data
    head = head.replace(b"encoding: raw", f"encoding: {encoding}\n{fields}".encode())
    path.write_bytes(head + b"\n\n" + data)
    np.testing.assert_array_equal(read_nrrd(path).hu, HU_XYZ.T)


SEQUENCE = """NRRD0005
type: short
dimension: 4
space: left-posterior-superior
sizes: {count} 3 4 5
space directions: none (0.9,0,0) (0,0.5,0) (0,0,2.5)
kinds: list domain domain domain
endian: little
encoding: raw
space origin: (-100,-50,300)
"""


def sequence(path: Path, count: int, *, more: str = "") -> Path:
    """A sequence as 3D Slicer writes it."""
    values = np.repeat(HU_XYZ[None], count, axis=0)
    path.write_bytes((SEQUENCE.format(count=count) + more + "\n").encode() + values.tobytes(order="F"))
    return path


@hazard(AREA, "NRRD sequence, color or vector image", NRRD_NOT_3D)
def test_a_sequence_is_refused_for_what_it_is(tmp_path: Path) -> None:
    """The file is not damaged."""
    with pytest.raises(InputError, match="AE-NRRD-002.*2 x 3 x 4 x 5.*sequence") as caught:
        read_nrrd(sequence(tmp_path / "v.seq.nrrd", 2))
    assert "one of its volumes" in caught.value.remedy
    color = np.repeat(HU_XYZ[:1], 3, axis=0)
    flat = write(tmp_path / "c.nrrd", color, space_directions=np.vstack([[np.nan] * 3, DIRECTIONS[1:]]))
    with pytest.raises(InputError, match="AE-NRRD-002"):
        read_nrrd(flat)


@hazard(AREA, "NRRD sequence of one volume", EXTRA_AXES)
def test_a_sequence_of_one_is_a_volume(tmp_path: Path) -> None:
    """Nothing is lost."""
    volume = read_nrrd(sequence(tmp_path / "v.seq.nrrd", 1))
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)
    assert [warning.code for warning in volume.warnings] == [EXTRA_AXES.code]
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))


@hazard(AREA, "NRRD field that stands twice with one value", "read")
def test_a_field_may_stand_twice(tmp_path: Path) -> None:
    """As 3D Slicer has written it; the format forbids it."""
    volume = read_nrrd(sequence(tmp_path / "v.nrrd", 1, more="space: left-posterior-superior\n"))
    np.testing.assert_array_equal(volume.hu, HU_XYZ.T)


@hazard(AREA, "NRRD field that stands twice with different values", NRRD_DAMAGED)
def test_a_field_may_not_contradict_itself(tmp_path: Path) -> None:
    """Which of the two is right is unknown."""
    with pytest.raises(InputError, match="AE-NRRD-001.*twice"):
        read_nrrd(sequence(tmp_path / "v.nrrd", 1, more="space: right-anterior-superior\n"))


@hazard(AREA, "NRRD header that breaks the format", NRRD_DAMAGED)
@pytest.mark.parametrize(
    ("field", "other"),
    [
        (b"type: int16", b"type: block"),
        (b"encoding: raw", b"encoding: base64"),
        (b"encoding: raw", b"encoding: hex"),
        (b"endian: little\n", b""),
        (b"dimension: 3", b"dimension: 4"),
        (b"dimension: 3", b"dimension: three"),
        (b"sizes: 3 4 5\n", b""),
        (b"encoding: raw", b"encoding: raw\nline skip: -1"),
        (b"encoding: raw", b"encoding: raw\nline skip: 1000"),
        (b"encoding: raw", b"encoding: gzip\nbyte skip: -1"),
    ],
)
def test_broken_header(tmp_path: Path, field: bytes, other: bytes) -> None:
    """In the words of the format."""
    path = write(tmp_path / "v.nrrd", encoding="raw")
    content = path.read_bytes()
    assert field in content
    path.write_bytes(content.replace(field, other))
    with pytest.raises(InputError, match="AE-NRRD-001"):
        read_nrrd(path)


@hazard(AREA, "NRRD that ends early", NRRD_DAMAGED)
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
    with pytest.raises(InputError, match="AE-INPUT-013.*voxels"):
        read_nrrd(path)

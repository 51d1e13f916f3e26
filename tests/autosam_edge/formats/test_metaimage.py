"""MetaImage gives what ITK gives: the same voxels at the same place; or a refusal."""

from __future__ import annotations

import itertools
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard

from autosam_edge.error_codes import (
    COMPANION_MISSING,
    METAIMAGE_DAMAGED,
    METAIMAGE_GRID_INVALID,
    METAIMAGE_NOT_3D,
    METAIMAGE_ORIENTATION_INVALID,
    METAIMAGE_VALUES_INVALID,
)
from autosam_edge.errors import InputError
from autosam_edge.formats.metaimage import read_metaimage, write_metaimage
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.read_scan import read
from autosam_edge.volume import Segmentation
from autosam_edge.warning_codes import EXTRA_AXES, ORIENTATION_LETTERS_IGNORED, TILT_CORRECTED

AREA = "NIfTI, NRRD and MetaImage"
HU = (np.arange(5 * 4 * 3).reshape(5, 4, 3) - 1000).astype(np.int16)  # (D, H, W)
DEFLATED = zlib.compress(HU.tobytes())
SPACING = (0.9, 0.5, 2.5)  # x, y, z
ORIGIN = (-100.0, -50.0, 300.0)
HEADER = """\
ObjectType = Image
NDims = 3
BinaryData = True
BinaryDataByteOrderMSB = False
CompressedData = False
TransformMatrix = 1 0 0 0 1 0 0 0 1
Offset = -100 -50 300
CenterOfRotation = 0 0 0
AnatomicalOrientation = RAI
ElementSpacing = 0.9 0.5 2.5
DimSize = 3 4 5
ElementType = MET_SHORT
ElementDataFile = LOCAL
"""


def oblique() -> list[float]:
    """Direction cosines of an oblique volume, in rows."""
    turns = []
    for (one, two), degrees in (((1, 2), 20), ((0, 2), -35), ((0, 1), 70)):
        turn = np.eye(3)
        turn[one, one] = turn[two, two] = np.cos(np.radians(degrees))
        turn[one, two], turn[two, one] = -np.sin(np.radians(degrees)), np.sin(np.radians(degrees))
        turns.append(turn)
    return (turns[2] @ turns[1] @ turns[0]).ravel().tolist()


def written_by_itk(path: Path, values: Any = HU, direction: Any = None, *, compressed: bool = False) -> Any:
    """An image of SimpleITK, after it was written to a file."""
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.GetImageFromArray(values)
    image.SetSpacing(SPACING)
    image.SetOrigin(ORIGIN)
    image.SetDirection(direction if direction is not None else np.eye(3).ravel().tolist())
    sitk.WriteImage(image, str(path), useCompression=compressed)
    return sitk.ReadImage(str(path))


def require_same(volume: Any, image: Any) -> None:
    """The same voxels, and every corner at the same place."""
    sitk = pytest.importorskip("SimpleITK")
    np.testing.assert_array_equal(volume.hu, sitk.GetArrayFromImage(image))
    for corner in itertools.product(*((0, side - 1) for side in volume.shape)):
        here = (volume.grid.affine @ [*corner, 1.0])[:3]
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint(corner[::-1]), here, atol=1e-6)


def orientations() -> list[list[float]]:
    """The 24 right-handed and 24 mirrored arrays along the axes, and an oblique one."""
    along_axes = itertools.product(itertools.permutations(range(3)), itertools.product((1.0, -1.0), repeat=3))
    return [*((np.eye(3)[list(o)] * signs).ravel().tolist() for o, signs in along_axes), oblique()]


@hazard(AREA, "MetaImage `.mha` in any orientation", "read, at the same place as ITK")
@pytest.mark.parametrize("direction", orientations())
def test_itk_sees_the_same_place(tmp_path: Path, direction: list[float]) -> None:
    """In 48 orientations along the axes, and oblique; the letters of ITK agree with its matrix."""
    image = written_by_itk(tmp_path / "v.mha", direction=direction)
    volume = read(tmp_path / "v.mha")
    require_same(volume, image)
    assert volume.warnings == ()
    assert (volume.source.kind, volume.source.files) == ("metaimage", (tmp_path / "v.mha",))


@hazard(AREA, "MetaImage `.mhd` beside `.raw` or `.zraw`", "read")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", ["v.mha", "v.mhd"])
@pytest.mark.parametrize("stored", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_itk_sees_the_same_values(tmp_path: Path, name: str, stored: str, compressed: bool) -> None:
    """Every type of voxel, in one file or two, compressed or not."""
    values = HU.astype(stored) if stored[0] in "if" and stored != "i1" else np.abs(HU % 100).astype(stored)
    image = written_by_itk(tmp_path / name, values, compressed=compressed)
    volume = read(tmp_path / name)
    require_same(volume, image)
    files = sorted(volume.source.files, key=lambda path: path.suffix)
    assert [path.suffix for path in files] == {
        "v.mha": [".mha"],
        "v.mhd": [".mhd", ".zraw" if compressed else ".raw"],
    }[name]


def write(path: Path, *changes: tuple[str, str], voxels: bytes = HU.tobytes()) -> Path:
    """A MetaImage whose header has texts replaced; each stands in it."""
    header = HEADER
    for old, new in changes:
        assert old in header
        header = header.replace(old, new)
    path.write_bytes(header.encode() + voxels)
    return path


@hazard(AREA, "MetaImage with other names of its fields, or big-endian", "read, like ITK")
@pytest.mark.parametrize(
    ("changes", "voxels"),
    [
        ([("Offset", "Position")], HU.tobytes()),
        ([("Offset", "Origin")], HU.tobytes()),
        ([("TransformMatrix", "Orientation")], HU.tobytes()),
        ([("TransformMatrix", "Rotation")], HU.tobytes()),
        ([("ElementSpacing", "ElementSize")], HU.tobytes()),
        ([("CenterOfRotation = 0 0 0", "CenterOfRotation = 5 6 7")], HU.tobytes()),
        ([("ObjectType = Image\n", "")], HU.tobytes()),
        ([(" = ", "=")], HU.tobytes()),
        ([("\n", "\r\n")], HU.tobytes()),
        ([("ByteOrderMSB = False", "ByteOrderMSB = True")], HU.astype(">i2").tobytes()),
        ([("ByteOrderMSB = False", "ByteOrderMSB = T")], HU.astype(">i2").tobytes()),
        ([("ByteOrderMSB = False", "ByteOrderMSB = 1")], HU.astype(">i2").tobytes()),
        ([("ByteOrderMSB = False", "ByteOrderMSB = F")], HU.tobytes()),
        ([("ByteOrderMSB = False", "ByteOrderMSB = False\nElementByteOrderMSB = 0")], HU.tobytes()),
        ([("BinaryData = True", "BinaryData = T")], HU.tobytes()),
        ([("CompressedData = False", f"CompressedData = T\nCompressedDataSize = {len(DEFLATED)}")], DEFLATED),
        ([("ObjectType = Image", "ObjectType = Image\nComment = one\nComment = two")], HU.tobytes()),
        ([("ElementDataFile", "HeaderSize = -1\nElementDataFile")], b"anything" + HU.tobytes()),
        ([("TransformMatrix = 1", "TransformMatrix = -1"), ("RAI", "???")], HU.tobytes()),
        ([("ElementSpacing = 0.9", "ElementSpacing = -0.9"), ("RAI", "???")], HU.tobytes()),
    ],
)
def test_other_writers(tmp_path: Path, changes: Any, voxels: bytes) -> None:
    """What ITK reads of these is what we read."""
    sitk = pytest.importorskip("SimpleITK")
    path = write(tmp_path / "v.mha", *changes, voxels=voxels)
    volume = read(path)
    require_same(volume, sitk.ReadImage(str(path)))
    assert volume.warnings == ()


def test_ascii_and_header_size(tmp_path: Path) -> None:
    """Numbers in ASCII; a header of voxels that is passed over."""
    text = " ".join(str(value) for value in HU.ravel()).encode()
    for no in ("False", "F", "0"):
        path = write(tmp_path / "v.mha", ("BinaryData = True", f"BinaryData = {no}"), voxels=text)
        np.testing.assert_array_equal(read(path).hu, HU)
    path = write(
        tmp_path / "v.mhd", ("ElementDataFile = LOCAL", "HeaderSize = 7\nElementDataFile = v.raw"), voxels=b""
    )
    (tmp_path / "v.raw").write_bytes(b"1234567" + HU.tobytes())
    np.testing.assert_array_equal(read(path).hu, HU)


@hazard(AREA, "tilted MetaImage", TILT_CORRECTED)
def test_tilted(tmp_path: Path) -> None:
    """At the same place as ITK, which corrects nothing."""
    sitk = pytest.importorskip("SimpleITK")
    path = write(tmp_path / "v.mha", ("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0.28 0.96"))
    volume = read(path)
    require_same(volume, sitk.ReadImage(str(path)))
    assert [warning.code for warning in volume.warnings] == [TILT_CORRECTED.code]


@hazard(AREA, "MetaImage with further axes of length 1", EXTRA_AXES)
def test_axis_of_one_is_left_out(tmp_path: Path) -> None:
    """As ITK writes an image of four dimensions."""
    path = write(
        tmp_path / "v.mha",
        ("NDims = 3", "NDims = 4"),
        ("1 0 0 0 1 0 0 0 1", "1 0 0 0 0 1 0 0 0 0 1 0 0 0 0 1"),
        ("Offset = -100 -50 300", "Offset = -100 -50 300 0"),
        ("0.9 0.5 2.5", "0.9 0.5 2.5 1"),
        ("DimSize = 3 4 5", "DimSize = 3 4 5 1"),
    )
    volume = read(path)
    assert [warning.code for warning in volume.warnings] == [EXTRA_AXES.code]
    np.testing.assert_array_equal(volume.hu, HU)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))


@hazard(AREA, "MetaImage whose AnatomicalOrientation contradicts its matrix", ORIENTATION_LETTERS_IGNORED)
def test_letters_that_contradict_the_matrix(tmp_path: Path) -> None:
    """ITK ignores the letters; LPS says the same as RAI for a writer that names where an axis goes to."""
    volume = read(write(tmp_path / "v.mha", ("RAI", "LAI")))
    assert [warning.code for warning in volume.warnings] == [ORIENTATION_LETTERS_IGNORED.code]
    for letters in ("LPS", "RAI", "???", ""):
        assert read(write(tmp_path / "v.mha", ("RAI", letters))).warnings == ()


@pytest.mark.parametrize("flipped", [(), (0,), (1, 2), (0, 1, 2)])
def test_our_own_letters_are_those_of_the_matrix(tmp_path: Path, flipped: tuple[int, ...]) -> None:
    """As ITK writes them, whichever axes run backward."""
    affine = Grid.axis_aligned((2, 3, 4), (2.5, 0.5, 0.9)).affine.copy()
    affine[:, list(flipped)] *= -1
    grid = Grid((2, 3, 4), affine)
    write_metaimage(Segmentation(np.ones(grid.shape, np.uint8), grid, BTCV_LABELS), tmp_path / "ours.mha")
    sitk = pytest.importorskip("SimpleITK")
    image = sitk.ReadImage(str(tmp_path / "ours.mha"))
    sitk.WriteImage(image, str(tmp_path / "itk.mha"))
    letters = [
        re.search(rb"AnatomicalOrientation = (\w+)", (tmp_path / name).read_bytes())[1]
        for name in ("ours.mha", "itk.mha")
    ]
    assert letters[0] == letters[1]


@pytest.mark.parametrize("seed", range(40))
def test_letters_of_itk_agree_with_a_strongly_oblique_matrix(tmp_path: Path, seed: int) -> None:
    """ITK names each axis of the patient once, also where two columns are longest along the same one."""
    turn, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    written_by_itk(tmp_path / "v.mha", direction=turn.ravel().tolist())
    assert ORIENTATION_LETTERS_IGNORED.code not in [note.code for note in read(tmp_path / "v.mha").warnings]


@hazard(AREA, "MetaImage without matrix, origin or spacing, or not in mm", METAIMAGE_ORIENTATION_INVALID)
@pytest.mark.parametrize(
    "change",
    [
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1\n", ""),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 0 1 0 0 0"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 0 1 0 0 0 2"),
        ("TransformMatrix = 1 0 0 0 1 0 0 0 1", "TransformMatrix = 1 0 0 1 0 0 0 0 1"),
        ("TransformMatrix = 1 0", "TransformMatrix = nan 0"),
        ("TransformMatrix = 1 0", "Rotation = 0 1 0 1 0 0 0 0 1\nTransformMatrix = 1 0"),
        ("Offset = -100 -50 300\n", ""),
        ("ElementSpacing = 0.9 0.5 2.5\n", ""),
        ("ElementSpacing = 0.9", "ElementSpacing = 0"),
        ("ElementSpacing", "DistanceUnits = cm\nElementSpacing"),
        ("ElementSpacing", "DistanceUnits = um\nElementSpacing"),
    ],
)
def test_a_place_is_not_guessed(tmp_path: Path, change: tuple[str, str]) -> None:
    """ITK takes 1 mm and the identity for what is missing."""
    with pytest.raises(InputError, match="AE-MHA-003") as caught:
        read_metaimage(write(tmp_path / "v.mha", change))
    assert str(caught.value).count("AE-MHA-003") == 1  # no message within a message


@hazard(AREA, "MetaImage that breaks the format, or ends early", METAIMAGE_DAMAGED)
@pytest.mark.parametrize(
    ("change", "voxels"),
    [
        (("ElementDataFile = LOCAL\n", ""), HU.tobytes()),
        (("NDims = 3", "NDims = three"), HU.tobytes()),
        (("NDims = 3", "NDims = 1e9"), HU.tobytes()),
        (("NDims = 3", "NDims = 3.5"), HU.tobytes()),
        (("DimSize = 3 4 5", "DimSize = 3 4"), HU.tobytes()),
        (("DimSize = 3 4 5", "DimSize = 3 4 0"), HU.tobytes()),
        (("DimSize = 3 4 5", "DimSize = 3 4 5\nDimSize = 5 4 3"), HU.tobytes()),
        (("MET_SHORT", "MET_OTHER"), HU.tobytes()),
        (("MET_SHORT", "MET_SHORT\nHeaderSize = -2"), HU.tobytes()),
        (("MET_SHORT", "MET_SHORT"), HU.tobytes()[:-1]),
        (("CompressedData = False", "CompressedData = True"), HU.tobytes()),
        (("ElementDataFile", "Comment = " + "x" * 70_000 + "\nElementDataFile"), HU.tobytes()),
    ],
)
def test_broken_file(tmp_path: Path, change: tuple[str, str], voxels: bytes) -> None:
    """Nothing is assumed and nothing is filled in."""
    with pytest.raises(InputError, match="AE-MHA-001"):
        read_metaimage(write(tmp_path / "v.mha", change, voxels=voxels))


@hazard(
    AREA, "MetaImage whose True or False is another word, or whose two byte orders differ", METAIMAGE_DAMAGED
)
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = Yes"),
        ("BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB ="),
        ("BinaryDataByteOrderMSB = False", "BinaryDataByteOrderMSB = False\nElementByteOrderMSB = True"),
        ("CompressedData = False", "CompressedData = no"),
        ("BinaryData = True", "BinaryData = yes"),
    ],
)
def test_true_and_false_are_not_guessed(tmp_path: Path, old: str, new: str) -> None:
    """ITK takes Yes for false, and a person means true."""
    with pytest.raises(InputError, match="AE-MHA-001.*(True nor False|contradict)"):
        read_metaimage(write(tmp_path / "v.mha", (old, new)))


@hazard(AREA, "MetaImage of several volumes, of vectors over time, 2D, or no image", METAIMAGE_NOT_3D)
@pytest.mark.parametrize(
    "changes",
    [
        [("NDims = 3", "NDims = 4"), ("DimSize = 3 4 5", "DimSize = 3 4 1 5")],
        [("NDims = 3", "NDims = 2"), ("DimSize = 3 4 5", "DimSize = 3 20")],
        [("ObjectType = Image", "ObjectType = Scene")],
    ],
)
def test_not_one_volume(tmp_path: Path, changes: Any) -> None:
    """The file is not damaged."""
    with pytest.raises(InputError, match="AE-MHA-002"):
        read_metaimage(write(tmp_path / "v.mha", *changes))


@hazard(AREA, "MetaImage of MR, in color, or with a scale that ITK ignores", METAIMAGE_VALUES_INVALID)
@pytest.mark.parametrize(
    "field",
    [
        "Modality = MET_MOD_MR",
        "ElementNumberOfChannels = 3",
        "ElementToIntensityFunctionSlope = 2",
        "ElementToIntensityFunctionOffset = -1024",
    ],
)
def test_values_that_are_no_plain_hu(tmp_path: Path, field: str) -> None:
    """The header says so."""
    with pytest.raises(InputError, match="AE-MHA-004"):
        read_metaimage(write(tmp_path / "v.mha", ("ElementType", f"{field}\nElementType")))


@pytest.mark.parametrize("modality", ["MET_MOD_CT", "CT", "ct"])
def test_values_that_are_said_to_be_plain(tmp_path: Path, modality: str) -> None:
    """CT, and a scale that changes nothing."""
    fields = "ElementNumberOfChannels = 1\nElementToIntensityFunctionSlope = 1\nElementType"
    fields = f"Modality = {modality}\n{fields}"
    assert read(write(tmp_path / "v.mha", ("ElementType", fields))).warnings == ()


@hazard(AREA, "MetaImage whose grid is no CT's", METAIMAGE_GRID_INVALID)
@pytest.mark.parametrize("spacing", ["900 500 2500", "0.0009 0.0005 0.0025"])
def test_grid_that_is_no_cts(tmp_path: Path, spacing: str) -> None:
    """Micrometers and meters called mm."""
    with pytest.raises(InputError, match="AE-MHA-005"):
        read_metaimage(write(tmp_path / "v.mha", ("0.9 0.5 2.5", spacing)))


@hazard(AREA, "`.mhd` whose voxels are missing, outside of its folder, or several files", COMPANION_MISSING)
@pytest.mark.parametrize(
    "name",
    ["v.raw", "/etc/passwd", "../v.raw", "sub\\v.raw", "C:v.raw", "LIST", "v%03d.raw 1 5 1", ".", "9" * 500],
)
def test_voxels_stay_in_the_folder_of_the_header(tmp_path: Path, name: str) -> None:
    """A header could otherwise read any file of the machine; its name may be a patient's."""
    (tmp_path / "here").mkdir()
    (tmp_path / "v.raw").write_bytes(HU.tobytes())
    path = write(tmp_path / "here" / "v.mhd", ("= LOCAL", f"= {name}"))
    with pytest.raises(InputError, match="AE-INPUT-012") as caught:
        read(path)
    assert name == "." or name not in str(caught.value)
    (tmp_path / "here" / "v.raw").symlink_to(tmp_path / "v.raw")
    if name == "v.raw":
        with pytest.raises(InputError, match="AE-INPUT-012.*link"):
            read(path)

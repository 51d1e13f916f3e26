"""What may lie in a folder beside the slices, and how long or odd a header may be."""

from __future__ import annotations

import functools
import gzip
import os
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from pydicom.dataset import Dataset
from pydicom.uid import (
    BasicTextSRStorage,
    DeflatedExplicitVRLittleEndian,
    EncapsulatedPDFStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
    MediaStorageDirectoryStorage,
    RTStructureSetStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from autosam_edge.dicom import find, parse
from autosam_edge.dicom.find import find_dicom_files
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    DICOM_DAMAGED,
    DICOM_TOO_LARGE,
    FILE_COMPRESSED,
    NO_CT,
    NO_DICOM,
)
from autosam_edge.read_scan import read
from autosam_edge.warning_codes import FILES_PASSED_OVER

AREA = "Files and folders"
LABELMAP = "1.2.840.10008.5.1.4.1.1.66.7"


def long_sequence(count: int, *, undefined: bool = True) -> list[Dataset]:
    """Items of about 100 bytes each."""
    items = []
    for _ in range(count):
        item = Dataset()
        item.TextValue = "x" * 80
        item.is_undefined_length_sequence_item = undefined
        items.append(item)
    return items


def structure_set(ct: Any, *, count: int = 6000) -> Dataset:
    """An object that is no image, of some 600 kB, with a sequence of undefined length."""
    ds = Dataset()
    ds.file_meta = ct.image(0).file_meta
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = RTStructureSetStorage, "1.2.3.4", "RTSTRUCT"
    ds.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    ds.PatientID, ds.StudyInstanceUID, ds.SeriesInstanceUID = "SECRET-4711", ct.study_uid, "1.2.3.5"
    ds.ROIContourSequence = long_sequence(count)
    ds["ROIContourSequence"].is_undefined_length = True
    return ds


def media_directory(ct: Any) -> Dataset:
    """A DICOMDIR, which names its SOP Class in the file meta information alone."""
    ds = Dataset()
    ds.file_meta = ct.image(0).file_meta
    ds.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    ds.FileSetID, ds.FileSetConsistencyFlag = "SECRET", 0
    ds.DirectoryRecordSequence = long_sequence(10)
    return ds


@hazard(
    AREA,
    "an RTSTRUCT, SEG, SR, key object or PDF lies beside the series, whatever its size",
    FILES_PASSED_OVER,
)
def test_objects_of_other_kinds_are_passed_over(ct: Any) -> None:
    """The structure set is ten times as long as what is read ahead."""
    ct.write()
    ct.save(structure_set(ct), "contours")
    for sop_class in (
        SegmentationStorage,
        BasicTextSRStorage,
        KeyObjectSelectionDocumentStorage,
        EncapsulatedPDFStorage,
        LABELMAP,
        "1.3.12.2.1107.5.9.1",
    ):
        ct.save(ct.image(0, SOPClassUID=sop_class), sop_class)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    (warning,) = volume.warnings
    assert "1 x RT Structure Set Storage" in warning.message
    assert "1 x Label Map Segmentation Storage" in warning.message
    assert (
        "1 x Siemens CSA Non-Image Storage" in warning.message or "1 x object of unknown" in warning.message
    )


@hazard(AREA, "an object of another kind beside the series is damaged", FILES_PASSED_OVER)
def test_damaged_object_of_another_kind_is_passed_over(ct: Any) -> None:
    """It is no slice, so it does not matter."""
    ct.write()
    path = ct.save(structure_set(ct, count=20), "contours")
    path.write_bytes(path.read_bytes()[:-300])
    assert "1 x RT Structure Set Storage" in read_dicom(ct.path).warnings[0].message


def test_damaged_label_map_is_passed_over(ct: Any) -> None:
    """Its file meta information alone can be read, with a class that pydicom does not name."""
    ct.write()
    labels = ct.image(0, SOPClassUID=LABELMAP)
    labels.file_meta.MediaStorageSOPClassUID = LABELMAP
    labels.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = ct.save(labels, "labels")
    path.write_bytes(path.read_bytes()[:-300])
    assert "1 x Label Map Segmentation Storage" in read_dicom(ct.path).warnings[0].message


@hazard(AREA, "SOPClassUID is damaged and the file meta information names a CT image", ATTRIBUTE_INVALID)
def test_damaged_class_is_no_other_class(ct: Any) -> None:
    """The last slice would be passed over, and no gap would show it."""
    path = ct.write()[-1]
    raw = path.read_bytes()
    at = raw.index(b"\x08\x00\x16\x00UI") + 20
    path.write_bytes(raw[:at] + b"9" + raw[at + 1 :])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert "SOPClassUID of file 1 of 5" in error.message


@hazard(AREA, "the file meta information of a slice is damaged so that no SOP Class is left", DICOM_DAMAGED)
@pytest.mark.parametrize("at", [b"\x02\x00\x02\x00UI", b"\x02\x00\x10\x00UI"])
def test_damaged_meta_information(ct: Any, at: bytes) -> None:
    """Eight bytes are lost; the rest can no longer be parsed, and the slice is not passed over."""
    path = ct.write()[-1]
    raw = path.read_bytes()
    place = raw.index(at) + 20
    path.write_bytes(raw[:place] + raw[place + 8 :])
    assert refusal(ct.path).code == "AE-DICOM-005"


@hazard(AREA, "an element claims to be longer than its file", DICOM_DAMAGED)
def test_length_beyond_the_end(ct: Any) -> None:
    """The file is damaged, not too large."""
    path = ct.write()[-1]
    raw = path.read_bytes()
    at = raw.index(b"\x08\x00\x08\x00CS")
    path.write_bytes(raw[:at] + b"\x08\x00\x08\x00UT\0\0" + (3 << 30).to_bytes(4, "little") + bytes(200_000))
    assert refusal(ct.path).code == "AE-DICOM-005"


@hazard(AREA, "an RTSTRUCT is given as the input", NO_CT)
def test_structure_set_as_input(ct: Any) -> None:
    """It is DICOM, but no image."""
    error = refusal(ct.save(structure_set(ct), "contours"))
    assert error.code == "AE-DICOM-002"
    assert "1 x RT Structure Set Storage" in error.message


@hazard(AREA, "an Enhanced CT object whose header of several hundred kB is of undefined length", "read")
@pytest.mark.parametrize("undefined", [True, False])
def test_long_header_of_an_enhanced_object(ct_folder: Any, undefined: bool) -> None:
    """The header crosses the end of what is read ahead within an item."""
    ct = ct_folder("long", (40, 4, 4))
    image = ct.enhanced(list(range(40)))
    for group in image.PerFrameFunctionalGroupsSequence:
        group.is_undefined_length_sequence_item = undefined
        group.DerivationImageSequence = long_sequence(80, undefined=undefined)
    image["PerFrameFunctionalGroupsSequence"].is_undefined_length = undefined
    path = ct.save(image, "enhanced")
    assert path.stat().st_size > 2 * 65_536
    np.testing.assert_array_equal(read_dicom(path).hu, ct.hu)


@hazard(AREA, "a private element of undefined length crosses the first 64 kB of a header", "read")
@pytest.mark.parametrize("vr", ["OB", "UN", "SQ"])
def test_private_element_of_undefined_length(ct: Any, vr: str) -> None:
    """Encapsulated fragments, an unknown VR (which is a sequence, PS3.5 6.2.2) and a sequence."""
    item = (
        b"\xfe\xff\x00\xe0"
        + (90_000).to_bytes(4, "little")
        + (b"\x08\x00\x60\x00" + (2).to_bytes(4, "little") + b"CT") * 9_000
    )
    value = item + b"\xfe\xff\xdd\xe0\0\0\0\0"
    for path in ct.write():
        raw = path.read_bytes()
        at = raw.index(b"\xe0\x7f\x10\x00OW")
        path.write_bytes(
            raw[:at] + b"\x29\x00\x01\x10" + vr.encode() + b"\0\0\xff\xff\xff\xff" + value + raw[at:]
        )
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(AREA, "the header of a file claims more than 64 MB", DICOM_TOO_LARGE)
def test_header_beyond_the_limit(ct: Any) -> None:
    """An element of 3 GB in a file that is mostly a hole: memory does not grow with the claim."""
    path = ct.write()[0]
    raw = path.read_bytes()
    at = raw.index(b"\x08\x00\x08\x00CS")
    path.write_bytes(raw[:at] + b"\x08\x00\x08\x00UT\0\0" + (3 << 30).to_bytes(4, "little"))
    os.truncate(path, 4 << 30)
    tracemalloc.start()
    try:
        assert refusal(ct.path).code == "AE-DICOM-021"
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()


@hazard(AREA, "a header of more elements than 4,000 frames need", DICOM_TOO_LARGE)
def test_header_of_too_many_elements(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elements take memory, however short they are."""
    monkeypatch.setattr(find, "Allowance", functools.partial(parse.Allowance, steps=5_000))
    image = ct.enhanced([0, 1, 2, 3, 4])
    image.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence = long_sequence(3000)
    image.PerFrameFunctionalGroupsSequence[0].is_undefined_length_sequence_item = True
    image.PerFrameFunctionalGroupsSequence[0]["DerivationImageSequence"].is_undefined_length = True
    image["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
    ct.save(image, "many")
    assert refusal(ct.path).code == "AE-DICOM-021"


def test_long_objects_of_other_kinds_do_not_use_up_the_allowance(
    ct: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of them is kept."""
    monkeypatch.setattr(find, "Allowance", functools.partial(parse.Allowance, steps=20_000))
    ct.write()
    for name in ("z1", "z2", "z3"):
        ct.save(structure_set(ct, count=3000), name)
    assert "3 x RT Structure Set" in read_dicom(ct.path).warnings[0].message


def test_what_was_read_ahead_is_not_kept(ct_folder: Any) -> None:
    """A series of 4,000 slices would keep 250 MB of file heads."""
    ct = ct_folder("many", (40, 96, 256))
    ct.write()
    find_dicom_files(ct.path)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        found = find_dicom_files(ct.path)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(found.headers) == 40
    assert kept < 40 * 32_000


@hazard(AREA, "a deflated file whose file meta information lies about its length", "read")
def test_deflated_file_with_a_false_group_length(ct: Any) -> None:
    """The data set starts where the group ends, whatever (0002,0000) says."""
    for d in range(5):
        image = ct.image(d)
        image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        path = ct.save(image, str(d))
        raw = bytearray(path.read_bytes())
        raw[140:144] = (7).to_bytes(4, "little")
        path.write_bytes(raw)
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(AREA, "a deflated file that inflates a thousandfold", DICOM_TOO_LARGE)
@pytest.mark.parametrize("filler", [0, 2_000])
def test_deflation_bomb_behind_a_false_length(ct: Any, filler: int) -> None:
    """Neither a false length of the group nor a transfer syntax beyond the first kilobyte hides it."""
    image = ct.image(0)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    image.file_meta.ImplementationVersionName = "x" * 16
    if filler:
        image.file_meta.add_new(0x00020001, "OB", bytes(filler))
    image.private_block(0x0029, "TEST", create=True).add_new(1, "OB", bytes(200 << 20))
    path = ct.save(image, "bomb")
    with path.open("r+b") as file:
        file.seek(140)
        file.write((7).to_bytes(4, "little"))
    assert refusal(ct.path).code == "AE-DICOM-021"


@hazard(AREA, "a sequence nested 2,000 deep", DICOM_DAMAGED)
@pytest.mark.parametrize("where", ["head", "beyond"])
def test_nested_sequences(ct: Any, where: str) -> None:
    """Neither within nor beyond what is read ahead does it crash or hang."""
    path = ct.write()[0]
    item = b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    nest = (b"\x40\x00\x75\x02SQ\x00\x00\xff\xff\xff\xff" + item) * 2000
    if where == "beyond":
        nest = b"\x29\x00\x01\x10OB\0\0" + (100_000).to_bytes(4, "little") + bytes(100_000) + nest
    raw = path.read_bytes()
    at = raw.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(raw[:at] + nest + raw[at:])
    assert refusal(ct.path).code == "AE-DICOM-005"


@hazard(AREA, "a DICOMDIR lies in the folder under any name", FILES_PASSED_OVER)
@pytest.mark.parametrize("name", ["DICOMDIR", "DIRFILE", "DICOMDIR.bak", "DICOMDIR;1", "DICOMDIR.dcm"])
def test_media_directory_is_passed_over(ct: Any, name: str) -> None:
    """It is recognized by its Media Storage SOP Class."""
    ct.write()
    ct.save(media_directory(ct), name)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.warnings[0].message == "Passed over: 1 x media directory (DICOMDIR)."


@hazard(AREA, "a DICOMDIR is given as the input", NO_CT)
def test_media_directory_as_input(ct: Any) -> None:
    """The remedy is to give its folder."""
    ct.write()
    path = ct.path / "DICOMDIR"
    media_directory(ct).save_as(path, enforce_file_format=True)
    with pytest.raises(ValueError, match=r"AE-DICOM-002.*Give the folder"):
        read(path)


@hazard(
    AREA,
    "SOPClassUID or SOPInstanceUID is empty in the data set but stands in the file meta information",
    "read",
)
@pytest.mark.parametrize("empty", ["", None])
def test_identifiers_of_the_meta_header(ct: Any, empty: str | None) -> None:
    """What the file meta information says holds."""
    for d in range(5):
        image = ct.image(d)
        image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID
        path = ct.save(image, str(d))
        ds = pydicom.dcmread(path)
        for keyword in ("SOPClassUID", "SOPInstanceUID"):
            if empty is None:
                del ds[keyword]
            else:
                setattr(ds, keyword, empty)
        ds.save_as(path)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)


@hazard(AREA, "files without preamble and file meta information", "read")
@pytest.mark.parametrize("implicit", [True, False])
@pytest.mark.parametrize("little", [True, False])
def test_files_without_preamble(ct: Any, implicit: bool, little: bool) -> None:
    """Old senders write the bare data set; big endian is always explicit."""
    if implicit and not little:
        pytest.skip("there is no such encoding")
    for d in range(5):
        image = ct.image(d)
        del image.file_meta
        if not little:
            image.PixelData = np.frombuffer(image.PixelData, "<u2").astype(">u2").tobytes()
        pydicom.dcmwrite(ct.path / f"{d}", image, implicit_vr=implicit, little_endian=little)
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(AREA, "a file named like DICOM that holds something else", DICOM_DAMAGED)
@pytest.mark.parametrize("content", [b"", bytes(1000), b"text" * 100])
def test_file_named_like_dicom(ct: Any, content: bytes) -> None:
    """Passing over it could lose the first or the last slice."""
    ct.write()
    (ct.path / "im.dcm").write_bytes(content)
    assert refusal(ct.path).code == "AE-DICOM-005"


@hazard(AREA, "the mark DICM of a slice is damaged", DICOM_DAMAGED)
def test_damaged_mark(ct: Any) -> None:
    """The file has no extension that tells what it was."""
    path = ct.write()[0]
    raw = path.read_bytes()
    path.write_bytes(raw[:130] + b"X" + raw[131:])
    assert refusal(ct.path).code == "AE-DICOM-005"


@hazard(AREA, "slices compressed one by one with gzip", FILE_COMPRESSED)
@pytest.mark.parametrize("which", [slice(None), slice(0, 1)])
def test_slices_inside_gzip(ct: Any, which: slice) -> None:
    """All, or the last one, where no gap would show it."""
    for path in ct.write()[which]:
        path.with_name(f"{path.name}.dcm.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert refusal(ct.path).code == "AE-INPUT-011"


@hazard(
    AREA,
    "files without extension, with a wrong one, Thumbs.db, AppleDouble, text and empty files",
    FILES_PASSED_OVER,
)
def test_content_decides(ct: Any) -> None:
    """Names play no part; localizers and captures are no slices either."""
    for number, path in enumerate(ct.write()):
        path.rename(path.with_suffix(("", ".txt", ".jpg", ".DCM", ".1.2.3")[number]))
    (ct.path / "link").symlink_to(ct.path / "im099")
    scout = ct.image(9, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], orientation=(0, 1, 0, 0, 0, -1))
    ct.save(scout, "scout")
    ct.save(ct.image(10, SOPClassUID=SecondaryCaptureImageStorage), "sub/capture")
    for name, content in (
        ("Thumbs.db", b"\xd0\xcf"),
        ("._im1.dcm", b"\x00\x05\x16\x07"),
        ("README.TXT", b"text"),
        ("empty", b""),
        ("log.gz", gzip.compress(b"text" * 99, mtime=0)),
    ):
        (ct.path / name).write_bytes(content)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    (warning,) = volume.warnings
    assert warning.code == FILES_PASSED_OVER.code
    assert warning.message == (
        "Passed over: 1 x Secondary Capture Image Storage, 1 x empty file, 2 x file that is not DICOM, "
        "2 x file that is not an image, 1 x localizer, 1 x symbolic link to what is read at its own place."
    )


@hazard(AREA, "an empty folder, or one without DICOM", NO_DICOM)
def test_folder_without_dicom(ct: Any) -> None:
    """What was passed over is counted."""
    assert refusal(ct.path).code == "AE-DICOM-001"
    (ct.path / "notes.txt").write_text("x" * 400)
    assert "(1 x file that is not DICOM passed over)" in refusal(ct.path).message


@hazard(AREA, "a folder or zip that holds no DICOM but a NIfTI, NRRD or MetaImage file, or a zip", NO_DICOM)
@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("scan.nii.gz", "NIfTI file"),
        ("A.NII", "NIfTI file"),
        ("a.nrrd", "NRRD file"),
        ("a.mha", "MetaImage file"),
        ("a.zip", "zip archive"),
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_folder_of_another_format(tmp_path: Path, name: str, what: str, zipped: bool) -> None:
    """The remedy is to give the file itself."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / name).write_bytes(b"\1" * 500)
    root = tmp_path / "folder"
    if zipped:
        root = tmp_path / "packed"
        with zipfile.ZipFile(root, "w") as archive:
            archive.write(tmp_path / "folder" / name, name)
    with pytest.raises(ValueError, match="AE-DICOM-001") as caught:
        read(root)
    assert f"Give the {what} itself" in str(caught.value)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_long_header_in_other_encodings(ct: Any, syntax: str) -> None:
    """A sequence of undefined length that crosses the end of what is read ahead."""
    for d in range(5):
        image = ct.image(d)
        image.file_meta.TransferSyntaxUID = syntax
        image.ReferencedImageSequence = long_sequence(1500)
        image["ReferencedImageSequence"].is_undefined_length = True
        ct.save(image, str(d))
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)

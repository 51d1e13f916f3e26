"""One way in: the kind of input is told by content, and an archive is never trusted."""

from __future__ import annotations

import gzip
import os
import re
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import nibabel as nib
import nrrd
import numpy as np
import pytest
from autosam_edge_test_ct import lenient_writing  # noqa: F401  used by every test
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import zipped

from autosam_edge.dicom.source import check_unchanged, read_headers
from autosam_edge.error_codes import BUDGET_TOO_SMALL, INPUT_KIND_UNKNOWN, PATH_MISSING
from autosam_edge.errors import BudgetError, InputError, OutputError
from autosam_edge.read_scan import read
from autosam_edge.write_results import check_outputs

SPACE = {"space": "left-posterior-superior", "space directions": np.eye(3), "space origin": np.zeros(3)}


def refusal(path: Path, **options: Any) -> InputError:
    """The error that reading raises: one line without the path."""
    with pytest.raises(InputError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return caught.value


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which temporary folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_every_kind_gives_the_same_volume(ct: Any, tmp_path: Path) -> None:
    """Folder, zip and Enhanced file without an extension, NIfTI, NRRD and MetaImage, whatever the name."""
    ct.write()
    expected = read(ct.path)
    enhanced = ct.save(ct.enhanced([0, 1, 2, 3, 4]), "../one_file")
    packed = zipped(ct.path, tmp_path / "zipped", zipfile.ZIP_DEFLATED)
    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ expected.grid.affine[:, [2, 1, 0, 3]]
    nib.save(nib.Nifti1Image(expected.hu.T, ras), tmp_path / "a.nii.gz")
    (tmp_path / "a.nii.gz").rename(tmp_path / "compressed")
    nib.save(nib.Nifti2Image(expected.hu.T, ras), tmp_path / "b.nii")
    (tmp_path / "b.nii").rename(tmp_path / "plain")
    affine = expected.grid.affine
    header = {"space": "LPS", "space directions": affine[:3, [2, 1, 0]].T, "space origin": affine[:3, 3]}
    nrrd.write(str(tmp_path / "n.nrrd"), np.ascontiguousarray(expected.hu.T), header)
    directions = expected.grid.direction.T[::-1].ravel()
    fields = {
        "NDims": "3",
        "DimSize": " ".join(map(str, expected.shape[::-1])),
        "TransformMatrix": " ".join(map(str, directions)),
        "Offset": " ".join(map(str, affine[:3, 3])),
        "ElementSpacing": " ".join(map(str, expected.grid.spacing_mm[::-1])),
        "ElementType": "MET_SHORT",
        "ElementDataFile": "LOCAL",
    }
    text = "".join(f"{name} = {value}\n" for name, value in fields.items())
    (tmp_path / "m").write_bytes(text.encode() + expected.hu.tobytes())
    names = ("n.nrrd", "compressed", "plain", "m")
    for path in (str(ct.path), enhanced, packed, *(tmp_path / name for name in names)):
        volume = read(path)
        np.testing.assert_array_equal(volume.hu, expected.hu)
        assert volume.grid.same_as(expected.grid)


def test_absent_path(tmp_path: Path) -> None:
    """A typing error is told as such."""
    assert refusal(tmp_path / "nothing").code == "AE-INPUT-001"


@hazard("Files and folders", "the input is an empty text, as of a variable that is not set", PATH_MISSING)
def test_an_empty_text_is_not_the_working_directory(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be read, and written beside."""
    ct.write()
    monkeypatch.chdir(ct.path)
    read(".")
    with pytest.raises(InputError, match="AE-INPUT-001: the input path is an empty text"):
        read("")


@hazard(
    "Files and folders", "a picture, document, archive, text or bare voxels as the input", INPUT_KIND_UNKNOWN
)
@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("v.nii.gz", b"", "empty.*Copy"),
        ("v.nii.gz", b"hello" * 100, "not DICOM, zip, NIfTI, NRRD or MetaImage"),
        ("v.nii.gz", b"\x1f\x8b" + b"junk" * 100, "gzip, but damaged.*Copy"),
        (
            "v.nii.gz",
            gzip.compress(b"text" * 2000, mtime=0),
            "gzip and holds something of an unknown kind.*Unpack",
        ),
        ("v.nrrd.gz", gzip.compress(b"NRRD0004\n" * 500, mtime=0), "gzip and holds NRRD.*gunzip"),
        (
            "v.tar.gz",
            gzip.compress(bytes(257) + b"ustar" + bytes(9000), mtime=0),
            "gzip and holds a tar archive",
        ),
        (
            "v.dcm.gz",
            gzip.compress(bytes(128) + b"DICM" + bytes(9000), mtime=0),
            "gzip and holds DICOM.*Unpack",
        ),
        ("v.nii", b"\x89PNG\r\n\x1a\n" + bytes(400), "a PNG picture"),
        ("v.dcm", b"%PDF-1.7" + bytes(400), "a PDF document"),
        ("v.raw", bytes(4000), "bare voxels.*Give the header"),
    ],
)
def test_file_of_another_kind(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """Each is told in its own words, whatever its name."""
    path = tmp_path / name
    path.write_bytes(content)
    error = refusal(path)
    assert error.code == INPUT_KIND_UNKNOWN.code
    assert re.search(words, str(error))


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"ObjectType = Image\nNDims = 3\n", "AE-MHA-001"),
        (b"PK\x03\x04" + bytes(100), "AE-INPUT-008"),
        (b"NRRD0004\njunk", "AE-NRRD-001"),
        (bytes(344) + b"n+1\0" + bytes(100), "AE-NIFTI-001"),
    ],
)
def test_damaged_file(tmp_path: Path, content: bytes, code: str) -> None:
    """Content decides which reader says so."""
    path = tmp_path / "file.nii.gz"
    path.write_bytes(content)
    assert refusal(path).code == code


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipe_is_refused_without_blocking(tmp_path: Path) -> None:
    """Opening a pipe would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe").code == "AE-INPUT-002"


def test_pipe_in_a_folder_is_passed_over(ct: Any) -> None:
    """Only regular files are opened."""
    ct.write()
    os.mkfifo(ct.path / "pipe")
    assert read(ct.path).shape == (5, 6, 8)


def test_unreadable_file_in_a_folder(ct: Any) -> None:
    """A slice that may not be read is not a missing slice."""
    path = ct.write()[0]
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    assert refusal(ct.path).code == "AE-INPUT-003"


def test_a_series_may_be_named_by_an_int(ct: Any) -> None:
    """A SeriesNumber is a whole number."""
    ct.write(SeriesNumber=7)
    assert read(ct.path, series=7).shape == read(ct.path, series="7").shape
    assert refusal(ct.path, series=8).code == "AE-DICOM-004"


def test_series_is_for_dicom_only(tmp_path: Path) -> None:
    """A choice that cannot be honored is refused."""
    nrrd.write(str(tmp_path / "v.nrrd"), np.zeros((3, 4, 5), np.int16), SPACE)
    assert refusal(tmp_path / "v.nrrd", series="1").code == "AE-INPUT-005"


@hazard("Files and folders", "a DICOM series that alone exceeds `--max-memory`", BUDGET_TOO_SMALL)
def test_series_beyond_the_memory_limit(ct: Any) -> None:
    """Refused before its pixels are read; without pixels it would be refused for them."""
    for path in ct.write():
        path.write_bytes(path.read_bytes()[:-10])
    assert refusal(ct.path).code == "AE-DICOM-005"
    with pytest.raises(BudgetError, match="AE-MEMORY-001.*volume alone"):
        read(ct.path, max_memory_mb=1)


def test_single_slice_is_refused(ct: Any) -> None:
    """One file of a series is not a volume."""
    assert refusal(ct.write(1)[0]).code == "AE-DICOM-011"


def test_a_zipped_series_can_be_read_again_for_its_headers(ct: Any, tmp_path: Path, scratch: Path) -> None:
    """DICOM SEG needs them after the inference; nothing was unpacked."""
    ct.write()
    source = read(zipped(ct.path, tmp_path / "scan.zip")).source
    assert len(read_headers(source.files, placed=True)) == 5
    check_unchanged(source)
    assert list(scratch.iterdir()) == []


@hazard("Files and folders", "a relative path, and the working directory changes after the reading", "read")
@pytest.mark.parametrize("kind", ["folder", "zip", "nrrd"])
def test_a_relative_path_is_kept_as_it_was_meant(
    ct: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Results refer to the same files, and none may go into the input folder."""
    ct.write()
    zipped(ct.path, tmp_path / "scan.zip")
    nrrd.write(str(tmp_path / "v.nrrd"), np.zeros((3, 4, 5), np.int16) - 1000, SPACE)
    monkeypatch.chdir(tmp_path)
    given = {"folder": os.path.relpath(ct.path), "zip": "scan.zip", "nrrd": "v.nrrd"}[kind]
    source = read(given).source
    monkeypatch.chdir("/")
    assert all(file.is_absolute() for file in source.files)
    if kind == "nrrd":
        assert source.files == (tmp_path / "v.nrrd",)
        return
    assert len(read_headers(source.files, placed=True)) == 5
    check_unchanged(source)
    if kind == "folder":
        with pytest.raises(OutputError, match="AE-OUTPUT-004"):
            check_outputs(ct.path / "results", source=source)


@pytest.mark.skipif(sys.platform == "win32", reason="a working directory stays there")
def test_a_working_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path has no place then."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match="AE-INPUT-00[13]"):
        read(".")

"""An archive is never trusted: neither its paths, nor its sizes, nor its checksums."""

from __future__ import annotations

import stat
import struct
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autosam_edge_test_ct import lenient_writing  # noqa: F401  used by every test
from autosam_edge_test_hazards import hazard

from autosam_edge.error_codes import INPUT_UNREADABLE, NO_DICOM, ZIP_DAMAGED, ZIP_TOO_LARGE, ZIP_UNSAFE
from autosam_edge.errors import InputError
from autosam_edge.formats import zip_archive
from autosam_edge.formats.zip_archive import files_of_zip
from autosam_edge.read_scan import read

AREA = "Files and folders"


def refusal(path: Path) -> InputError:
    """The error that reading raises: one line without the path."""
    with pytest.raises(InputError) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert str(path) not in str(caught.value)
    return caught.value


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder in which temporary files are made; no test leaves one there."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert not list(folder.glob("*"))


def entry(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    return info


@hazard(AREA, "a zip with a path that leads out, a link, a pipe or a device", ZIP_UNSAFE)
@pytest.mark.parametrize(
    "info",
    [
        entry("../evil"),
        entry("a/../../evil"),
        entry("/etc/evil"),
        entry("..\\evil"),
        entry("C:/evil"),
        entry("C:evil"),
        entry("line\nbreak"),
        entry("link", stat.S_IFLNK | 0o777),
        entry("pipe", stat.S_IFIFO | 0o666),
        entry("device", stat.S_IFCHR | 0o666),
    ],
    ids=lambda info: repr(info.filename),
)
def test_unsafe_archive_is_refused_and_leaves_nothing(tmp_path: Path, info: zipfile.ZipInfo) -> None:
    """No entry may lead out of the folder."""
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as bundle:
        bundle.writestr(info, b"/etc/passwd")
    assert refusal(tmp_path / "evil.zip").code == "AE-INPUT-006"
    assert not (tmp_path / "evil").exists()


@hazard(AREA, "a zip with one name twice, also in upper and lower case", ZIP_UNSAFE)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archive_with_two_entries_of_one_name(tmp_path: Path) -> None:
    """Which of the two is meant is unknown; on some systems upper and lower case are one."""
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as bundle:
        bundle.writestr("a", b"1")
        bundle.writestr("A", b"2")
    assert refusal(tmp_path / "twice.zip").code == "AE-INPUT-006"


@hazard(AREA, "a zip that expands a hundredfold", ZIP_TOO_LARGE)
def test_archive_bomb_is_stopped_by_counting(tmp_path: Path) -> None:
    """100 MB of zeros in 100 kB."""
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros", bytes(100 << 20))
    assert refusal(tmp_path / "bomb.zip").code == "AE-INPUT-007"


@hazard(AREA, "a zip whose directory lies about a size", ZIP_DAMAGED)
def test_archive_that_lies_about_its_size(tmp_path: Path) -> None:
    """The directory says 10 bytes; the checksum of what comes out does not agree."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        bundle.writestr("zeros", bytes(1000))
    raw = path.read_bytes()
    path.write_bytes(raw.replace(struct.pack("<I", 1000), struct.pack("<I", 10)))
    assert refusal(path).code == "AE-INPUT-008"


@hazard(AREA, "a zip of more than 20,000 entries", ZIP_TOO_LARGE)
def test_archive_with_too_many_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The count is checked before anything is written."""
    monkeypatch.setattr(zip_archive, "MAX_ENTRIES", 2)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as bundle:
        for name in "abc":
            bundle.writestr(name, b"")
    assert refusal(tmp_path / "many.zip").code == "AE-INPUT-007"


@hazard(AREA, "a zip that is cut off", ZIP_DAMAGED)
def test_truncated_archive(ct: Any, tmp_path: Path) -> None:
    """Half an archive is no archive."""
    path = tmp_path / "scan.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in ct.write():
            archive.write(file, file.name)
    path.write_bytes(path.read_bytes()[:-100])
    assert refusal(path).code == "AE-INPUT-008"


def test_archive_with_a_name_that_is_no_utf8(tmp_path: Path) -> None:
    """The flag says UTF-8; in the directory or before the entry, the bytes are none."""
    path = tmp_path / "name.zip"
    with zipfile.ZipFile(path, "w") as bundle:
        bundle.writestr("é", b"1")
    raw = path.read_bytes()
    first, last = raw.index("é".encode()), raw.rindex("é".encode())
    assert first < last
    for place in (first, last):
        path.write_bytes(raw[:place] + b"\xff" + raw[place + 1 :])
        assert refusal(path).code == "AE-INPUT-008"


@hazard(AREA, "a zip with a damaged entry of any method", ZIP_DAMAGED)
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2])
def test_archive_with_a_damaged_entry(tmp_path: Path, method: int) -> None:
    """Wherever the byte flips in the content: each method has errors of its own."""
    path = tmp_path / "damaged.zip"
    with zipfile.ZipFile(path, "w", method) as bundle:
        bundle.writestr("slice", bytes(range(256)) * 4)
    raw = path.read_bytes()
    start, end = 30 + len("slice"), raw.index(b"PK\x01\x02")
    for place in range(start, end, (end - start) // 40 + 1):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ 0xFF]) + raw[place + 1 :])
        try:
            for file in files_of_zip(path):
                file.open("rb").close()
        except InputError as error:
            assert error.code == "AE-INPUT-008"  # noqa: PT017  a byte that means nothing may flip
    middle = (start + end) // 2
    path.write_bytes(raw[:middle] + bytes(20) + raw[middle + 20 :])
    assert refusal(path).code == "AE-INPUT-008"


@hazard(AREA, "a zip with an entry that has no name", ZIP_DAMAGED)
def test_archive_with_an_entry_without_a_name(tmp_path: Path) -> None:
    """Neither a file nor a folder."""
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as bundle:
        bundle.writestr(zipfile.ZipInfo(""), b"slice")
    assert "an entry without a name" in refusal(tmp_path / "scan.zip").message


@hazard(AREA, "a zip in LZMA, whose settings may ask for gigabytes", ZIP_DAMAGED)
def test_archive_in_lzma(tmp_path: Path) -> None:
    """Nobody packs DICOM in it."""
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_LZMA) as bundle:
        bundle.writestr("slice", bytes(100))
    assert "another method than deflate or bzip2" in refusal(tmp_path / "scan.zip").message


@hazard(AREA, "a zip whose directory alone is too long", ZIP_TOO_LARGE)
def test_archive_with_a_long_directory(tmp_path: Path) -> None:
    """It takes ten times its length in memory, and is read before its entries can be counted."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 33, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0)
    directory = b"".join(entry + f"{number:08d}".encode() for number in range(100_000))
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0, 0, len(directory), 0, 0)
    (tmp_path / "scan.zip").write_bytes(b"PK\3\4" + directory + end)
    assert refusal(tmp_path / "scan.zip").code == "AE-INPUT-007"


@hazard(AREA, "a zip without DICOM", NO_DICOM)
def test_archive_without_ct(tmp_path: Path) -> None:
    """A refusal of the reader removes the folder too."""
    with zipfile.ZipFile(tmp_path / "text.zip", "w") as bundle:
        bundle.writestr("readme.txt", b"text")
    assert refusal(tmp_path / "text.zip").code == "AE-DICOM-001"


@hazard(AREA, "a zip, and no temporary folder", "read: entries of up to 64 MiB need none")
@pytest.mark.parametrize("in_memory", [True, False])
def test_a_zip_is_read_as_its_folder_and_nothing_is_unpacked(
    in_memory: bool, ct: Any, tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In memory, or in files without a name: no folder ever holds a file of it."""
    with zipfile.ZipFile(tmp_path / "scan.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in ct.write():
            archive.write(file, f"a/{file.name}")
    if in_memory:
        scratch.rmdir()
    else:
        monkeypatch.setattr(zip_archive, "_IN_MEMORY_BYTES", 0)
    expected, found = read(ct.path), read(tmp_path / "scan.zip")
    assert (found.hu == expected.hu).all()
    assert found.source.stamps
    assert found.source.files[0].stat().st_size == found.source.stamps[0][0]


@hazard(AREA, "a zip with an entry of more than 64 MiB, but no temporary folder", INPUT_UNREADABLE)
def test_a_large_entry_without_a_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names TMPDIR."""
    with zipfile.ZipFile(tmp_path / "scan.zip", "w") as archive:
        archive.writestr("a", b"1")
    monkeypatch.setattr(zip_archive, "_IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    error = refusal(tmp_path / "scan.zip")
    assert error.code == "AE-INPUT-003"
    assert "TMPDIR" in error.remedy

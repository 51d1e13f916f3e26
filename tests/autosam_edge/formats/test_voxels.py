"""Voxels come out of every encoding as they went in, or with the true reason why they do not."""

from __future__ import annotations

import bz2
import gzip
import sys
import zlib
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import run_python

from autosam_edge import encoded_bytes
from autosam_edge.error_codes import BUDGET_TOO_SMALL, NIFTI_DAMAGED, NRRD_DAMAGED
from autosam_edge.errors import BudgetError, InputError
from autosam_edge.formats import voxels as voxels_module
from autosam_edge.formats.voxels import StoredVoxels, read_start, read_values
from autosam_edge.warning_codes import BYTES_AFTER_VOXELS

if TYPE_CHECKING:
    from pathlib import Path

AREA = "NIfTI, NRRD and MetaImage"
SHAPE = (10, 20, 30)
NOISE = np.random.default_rng(0).integers(-1000, 1000, SHAPE).astype("<i2")
RAW = NOISE.tobytes()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several pieces of voxels and several reads of the file."""
    monkeypatch.setattr(voxels_module, "_PIECE_VOXELS", 1000)
    monkeypatch.setattr(voxels_module, "READ_BYTES", 512)
    monkeypatch.setattr(encoded_bytes, "READ_BYTES", 512)


def stored(path: Path, content: bytes, encoding: Any = "raw", **fields: Any) -> StoredVoxels:
    """A file with these bytes, as voxels."""
    path.write_bytes(content)
    voxels = StoredVoxels(path, NOISE.dtype, SHAPE, NRRD_DAMAGED, encoding, **fields)
    voxels.require_size()
    return voxels


@hazard(AREA, "a gzip of very many short members", NRRD_DAMAGED)
@pytest.mark.parametrize("member", [b"", b"1"])
def test_many_short_members(tmp_path: Path, member: bytes) -> None:
    """Each costs a copy of what was read of the file: a gigabyte of them would take hours."""
    content = gzip.compress(member, 1, mtime=0) * 3000 + gzip.compress(RAW, 1, mtime=0)
    with pytest.raises(InputError, match="AE-NRRD-001.*compressed voxels are damaged"):
        read_values(stored(tmp_path / "v", content, "zlib"))


@hazard(AREA, "gigabytes between the header and the voxels of a compressed file", NRRD_DAMAGED)
def test_long_way_to_the_voxels(tmp_path: Path) -> None:
    """2 GB of zeros are 2 MB in gzip."""
    with pytest.raises(InputError, match="AE-NRRD-001.*2147483648 bytes before the voxels"):
        stored(tmp_path / "v", gzip.compress(RAW, 1), "zlib", skip=2 << 30)


@hazard(AREA, "a number of many digits among numbers in ASCII", NRRD_DAMAGED)
@pytest.mark.parametrize("place", [0, 3000, 5999])
def test_long_number(tmp_path: Path, place: int) -> None:
    """An array of texts is as wide as its longest."""
    words = text().split()
    words[place] = b"0" * 100 + words[place]
    with pytest.raises(InputError, match="AE-NRRD-001.*numbers in ASCII are damaged"):
        read_values(stored(tmp_path / "v", b" ".join(words), "text"))


def text() -> bytes:
    """The voxels as ASCII, in lines that end where nobody expects it."""
    return b"\n ".join(str(value).encode() for value in NOISE.reshape(-1))


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (RAW, "raw"),
        (gzip.compress(RAW, 1, mtime=0), "zlib"),
        (zlib.compress(RAW, 1), "zlib"),
        (gzip.compress(RAW[:999], 1, mtime=0) + gzip.compress(RAW[999:], 1, mtime=0) + bytes(512), "zlib"),
        (bz2.compress(RAW), "bzip2"),
        (bz2.compress(RAW[:999]) + bz2.compress(RAW[999:]), "bzip2"),
        (text(), "text"),
        (text() + b"\n", "text"),
    ],
    ids=["raw", "gzip", "zlib", "two members and padding", "bzip2", "two streams", "text", "text with end"],
)
def test_every_encoding(tmp_path: Path, content: bytes, encoding: str) -> None:
    """The same voxels and no warning."""
    voxels, notes = stored(tmp_path / "v", content, encoding), []
    values = np.empty(NOISE.size, np.int16)
    for place, piece in voxels.pieces(notes):
        values[place] = piece
    np.testing.assert_array_equal(values.reshape(SHAPE), NOISE)
    assert notes == []
    np.testing.assert_array_equal(read_values(voxels), NOISE)


@pytest.mark.parametrize("encoding", ["raw", "zlib"])
def test_start_and_skip(tmp_path: Path, encoding: str) -> None:
    """Bytes before the stream, and bytes of the stream before the voxels."""
    skipped = b"" if encoding == "raw" else b"abc"
    content = skipped + RAW if encoding == "raw" else gzip.compress(skipped + RAW, 1, mtime=0)
    voxels = stored(tmp_path / "v", b"12345" + content, encoding, start=5, skip=len(skipped))
    np.testing.assert_array_equal(read_values(voxels), NOISE)


@hazard(AREA, "bytes after the voxels, within or after the compressed stream", BYTES_AFTER_VOXELS)
@pytest.mark.parametrize(
    ("content", "encoding", "count"),
    [
        (RAW + b"junk", "raw", 4),
        (gzip.compress(RAW + b"junk", 1, mtime=0), "zlib", 4),
        (gzip.compress(RAW, 1, mtime=0) + b"junk!", "zlib", 5),
        (bz2.compress(RAW) + b"junk!", "bzip2", 5),
        (text() + b" 1 2", "text", 4),
    ],
    ids=["raw", "inside gzip", "after gzip", "after bzip2", "text"],
)
def test_excess_is_told(tmp_path: Path, content: bytes, encoding: str, count: int) -> None:
    """Nothing is passed over in silence."""
    notes: list[Any] = []
    for _ in stored(tmp_path / "v", content, encoding).pieces(notes):
        pass
    assert [warning.code for warning in notes] == [BYTES_AFTER_VOXELS.code]
    assert f" {count} bytes" in notes[0].message


@hazard(AREA, "a compressed file that inflates to more than twice what its header tells of", NRRD_DAMAGED)
def test_a_bomb_is_stopped(tmp_path: Path) -> None:
    """Three megabytes after twelve kilobytes."""
    content = gzip.compress(RAW + bytes(3 << 20), 1, mtime=0)
    with pytest.raises(InputError, match="AE-NRRD-001.*more than twice"):
        read_values(stored(tmp_path / "v", content, "zlib"))


@hazard(AREA, "voxels that are damaged or end early, in any encoding", NRRD_DAMAGED)
@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        (gzip.compress(RAW, 1, mtime=0)[:-9], "zlib", "ends? early|checksum"),
        (gzip.compress(RAW, 1, mtime=0)[:-4], "zlib", "checksum"),
        (gzip.compress(RAW[:-1], 1, mtime=0), "zlib", "ends early"),
        (gzip.compress(RAW, 1, mtime=0)[:-8] + bytes(8), "zlib", "damaged"),
        (b"not gzip" * 100_000, "zlib", "damaged"),
        (bz2.compress(RAW)[:-5], "bzip2", "checksum|early"),
        (b"not bzip2" * 100_000, "bzip2", "damaged"),
        (text()[:-20], "text", "ends early"),
        (text().replace(b" 17\n", b" x7\n"), "text", "damaged"),
        (text().replace(b" 17\n", b" 40000\n"), "text", "damaged"),
    ],
)
def test_damage(tmp_path: Path, content: bytes, encoding: str, reason: str) -> None:
    """No zero fill and no wrapping around."""
    with pytest.raises(InputError, match=f"AE-NRRD-001.*({reason})") as caught:
        read_values(stored(tmp_path / "v", content, encoding))
    assert "Copy the file again" in caught.value.remedy


@pytest.mark.parametrize(
    ("content", "encoding"),
    [(RAW[:-1], "raw"), (gzip.compress(RAW, 1, mtime=0)[:9], "zlib"), (text()[:1000], "text")],
)
def test_a_file_that_is_too_short_is_refused_before_it_is_read(
    tmp_path: Path, content: bytes, encoding: str
) -> None:
    """Deflate cannot expand 1100 times; a number in ASCII has a byte at least."""
    with pytest.raises(InputError, match="AE-NRRD-001.*ends early"):
        stored(tmp_path / "v", content, encoding)


def test_start_of_a_file(tmp_path: Path) -> None:
    """Inflated, whatever the name; as much as there is."""
    path = tmp_path / "v"
    for content, start in (
        (b"abc", b"abc"),
        (gzip.compress(b"abc" * 100), b"abca"),
        (b"\x1f\x8b" + b"x" * 9, b""),
    ):
        path.write_bytes(content)
        assert read_start(path, 4) == (start, content.startswith(b"\x1f\x8b"))


@hazard(AREA, "a volume that alone exceeds `--max-memory`", BUDGET_TOO_SMALL)
def test_a_volume_beyond_the_limit_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """The message names what the volume needs with what the process holds."""
    path = tmp_path / "v.nii"
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.int16), np.eye(4))
    image.header.set_data_shape((512, 512, 2000))
    with path.open("wb") as file:
        image.header.write_to(file)
        file.truncate(352 + 512 * 512 * 2000 * 2)  # takes no room on the disk
    from autosam_edge.read_scan import read

    with pytest.raises(BudgetError, match="AE-MEMORY-001.*volume alone.*limit is 1000 MB.*max_memory_mb"):
        read(path, max_memory_mb=1000)


MEASURE = """
import sys
from autosam_edge.read_scan import read
from autosam_edge.system.memory import peak_mb, resident_mb
import autosam_edge.formats.nifti
before = resident_mb()
volume = read(sys.argv[1])
print(peak_mb() - before - volume.hu.nbytes / 1e6)
"""


@hazard(AREA, "float64 voxels, compressed or not", "read as float32; memory is the result and at most 60 MB")
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak of memory is read from Linux")
@pytest.mark.parametrize("name", ["v.nii", "v.nii.gz"])
def test_float64_takes_the_memory_of_its_result(tmp_path: Path, name: str) -> None:
    """Never the whole volume in another type."""
    plain = tmp_path / "v.nii"
    image = nib.Nifti1Image(np.zeros((3, 3, 3), np.float64), np.eye(4))
    image.header.set_data_shape((512, 512, 100))
    with plain.open("wb") as file:
        image.header.write_to(file)
        file.truncate(352 + 512 * 512 * 100 * 8)
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes(), 1, mtime=0))
    done = run_python("-c", MEASURE, tmp_path / name, check=True)
    assert float(done.stdout) < 60


def test_damaged_code_is_the_formats_own(tmp_path: Path) -> None:
    """NIfTI speaks of NIfTI."""
    voxels = StoredVoxels(tmp_path / "v", np.dtype("i2"), (0, 1, 1), NIFTI_DAMAGED)
    with pytest.raises(InputError, match="AE-NIFTI-001.*0 x 1 x 1"):
        voxels.require_size()

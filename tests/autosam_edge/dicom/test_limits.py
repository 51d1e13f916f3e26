"""Sizes are compared with what may be, before anything of that size is read."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_encoders import compress, file_of
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from autosam_edge.dicom import find, fragments, parse
from autosam_edge.dicom.hounsfield import reading_mb
from autosam_edge.dicom.planes import planes_of
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import BUDGET_TOO_SMALL, DICOM_DAMAGED, DICOM_TOO_LARGE
from autosam_edge.errors import BudgetError
from autosam_edge.system import memory

FILES, VALUES = "Files and folders", "Pixel values"
ITEM = b"\xfe\xff\x00\xe0"


def fragmented(ct: Any, change: Any) -> Path:
    """Slice 4 in RLE, its encapsulated pixel data changed."""
    ct.write(4)
    image = compress(ct.image(4), RLELossless)
    content = file_of(image, declared=RLELossless)
    at = content.index(b"\xe0\x7f\x10\x00OB") + 12
    path: Path = ct.path / "im00"
    path.write_bytes(content[:at] + change(content[at:]))
    return path


def peak_mb(action: Any) -> float:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


@hazard(VALUES, "a compressed frame of gigabytes", DICOM_DAMAGED)
def test_fragment_of_gigabytes(ct: Any) -> None:
    """It is not read; the file has a hole of 3 GB."""
    path = fragmented(ct, lambda pixels: pixels[:12] + ITEM + struct.pack("<I", 3 << 30))
    with path.open("r+b") as file:
        file.seek(3 << 30, 2)
        file.write(b"\xfe\xff\xdd\xe0" + bytes(4))

    def read() -> None:
        error = refusal(ct.path)
        assert (error.code, "far more than its 48 pixels" in error.message) == ("AE-DICOM-005", True)

    assert peak_mb(read) < 20


@hazard(VALUES, "an offset table that is longer than its frames", DICOM_DAMAGED)
def test_long_offset_table(ct: Any) -> None:
    """A table of 1 GB would become a tuple of 2 GB."""
    path = fragmented(ct, lambda _: ITEM + struct.pack("<I", 1 << 30))
    with path.open("r+b") as file:
        file.seek(1 << 30, 2)
        file.write((ITEM + bytes(4)) * 2 + b"\xfe\xff\xdd\xe0" + bytes(4))

    def read() -> None:
        assert refusal(ct.path).code == "AE-DICOM-005"

    assert peak_mb(read) < 20


@hazard(VALUES, "pixel data in more fragments than 4,000 frames have", DICOM_DAMAGED)
def test_many_fragments(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte of empty ones would take ten."""
    monkeypatch.setattr(fragments, "_MAX_FRAGMENTS", 100)
    fragmented(ct, lambda pixels: pixels[:12] + (ITEM + bytes(4)) * 200 + pixels[12:])
    assert "more than 100 fragments" in refusal(ct.path).message


@hazard(FILES, "a deflated file that inflates far beyond its pixels", DICOM_TOO_LARGE)
@hazard(FILES, "a deflated file with more file meta information than is read ahead", DICOM_TOO_LARGE)
@pytest.mark.parametrize("filler", [0, 70_000])
def test_deflated_bytes_behind_the_pixels(ct: Any, filler: int) -> None:
    """The parser and the check see the same transfer syntax, wherever it stands."""
    ct.write(4)
    image = ct.image(4)
    image.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    if filler:
        image.file_meta.add_new(0x00020001, "OB", bytes(filler))
    path = ct.save(image, "im00")
    content = path.read_bytes()
    start = content.index(DeflatedExplicitVRLittleEndian.encode())
    start = next(at for at in range(start, start + 400) if inflates(content[at:]))
    plain = zlib.decompress(content[start:], -zlib.MAX_WBITS)
    deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    zeros = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(300))
    head = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body = head.compress(plain) + head.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(content[:start] + body + zeros + deflater.flush())

    def read() -> None:
        assert refusal(ct.path).code == "AE-DICOM-021"

    assert peak_mb(read) < 20


def inflates(data: bytes) -> bool:
    try:
        return b"PRIMARY" in zlib.decompress(data, -zlib.MAX_WBITS)
    except zlib.error:
        return False


@hazard(FILES, "headers that take more memory than `--max-memory`", BUDGET_TOO_SMALL)
@pytest.mark.parametrize("long", [False, True])
def test_headers_beyond_the_memory_limit(ct: Any, monkeypatch: pytest.MonkeyPatch, *, long: bool) -> None:
    """Many short headers, or one of many elements: refused while they are read."""
    monkeypatch.setattr(find, "_HEADERS_BETWEEN", 2)
    monkeypatch.setattr(parse, "_STEPS_BETWEEN", 100)
    if long:
        image = ct.enhanced([0, 1, 2, 3, 4])
        items = [Dataset() for _ in range(10_000)]
        for item in items:
            item.is_undefined_length_sequence_item = True
        group = image.PerFrameFunctionalGroupsSequence[0]
        group.DerivationImageSequence = items
        group["DerivationImageSequence"].is_undefined_length = True
        group.is_undefined_length_sequence_item = True
        image["PerFrameFunctionalGroupsSequence"].is_undefined_length = True
        ct.save(image, "many")
    else:
        ct.write()
    with pytest.raises(BudgetError, match="the headers of the input alone need") as caught:
        read_dicom(ct.path, max_memory_mb=1)
    assert caught.value.code == "AE-MEMORY-001"


@hazard(VALUES, "values beyond 16 bits, for which `--max-memory` has no room", BUDGET_TOO_SMALL)
def test_values_beyond_16_bits(ct_folder: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The array grows to twice its size at the first such value."""
    monkeypatch.setattr(memory, "resident_mb", lambda: 0.0)
    ct = ct_folder("metal", (40, 6, 8))
    ct.write(BitsStored=16, HighBit=15, RescaleSlope=10)
    limit_mb = reading_mb(planes_of(find.find_dicom_files(ct.path).headers), 40)
    assert limit_mb == 6 * 8 * (2 * 40 + 24 + 2) / 2**20  # the MB of the process, as the glossary has it
    with pytest.raises(BudgetError, match="the volume in 32 bits alone needs"):
        read_dicom(ct.path, max_memory_mb=limit_mb)
    assert read_dicom(ct.path, max_memory_mb=2 * limit_mb).hu.dtype == np.int32

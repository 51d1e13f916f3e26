"""What a native decoder does to its process does not reach the caller."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_encoders import compress, encoded, file_of
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal
from pydicom.uid import JPEGLSLossless, RLELossless

from autosam_edge.dicom import decoder
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import DICOM_DAMAGED, TRANSFER_SYNTAX_UNSUPPORTED

pytest.importorskip("imagecodecs")
VALUES = "Pixel values"


def run_in_child(arguments: list[str], data: bytes) -> bytes:
    """A decoder that goes wrong; the child imports this module."""
    return ACTIONS[arguments[0]](data)


ACTIONS: dict[str, Any] = {
    "hang": lambda _: ctypes.PyDLL(None).sleep(60),  # holds the interpreter's lock
    "crash": lambda _: ctypes.string_at(0),
    "fill": lambda _: bytes(bytearray(600 << 20)[:1]),
    "flood": lambda _: bytes(1 << 20),
    "half": lambda _: b"<u2".ljust(16) + bytes(10),
    "no codec": lambda _: b"ImportError".ljust(16),
}


@pytest.fixture
def series(ct: Any) -> Any:
    """A series whose slices alternate between a native decoder and one in Python."""
    for d in range(5):
        image = compress(ct.image(d), RLELossless if d == 2 else JPEGLSLossless)
        (ct.path / f"im{d}").write_bytes(file_of(image, declared=image.file_meta.TransferSyntaxUID))
    return ct


@pytest.mark.parametrize("child", [True, False])
def test_decoded_values_do_not_depend_on_the_process(
    series: Any, monkeypatch: pytest.MonkeyPatch, *, child: bool
) -> None:
    """Also where the system cannot start a child; slices keep their order among others."""
    monkeypatch.setattr(decoder, "can_run_child", lambda: child)
    np.testing.assert_array_equal(read_dicom(series.path).hu, series.hu)


def test_one_child_serves_a_series_and_ends_with_it(series: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its start costs as much as a hundred frames."""
    made = []

    class Counted(decoder.ChildWorker):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            made.append(self._child)

    monkeypatch.setattr(decoder, "ChildWorker", Counted)
    read_dicom(series.path)
    (child,) = made
    assert child.poll() is not None


def test_uncompressed_pixels_need_no_child(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read as they stand."""
    monkeypatch.setattr(decoder, "ChildWorker", None)
    ct.write()
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)


@hazard(VALUES, "a compressed frame whose decoder crashes, hangs or fills the memory", DICOM_DAMAGED)
@hazard(
    VALUES, "a transfer syntax whose decoder this build of imagecodecs lacks", TRANSFER_SYNTAX_UNSUPPORTED
)
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory")
@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        ("hang", "AE-DICOM-005", "it took more than 3 s"),
        ("crash", "AE-DICOM-005", "it ended with signal 11"),
        ("fill", "AE-DICOM-005", "it needs more than"),
        ("flood", "AE-DICOM-005", "it gave more than"),
        ("half", "AE-DICOM-005", "do not fit Rows x Columns"),
        ("no codec", "AE-DICOM-010", "cannot decode"),
    ],
)
def test_decoder_that_fails(
    series: Any, monkeypatch: pytest.MonkeyPatch, action: str, code: str, words: str
) -> None:
    """The file is named, and no process is left."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    real, made = decoder.ChildWorker, []

    def started(_: Any) -> Any:
        made.append(real("test_decoder", [action]))
        return made[-1]

    monkeypatch.setattr(decoder, "ChildWorker", started)
    if action == "hang":
        monkeypatch.setattr(decoder, "_SECONDS", 3.0)
        monkeypatch.setattr(decoder, "_SECONDS_PER_PIXEL", 0.0)
    begin = time.monotonic()
    error = refusal(series.path)
    assert (error.code, words in error.message, "of 5" in error.message) == (code, True, True)
    assert time.monotonic() - begin < 40  # the decoder that hangs would take 60
    assert [worker._child.poll() is not None for worker in made] == [True]


@pytest.mark.parametrize(
    ("change", "words"),
    [(lambda stream: stream[:-400] + stream[-2:], "cannot be decoded"), (lambda _: b"\xff\xd8", "cut off")],
)
def test_refusals_of_a_decoder_come_through(ct_folder: Any, change: Any, words: str) -> None:
    """As they do within the process."""
    ct = ct_folder("refused", (5, 48, 64))
    ct.hu = np.random.default_rng(0).integers(-1000, 1000, ct.shape).astype(np.int16)
    ct.write(4)
    stream = encoded(ct.hu[4] + np.int16(1024), JPEGLSLossless)
    image = compress(ct.image(4), JPEGLSLossless, frames=[change(stream)])
    (ct.path / "im00").write_bytes(file_of(image, declared=JPEGLSLossless))
    error = refusal(ct.path)
    assert (error.code, words in error.message) == ("AE-DICOM-005", True)

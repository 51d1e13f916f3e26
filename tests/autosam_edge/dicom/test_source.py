"""The files that a DICOM SEG refers to are those that were read, by the same rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import SECRETS
from pydicom.dataset import Dataset

from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.read import read_dicom
from autosam_edge.dicom.source import read_headers
from autosam_edge.error_codes import SEG_SOURCE_UNUSABLE
from autosam_edge.errors import OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.write_results import write


def without_preamble(ct: Any) -> None:
    for d in range(5):
        image = ct.image(d, SliceThickness=2.5)
        del image.file_meta
        pydicom.dcmwrite(ct.path / f"{d}", image, implicit_vr=True, little_endian=True)


def without_identifiers(ct: Any) -> None:
    """SOPClassUID and SOPInstanceUID stand in the file meta information alone."""
    for d in range(5):
        path = ct.save(ct.image(d, SliceThickness=2.5), f"{d}")
        image = pydicom.dcmread(path)
        image.SOPClassUID = image.SOPInstanceUID = ""
        image.save_as(path)


def with_long_headers(ct: Any) -> None:
    """A private block, and a sequence of undefined length that crosses the end of what is read ahead."""
    item = Dataset()
    item.TextValue = "x" * 100
    for d in range(5):
        image = ct.image(d, SliceThickness=2.5)
        image.private_block(0x0029, "TEST", create=True).add_new(1, "OB", bytes(100_000))
        image.AcquisitionContextSequence = [item] * 1000
        image["AcquisitionContextSequence"].is_undefined_length = True
        ct.save(image, f"{d}")


def segmented(volume: Volume) -> Segmentation:
    labels = np.zeros(volume.shape, np.uint8)
    labels[1:4, 2:4, 2:5] = 1
    return Segmentation(labels, volume.grid, BTCV_LABELS)


@hazard(
    "Results",
    "a DICOM SEG of files without preamble, with long headers, or without identifiers but in the meta",
    "written",
)
@pytest.mark.parametrize("prepare", [without_preamble, without_identifiers, with_long_headers])
def test_what_is_read_can_be_referred_to(ct: Any, tmp_path: Path, prepare: Any) -> None:
    """The SEG names each of the five instances."""
    prepare(ct)
    volume = read_dicom(ct.path)
    assert volume.source.identifier_fault == ""
    written = write(volume, segmented(volume), tmp_path / "out", formats=("dicom-seg",))
    seg = pydicom.dcmread(written["dicom-seg"])
    (series,) = seg.ReferencedSeriesSequence
    assert {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence} == {
        ct.image(d).SOPInstanceUID for d in range(5)
    }
    assert seg.file_meta.MediaStorageSOPClassUID == seg.SOPClassUID


def other_patient(path: Path) -> None:
    """The same place and size, another patient."""
    path.write_bytes(path.read_bytes().replace(b"SECRET-4711", b"SECRET-4712"))


def gone(path: Path) -> None:
    path.unlink()


@hazard("Results", "a file of the series is rewritten or gone after it was read", SEG_SOURCE_UNUSABLE)
@pytest.mark.parametrize("change", [other_patient, gone])
@pytest.mark.parametrize("which", [0, 3])
def test_source_that_changed_after_reading(ct: Any, tmp_path: Path, change: Any, which: int) -> None:
    """The SEG would name a patient whose scan was not segmented; nothing is left behind."""
    ct.write(SliceThickness=2.5)
    volume = read_dicom(ct.path)
    change(volume.source.files[which])
    with pytest.raises(OutputError, match="AE-OUTPUT-006") as caught:
        write(volume, segmented(volume), tmp_path / "out")
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert not list((tmp_path / "out").glob("*"))


def test_other_formats_do_not_need_the_source(ct: Any, tmp_path: Path) -> None:
    """A NIfTI shows what was read."""
    ct.write(SliceThickness=2.5)
    volume = read_dicom(ct.path)
    gone(volume.source.files[0])
    assert list(write(volume, segmented(volume), tmp_path / "out", formats=("nifti",))) == ["nifti"]


def test_ill_formed_identifiers_are_not_quoted(ct: Any, recwarn: pytest.WarningsRecorder) -> None:
    """Pydicom warns of a UID that is none, and quotes it, when it is decoded."""
    ct.write(SliceThickness=2.5)
    for path in ct.path.iterdir():
        raw = path.read_bytes()
        at = raw.index(b"\x20\x00\x0d\x00UI") + 8
        path.write_bytes(raw[:at] + b"SECRET" + raw[at + 6 :])
    recwarn.clear()
    volume = read_dicom(ct.path)
    assert volume.source.frame_of_reference_fault != "" or volume.source.identifier_fault != ""
    with silenced(), pytest.raises(OutputError, match="AE-OUTPUT-006"):
        read_headers(volume.source.files, placed=True)
    assert not list(recwarn)

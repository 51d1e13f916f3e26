"""Links, pipes and names of files in the input."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import refusal

from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import INPUT_UNREADABLE, LINK_LEADS_OUT, TOO_MANY_FILES
from autosam_edge.warning_codes import FILES_PASSED_OVER

AREA = "Files and folders"


def links(ct: Any, which: range, target: Path) -> None:
    """Move slices to another folder and leave links in their place."""
    target.mkdir(parents=True, exist_ok=True)
    for d, path in enumerate(ct.write()):
        if d in which:
            path.rename(target / path.name)
            path.symlink_to(target / path.name)


@hazard(AREA, "symbolic links whose targets lie inside the input", FILES_PASSED_OVER)
def test_links_inside_the_input(ct: Any) -> None:
    """Each real file is one slice, at whatever place, and circles do no harm."""
    links(ct, range(5), ct.path / "store" / "objects")
    (ct.path / "again").symlink_to(ct.path / "store")
    (ct.path / "store" / "up").symlink_to(ct.path)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.warnings[0].message == "Passed over: 7 x symbolic link to what is read at its own place."


def test_input_that_is_itself_a_link(ct: Any, tmp_path: Path) -> None:
    """A link given as the input is the folder that it stands for."""
    links(ct, range(5), ct.path / "store")
    (tmp_path / "link").symlink_to(ct.path)
    np.testing.assert_array_equal(read_dicom(tmp_path / "link").hu, ct.hu)


@hazard(AREA, "symbolic links whose targets lie outside of the input, for all or some slices", LINK_LEADS_OUT)
@pytest.mark.parametrize("which", [range(5), range(3, 5)])
def test_links_out_of_the_input(ct: Any, tmp_path: Path, which: range) -> None:
    """All slices, or the last two, where no gap would show it."""
    links(ct, which, tmp_path / "elsewhere")
    error = refusal(ct.path)
    assert error.code == "AE-INPUT-009"
    assert "leads out" in error.message


@hazard(AREA, "a symbolic link to nothing, or in a circle", LINK_LEADS_OUT)
@pytest.mark.parametrize("target", ["nothing", "link"])
def test_link_without_target(ct: Any, target: str) -> None:
    """As after a copy of links without their files."""
    ct.write()
    (ct.path / "link").symlink_to(ct.path / target)
    assert refusal(ct.path).code == "AE-INPUT-009"


@hazard(AREA, "pipes and sockets in the folder", FILES_PASSED_OVER)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_are_passed_over_with_a_count(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one would wait for ever."""
    ct.write()
    os.mkfifo(ct.path / "pipe.dcm")
    monkeypatch.chdir(ct.path)  # the path of a socket must be short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert read_dicom(ct.path).warnings[0].message == "Passed over: 2 x pipe, socket or device."


@hazard(AREA, "more than 20,000 files, or folders more than 12 levels deep", TOO_MANY_FILES)
def test_too_deep(ct: Any) -> None:
    """The root of a disk is not a scan."""
    (ct.path / "/".join("abcdefghijklmn")).mkdir(parents=True)
    assert refusal(ct.path).code == "AE-DICOM-023"


@hazard(AREA, "a slice that may not be read", INPUT_UNREADABLE)
def test_unreadable_slice(ct: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not a missing slice, and it is not damaged."""
    ct.write()
    really = Path.open

    def denied(self: Path, *args: Any, **options: Any) -> Any:
        if self.name == "im097":
            raise PermissionError(13, "no")
        return really(self, *args, **options)

    monkeypatch.setattr(Path, "open", denied)
    error = refusal(ct.path)
    assert error.code == "AE-INPUT-003"
    assert "file 3 of 5" in error.message


@hazard(
    AREA, "the name of a patient in the name of a folder or file below the input", "not shown in any message"
)
def test_names_of_files_are_not_shown(ct: Any) -> None:
    """A file is called by its number in the order of the paths."""
    for d in range(5):
        ct.save(
            ct.image(d, **({"RescaleSlope": None} if d == 2 else {})), f"SECRET_Erika_1961/CT/Mustermann{d}"
        )
    error = refusal(ct.path)  # which looks for these words
    assert error.code == "AE-DICOM-007"
    assert "file 3 of 5" in error.message


@hazard(AREA, "names that are not ASCII, or no UTF-8 at all, and long paths", "read")
def test_odd_names(ct: Any) -> None:
    """Umlauts, Japanese, a line break, bytes that are no text, 200 letters."""
    names = ["Müller", "山田^太郎", "a\nb", os.fsdecode(b"\xff\xfe"), "x" * 200]
    for d, name in enumerate(names):
        (ct.path / name).mkdir()
        ct.save(ct.image(d, PatientName="山田^太郎", SpecificCharacterSet="ISO_IR 192"), f"{name}/{name}")
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)

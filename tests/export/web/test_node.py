"""An exported site's worker in node: the same Python, the same WebAssembly as in a browser."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_browser_files import NAMES, write_here
from autosam_edge_test_codings import CODINGS
from autosam_edge_test_ct import lenient_writing  # noqa: F401  used by every test

from autosam_edge import open_bundle, read
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

pytestmark = pytest.mark.slow

Answers = dict[str, Any]


@pytest.fixture(scope="module")
def series(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The middle of a phantom as a DICOM series, in two tiles."""
    folder = tmp_path_factory.mktemp("series")
    write_dicom_series(make_phantom(spacing_mm=(5.0, 3.0, 3.0), shape=(50, 96, 130)).volume, folder)
    return folder


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder that receives the files of the worker."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def answers(
    exported: Path,
    series: Path,
    out: Path,
    twins: dict[str, Path],
    refused_folders: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Answers:
    """What one worker answers: to a check of the device, scans, a stop, and a folder without a scan."""
    nothing = tmp_path_factory.mktemp("nothing")
    (nothing / "notes.txt").write_text("hello")
    scans = [
        {"folder": str(series), "out": str(out)},
        {"folder": str(series), "cancel_at": "network"},
        {"folder": str(nothing)},
        *({"folder": str(folder)} for folder in refused_folders.values()),
    ]
    anyhow = {"accept_implausible": True}
    scans += [
        {"folder": str(folder), "out": str(out / name), "request": anyhow} for name, folder in twins.items()
    ]
    asked = json.dumps({"site": str(exported), "verify": True, "scans": scans})
    script = Path(__file__).with_name("node_worker.mjs")
    temporary = tmp_path_factory.mktemp("temporary")
    environment = {**os.environ, "TMPDIR": str(temporary)}
    command = ["node", str(script), asked]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert list(temporary.iterdir()) == []
    found: Answers = json.loads(done.stdout)
    return found


def test_the_golden_tile_is_proven_before_the_network_is_used(answers):
    """With one thread, as node is not isolated; every other check passes too."""
    about = answers["start"]["value"]
    assert (about["provider"], about["threads"], about["refused"]) == ("wasm", 1, [])
    assert about["model"] == open_bundle().manifest.name
    checks = answers["checks"]["value"]
    assert {check["verdict"] for check in checks} == {"passed"}
    assert [check["name"] for check in checks][-1] == "onnx/fp32 with wasm"
    assert checks[-1]["figures"]["logit_rms"] < 1e-3


def test_the_files_are_those_of_this_machine_bit_by_bit(answers, series, out, tmp_path):
    """For equal labels and provenance, DICOM SEG and NIfTI are the same bytes."""
    scan = read(series)
    told = json.loads((out / "statistics.json").read_text())
    labels = np.fromfile(out / "labels.u8", np.uint8).reshape(scan.shape)
    write_here(scan, labels, told, tmp_path / "here")
    for name in NAMES:
        assert (tmp_path / "here" / name).read_bytes() == (out / name).read_bytes()


def test_the_labels_are_those_of_the_session_but_for_a_few_voxels(answers, series, out):
    """Another processor rounds otherwise: at most one voxel in a hundred thousand."""
    from autosam_edge import open_session

    here = open_session(engine="onnx", precision="fp32").segment(read(series))
    there = np.fromfile(out / "labels.u8", np.uint8).reshape(here.labels.shape)
    assert np.count_nonzero(there) > 10_000
    assert np.count_nonzero(here.labels != there) <= there.size / 100_000
    scan = answers["scans"][0]
    assert scan["verdict"] == here.verdict
    assert sum(organ["voxels"] for organ in scan["organs"]) == np.count_nonzero(there)


def test_a_stop_and_an_error_reach_the_page(answers):
    """With the codes of the command line."""
    errors = [scan.get("error") for scan in answers["scans"][1:6]]
    codes = ["AE-CANCEL-001", "AE-INPUT-002", "AE-DICOM-010", "AE-DICOM-018", "AE-DICOM-002"]
    assert [error["code"] for error in errors] == codes
    assert [error["exitCode"] for error in errors] == [130, 3, 3, 3, 3]
    assert all(error["remedy"] for error in errors)


@pytest.mark.parametrize("coding", CODINGS)
def test_compressed_pixels_are_those_of_the_raw_series(answers, out, coding):
    """Decoded in the browser's Python by its own build of imagecodecs; labels follow from the pixels."""
    assert not [scan["error"] for scan in answers["scans"][6:] if "error" in scan]
    for name in ("view_image.nii", "labels.u8"):
        assert (out / coding / name).read_bytes() == (out / "raw" / name).read_bytes()

"""The script for Orthanc against Orthanc itself: series in, SEG out, seen through its REST interface."""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import time
import urllib.error
from pathlib import Path

import pytest

import autosam_edge
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

SCRIPT = Path(__file__).parents[3] / "docs" / "integrations" / "orthanc.py"

pytestmark = pytest.mark.slow


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@pytest.fixture
def orthanc(tmp_path):
    """The address of a running Orthanc with an empty store."""
    program = shutil.which("Orthanc", path="/usr/sbin:/usr/bin:/usr/local/bin")
    if program is None:
        pytest.skip("Orthanc (Debian's package) is not installed")
    port = free_port()
    settings = {
        "StorageDirectory": str(tmp_path / "store"),
        "IndexDirectory": str(tmp_path / "store"),
        "HttpPort": port,
        "DicomPort": free_port(),
        "RemoteAccessAllowed": False,
        "StableAge": 1,
    }
    (tmp_path / "orthanc.json").write_text(json.dumps(settings))
    process = subprocess.Popen([program, tmp_path / "orthanc.json"], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def test_a_stable_series_gets_a_segmentation_once(orthanc, tmp_path):
    spec = importlib.util.spec_from_file_location("orthanc_script", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    server = script.Orthanc(orthanc)
    for _ in range(100):
        try:
            server.json("/system")
            break
        except urllib.error.URLError:
            time.sleep(0.1)
    phantom = make_phantom(seed=3)
    for path in write_dicom_series(phantom.volume, tmp_path / "series", seed=3):
        server.store(Path(path).read_bytes())
    session, state, lines = autosam_edge.open_session(engine="onnx"), tmp_path / "state.json", []
    for _ in range(60):
        if script.work_off(server, session, state, lines.append):
            break
        time.sleep(0.5)
    kinds = sorted(
        server.json(f"/series/{series}")["MainDicomTags"]["Modality"] for series in server.json("/series")
    )
    assert kinds == ["CT", "SEG"]
    time.sleep(3)  # the SEG becomes stable as well
    assert script.work_off(server, session, state, lines.append) == 0
    assert len(lines) == 1

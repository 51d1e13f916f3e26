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


@pytest.fixture
def script():
    """The script as a module."""
    spec = importlib.util.spec_from_file_location("orthanc_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("code", [404, 500])
def test_a_series_that_was_deleted_is_passed_over(script, tmp_path, code):
    """Its change counts as worked off; any other refusal of the server ends the program before that."""

    class Server:
        def json(self, path):
            if path.startswith("/changes"):
                changes = [{"ChangeType": "StableSeries", "ID": "a", "Seq": 7}]
                return {"Changes": changes, "Last": 7, "Done": True}
            raise urllib.error.HTTPError(path, code, "no", None, None)

    state, lines = tmp_path / "state.json", []
    if code == 404:
        assert script.work_off(Server(), None, state, lines.append) == 0
        assert json.loads(state.read_text()) == {"last": 7}
        assert lines == ["a is no longer there"]
    else:
        with pytest.raises(urllib.error.HTTPError):
            script.work_off(Server(), None, state, lines.append)
        assert not state.exists()


@pytest.mark.slow
def test_a_stable_series_gets_a_segmentation_once(script, orthanc, tmp_path):
    """The SEG lies beside the CT, and a second look makes no second one."""
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

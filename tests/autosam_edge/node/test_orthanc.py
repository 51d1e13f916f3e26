"""The script for Orthanc against Orthanc itself: series in, SEG out, seen through its REST interface."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
from pathlib import Path
from unittest.mock import Mock

import pytest
from autosam_edge_test_ports import free_port

import autosam_edge
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

SCRIPT = Path(__file__).parents[3] / "docs" / "integrations" / "orthanc.py"


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
    """Its change counts as worked off; any other refusal of the server ends the look before that."""

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


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (urllib.error.HTTPError("", 500, "no", None, None), "answers HTTP 500"),
        (TimeoutError(), "gives no answer in 300 s"),
        (urllib.error.URLError(TimeoutError()), "gives no answer in 300 s"),
    ],
    ids=["error", "late", "late-connection"],
)
def test_a_series_that_orthanc_never_gives_does_not_hold_up_the_others(
    script, tmp_path, monkeypatch, error, what
):
    """It is set aside after three tries, also in the state file, and tried again later."""
    state, lines, asked, broken = tmp_path / "state.json", [], [], {"a"}

    class Server:
        def json(self, path):
            if path.startswith("/changes"):
                since = int(path.partition("since=")[2].partition("&")[0])
                changes = [
                    {"ChangeType": "StableSeries", "ID": name, "Seq": 7 + "ab".index(name)} for name in "ab"
                ]
                return {"Changes": [c for c in changes if c["Seq"] > since], "Last": 8, "Done": True}
            asked.append(path[-1])
            if path[-1] in broken:
                raise error
            return {"MainDicomTags": {"Modality": "MR"}, "Instances": []}

    for _ in range(2):
        with pytest.raises(type(error)):
            script.work_off(Server(), None, state, lines.append)
    script.work_off(Server(), None, state, lines.append)
    script.work_off(Server(), None, state, lines.append)
    assert asked == ["a", "a", "a", "b"]
    assert lines == [f"a set aside: Orthanc {what}; tried again in 600 s"]
    last, aside = script.kept(state)
    assert (last, list(aside)) == (8, ["a"])
    monkeypatch.setattr(script.time, "time", lambda: time.monotonic() + 1e10)
    script.work_off(Server(), None, state, lines.append)
    broken.clear()
    monkeypatch.setattr(script.time, "time", lambda: time.monotonic() + 2e10)
    script.work_off(Server(), None, state, lines.append)
    assert asked == ["a", "a", "a", "b", "a", "a"]
    assert json.loads(state.read_text()) == {"last": 8}


def test_an_orthanc_that_is_down_sets_no_series_aside(script):
    aside, server = {}, Mock(json=Mock(side_effect=urllib.error.URLError(ConnectionRefusedError())))
    for _ in range(script.TRIES + 1):
        with pytest.raises(urllib.error.URLError):
            script.attempt(server, None, "a", print, aside)
    assert aside == {}


class Changes:
    """An Orthanc with one change, which concerns no series."""

    def json(self, path):
        since = int(path.partition("since=")[2].partition("&")[0])
        changes = [{"ChangeType": "NewSeries", "ID": "a", "Seq": 7}]
        return {"Changes": changes if since < 7 else [], "Last": 7, "Done": True}


def test_a_new_database_is_worked_off_from_its_start(script, tmp_path):
    state, lines = tmp_path / "state.json", []
    script.keep(state, 1000)
    script.work_off(Changes(), None, state, lines.append)
    assert script.kept(state) == (7, {})
    assert ["starting at 0" in line for line in lines] == [True]
    assert list(tmp_path.iterdir()) == [state]


def test_a_kill_leaves_a_whole_state_and_a_damaged_one_is_said(script, tmp_path, monkeypatch):
    state = tmp_path / "state.json"
    script.keep(state, 7)
    monkeypatch.setattr(Path, "replace", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        script.keep(state, 8)
    assert script.kept(state) == (7, {})
    for content in ("", "[7]", '{"last": 7, "aside": [1]}', '{"last": 7, "aside": {"a": null}}'):
        state.write_text(content)
        with pytest.raises(SystemExit, match="empty or damaged"):
            script.kept(state)


def test_a_login_that_is_refused_ends_the_program(script, tmp_path, monkeypatch):
    refused = script.urllib.error.HTTPError("http://x", 401, "Doe^Jane", {}, None)
    monkeypatch.setattr(script.Orthanc, "json", Mock(side_effect=refused))
    monkeypatch.setattr(script.autosam_edge, "open_session", Mock())
    monkeypatch.setattr(script.signal, "signal", Mock())
    monkeypatch.setattr(sys, "argv", ["orthanc.py", "http://x", "--state", str(tmp_path / "state.json")])
    with pytest.raises(SystemExit, match="refuses the login: set ORTHANC_USER"):
        script.main()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a program without a signal")
def test_it_waits_for_orthanc_and_a_signal_leaves_no_scan(tmp_path):
    """Orthanc is away; then it gives a series, and the program is stopped while it reads the scan."""
    program = tmp_path / "program.py"
    program.write_text(
        f"""
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("orthanc_script", {str(SCRIPT)!r})
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)

class Server:
    away = True
    def __init__(self, url): pass
    def json(self, path):
        if Server.away:
            Server.away = False
            raise script.urllib.error.URLError("Doe^Jane")
        if path.startswith("/changes"):
            changes = [dict(ChangeType="StableSeries", ID="a", Seq=7)]
            return dict(Changes=changes, Last=7, Done=True)
        return dict(MainDicomTags=dict(Modality="CT"), Instances=["a", "b", "c"])
    def get(self, path): return b"Doe^Jane"

def read(scan):
    print("reading", scan.read_bytes(), flush=True)
    time.sleep(60)

script.Orthanc, script.autosam_edge.read, script.autosam_edge.open_session = Server, read, lambda: None
script.main()
"""
    )
    command = [sys.executable, program, "http://x", "--state", tmp_path / "state.json", "--pause", "0"]
    (tmp_path / "tmp").mkdir()
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
    )
    with process:
        assert process.stdout.readline().strip() == "waiting: URLError"
        assert process.stdout.readline().startswith("reading")
        assert len(list((tmp_path / "tmp").glob("*/scan.zip"))) == 1
        process.terminate()
        assert process.wait(30) == 0
    assert list((tmp_path / "tmp").glob("*/scan.zip")) == []


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

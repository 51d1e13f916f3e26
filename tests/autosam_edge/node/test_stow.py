"""Results sent by STOW-RS to a server that is away, busy, takes a part, and then takes them."""

from __future__ import annotations

import json
import threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401

pytest.importorskip("pynetdicom")
pytest.importorskip("dicomweb_client")

from autosam_edge.node import sender
from autosam_edge.node.sender import Archive, Outbox
from autosam_edge.node.status import Counts

FAILED = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0xA700]}}]}}


@contextmanager
def dicomweb(answers, bodies):
    """A server that gives each request the next answer, a status and a JSON; None breaks the connection."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            answer = answers.pop(0)
            if answer is None:
                return
            bodies.append((self.path, self.headers["Content-Type"], self.headers["Authorization"], body))
            content = json.dumps(answer[1]).encode()
            self.send_response(answer[0])
            self.send_header("Content-Type", "application/dicom+json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def results(tmp_path):
    """The folder of one scan with DICOM files."""
    scan = CtFolder(tmp_path / "scans" / "0123")
    for path in scan.write():
        path.rename(path.with_suffix(".dcm"))
    return scan.path


def test_results_are_sent_until_the_server_has_taken_them_all(results, monkeypatch, capsys):
    monkeypatch.setattr(sender, "_FIRST_PAUSE_S", 0.0)
    counts, bodies = Counts(), []
    answers = [None, (503, {}), (503, {}), (401, {}), (202, FAILED), (200, {})]
    login = {"AUTOSAM_EDGE_ARCHIVE_USER": "node", "AUTOSAM_EDGE_ARCHIVE_PASSWORD": "secret:ü"}
    with dicomweb(answers, bodies) as url:
        archive = Archive.parse(url, login)
        outbox = Outbox(results.parent, archive, "X", counts.add)
        outbox.send_due()
        assert outbox.unsent == 1
        for _ in range(7):
            outbox.send_due()
    assert (counts.all(), outbox.unsent) == ({"not_sent": 5, "sent": 1}, 0)
    assert answers == []
    lines = [line.partition(" ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        f"not_sent scan=0123 reason={reason}"
        for reason in ("ConnectionError", "HTTP 503", "HTTP 401", "refused")
    ]
    assert "secret" not in repr(archive)
    assert (results / "sent.json").exists()
    path, kind, authorization, body = bodies[-1]
    assert b64decode(authorization.removeprefix("Basic ")).decode() == "node:secret:ü"
    assert path == "/dicom-web/studies"
    assert kind.startswith("multipart/related")
    for file in sorted(results.glob("*.dcm")):
        assert file.read_bytes()[132:] in body


def test_a_server_that_is_away_is_asked_again_later(results):
    counts = Counts()
    outbox = Outbox(results.parent, Archive.parse("http://127.0.0.1:9/x"), "X", counts.add)
    for _ in range(3):
        outbox.send_due()  # the pause is longer than the test
    assert counts.all() == {"not_sent": 1}
    assert not (results / "sent.json").exists()

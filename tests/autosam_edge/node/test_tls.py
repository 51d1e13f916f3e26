"""The node speaks TLS to dcmtk, and to senders with a certificate only."""

from __future__ import annotations

import socket
import subprocess

import pytest
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from typer.testing import CliRunner

pytest.importorskip("pynetdicom")

from autosam_edge_test_node import running, storescu

from autosam_edge.cli import app
from autosam_edge.cli.node import _tls

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificates with their keys: of the node, of a known sender and of a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "sender", "stranger"):
        command = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            f"/CN={name}",
        ]
        command += ["-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tls-ca", "ca.pem"], "--tls-cert: is missing"),
        (["--http", "8080", "--tls-cert", "node.pem"], "--tls-cert: has no effect with --http"),
        (["--http", "8080", "--tls-key", "node.key"], "--tls-key: has no effect with --http"),
        (["--http", "8080", "--allow-peer", "10.0.0.7"], "--allow-peer: has no effect with --http"),
        (["--http", "8080", "--port", "11112"], "--port: has no effect with --http"),
        (["--max-upload", "100"], "--max-upload: has no effect without --http"),
    ],
)
def test_options_that_would_protect_nothing_are_wrong_usage(tmp_path, options, reason):
    refused = CliRunner().invoke(app, ["serve", "-o", str(tmp_path), *options])
    assert refused.exit_code == 2
    assert reason in " ".join(refused.output.replace("│", " ").split())


@pytest.mark.parametrize(
    ("options", "stored"),
    [
        (["+tls", "sender.key", "sender.pem", "+cf", "node.pem"], True),
        (["+tls", "stranger.key", "stranger.pem", "+cf", "node.pem"], False),
        (["+tla", "+cf", "node.pem"], False),
        ([], False),
    ],
    ids=["known", "stranger", "no-certificate", "no-tls"],
)
def test_only_a_sender_with_a_known_certificate_is_served(
    dcmtk, certificates, tmp_path, monkeypatch, options, stored
):
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 3)  # what the end of the node waits for
    study = CtFolder(tmp_path / "study")
    study.write()
    context = _tls(certificates / "node.pem", certificates / "node.key", certificates / "sender.pem")
    options = [certificates / word if word.endswith((".key", ".pem")) else word for word in options]
    with running(tmp_path / "node", settle_s=60, tls=context) as node:
        assert (storescu(dcmtk, node.receiver.port, study.path, tls=options) == 0) == stored
        assert node.counts.all().get("received", 0) == 5 * stored


def test_a_silent_stranger_does_not_stop_the_next_study(dcmtk, certificates, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 5)
    study = CtFolder(tmp_path / "study")
    study.write()
    context = _tls(certificates / "node.pem", certificates / "node.key", None)
    options = ["+tla", "+cf", certificates / "node.pem"]
    with running(tmp_path / "node", settle_s=60, tls=context) as node:
        port = node.receiver.port
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            assert storescu(dcmtk, port, study.path, tls=options) == 0
            stranger.settimeout(20)
            assert stranger.recv(100) == b""  # the node has ended it

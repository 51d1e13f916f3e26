"""The node speaks TLS to dcmtk, and to senders with a certificate only."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time

import pytest
import typer
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from autosam_edge_test_support import unframed
from typer.testing import CliRunner

pytest.importorskip("pynetdicom")

from autosam_edge_test_node import running, storescu

from autosam_edge.cli import app
from autosam_edge.cli.node import _end_of, _tls

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Certificates with their keys: of the node, of a known sender and of a stranger."""
    folder = tmp_path_factory.mktemp("tls")
    for name in ("node", "sender", "stranger"):
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
        command += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        command += ["-keyout", folder / f"{name}.key", "-out", folder / f"{name}.pem"]
        subprocess.run(command, check=True, capture_output=True)
    return folder


@pytest.fixture
def study(tmp_path):
    study = CtFolder(tmp_path / "study")
    study.write()
    return study.path


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tls-ca", "ca.pem"], "--tls-cert: is missing"),
        (["--http", "8080", "--tls-cert", "node.pem"], "--tls-cert: has no effect with --http"),
        (["--http", "8080", "--tls-key", "node.key"], "--tls-key: has no effect with --http"),
        (["--http", "8080", "--allow-peer", "10.0.0.7"], "--allow-peer: has no effect with --http"),
        (["--http", "8080", "--port", "11112"], "--port: has no effect with --http"),
        (["--max-upload", "100"], "--max-upload: has no effect without --http"),
        (["--allow-peer", "localhost"], "--allow-peer: 'localhost' does not appear to be an IPv4 or IPv6"),
        (["--host", "host.invalid"], "--host: host.invalid cannot be opened"),
        (["--send-to", "A@10.0.0.9:104", "--format", "json"], "--send-to: there is nothing to send"),
        (["--tls-cert", "none.pem"], "--tls-cert: cannot be loaded (FileNotFoundError)"),
    ],
)
def test_options_that_would_protect_or_do_nothing_are_wrong_usage(tmp_path, options, reason):
    refused = CliRunner().invoke(app, ["serve", "-o", str(tmp_path / "out"), *options])
    assert refused.exit_code == 2
    assert reason in unframed(refused.output)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("option", "name"), [("--tls-key", "stranger.key"), ("--tls-ca", "none.pem")])
def test_the_file_that_cannot_be_loaded_is_named(certificates, option, name):
    files = {"--tls-cert": "node.pem", "--tls-key": "node.key", "--tls-ca": "sender.pem", option: name}
    with pytest.raises(typer.BadParameter) as refused:
        _tls(*(certificates / file for file in files.values()))
    assert refused.value.param_hint == option


def test_an_expired_certificate_is_refused_by_its_day(certificates, monkeypatch):
    files = certificates / "node.pem", certificates / "node.key", certificates / "sender.pem"
    now = time.time()
    monkeypatch.setattr("autosam_edge.cli.node.time.time", lambda: now + 3 * 24 * 3600)
    with pytest.raises(typer.BadParameter, match=r"expired on .* GMT; give a valid one") as refused:
        _tls(*files)
    assert refused.value.param_hint == "--tls-cert"


@pytest.mark.parametrize("most", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_end_of_a_certificate_is_known_in_each_version_of_tls(certificates, most):
    """Some systems switch TLS 1.3 off."""
    context = _tls(certificates / "node.pem", certificates / "node.key", None)
    context.maximum_version = most
    days = (ssl.cert_time_to_seconds(_end_of(certificates / "node.pem", context)) - time.time()) / 86400
    assert days == pytest.approx(2, abs=0.1)


def test_a_key_with_a_pass_phrase_is_refused_without_a_question(certificates, tmp_path):
    key = tmp_path / "locked.key"
    command = ["openssl", "rsa", "-aes128", "-passout", "pass:secret", "-in", certificates / "node.key"]
    subprocess.run([*command, "-out", key], check=True, capture_output=True)
    with pytest.raises(typer.BadParameter, match="the key has a pass phrase; give one without") as refused:
        _tls(certificates / "node.pem", key, None)
    assert refused.value.param_hint == "--tls-key"


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
    dcmtk, certificates, study, tmp_path, monkeypatch, capsys, options, stored
):
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 3)  # what the end of the node waits for
    context = _tls(certificates / "node.pem", certificates / "node.key", certificates / "sender.pem")
    options = [certificates / word if word.endswith((".key", ".pem")) else word for word in options]
    with running(tmp_path / "node", settle_s=60, tls=context) as node:
        assert (storescu(dcmtk, node.receiver.port, study, tls=options) == 0) == stored
        assert node.counts.all().get("received", 0) == 5 * stored
    rejected = node.counts.all().get("rejected", 0)
    lines = [line for line in capsys.readouterr().err.splitlines() if " rejected reason=TLS: " in line]
    assert len(lines) == rejected == (not stored)
    assert all(line.endswith(" address=127.0.0.1") for line in lines)


def test_a_silent_stranger_does_not_stop_the_next_study(dcmtk, certificates, study, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 5)
    context = _tls(certificates / "node.pem", certificates / "node.key", None)
    options = ["+tla", "+cf", certificates / "node.pem"]
    with running(tmp_path / "node", settle_s=60, tls=context) as node:
        port = node.receiver.port
        with socket.create_connection(("127.0.0.1", port)) as stranger:
            assert storescu(dcmtk, port, study, tls=options) == 0
            stranger.settimeout(20)
            assert stranger.recv(100) == b""  # the node has ended it

"""The node against dcmtk's own tools: studies in, results out, nothing lost and nothing twice."""

from __future__ import annotations

import http.client
import json
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from ipaddress import ip_network
from unittest.mock import Mock

import pytest
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from autosam_edge_test_support import unframed
from typer.testing import CliRunner

pytest.importorskip("pynetdicom")

from autosam_edge_test_node import TITLE, running, storescp, storescu
from autosam_edge_test_ports import assert_taken_port_is_refused, free_port

from autosam_edge.cli import app
from autosam_edge.error_codes import DISK_FULL
from autosam_edge.node.inbox import Inbox
from autosam_edge.node.log import PeerLog
from autosam_edge.node.receiver import Listener, Receiver
from autosam_edge.node.sender import Archive, NotSentError, Outbox
from autosam_edge.node.status import Counts, StatusServer
from autosam_edge.node.watch import watch

# pynetdicom leaves closing some sockets to Python.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def studies(tmp_path):
    made = []
    for name in ("one", "two"):
        study = CtFolder(tmp_path / name)
        study.write()
        made.append(study.path)
    return made


def test_two_studies_at_once_are_segmented_once_and_the_results_arrive(dcmtk, studies, tmp_path):
    port = free_port()
    with (
        storescp(dcmtk, tmp_path / "archive", port),
        running(tmp_path / "node", archive=Archive.parse(f"ARCHIVE@127.0.0.1:{port}")) as node,
    ):
        senders = [
            threading.Thread(target=storescu, args=(dcmtk, node.receiver.port, study))
            for study in [*studies, studies[0]]
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        node.wait_for(received=15, segmented=2, sent=2)
        storescu(dcmtk, node.receiver.port, studies[0])
        time.sleep(2)
        assert node.counts.all() == {"received": 20, "segmented": 2, "sent": 2}
    assert len(list((tmp_path / "archive").iterdir())) == 2


def test_a_study_whose_association_is_aborted_waits_until_it_is_sent_again(dcmtk, studies, tmp_path):
    from pynetdicom import AE

    with running(tmp_path / "node") as node:
        import pydicom

        files = [pydicom.dcmread(path) for path in sorted(studies[0].iterdir())]
        entity = AE("SCANNER")
        entity.add_requested_context(files[0].SOPClassUID, files[0].file_meta.TransferSyntaxUID)
        association = entity.associate("127.0.0.1", node.receiver.port, ae_title=TITLE)
        for dataset in files[:3]:
            assert association.send_c_store(dataset).Status == 0
        association.abort()
        time.sleep(2)
        assert node.inbox.interrupted == 1
        assert node.counts.all() == {"received": 3}
        storescu(dcmtk, node.receiver.port, studies[0])
        node.wait_for(segmented=1)
        assert node.inbox.interrupted == node.inbox.waiting == 0
    [result] = (tmp_path / "node" / "out" / "scans").iterdir()
    assert json.loads((result / "statistics.json").read_text())["shape_dhw"][0] == 5


def test_a_node_that_stops_loses_nothing(dcmtk, studies, tmp_path):
    with running(tmp_path / "node", settle_s=60) as node:
        assert storescu(dcmtk, node.receiver.port, studies[0]) == 0
        assert node.inbox.waiting == 1
    with running(tmp_path / "node") as node:
        node.wait_for(segmented=1)


def test_results_are_kept_until_the_archive_is_there(dcmtk, studies, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.sender._FIRST_PAUSE_S", 0.2)
    port = free_port()
    with running(tmp_path / "node", archive=Archive.parse(f"ARCHIVE@127.0.0.1:{port}")) as node:
        storescu(dcmtk, node.receiver.port, studies[0])
        node.wait_for(not_sent=2)
        with storescp(dcmtk, tmp_path / "archive", port):
            node.wait_for(sent=1)
    assert len(list((tmp_path / "archive").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "called", "reason"),
    [
        ({"callers": ("MODALITY",)}, TITLE, "calling title not in --allow-aet calling='STORESCU'"),
        ({"peers": (ip_network("10.1.2.3"),)}, TITLE, "address not in --allow-peer address=127.0.0.1"),
        ({}, "SOMEBODY", "called title is not --aet calling='STORESCU'"),
    ],
    ids=["caller", "peer", "called"],
)
def test_strangers_are_rejected(dcmtk, studies, tmp_path, capsys, options, called, reason):
    with running(tmp_path / "node", **options) as node:
        assert storescu(dcmtk, node.receiver.port, studies[0], called=called) != 0
        assert node.counts.all().keys() == {"rejected"}
    assert capsys.readouterr().err.count(f" rejected reason={reason}\n") == node.counts.all()["rejected"]


@pytest.mark.parametrize(
    ("peer", "address", "known"),
    [
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("0:0:0:0:0:0:0:1", "::1", True),
        ("10.0.0.0/24", "10.0.0.7", True),
        ("10.0.0.0/24", "10.0.1.7", False),
        ("10.0.0.0/24", "fe80::1%2", False),
    ],
)
def test_a_peer_is_known_by_its_address_however_it_is_written(peer, address, known):
    receiver = Receiver.__new__(Receiver)
    receiver._listener, receiver._count = Listener(0, peers=(ip_network(peer),)), Mock()
    receiver._log = Mock()
    assert receiver._is_peer(None, (address, 1)) == known


def test_lines_about_one_peer_have_a_limit(monkeypatch, capsys):
    """Five at once, then one a minute that tells how many there were.

    Other peers, and other reasons, have lines of their own.
    """
    now, said = [0.0], PeerLog()
    monkeypatch.setattr("autosam_edge.node.log.time.monotonic", lambda: now[0])
    for _ in range(30):
        said("10.0.0.1", "rejected", address="10.0.0.1")
    said("10.0.0.2", "rejected", address="10.0.0.2")
    said("10.0.0.1", "rejected", reason="other")
    now[0] = 61.0
    for _ in range(30):
        said("10.0.0.1", "rejected", address="10.0.0.1")
    lines = [line.partition(" rejected ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines == [
        *["address=10.0.0.1"] * 5,
        "address=10.0.0.2",
        "reason=other",
        "address=10.0.0.1 more=25",
    ]
    for number in range(2000):
        said(str(number), "rejected")
    assert len(said._peers) == 1000


def test_the_node_waits_while_the_disk_is_full_and_tells_of_scans_that_are_gone(monkeypatch, capsys):
    monkeypatch.setattr("autosam_edge.node.watch._AWAY_S", 0)
    monkeypatch.setattr("autosam_edge.node.watch._PAUSE_S", 0)
    batch = Mock(jobs=[Mock(id="a")], todo=lambda _: [], passed_over=list)
    counts, stop, waiting = Counts(), threading.Event(), []

    def look():
        """The disk is full at first; then the scan is gone, and then nothing changes."""
        waiting.append(counts.waiting_code)
        if batch.update_index.call_count == 1:
            raise DISK_FULL("the disk is full.")
        if batch.update_index.call_count == 3:
            stop.set()
        batch.jobs = []

    batch.update_index.side_effect = look
    watch(batch, stop, counts=counts)
    assert waiting == [None, "AE-OUTPUT-003", None]
    batch.finish.assert_called_once_with()
    assert "waiting code=AE-OUTPUT-003" in capsys.readouterr().err


def test_a_scan_without_dicom_results_is_not_sent(tmp_path):
    (tmp_path / "0123456789abcdef").mkdir()
    count = Mock()
    Outbox(tmp_path, Archive.parse("A@127.0.0.1:1"), TITLE, count).send_due()
    assert not count.called


@pytest.mark.parametrize("options", [{"min_free_mb": 1e9}, {"max_studies": -1}], ids=["disk", "queue"])
def test_a_full_node_refuses_with_a_status(dcmtk, studies, tmp_path, options):
    with running(tmp_path / "node", **options) as node:
        storescu(dcmtk, node.receiver.port, studies[0])
        assert node.counts.all().keys() == {"refused"}


@pytest.mark.slow
def test_a_hundred_hostile_associations_do_not_stop_the_next_study(dcmtk, studies, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 8)
    with running(tmp_path / "node") as node, ThreadPoolExecutor(4) as senders:
        port = node.receiver.port
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(25)]
        trickle = senders.submit(_send_a_byte_now_and_then, slow)
        for number in range(25):
            with socket.create_connection(("127.0.0.1", port)) as stranger:
                stranger.sendall(bytes([number + 1]) + b"\0\xff\xff\xff\xff" + b"x" * 500)
        send = lambda called: storescu(dcmtk, port, studies[0], called=called)  # noqa: E731
        assert 0 not in senders.map(send, ["SOMEBODY"] * 25)
        with monkeypatch.context() as full:
            full.setattr(node.inbox, "_min_free_mb", 1e12)
            assert 0 not in senders.map(send, [TITLE] * 25)
        assert node.counts.all() == {"rejected": 25, "refused": 25}
        assert trickle.result(60) == len(slow)  # the node has ended them
        assert storescu(dcmtk, port, studies[0]) == 0
        assert node.wait_for(segmented=1) == {"rejected": 25, "refused": 25, "received": 5, "segmented": 1}


@pytest.mark.parametrize("kind", [1, 4], ids=["request", "data"])
def test_a_connection_that_announces_gigabytes_is_closed_at_once(tmp_path, monkeypatch, kind):
    """Before the bytes come, which would fill the memory."""
    monkeypatch.setattr("autosam_edge.node.receiver._HANDSHAKE_S", 5)
    with (
        running(tmp_path / "node") as node,
        socket.create_connection(("127.0.0.1", node.receiver.port), timeout=3) as stranger,
    ):
        stranger.sendall(bytes([kind]) + b"\0\xff\xff\xff\xff")
        assert stranger.recv(1) == b""


def test_images_that_are_being_received_have_a_limit_together(dcmtk, studies, tmp_path, monkeypatch):
    """An image of very many PDUs is cut off; what has arrived whole does not count any more."""
    largest = max(file.stat().st_size for file in studies[0].iterdir())
    with running(tmp_path / "node") as node:
        monkeypatch.setattr("autosam_edge.node.receiver._MAX_RECEIVING_BYTES", largest // 2)
        assert storescu(dcmtk, node.receiver.port, studies[0]) != 0
        assert node.wait_for(refused=1) == {"refused": 1}
        monkeypatch.setattr("autosam_edge.node.receiver._MAX_RECEIVING_BYTES", 2 * largest)
        assert storescu(dcmtk, node.receiver.port, studies[0]) == 0
        assert node.wait_for(received=len(list(studies[0].iterdir())))["refused"] == 1


def _sent(connection):
    try:
        connection.sendall(b"\0")
    except OSError:
        return False
    return True


def _send_a_byte_now_and_then(connections):
    """Never finish a request for an association; return how many connections the node has ended in 15 s."""
    ended, until = set(), time.monotonic() + 15
    for one in connections:
        one.sendall(b"\x01\0\0\0\x10\0")
    while time.monotonic() < until and len(ended) < len(connections):
        time.sleep(0.5)
        for number, one in enumerate(connections):
            if number not in ended and not _sent(one):
                ended.add(number)
    for one in connections:
        one.close()
    return len(ended)


@pytest.mark.parametrize(
    ("code", "status", "state"),
    [(None, 200, {"state": "ok"}), ("AE-INPUT-001", 503, {"state": "waiting", "code": "AE-INPUT-001"})],
    ids=["ok", "waiting"],
)
def test_the_state_is_served_to_this_computer(code, status, state):
    counts = Counts("failed")
    counts.add("received")
    counts.waiting_code = code
    server = StatusServer(0, counts, lambda: {"waiting_studies": 2})

    def asked(path, method="GET"):
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request(method, path)
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        return answer.status, answer.headers["Content-Length"], body

    try:
        found = asked("/health")
        assert (found[0], json.loads(found[2])) == (
            status,
            {**state, "waiting_studies": 2, "failed": 0, "received": 1},
        )
        assert asked("/health/") == asked("/health?x=1") == found
        assert asked("/health", "HEAD") == (*found[:2], b"")
        assert asked("/other")[0] == 404
        answered, _, text = asked("/metrics")
        assert answered == 200
        assert {
            b"autosam_edge_received_total 1",
            b"autosam_edge_failed_total 0",
            b"autosam_edge_waiting_studies 2",
            b"autosam_edge_waiting %d" % (code is not None),
        } < set(text.splitlines())
    finally:
        server.close()


@pytest.mark.parametrize(
    "text", ["host:104", "TITLE@host", "TITLE@host:x", "TITLE@host:99999", "A" * 17 + "@h:1", "ftp://h"]
)
def test_an_archive_that_cannot_be_meant_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        Archive.parse(text)


@pytest.mark.parametrize(
    ("text", "environment"),
    [
        ("https://node:secret@archive/dicom-web", {}),
        ("https://node:sec/ret@archive/dicom-web", {}),
        (
            "PACS@archive:104",
            {"AUTOSAM_EDGE_ARCHIVE_USER": "node", "AUTOSAM_EDGE_ARCHIVE_PASSWORD": "secret"},
        ),
        ("https://archive/dicom-web", {"AUTOSAM_EDGE_ARCHIVE_USER": "node"}),
        ("https://archive/dicom-web", {"AUTOSAM_EDGE_ARCHIVE_PASSWORD": "secret"}),
    ],
)
def test_the_login_of_an_archive_stands_in_two_variables(text, environment):
    with pytest.raises(ValueError, match="AUTOSAM_EDGE_ARCHIVE_USER and .*_PASSWORD") as refused:
        Archive.parse(text, environment)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("title", ["", "   ", "A" * 17, "A\\B", "ÄRCHIV", "A\tB"])
@pytest.mark.parametrize("option", ["--aet", "--allow-aet", "--send-to"])
def test_a_title_that_dicom_does_not_know_is_wrong_usage(tmp_path, option, title):
    value = f"{title}@127.0.0.1:104" if option == "--send-to" else title
    refused = CliRunner().invoke(app, ["serve", "-o", str(tmp_path / "out"), option, value])
    assert refused.exit_code == 2
    assert f"{option}: expected" in unframed(refused.output)
    assert not (tmp_path / "out").exists()


def test_the_brackets_of_an_address_are_not_part_of_it():
    assert Archive.parse("PACS@[::1]:11112") == Archive(host="::1", port=11112, title="PACS")


@contextmanager
def receiving_images(status=0x0000):
    """Port of an archive that takes CT images, and answers each with a status."""
    from pynetdicom import AE, evt
    from pynetdicom.sop_class import CTImageStorage

    entity, port = AE("A"), free_port()
    entity.add_supported_context(CTImageStorage)
    handlers = [(evt.EVT_C_STORE, lambda _: status)]
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    try:
        yield port
    finally:
        server.shutdown()


@pytest.mark.parametrize("host", ["127.0.0.1", "archive.invalid"])
def test_an_archive_that_is_not_there_is_said(studies, host):
    with pytest.raises(NotSentError):
        Archive.parse(f"A@{host}:{free_port()}").send(sorted(studies[0].iterdir())[:1], "X")


@pytest.mark.parametrize(
    ("status", "stored"),
    [
        *((status, True) for status in (0x0001, 0x0107, 0x0111, 0x0116, 0xB000, 0xB007)),
        *((status, False) for status in (0x0110, 0x0117, 0x0122, 0x0124, 0x0213, 0xA700, 0xC000, 0xFE00)),
    ],
)
def test_a_success_a_warning_or_a_duplicate_means_that_the_archive_has_the_file(studies, status, stored):
    with receiving_images(status) as port, nullcontext() if stored else pytest.raises(NotSentError):
        Archive.parse(f"A@127.0.0.1:{port}").send(sorted(studies[0].iterdir())[:1], "X")


def test_an_archive_that_ends_the_association_gets_the_files_later(studies, monkeypatch):
    """It takes the first file and is gone before the second, which pynetdicom then does not send."""
    from pydicom.dataset import Dataset
    from pynetdicom.association import Association

    taken = Dataset()
    taken.Status = 0

    def send(association, _):
        monkeypatch.undo()
        association.abort()
        return taken

    monkeypatch.setattr(Association, "send_c_store", send)
    with receiving_images() as port, pytest.raises(NotSentError):
        Archive.parse(f"A@127.0.0.1:{port}").send(sorted(studies[0].iterdir()), "X")


def test_a_look_at_a_study_that_is_being_received_or_goes_on_leaves_it_alone(tmp_path):
    """The files of a write come and go; a file may also come while the study is moved."""
    inbox = Inbox(tmp_path, settle_s=0, min_free_mb=0, max_studies=1)
    inbox.begin("a1")
    inbox.take("a1", "1.2", "1.2.3", b"x")
    [study] = (tmp_path / "incoming").iterdir()
    (study / "gone").symlink_to("nowhere")  # what vanishes between the list and the look
    assert inbox.collect() == 0
    inbox.end("a1", released=True)
    assert inbox.collect() == 0
    (study / "gone").unlink()
    assert inbox.collect() == 1
    assert not study.exists()


def test_a_study_dated_into_the_future_is_complete_after_the_time_without_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.inbox.time", clock := Mock(wraps=time))
    inbox = Inbox(tmp_path, settle_s=30, min_free_mb=0, max_studies=1)
    inbox.take("a1", "1.2", "1.2.1", b"x")
    inbox.end("a1", released=True)
    [study] = (tmp_path / "incoming").iterdir()
    os.utime(next(study.iterdir()), (4e9, 4e9))
    for now, collected in ((1, 0), (29, 0), (30, 0), (59, 0), (60, 1)):
        clock.monotonic = lambda now=now: now
        assert inbox.collect() == collected
        if now == 29:
            (study / "another.dcm").touch()  # the time begins again at the next look


def test_studies_that_are_never_sent_again_do_not_block_the_node(tmp_path):
    """They stay on the disk and are counted, after a restart too; one that is being sent again waits."""

    def inbox():
        return Inbox(tmp_path, settle_s=0, min_free_mb=0, max_studies=1)

    def send(inbox, number):
        inbox.begin(f"a{number}")
        inbox.take(f"a{number}", f"1.2.{number}", "1.2.3", b"x")

    node = inbox()
    for number in range(3):
        send(node, number)
    assert not node.has_room()
    for number in range(3):
        node.end(f"a{number}", released=False)
    for one in (node, inbox()):
        assert one.has_room()
        assert (one.interrupted, one.waiting, one.collect()) == (3, 3, 0)
    for number in range(2):
        send(node, number)
    assert (node.has_room(), node.interrupted) == (False, 1)
    node.end("a0", released=False)
    assert (node.has_room(), node.interrupted) == (True, 2)


@pytest.mark.parametrize("option", ["--port", "--status-port"])
def test_a_port_that_is_taken_is_wrong_usage(tmp_path, option):
    assert_taken_port_is_refused(tmp_path, option, "--port", free_port())


def test_one_port_for_two_services_is_wrong_usage(tmp_path):
    port = str(free_port())
    command = ["serve", "-o", str(tmp_path / "out"), "--port", port, "--status-port", port]
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code == 2
    assert f"--status-port: port {port} cannot be opened" in unframed(refused.output)
    assert not (tmp_path / "out").exists()

"""The node against dcmtk's own tools: studies in, results out, nothing lost and nothing twice."""

from __future__ import annotations

import gc
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.request
import warnings
from contextlib import contextmanager

import pytest
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401

pytest.importorskip("pynetdicom")

from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.job import Settings
from autosam_edge.node.inbox import Inbox
from autosam_edge.node.receiver import Listener, Receiver
from autosam_edge.node.sender import Archive, NotSentError, Outbox
from autosam_edge.node.status import Counts, StatusServer
from autosam_edge.node.watch import watch

# pynetdicom leaves closing some sockets to Python.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored.*socket:pytest.PytestUnraisableExceptionWarning"
)
TITLE = "AUTOSAM_EDGE"
SETTINGS = Settings(
    engine="onnx", threads=1, accept_implausible=True, formats=("nifti", "secondary-capture", "preview")
)


@pytest.fixture(scope="session")
def dcmtk():
    """Paths of dcmtk's tools; pynetdicom brings others of the same names."""
    tools = {name: shutil.which(name, path="/usr/bin:/usr/local/bin") for name in ("storescu", "storescp")}
    if not all(tools.values()):
        pytest.skip("dcmtk (Debian's package) is not installed")
    return tools


class Node:
    """A node in threads of this process; only the scans are segmented in another one."""

    def __init__(self, root, *, archive=None, settle_s=0.5, min_free_mb=1.0, max_studies=100, **listener):
        self.counts, self.stop = Counts(), threading.Event()
        self.inbox = Inbox(root, settle_s=settle_s, min_free_mb=min_free_mb, max_studies=max_studies)
        self.receiver = Receiver(self.inbox, Listener(0, **listener), self.counts.add)
        self.out = root / "out"
        self.batch = Batch([self.inbox.complete], self.out, SETTINGS, Selection(settle_s=0))
        outbox = Outbox(self.batch.folder.scans, archive, TITLE, self.counts.add) if archive else None
        self.thread = threading.Thread(
            target=watch,
            args=(self.batch, self.stop),
            kwargs={"counts": self.counts, "inbox": self.inbox, "outbox": outbox},
        )
        self.thread.start()

    def close(self):
        self.receiver.close()
        self.stop.set()
        self.thread.join()

    def wait_for(self, **wanted):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = self.counts.all()
            if all(found.get(key, 0) >= value for key, value in wanted.items()):
                return found
            time.sleep(0.1)
        raise AssertionError(f"{self.counts.all()} never became {wanted}")


@contextmanager
def running(root, **options):
    node = Node(root, **options)
    try:
        yield node
    finally:
        node.close()
        for thread in threading.enumerate():
            if "AcceptorThread" in thread.name:
                thread.join(10)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)  # pynetdicom leaves closing a socket to Python
            gc.collect()


def storescu(dcmtk, node, folder, *, called=TITLE, calling="SCANNER"):
    command = [
        dcmtk["storescu"],
        "-aet",
        calling,
        "-aec",
        called,
        "+sd",
        "127.0.0.1",
        str(node.receiver.port),
    ]
    return subprocess.run([*command, str(folder)], capture_output=True, timeout=60, check=False).returncode


@pytest.fixture
def studies(tmp_path):
    made = []
    for name in ("one", "two"):
        study = CtFolder(tmp_path / name)
        study.write()
        made.append(study.path)
    return made


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def storescp(dcmtk, folder, port):
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([dcmtk["storescp"], "-od", str(folder), "+xa", str(port)])
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def test_two_studies_at_once_are_segmented_once_and_the_results_arrive(dcmtk, studies, tmp_path):
    port = free_port()
    with (
        storescp(dcmtk, tmp_path / "archive", port),
        running(tmp_path / "node", archive=Archive.parse(f"ARCHIVE@127.0.0.1:{port}")) as node,
    ):
        senders = [
            threading.Thread(target=storescu, args=(dcmtk, node, study)) for study in [*studies, studies[0]]
        ]
        for sender in senders:
            sender.start()
        for sender in senders:
            sender.join()
        node.wait_for(received=15, segmented=2, sent=2)
        storescu(dcmtk, node, studies[0])
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
        storescu(dcmtk, node, studies[0])
        node.wait_for(segmented=1)
        assert node.inbox.interrupted == node.inbox.waiting == 0
    [result] = (tmp_path / "node" / "out" / "scans").iterdir()
    assert json.loads((result / "statistics.json").read_text())["shape_dhw"][0] == 5


def test_a_node_that_stops_loses_nothing(dcmtk, studies, tmp_path):
    with running(tmp_path / "node", settle_s=60) as node:
        assert storescu(dcmtk, node, studies[0]) == 0
        assert node.inbox.waiting == 1
    with running(tmp_path / "node") as node:
        node.wait_for(segmented=1)


def test_results_are_kept_until_the_archive_is_there(dcmtk, studies, tmp_path, monkeypatch):
    monkeypatch.setattr("autosam_edge.node.sender._FIRST_PAUSE_S", 0.2)
    port = free_port()
    with running(tmp_path / "node", archive=Archive.parse(f"ARCHIVE@127.0.0.1:{port}")) as node:
        storescu(dcmtk, node, studies[0])
        node.wait_for(not_sent=2)
        with storescp(dcmtk, tmp_path / "archive", port):
            node.wait_for(sent=1)
    assert len(list((tmp_path / "archive").iterdir())) == 1


@pytest.mark.parametrize(
    ("options", "called"),
    [({"callers": ("MODALITY",)}, TITLE), ({"peers": ("10.1.2.3",)}, TITLE), ({}, "SOMEBODY")],
    ids=["caller", "peer", "called"],
)
def test_strangers_are_rejected(dcmtk, studies, tmp_path, options, called):
    with running(tmp_path / "node", **options) as node:
        assert storescu(dcmtk, node, studies[0], called=called) != 0
        assert node.counts.all().keys() == {"rejected"}


@pytest.mark.parametrize("options", [{"min_free_mb": 1e9}, {"max_studies": -1}], ids=["disk", "queue"])
def test_a_full_node_refuses_with_a_status(dcmtk, studies, tmp_path, options):
    with running(tmp_path / "node", **options) as node:
        storescu(dcmtk, node, studies[0])
        assert node.counts.all().keys() == {"refused"}


def test_garbage_and_silence_do_not_stop_the_next_study(dcmtk, studies, tmp_path):
    with running(tmp_path / "node") as node:
        silent = [socket.create_connection(("127.0.0.1", node.receiver.port)) for _ in range(60)]
        for number in range(40):
            with socket.create_connection(("127.0.0.1", node.receiver.port)) as stranger:
                stranger.sendall(bytes([number + 1]) + b"\0\xff\xff\xff\xff" + b"x" * 500)
        assert storescu(dcmtk, node, studies[0]) == 0
        node.wait_for(segmented=1)
    for one in silent:
        one.close()


def test_the_state_is_served_to_this_computer(tmp_path):
    counts = Counts()
    counts.add("received")
    server = StatusServer(0, counts, lambda: {"waiting": 2})
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health") as answer:
            assert json.load(answer) == {"state": "ok", "waiting": 2, "received": 1}
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
            text = answer.read().decode()
        assert "autosam_edge_received_total 1\n" in text
        assert "autosam_edge_waiting 2\n" in text
    finally:
        server.close()


@pytest.mark.parametrize("text", ["host:104", "TITLE@host", "TITLE@host:x", "A" * 17 + "@h:1", "ftp://h"])
def test_an_archive_that_cannot_be_meant_is_refused(text):
    with pytest.raises(ValueError, match="expected"):
        Archive.parse(text)


def test_an_archive_that_is_not_there_is_said(studies):
    with pytest.raises(NotSentError):
        Archive.parse(f"A@127.0.0.1:{free_port()}").send(sorted(studies[0].iterdir())[:1], "X")

"""`serve` as a process that is killed: nothing is lost, nothing is segmented twice, the SEG arrives."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time

import psutil
import pydicom
import pytest

pytest.importorskip("pynetdicom")

from autosam_edge_test_node import storescp, storescu
from autosam_edge_test_ports import free_port, is_open
from autosam_edge_test_support import wait_until

from autosam_edge.audit import verify
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series

pytestmark = pytest.mark.slow
CUT_BYTES = 3_000_000  # about twenty slices


class Served:
    """A node that can be killed and started again."""

    def __init__(self, root, archive_port):
        self.root, self.port = root, free_port()
        self._options = ["--settle", 3, "--min-free", 1, "--engine", "onnx"]
        self._options += ["--send-to", f"ARCHIVE@127.0.0.1:{archive_port}"]
        self.start()

    def start(self):
        command = [sys.executable, "-m", "autosam_edge", "serve", "-o", self.root, "--port", self.port]
        self.process = subprocess.Popen(list(map(str, [*command, *self._options])), stderr=subprocess.DEVNULL)
        wait_until(lambda: is_open(self.port), 120)

    def segments(self):
        """Whether a worker runs."""
        children = psutil.Process(self.process.pid).children()
        return any("spawn_main" in " ".join(child.cmdline()) for child in children)

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(60)


def cut_off(target, size):
    """A port that passes on the first bytes to another one, then breaks the connection."""
    listener = socket.create_server(("127.0.0.1", 0))

    def copy(source, sink, left):
        while left > 0 and (data := source.recv(min(left, 65536))):
            sink.sendall(data)
            left -= len(data)

    def pass_on():
        with (
            listener,
            listener.accept()[0] as sender,
            socket.create_connection(("127.0.0.1", target)) as node,
        ):
            back = threading.Thread(target=copy, args=(node, sender, 2**40))
            back.start()
            copy(sender, node, size)
            for end in (sender, node):
                end.shutdown(socket.SHUT_RDWR)
            back.join()

    threading.Thread(target=pass_on).start()
    return listener.getsockname()[1]


def segs(archive):
    """SOP instance UIDs of the segmentations that have arrived."""
    headers = [pydicom.dcmread(path, stop_before_pixels=True) for path in archive.iterdir()]
    return {header.SOPInstanceUID for header in headers if header.Modality == "SEG"}


def test_a_killed_node_segments_whole_studies_once_and_their_segs_arrive(dcmtk, tmp_path):
    studies = [tmp_path / name for name in ("whole", "cut")]
    for seed, study in enumerate(studies, 3):
        write_dicom_series(make_phantom(seed=seed).volume, study, seed=seed)
    archive, archive_port = tmp_path / "archive", free_port()
    with storescp(dcmtk, archive, archive_port):
        node = Served(tmp_path / "node", archive_port)
        results = node.root / "results"
        ports = {(node.port, studies[0]), (cut_off(node.port, CUT_BYTES), studies[1])}
        codes = {}
        senders = [
            threading.Thread(
                target=lambda port, study: codes.update({study: storescu(dcmtk, port, study)}), args=one
            )
            for one in [*ports, (node.port, studies[0])]
        ]
        for one in senders:
            one.start()
        for one in senders:
            one.join()
        assert codes[studies[0]] == 0
        assert codes[studies[1]] != 0
        node.end(signal.SIGKILL)  # what was received waits
        assert not list(results.glob("scans/*"))
        node.start()
        wait_until(node.segments, 120)
        time.sleep(2)
        node.end(signal.SIGKILL)  # while it segments, or loads the model
        node.start()
        wait_until(lambda: list(results.glob("scans/*/sent.json")), 120)
        assert len(segs(archive)) == 1
        [interrupted] = (node.root / "incoming").iterdir()
        assert 0 < len(list(interrupted.glob("*.dcm"))) < len(list(studies[1].iterdir()))
        assert storescu(dcmtk, node.port, studies[1]) == 0
        wait_until(lambda: len(list(results.glob("scans/*/sent.json"))) == 2, 120)
        assert node.end(signal.SIGTERM) == 0
    assert len(segs(archive)) == 2
    assert verify(results / "audit.jsonl").entries == 2
    assert list((results / ".work").iterdir()) == []

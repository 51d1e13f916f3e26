"""A DICOM node, and dcmtk's tools that send to it and take its results."""

from __future__ import annotations

import gc
import subprocess
import threading
import warnings
from contextlib import contextmanager

from autosam_edge_test_ports import is_open
from autosam_edge_test_support import wait_until

from autosam_edge.batch.batch import Batch, Selection
from autosam_edge.batch.job import Settings
from autosam_edge.node.inbox import Inbox
from autosam_edge.node.receiver import Listener, Receiver
from autosam_edge.node.sender import Outbox
from autosam_edge.node.status import Counts
from autosam_edge.node.watch import watch

TITLE = "AUTOSAM_EDGE"
SETTINGS = Settings(
    engine="onnx", threads=1, accept_implausible=True, formats=("nifti", "secondary-capture", "preview")
)


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
        """The counts once these are reached."""

        def reached():
            found = self.counts.all()
            return all(found.get(key, 0) >= value for key, value in wanted.items()) and found

        return wait_until(reached, so_far=self.counts.all)


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


def storescu(dcmtk, port, folder, *, called=TITLE, tls=()):
    """Send a folder; return the exit code."""
    command = [dcmtk["storescu"], *tls, "-aec", called, "+sd", "127.0.0.1", port, folder]
    return subprocess.run(map(str, command), capture_output=True, timeout=60, check=False).returncode


@contextmanager
def storescp(dcmtk, folder, port):
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([dcmtk["storescp"], "-od", str(folder), "+xa", str(port)])
    try:
        wait_until(lambda: is_open(port))
        yield
    finally:
        process.terminate()
        process.wait()

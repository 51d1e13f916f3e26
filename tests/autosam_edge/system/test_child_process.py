"""Work in a child process gives its bytes, or ends within its limits and says why."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from autosam_edge_test_support import wait_until

from autosam_edge.error_codes import BUNDLE_MISSING
from autosam_edge.errors import BundleError
from autosam_edge.system import child_process
from autosam_edge.system.child_process import ChildFailed, ChildWorker, can_run_child, run_child
from autosam_edge.system.shared_slots import SLOT_BYTES, SLOTS


def run_in_child(arguments, data):
    """What the children of these tests do; the child imports this module."""
    return ACTIONS[arguments[0]](data)


def burn(_):
    while True:
        pass


def refuse(_):
    raise BUNDLE_MISSING("nothing there.", remedy="Look elsewhere.")


def shout(data):
    os.write(1, b"native code prints")
    os.write(2, b"and complains")
    return data


def state(_):
    inherited = [file.name for file in Path("/proc/self/fd").iterdir()]
    return repr((inherited, sorted(os.environ))).encode()


ACTIONS = {
    "reverse": lambda data: data[::-1],
    "burn": burn,
    "sleep in native code": lambda _: ctypes.PyDLL(None).sleep(60),  # holds the interpreter's lock
    "fill": lambda _: bytes(bytearray(400 << 20)[:1]),
    "crash": lambda _: ctypes.string_at(0),
    "abort": lambda _: os.abort(),
    "raise": lambda _: 1 / 0,
    "exit": lambda _: sys.exit(0),
    "refuse": refuse,
    "large": lambda _: bytes(3 << 20),
    "shout": shout,
    "state": state,
}


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    return lambda action, data=b"", seconds=30.0: run_child(
        "test_child_process", [action], data, seconds=seconds, memory_mb=300
    )


@pytest.mark.parametrize("shared", [True, False])
def test_bytes_of_many_calls_go_there_and_back(monkeypatch, shared):
    """Through shared memory and, where there is none or too little, a pipe; as many at a time as may wait."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    if not shared:
        monkeypatch.setattr(child_process, "open_slots", lambda: None)
    sent = [os.urandom(size) for size in (0, 1, 1000, 900_000, SLOT_BYTES, SLOT_BYTES + 1, 5, 0, 70_000)]
    given = []
    with ChildWorker("test_child_process", ["reverse"]) as worker:
        for number in range(len(sent) + SLOTS):
            if number >= SLOTS:
                given.append(bytes(worker.receive(seconds=30, max_output_bytes=SLOT_BYTES + 1)))
            if number < len(sent):
                worker.send(sent[number], seconds=30, memory_mb=300)
    assert given == [data[::-1] for data in sent]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have pipes of one size")
def test_pipes_may_stay_small(run, monkeypatch):
    """A user with many children, such as the workers of a batch, gets no more large ones."""
    import fcntl

    real = fcntl.fcntl

    def limited(handle, command, argument=0):
        if command == fcntl.F_SETPIPE_SZ:
            raise PermissionError
        return real(handle, command, argument)

    monkeypatch.setattr(fcntl, "fcntl", limited)
    data = os.urandom(1 << 19)
    assert run("reverse", data) == data[::-1]


def test_what_the_child_prints_is_not_its_result(run):
    """Native libraries write to the streams of the process."""
    assert run("shout", b"result") == b"result"


@pytest.mark.parametrize(
    ("action", "reason", "detail"),
    [
        ("burn", "time", "it took more than 2 s"),
        ("sleep in native code", "time", "it took more than 2 s"),
        ("crash", "crash", "it ended with signal 11"),
        ("abort", "crash", "it ended with signal 6"),
        ("raise", "crash", "it ended with exit code 1"),
        ("exit", "crash", "it ended with exit code 1"),
        ("large", "output", "it gave more than 1048576 bytes"),
        pytest.param(
            *("fill", "memory", "it needs more than 300 MB"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory"),
        ),
    ],
)
def test_a_child_that_fails_says_why(run, action, reason, detail):
    """Within its time, and nothing of it stays."""
    started = time.monotonic()
    with pytest.raises(ChildFailed, match=f"^{detail}$") as caught:
        run(action, seconds=2.0 if reason == "time" else 50.0)
    assert caught.value.reason == reason
    assert time.monotonic() - started < 5


def test_an_error_with_a_code_comes_through(run):
    """With its class, message and remedy."""
    with pytest.raises(BundleError) as caught:
        run("refuse")
    assert str(caught.value) == "AE-BUNDLE-001: nothing there. Remedy: Look elsewhere."


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_inherits_nothing(run, monkeypatch):
    """No open file, and no variable but the few that a library needs to start."""
    monkeypatch.setenv("SECRET", "1")
    with Path(os.devnull).open() as file:
        os.set_inheritable(file.fileno(), True)
        handles, variables = eval(run("state"))
    shared = sys.platform == "linux"
    assert len(handles) == 5 + shared  # three streams, the copy of stdout, the listing itself, shared memory
    assert set(variables) <= {
        *("PATH", "TMPDIR", "LD_LIBRARY_PATH", "OPENBLAS_CORETYPE", "LC_CTYPE"),
        *("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "ORT_DISABLE_TELEMETRY"),
        *("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"),
    }


PARENT = """
import sys
from autosam_edge.system.child_process import run_child
run_child("test_child_process", [sys.argv[1]], seconds=60, memory_mb=300)
"""


def descendants(pid):
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in found.stdout.split()]


def is_running(pid):
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("action", ["burn", "sleep in native code"])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_child_dies_with_its_parent(action, number):
    """However the parent ends, and whatever the child does; the parent needs no main guard."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, action],
        env={**os.environ, "PYTHONPATH": path},
        stderr=subprocess.DEVNULL,
    )
    children = wait_until(lambda: descendants(parent.pid))
    time.sleep(0.5)
    parent.send_signal(number)
    parent.wait(30)
    wait_until(lambda: not any(map(is_running, children)))


@pytest.mark.parametrize(
    ("place", "value"),
    [("sys.platform", "emscripten"), ("sys.platform", "ios"), ("sys.executable", "/opt/app")],
)
def test_some_systems_cannot_start_a_child(monkeypatch, place, value):
    """A browser, a phone, and a program that brings Python inside itself."""
    assert can_run_child()
    monkeypatch.setattr(place, value)
    assert not can_run_child()

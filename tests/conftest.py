"""Settings of every test."""

import os
import signal

import pytest
from hypothesis import settings

from autosam_edge.engines.telemetry import set_variables
from autosam_edge.errors import ErrorCode
from autosam_edge.scan_warning import WarningCode

for _number in (signal.SIGINT, getattr(signal, "SIGHUP", signal.SIGINT)):
    if signal.getsignal(_number) is signal.SIG_IGN:  # as in the background of a shell; children inherit it
        signal.signal(_number, signal.SIG_DFL if _number != signal.SIGINT else signal.default_int_handler)
_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
if _CORES and (_worker := os.environ.get("PYTEST_XDIST_WORKER")):
    # A core for each worker and its children: with more threads than cores, threads wait for each other.
    os.sched_setaffinity(0, {sorted(_CORES)[int(_worker.removeprefix("gw")) % len(_CORES)]})
set_variables()  # packages that tests import load ONNX Runtime and OpenVINO too
# The first example pays for imports, and the machines of CI are noisy: no deadline per example.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


def pytest_collection_modifyitems(items):
    """The tests of the export come first: a worker that has nothing left takes the last tests of another one.

    Their modules share what takes a minute to make, and a second worker would make it again.
    """
    items.sort(key=lambda item: "export" not in item.path.parts)


@pytest.fixture(autouse=True)
def signals_as_before():
    """A command that a test runs in this process may catch signals until its end; the next test does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def every_core():
    """The test may use all cores of the machine, also where its worker has one."""
    if not _CORES:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _CORES)
    yield
    os.sched_setaffinity(0, before)


@pytest.fixture(scope="module")
def one_thread():
    """The same number of threads for every run that is compared; tiny tensors need only one."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    """A test that is marked with ``hazard`` must make an error or a warning of a code that it declares."""
    rows = getattr(getattr(item, "function", None), "hazards", ())
    codes = {row.outcome.code for row in rows if not isinstance(row.outcome, str)}
    if not codes:
        return (yield)
    made = set()
    with pytest.MonkeyPatch.context() as patch:
        for kind in (ErrorCode, WarningCode):
            _record_calls(patch, kind, made)
        result = yield
    assert made & codes, f"the test declares {sorted(codes)}, but made {sorted(made)}"
    return result


def _record_calls(patch, kind, made):
    make = kind.__call__

    def recorded(self, *args, **options):
        made.add(self.code)
        return make(self, *args, **options)

    patch.setattr(kind, "__call__", recorded)

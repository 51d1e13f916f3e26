"""Nothing is sent and nothing is left; what does send or leave something is seen."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from autosam_edge_test_support import RESULTS

from autosam_edge_benchmarks.error_codes import NO_NAMESPACE
from autosam_edge_benchmarks.studies import network
from autosam_edge_benchmarks.studies.network_namespace import run_watched, why_no_namespace

REASON = why_no_namespace()
in_namespaces = pytest.mark.skipif(REASON is not None, reason=str(REASON))
CONTACTED = {"onnxruntime": "mobile.events.data.microsoft.com", "openvino": "www.google-analytics.com"}


ROOT = Path(__file__).parents[3]


def test_the_page_tells_what_the_stored_result_saw():
    """Clean, for every job; the packages that contact somebody by themselves are those of the table."""
    result = json.loads((RESULTS / "network.json").read_text())
    page = (ROOT / "docs" / "privacy.md").read_text()
    assert result["clean"] is True
    assert list(result["jobs"]) == [job.name for job in network.JOBS]
    loud = {name: seen for name, seen in result["defaults"].items() if not network.is_clean(seen)}
    assert {name.split()[0] for name in loud} == {*CONTACTED, "monai"}
    assert all(name in page for seen in loud.values() for name in seen["queries"])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    network.write_inputs(folder)
    return folder


@in_namespaces
@pytest.mark.parametrize(
    ("code", "part", "seen"),
    [
        ("import socket; socket.getaddrinfo('a.example', 80)", "queries", "a.example"),
        (
            "import socket; socket.socket().connect_ex(('203.0.113.9', 443))",
            "connections",
            "tcp 203.0.113.9:443",
        ),
        (
            "import socket as s; s.socket(s.AF_INET6, s.SOCK_DGRAM).sendto(b'', ('2001:db8::1', 9))",
            "connections",
            "udp 2001:db8::1:9",
        ),
        ("from pathlib import Path; Path.home().joinpath('a').touch()", "home", "a"),
        ("from pathlib import Path; Path('/dev/shm/a').touch()", "elsewhere", "/dev/shm/a"),
        ("from pathlib import Path; Path('/usr/a').touch()", "elsewhere", "/usr/a"),
    ],
)
def test_each_way_out_is_seen(code, part, seen):
    """A name, a connection, a datagram, a file."""
    found = run_watched(code, (), alive_s=0.0)
    assert found[part]
    assert set(found[part]) == {seen}
    assert not network.is_clean(found)


@in_namespaces
def test_a_command_is_clean_and_the_control_is_not(inputs):
    """`info` stands for all in the quick tests."""
    (info,) = (job for job in network.JOBS if job.name == "info")
    assert network.is_good(network.watch_job(info, inputs, alive_s=0.0))
    assert network.control_is_seen(network.watch_job(network.CONTROL, inputs, alive_s=0.0))


@in_namespaces
@pytest.mark.slow
@pytest.mark.parametrize("job", network.JOBS, ids=lambda job: job.name)
def test_no_command_and_no_engine_sends_or_leaves_anything(job, inputs):
    """Each is watched for 30 s after its work."""
    if not network.is_installed(job):
        pytest.skip(f"needs {', '.join(job.packages)}")
    seen = network.watch_job(job, inputs)
    assert network.is_good(seen), network.in_words(seen)


@in_namespaces
@pytest.mark.slow
@pytest.mark.parametrize("package", CONTACTED)
def test_what_the_engines_do_by_themselves_is_seen(package, inputs):
    """The same proof sees ONNX Runtime and OpenVINO report their use when nobody turns it off."""
    pytest.importorskip(package)
    (job,) = (job for job in network.DEFAULTS if job.packages == (package,))
    seen = network.watch_job(job, inputs)
    assert CONTACTED[package] in seen["queries"]
    assert seen["home"]


def test_a_system_without_namespaces_is_told(monkeypatch):
    """With a code, in place of a result that proves nothing."""
    monkeypatch.setattr(network, "why_no_namespace", lambda: "this system allows none")
    with pytest.raises(NO_NAMESPACE.kind, match="AE-EXTRA-003"):
        network.measure_network()

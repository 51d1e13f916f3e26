"""A run says what it was measured on, and not whose machine that is."""

from __future__ import annotations

import getpass
import importlib.metadata
import json
import os
import platform
import socket
from pathlib import Path

import pytest

from autosam_edge.system import machine
from autosam_edge.system.machine import available_cores, describe_machine, machine_in_words

X86 = (
    "processor\t: 0\ncpu family\t: 6\nmodel\t\t: 85\nmodel name\t: Some(R) CPU @ 2.00GHz\n\n"
    "processor\t: 1\nmodel name\t: Other\n"
)
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n\nprocessor\t: 1\n"


@pytest.fixture
def cpuinfo(tmp_path, monkeypatch):
    """Gives the system another /proc/cpuinfo, or none."""
    file = tmp_path / "cpuinfo"
    monkeypatch.setattr(machine, "Path", lambda place: file if place == "/proc/cpuinfo" else Path(place))
    return file.write_text


@pytest.fixture
def eight_gb(monkeypatch):
    """A machine of four cores with 8 GiB."""
    monkeypatch.setattr(
        os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 2**21}.__getitem__, raising=False
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


def test_a_machine_is_described_without_its_name(monkeypatch):
    """Only these keys, as JSON; neither host nor user is among them."""
    for module, function in (
        (platform, "node"),
        (socket, "gethostname"),
        (socket, "getfqdn"),
        (getpass, "getuser"),
    ):
        monkeypatch.setattr(module, function, lambda *_: "bedside-7")
    monkeypatch.setenv("HOSTNAME", "bedside-7")
    found = describe_machine()
    assert set(found) == {
        "cpu",
        "cores",
        "memory_gb",
        "system",
        "python",
        "versions",
        "openblas_coretype",
        "load_average_at_start",
    }
    assert "bedside-7" not in json.dumps(found) + machine_in_words()
    assert str(Path.home()) not in json.dumps(found)


def test_facts_are_those_of_this_machine():
    """Cores, system, Python and the versions of what is installed; what is not installed is not named."""
    found = describe_machine()
    assert found["cores"] == os.cpu_count()
    assert found["python"] == platform.python_version()
    assert found["system"] == f"{platform.system()} {platform.machine()}"
    assert found["versions"]["numpy"] == importlib.metadata.version("numpy")
    for name, version in found["versions"].items():
        assert importlib.metadata.version(name) == version


def test_x86_says_name_family_and_model(cpuinfo, eight_gb):
    """Of the first processor: family and model tell generations of one name apart."""
    cpuinfo(X86)
    assert describe_machine()["cpu"] == "Some(R) CPU @ 2.00GHz (family 6, model 85)"
    assert machine_in_words() == "4 cores, Some(R) CPU @ 2.00GHz (family 6, model 85), 8 GB"


@pytest.mark.parametrize("text", [ARM, "", None], ids=["arm", "empty", "missing"])
def test_a_system_without_a_processors_name_gives_the_architecture(cpuinfo, eight_gb, monkeypatch, text):
    """Linux on ARM names no model, macOS has no such file."""
    if text is not None:
        cpuinfo(text)
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert machine_in_words() == "4 cores, aarch64, 8 GB"


def test_a_system_that_does_not_tell_its_memory(cpuinfo, monkeypatch):
    """Windows: None in the record, nothing in the words."""
    cpuinfo(X86)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.delattr(os, "getloadavg", raising=False)
    found = describe_machine()
    assert (found["memory_gb"], found["load_average_at_start"]) == (None, None)
    assert machine_in_words() == "4 cores, Some(R) CPU @ 2.00GHz (family 6, model 85)"


def test_an_accelerator_did_the_work():
    """Then its name stands for the machine."""
    assert machine_in_words("Some GPU") == "Some GPU"


@pytest.mark.parametrize("system", ["emscripten", "wasi"])
def test_a_browsers_python_has_one_core(system, monkeypatch):
    """It starts no thread."""
    monkeypatch.setattr("sys.platform", system)
    assert available_cores() == 1

"""``doctor`` says what works, and a broken native library takes only its own process down."""

from __future__ import annotations

import json
import sys

import pytest
from autosam_edge_test_support import run_python
from packaging.requirements import Requirement

from autosam_edge import doctor_probe
from autosam_edge.cli import diagnosis
from autosam_edge.cli.diagnosis import Diagnosis, Part
from autosam_edge.verify import Check

STUBS = {
    "raises": (
        "raise ImportError('libstub.so.1: cannot open')",
        "it does not load: ImportError: libstub.so.1: cannot open",
    ),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal 11"),
    "ends": ("import os; os._exit(0)", "ended the process without a word"),
    "hangs": ("import time; time.sleep(600)", "it took more than 2 s"),
}


def part(state, name="onnx"):
    return Part(name, "onnxruntime", "1.0", state, "its detail")


def stub(folder, package, code):
    """A package that comes before the installed one."""
    (folder / package).mkdir()
    (folder / package / "__init__.py").write_text(code)
    return folder


@pytest.mark.parametrize("kind", STUBS)
def test_a_broken_engine_is_named_and_does_not_end_doctor(kind, tmp_path, monkeypatch):
    """It cannot be imported, crashes, leaves without a word, or never returns."""
    code, detail = STUBS[kind]
    monkeypatch.syspath_prepend(str(stub(tmp_path, "openvino", code)))
    found = diagnosis.try_engine("openvino", 2.0 if kind == "hangs" else 60.0)
    assert found.state == "broken"
    assert detail in found.detail


def test_an_engine_that_computes_something_else_is_broken(monkeypatch):
    """The golden tile is compared by the product's own verification."""
    failed = Check("onnx/fp32", "failed", "logits differ by 9 rms", {})
    monkeypatch.setattr(doctor_probe, "verify_artifact", lambda *_: failed)
    state, detail, _ = json.loads(doctor_probe.run_in_child(["onnx"], b""))
    assert (state, detail) == ("broken", "onnx/fp32: logits differ by 9 rms")


def test_doctor_in_a_process_of_its_own(tmp_path):
    """A broken OpenVINO beside a working ONNX Runtime: one JSON object, and the exit code of engines."""
    path = [str(stub(tmp_path, "openvino", STUBS["crashes"][0])), *sys.path]
    code = f"import sys; sys.path[:] = {path!r}; from autosam_edge.cli import main; main()"
    done = run_python("-c", code, "doctor", "--json")
    assert done.returncode == 5
    assert "error AE-ENGINE-011: installed but broken: openvino (openvino)" in done.stderr
    assert "pip install --force-reinstall openvino, or uninstall it" in done.stderr
    told = json.loads(done.stdout)
    assert list(told) == [
        "version",
        "machine",
        "memory_available_gb",
        "temporary_free_gb",
        "threads",
        "packages",
        "engines",
        "decoders",
        "extras",
        "problems",
        "telemetry_variable_set",
        "error",
    ]
    assert told["error"] == "AE-ENGINE-011"
    assert [list(entry) for entry in told["engines"]] == [
        ["name", "package", "version", "state", "detail", "install", "telemetry_off"]
    ] * len(told["engines"])
    engines = {entry["name"]: entry for entry in told["engines"]}
    assert list(engines) == ["onnx", "openvino", "executorch", "coreml"]
    assert engines["onnx"]["state"] == "works"
    assert engines["onnx"]["telemetry_off"] is True
    assert engines["openvino"]["state"] == "broken"


@pytest.mark.parametrize(
    ("states", "decoders", "code"),
    [
        (("works", "not installed"), "not installed", None),
        (("works", "loads"), "loads", None),
        (("works", "broken"), "loads", "AE-ENGINE-011"),
        (("works", "loads"), "broken", "AE-ENGINE-011"),
        (("not installed", "loads"), "loads", "AE-ENGINE-006"),
    ],
)
def test_all_is_well_if_an_engine_works_and_nothing_is_broken(states, decoders, code):
    """What is merely not installed is no fault."""
    engines = [part(state) for state in states]
    found = Diagnosis("1", {}, None, None, 1, {}, engines, part(decoders), {}, [])
    error = found.error()
    assert (None if error is None else error.code) == code


def test_what_is_not_installed_comes_with_the_command_that_installs_it(monkeypatch):
    """As in an installation without extras."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for found in (diagnosis.try_engine("openvino", 1.0), diagnosis.try_decoders(1.0)):
        assert found.state == "not installed"
        assert found.install.startswith("pip install 'autosam-edge[")


def test_known_bad_combinations_are_told(monkeypatch):
    """Each of the table, with why and what to do."""
    monkeypatch.setattr(diagnosis, "_version", lambda package: "1.0")
    (first, *_) = found = diagnosis.bad_combinations()
    assert len(found) == len(diagnosis.COMBINATIONS)
    assert first.packages == ("onnxruntime", "onnxruntime-gpu")
    assert "overwrites" in first.why


def test_a_source_tree_that_was_not_installed_is_looked_at_too(monkeypatch):
    """What it asks for is not known."""
    monkeypatch.setattr(diagnosis, "_DISTRIBUTION", "autosam-edge-not-installed")
    works = part("works")
    monkeypatch.setattr(diagnosis, "try_engine", lambda *_: works)
    monkeypatch.setattr(diagnosis, "try_decoders", lambda *_: works)
    found = diagnosis.diagnose()
    assert (found.packages, found.extras, found.error()) == ({}, {}, None)


def test_a_version_that_is_not_supported_is_told(monkeypatch):
    """As after an upgrade of one package alone."""
    monkeypatch.setattr(diagnosis, "_our_requirements", lambda *extras: [Requirement("numpy<2")])
    (found,) = (p for p in diagnosis.wrong_versions() if p.packages[0] == "autosam-edge")
    assert "autosam-edge asks for numpy<2" in found.why
    assert found.remedy == "pip install 'numpy<2'"

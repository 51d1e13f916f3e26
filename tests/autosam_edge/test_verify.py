"""What stands in for a runtime that is not here.

It proves the artifact, and nobody takes it for an execution.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from autosam_edge_test_support import NEVER_EXECUTED, artifact_dict, write_bundle

from autosam_edge.bundle import Bundle, default_bundle_path, open_bundle
from autosam_edge.cli.verify import _show
from autosam_edge.errors import BundleError
from autosam_edge.golden import read_golden_tile
from autosam_edge.strict_json import parse_json
from autosam_edge.verify import Check, VerificationError, check_around_network, require_passed, verify_bundle

NAME = "coreml/fp16"
ALLOWED = 0.02


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """The default bundle's contract and golden vectors, with one artifact that was never executed."""
    path = f"{NAME}.mlpackage"
    contents = {
        f"golden/{file.name}": file.read_bytes() for file in (default_bundle_path() / "golden").iterdir()
    }
    contents[f"{path}/Manifest.json"] = b"{}"
    target, precision = NAME.split("/")
    contents["parity.json"] = json.dumps(
        [{"target": target, "precision": precision, "tolerance": {"logit_rms": ALLOWED}}]
    ).encode()
    manifest = json.loads((default_bundle_path() / "manifest.json").read_text())
    changes = {key: manifest[key] for key in ("input", "labels", "postprocess")}
    artifacts = [artifact_dict(NAME, path=path, **NEVER_EXECUTED)]
    return Bundle(
        write_bundle(tmp_path_factory.mktemp("bundle") / "b.edge", contents, artifacts=artifacts, **changes)
    )


@pytest.fixture(scope="module")
def logits():
    """Of the golden tile: the golden ones at every voxel that is compared."""
    golden = read_golden_tile(open_bundle())
    step = golden.stride
    logits = np.zeros((len(golden.logits), *golden.hu.shape), np.float32)
    logits[:, ::step, ::step, ::step] = golden.logits
    return logits


@pytest.fixture
def runtime(monkeypatch):
    """Says whether this device has one."""
    return lambda here: monkeypatch.setattr(
        "autosam_edge.engines.selection.why_missing", lambda target: None if here else "not here"
    )


class Given:
    """Gives what it was given, and counts."""

    def __init__(self, logits):
        self.description = {}
        self.calls = 0
        self._logits = logits

    def run(self, tile):
        self.calls += 1
        return self._logits


def check_of(checks):
    return next(check for check in checks if check.name == NAME)


def test_what_cannot_run_is_skipped_without_an_interpreter(bundle, runtime):
    """With the reason; a stand-in for something else changes nothing."""
    runtime(here=False)
    for interpreters in ({}, {"coreml/fp32": Given(None)}):
        check = check_of(verify_bundle(bundle, interpreters=interpreters))
        assert (check.verdict, check.detail, check.figures) == ("skipped", "not here", {})


def test_an_interpreter_proves_the_artifact_and_is_not_timed(bundle, runtime, logits):
    """It is asked once; the detail says that nothing was executed, and there are no times."""
    runtime(here=False)
    interpreter, said = Given(logits), []
    check = check_of(verify_bundle(bundle, interpreters={NAME: interpreter}, on_message=said.append))
    assert check.verdict == "passed"
    assert check.detail.startswith("interpreted, not executed: logits differ by 0.0e+00 rms")
    assert set(check.figures) == {"logit_rms", "logit_error", "agreement"}
    assert check.figures["agreement"] == 1.0
    assert interpreter.calls == 1
    assert NAME in said


@pytest.mark.parametrize(("off", "passes"), [(0.9, True), (1.1, False)])
def test_an_interpreter_that_gives_other_logits_fails(bundle, runtime, logits, off, passes):
    """AE-ENGINE-007 from the artifact's own tolerance on; the error holds the check."""
    runtime(here=False)
    interpreters = {NAME: Given(logits + np.float32(off * ALLOWED))}
    if passes:
        assert check_of(verify_bundle(bundle, interpreters=interpreters)).verdict == "passed"
        return
    with pytest.raises(
        VerificationError,
        match=f"AE-ENGINE-007: {NAME} does not give the results of the export: interpreted, not executed",
    ) as caught:
        verify_bundle(bundle, interpreters=interpreters)
    assert check_of(caught.value.checks).verdict == "failed"


@pytest.mark.parametrize("name", [check.name for check in check_around_network(open_bundle())])
def test_a_check_around_the_network_has_a_remedy_of_its_own(name):
    """No engine takes part in it, so another engine helps nothing."""
    with pytest.raises(VerificationError, match=f'AE-ENGINE-007: the check "{name}" does not') as caught:
        require_passed([Check(name, "failed", "", {}), Check(NAME, "failed", "", {})])
    assert caught.value.remedy.startswith("The golden vectors do not belong to this manifest")


def test_where_the_runtime_is_here_no_interpreter_is_asked(bundle, runtime, logits, monkeypatch):
    """The runtime is executed, once more than the three times that are timed."""
    runtime(here=True)
    engine, interpreter = Given(logits), Given(None)
    monkeypatch.setattr("autosam_edge.verify.load_engine", lambda *_: engine)
    check = check_of(verify_bundle(bundle, interpreters={NAME: interpreter}))
    assert (check.verdict, engine.calls, interpreter.calls) == ("passed", 4, 0)
    assert "interpreted" not in check.detail
    assert {"load_s", "tile_ms"} <= set(check.figures)


def changed(bundle, folder, contents, **changes):
    """The same bundle with other files, as its author may have written it."""
    files = {name: contents.get(name, bundle.read(name)) for name in bundle.manifest.files}
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    kept = {key: manifest[key] for key in ("input", "labels", "postprocess", "artifacts")}
    return Bundle(write_bundle(folder / "c.edge", files, **{**kept, **changes}))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("parity.json", b"[]"),
        ("parity.json", b"{"),
        ("parity.json", b'[{"target": "coreml", "precision": "fp16"}]'),
        ("golden/golden.json", b'{"scan": {}, "tile": {}}'),
        ("golden/golden.json", b"[]"),
    ],
)
def test_a_bundle_that_lacks_what_verify_reads_is_not_valid(bundle, runtime, tmp_path, name, content):
    """AE-BUNDLE-003: whoever wrote it is at fault, and not this package."""
    runtime(here=False)
    with pytest.raises(BundleError, match="AE-BUNDLE-003"):
        verify_bundle(changed(bundle, tmp_path, {name: content}))


def test_an_artifact_with_other_classes_fails(bundle, runtime, logits):
    """Its logits cannot be held against the student's: a failed check that says so."""
    runtime(here=False)
    with pytest.raises(VerificationError, match="its logits have the shape"):
        verify_bundle(bundle, interpreters={NAME: Given(logits[:3])})


@pytest.mark.parametrize(("others", "doubted"), [(0.0, False), (99.0, True)])
def test_times_of_a_busy_machine_are_doubted(others, doubted, bundle, capsys):
    """One sentence below the table, and a key of the JSON object, which is empty otherwise."""
    checks = [Check(NAME, "passed", "", {"load_s": 1.0, "tile_ms": 3.0, "others_cores": others})]
    _show(bundle, checks, as_json=True)
    assert ("not to be trusted" in json.loads(capsys.readouterr().out)["doubt_of_times"]) is doubted
    _show(bundle, checks, as_json=False)
    assert ("not to be trusted: other programs used 99.0 of" in capsys.readouterr().out) is doubted


def test_figures_that_are_not_finite_are_null_in_json(bundle, capsys):
    """A network that gives NaN fails the check, and a program can still read why."""
    _show(bundle, [Check(NAME, "failed", "", {"logit_rms": np.nan, "logit_error": np.inf})], as_json=True)
    (check,) = parse_json(capsys.readouterr().out.encode())["checks"]
    assert check["figures"] == {"logit_rms": None, "logit_error": None}

"""The best artifact for the device, and why."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from autosam_edge_test_support import NEVER_EXECUTED, artifact_dict, write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.engines import selection
from autosam_edge.engines.selection import make_engine, rank_artifacts, select_artifact
from autosam_edge.errors import BundleError, EngineError


def artifact(name, *, dice=1.0, time=1.0):
    return artifact_dict(name, worst_organ_dice=dice, relative_time=time)


def never_executed(name, *, dice=1.0):
    return artifact_dict(name, worst_organ_dice=dice, **NEVER_EXECUTED)


@pytest.fixture
def bundle(tmp_path):
    """Makes a bundle of artifacts; every engine counts as installed."""

    def make(*artifacts):
        return Bundle(
            write_bundle(tmp_path / f"{len(list(tmp_path.iterdir()))}.edge", artifacts=list(artifacts))
        )

    return make


@pytest.fixture(autouse=True)
def all_installed(monkeypatch):
    monkeypatch.setattr(selection.importlib.util, "find_spec", lambda name: object())


@pytest.fixture
def system(monkeypatch):
    """Says which one this is, to the choice alone."""
    return lambda name: monkeypatch.setattr(selection, "sys", SimpleNamespace(platform=name))


def order(bundle):
    return [choice.artifact.name for choice in rank_artifacts(bundle.manifest)]


def reasons(bundle):
    return {choice.artifact.name: choice.reason for choice in rank_artifacts(bundle.manifest)}


def test_of_equals_the_fastest_comes_first(bundle):
    """fp32 on OpenVINO at half the time before fp32 on ONNX Runtime."""
    assert order(bundle(artifact("onnx/fp32"), artifact("openvino/fp32", time=0.5))) == [
        "openvino/fp32",
        "onnx/fp32",
    ]


def test_fewer_bits_must_be_clearly_faster(bundle):
    """Five per cent is noise, half the time is not."""
    assert order(bundle(artifact("onnx/fp32"), artifact("onnx/fp16", time=0.95)))[0] == "onnx/fp32"
    assert order(bundle(artifact("onnx/fp32"), artifact("onnx/fp16", time=0.5)))[0] == "onnx/fp16"


def test_a_number_format_that_the_processor_lacks_comes_last(bundle, monkeypatch):
    """OpenVINO imitates bfloat16 in three times the time; on request, or alone, it still runs."""

    class Engine:
        @staticmethod
        def has_instructions(precision):
            return processor_has_it or precision != "bf16"

    monkeypatch.setattr(selection, "engine_class", lambda target: Engine)
    made = bundle(artifact("openvino/bf16", time=0.3), artifact("onnx/int8", dice=0.9), artifact("onnx/fp32"))
    processor_has_it = False
    assert order(made) == ["onnx/fp32", "openvino/bf16", "onnx/int8"]
    assert "this processor has no bfloat16" in reasons(made)["openvino/bf16"]
    assert select_artifact(made, "openvino").name == "openvino/bf16"
    assert select_artifact(bundle(artifact("openvino/bf16"))).name == "openvino/bf16"
    processor_has_it = True
    assert order(made)[0] == "openvino/bf16"


def test_bfloat16_that_was_imitated_at_export_comes_first_where_the_processor_has_it(bundle, monkeypatch):
    """It has no time, and is the fastest wherever it was measured."""
    monkeypatch.setattr(selection, "_imitates", lambda artifact: False)
    imitated = artifact_dict("openvino/bf16", proof="imitated", relative_time=None)
    made = bundle(artifact("onnx/fp32"), imitated)
    assert order(made) == ["openvino/bf16", "onnx/fp32"]
    assert "the processor of the export had no bfloat16" in reasons(made)["openvino/bf16"]
    assert select_artifact(made).name == "openvino/bf16"
    monkeypatch.setattr(selection, "_imitates", lambda artifact: artifact.precision == "bf16")
    assert select_artifact(made).name == "onnx/fp32"


def test_speed_never_beats_an_organ(bundle):
    """An artifact that is not equal to the student runs only on request."""
    made = bundle(artifact("onnx/int8", dice=0.9976, time=0.1), artifact("onnx/fp32"))
    assert select_artifact(made).name == "onnx/fp32"
    assert select_artifact(made, precision="int8").name == "onnx/int8"
    assert "0.9976, below 0.998: only on request" in rank_artifacts(made.manifest)[1].reason


def test_what_is_not_installed_comes_last_and_says_so(bundle, monkeypatch):
    """The reason holds the command that brings it; asking for it is an error with the same command."""
    monkeypatch.setattr(
        selection.importlib.util, "find_spec", lambda name: None if name == "openvino" else object()
    )
    made = bundle(artifact("openvino/fp32", time=0.1), artifact("onnx/fp32"), artifact("abacus/fp16"))
    assert order(made)[0] == "onnx/fp32"
    assert "pip install 'autosam-edge[openvino]'" in reasons(made)["openvino/fp32"]
    assert reasons(made)["abacus/fp16"] == "this version has no engine for it"
    with pytest.raises(EngineError, match="AE-ENGINE-006.*openvino is not installed"):
        select_artifact(made, "openvino")


def test_what_was_never_executed_comes_after_what_was_measured(bundle, system):
    """Even after what is not equal to the student, and it says why.

    Before what cannot run here; on request it runs.
    """
    system("darwin")
    made = bundle(
        never_executed("coreml/fp16"),
        artifact("onnx/int8", dice=0.9),
        artifact("abacus/fp32"),
        artifact("onnx/fp32"),
    )
    assert order(made) == ["onnx/fp32", "onnx/int8", "coreml/fp16", "abacus/fp32"]
    assert reasons(made)["coreml/fp16"].startswith("not executed at export, so not timed: only on request")
    assert select_artifact(made).name == "onnx/fp32"
    assert select_artifact(made, "coreml").name == "coreml/fp16"


def test_of_the_never_executed_the_equal_ones_come_first(bundle, system):
    """There is no time to compare."""
    system("darwin")
    assert order(bundle(never_executed("coreml/palette4", dice=0.9), never_executed("coreml/fp16"))) == [
        "coreml/fp16",
        "coreml/palette4",
    ]


def test_times_are_shares_of_the_first_that_was_executed(bundle, system):
    """The reason names it, not the artifact that happens to stand first."""
    system("darwin")
    made = bundle(never_executed("coreml/fp16"), artifact("onnx/fp32"), artifact("openvino/fp32", time=0.5))
    assert reasons(made)["openvino/fp32"].endswith("0.50 x the time of onnx/fp32")


@pytest.mark.parametrize("target", ["coreml", "coreml-2d", "coreml-ios18"])
def test_core_ml_runs_on_a_mac_only(bundle, system, monkeypatch, target):
    """Elsewhere the reason is the system, even with coremltools there.

    On a Mac without it, the command that brings it.
    """
    made = bundle(artifact(f"{target}/fp16"), artifact("onnx/fp32"))
    system("linux")
    assert order(made) == ["onnx/fp32", f"{target}/fp16"]
    assert "macOS" in reasons(made)[f"{target}/fp16"]
    with pytest.raises(EngineError, match="AE-ENGINE-006.*macOS"):
        select_artifact(made, target)
    system("darwin")
    assert select_artifact(made, target).name == f"{target}/fp16"
    monkeypatch.setattr(
        selection.importlib.util, "find_spec", lambda name: None if name == "coremltools" else object()
    )
    assert (
        reasons(made)[f"{target}/fp16"] == "coremltools is not installed: pip install 'autosam-edge[coreml]'"
    )


@pytest.mark.parametrize("name", ["linux", "darwin"])
def test_what_only_apps_run_says_so(bundle, system, name):
    """ExecuTorch's Core ML delegate, on any system."""
    system(name)
    made = bundle(artifact("executorch-coreml/fp16"), artifact("onnx/fp32"))
    assert order(made)[0] == "onnx/fp32"
    assert "for apps" in reasons(made)["executorch-coreml/fp16"]


def test_what_the_bundle_lacks_is_named(bundle):
    """With what it holds; a name that no engine has is another error."""
    made = bundle(artifact("onnx/fp32"))
    with pytest.raises(BundleError, match="AE-BUNDLE-005: .* no artifact openvino/int8, it holds onnx/fp32"):
        select_artifact(made, "openvino", "int8")
    with pytest.raises(EngineError, match="AE-ENGINE-001"):
        select_artifact(made, "abacus")


@pytest.mark.parametrize("only", [artifact("onnx/int8", dice=0.99, time=0.5), never_executed("onnx/fp16")])
def test_what_is_only_on_request_is_not_taken_unasked(bundle, only):
    """An artifact that is not equal to the student, or was never executed, must be requested by name."""
    made = bundle(only)
    with pytest.raises(EngineError, match="AE-ENGINE-006: no artifact can be.*`engine=onnx`.*`precision="):
        select_artifact(made)
    assert select_artifact(made, "onnx").path == only["path"]
    assert select_artifact(made, precision=only["precision"]).path == only["path"]


def test_a_package_that_cannot_be_imported_is_named(monkeypatch):
    """With the command that mends it; whatever the package raises."""

    def broken(target):
        raise RuntimeError("its library is missing")

    monkeypatch.setattr(selection, "engine_class", broken)
    with pytest.raises(
        EngineError, match="AE-ENGINE-011: openvino is installed, and its import fails"
    ) as caught:
        selection.make_engine("openvino", {"": b""}, sha256="", precision="bf16")
    assert "pip install --force-reinstall openvino" in caught.value.remedy


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, np.True_, np.int64(0), "2"])
def test_threads_are_a_whole_number_above_0(threads):
    """Anything else is a mistake of the program, told before a model is loaded."""
    with pytest.raises(ValueError, match="expected a whole number above 0"):
        make_engine("onnx", {"": b""}, sha256="", precision="fp32", threads=threads)


def test_threads_may_be_a_whole_number_of_numpy(monkeypatch):
    """The engine gets an int."""
    monkeypatch.setattr(selection, "available_cores", lambda: 2)
    monkeypatch.setattr(selection, "engine_class", lambda _: lambda _, **choices: choices)
    made = make_engine("onnx", {"": b""}, sha256="", precision="fp32", threads=np.int64(2))
    assert type(made["threads"]) is int
    assert made["threads"] == 2

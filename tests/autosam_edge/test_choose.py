"""The best artifact for the device, and why."""

from __future__ import annotations

import pytest
from autosam_edge_test_support import write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.engines import choose as choose_module
from autosam_edge.engines.choose import choose, rank_artifacts
from autosam_edge.errors import BundleError, EngineError


def artifact(name, *, dice=1.0, time=1.0):
    target, precision = name.split("/")
    return {
        "target": target,
        "precision": precision,
        "path": "onnx/fp32.onnx",
        "working_set_mb": 1.0,
        "worst_organ_dice": dice,
        "relative_time": time,
    }


@pytest.fixture
def bundle(tmp_path):
    """Makes a bundle of artifacts; every engine counts as installed."""

    def make(*artifacts):
        return Bundle(write_bundle(tmp_path / f"{len(list(tmp_path.iterdir()))}.edge", artifacts=list(artifacts)))

    return make


@pytest.fixture(autouse=True)
def all_installed(monkeypatch):
    monkeypatch.setattr(choose_module.importlib.util, "find_spec", lambda name: object())


def order(bundle):
    return [choice.artifact.name for choice in rank_artifacts(bundle.manifest)]


def test_of_equals_the_fastest_comes_first(bundle):
    """fp32 on OpenVINO at half the time before fp32 on ONNX Runtime."""
    assert order(bundle(artifact("onnx/fp32"), artifact("openvino/fp32", time=0.5))) == ["openvino/fp32", "onnx/fp32"]


def test_fewer_bits_must_be_clearly_faster(bundle):
    """Five per cent is noise, half the time is not."""
    assert order(bundle(artifact("onnx/fp32"), artifact("onnx/fp16", time=0.95)))[0] == "onnx/fp32"
    assert order(bundle(artifact("onnx/fp32"), artifact("onnx/fp16", time=0.5)))[0] == "onnx/fp16"


def test_speed_never_beats_an_organ(bundle):
    """An artifact that is not equal to the student runs only on request."""
    made = bundle(artifact("onnx/int8", dice=0.98, time=0.1), artifact("onnx/fp32"))
    assert choose(made).name == "onnx/fp32"
    assert choose(made, precision="int8").name == "onnx/int8"
    assert "only on request" in rank_artifacts(made.manifest)[1].reason


def test_what_is_not_installed_comes_last_and_says_so(bundle, monkeypatch):
    """The reason holds the command that brings it; asking for it is an error with the same command."""
    monkeypatch.setattr(choose_module.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    made = bundle(artifact("openvino/fp32", time=0.1), artifact("onnx/fp32"), artifact("coreml/fp16"))
    assert order(made)[0] == "onnx/fp32"
    reasons = {choice.artifact.name: choice.reason for choice in rank_artifacts(made.manifest)}
    assert "pip install 'autosam-edge[openvino]'" in reasons["openvino/fp32"]
    assert reasons["coreml/fp16"] == "this version has no engine for it"
    with pytest.raises(EngineError, match="AE-ENGINE-006.*openvino is not installed"):
        choose(made, "openvino")


def test_what_the_bundle_lacks_is_named(bundle):
    """With what it holds; a name that no engine has is another error."""
    made = bundle(artifact("onnx/fp32"))
    with pytest.raises(BundleError, match="AE-BUNDLE-005: the bundle holds onnx/fp32, not openvino/int8"):
        choose(made, "openvino", "int8")
    with pytest.raises(EngineError, match="AE-ENGINE-001"):
        choose(made, "abacus")

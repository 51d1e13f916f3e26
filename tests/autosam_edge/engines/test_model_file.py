"""A model's file is refused for what it holds, before a runtime sees it; the trial of a foreign bundle."""

from __future__ import annotations

import json
import time

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import artifact_dict, write_bundle

from autosam_edge.bundle import Bundle, default_bundle_path
from autosam_edge.engines import load
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.model_file import check_model_file
from autosam_edge.error_codes import BUNDLE_ALTERED, MODEL_FILE_REFUSED, MODEL_SHAPE_WRONG, TRIAL_FAILED
from autosam_edge.errors import BundleError, EngineError
from autosam_edge.system.child_process import ChildFailed

onnx = pytest.importorskip("onnx")
helper, FLOAT, INT64, BOOL = (
    onnx.helper,
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.INT64,
    onnx.TensorProto.BOOL,
)
SIDES = (16, 16, 16)  # of the test bundle's tiles
AREA = "Model bundles"


def model(*, dtype=FLOAT, name="image_hu", out="logits", channels=3, sides=SIDES):
    """Repeats the tile as the logits of each class."""
    axis = helper.make_tensor("shape", INT64, [5], [1, channels, 1, 1, 1])
    graph = helper.make_graph(
        [helper.make_node("Expand", [name, "shape"], [out], name="n")],
        "g",
        [helper.make_tensor_value_info(name, dtype, (1, 1, *sides))],
        [helper.make_tensor_value_info(out, dtype, (1, channels, *sides))],
        [axis],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def another_graph():
    """Of a branch or of a loop."""
    value = helper.make_tensor_value_info("v", FLOAT, (1,))
    return helper.make_graph([helper.make_node("Identity", ["w"], ["v"])], "inner", [], [value])


def outside(location, tensors):
    """A tensor whose values lie in another file."""
    made = model()
    tensor = (
        made.graph.initializer.add() if tensors == "initializer" else made.graph.node[0].attribute.add().t
    )
    tensor.name, tensor.data_type, tensor.data_location = "w", FLOAT, onnx.TensorProto.EXTERNAL
    tensor.dims.append(1)
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    return made


def changed(change):
    made = model()
    change(made)
    return made


def add_node(operator, domain="", **attributes):
    return lambda m: m.graph.node.append(
        helper.make_node(operator, ["a"], ["b"], domain=domain, **attributes)
    )


LOCATIONS = ("weights.bin", "../secret", "/etc/passwd", "*/_ORT_MEM_ADDR_/", "")
REFUSED = {
    **{f"data in {place!r}": lambda place=place: outside(place, "initializer") for place in LOCATIONS},
    "data of a constant outside": lambda: outside("w", "attribute"),
    "a location without a place": lambda: changed(
        lambda m: m.graph.initializer.add(data_location=onnx.TensorProto.EXTERNAL)
    ),
    "a place without a location": lambda: changed(
        lambda m: m.graph.initializer.add().external_data.add(key="location", value="w")
    ),
    "a loop": lambda: changed(add_node("Loop", body=another_graph())),
    "a branch": lambda: changed(add_node("If", then_branch=another_graph(), else_branch=another_graph())),
    "a scan": lambda: changed(add_node("Scan", body=another_graph(), num_scan_inputs=1)),
    "a graph in an operator that is allowed": lambda: changed(add_node("Relu", body=another_graph())),
    "several graphs in an attribute": lambda: changed(add_node("Relu", bodies=[another_graph()])),
    "an operator that is not known": lambda: changed(add_node("Sleep")),
    "an operator of another domain": lambda: changed(add_node("Relu", domain="com.microsoft")),
    "an operator that reads strings": lambda: changed(add_node("StringNormalizer")),
    "random numbers": lambda: changed(add_node("RandomNormalLike")),
    "a domain": lambda: changed(lambda m: m.opset_import.append(helper.make_opsetid("com.example", 1))),
    "a function": lambda: changed(
        lambda m: m.functions.append(
            helper.make_function("", "Relu", ["x"], ["y"], [], [helper.make_opsetid("", 20)])
        )
    ),
    "a sparse constant": lambda: changed(lambda m: m.graph.sparse_initializer.add()),
    "a graph for training": lambda: changed(lambda m: m.training_info.add()),
}


def check(content, file_format="ONNX"):
    check_model_file(file_format, {"": content})


def test_a_model_with_weights_inside_is_allowed():
    """As the exporter writes it, and as ONNX writes it."""
    check(model().SerializeToString())
    check((default_bundle_path() / "onnx" / "fp32.onnx").read_bytes())


@hazard(AREA, "an ONNX model has weights in another file, wherever it is", MODEL_FILE_REFUSED)
@hazard(AREA, "an ONNX model has a loop, a branch, a function or a graph in a node", MODEL_FILE_REFUSED)
@hazard(AREA, "an ONNX model has an operator or a domain that is not on the list", MODEL_FILE_REFUSED)
@pytest.mark.parametrize("made", REFUSED.values(), ids=REFUSED)
def test_a_model_with_more_than_a_plain_graph_is_refused(made):
    """AE-BUNDLE-007."""
    with pytest.raises(BundleError, match="AE-BUNDLE-007"):
        check(made().SerializeToString())


@hazard(AREA, "the file of a model has another format than its target", MODEL_FILE_REFUSED)
@pytest.mark.parametrize(
    ("file_format", "content"),
    [
        ("ONNX", b""),
        ("ONNX", b"junk"),
        ("ONNX", b"<?xml version='1.0'?><net/>"),  # of OpenVINO
        ("ONNX", b"\x08\x0a\x12\x20ORTM" + b" " * 40),  # ONNX Runtime's own format
        ("ONNX", b"\x08\x0a\x12\x20TFL3" + b" " * 40),
        ("ONNX", b"\x08\x0a\x3a\xff\xff\xff\xff\x0f"),  # a graph that ends too early
        ("ONNX", b"\x08" + b"\xff" * 11),  # a number without an end
        ("ONNX", b"\x08\x0a\x3b"),  # a group
        ("ONNX", b"\x08\x0a\x38\x01"),  # a number in place of the graph
        ("ONNX", b"\x08\x0a\x3a\x04\x2a\x02\x70\x02"),  # a location beyond the known ones
        ("ONNX", b"\x08\x0a\x3a\x05\x2a\x03\x72\x01\x01"),  # a location as bytes
        ("ExecuTorch", b"\x08\x0a"),
        ("Core ML", b"\x08\x0a"),
    ],
)
def test_bytes_of_another_format_are_refused(file_format, content):
    """Whatever the name of the file: AE-BUNDLE-007."""
    with pytest.raises(BundleError, match="AE-BUNDLE-007"):
        check(content, file_format)


@pytest.mark.parametrize(
    "files",
    [
        {"Manifest.json": b"{}", "../model.mlmodel": b""},
        {"Data/com.apple.CoreML/model.mlmodel": b"\xe2\x22\x00"},  # 556: a link to another model
        {"Data/com.apple.CoreML/model.mlmodel": b"\xda\x22\x00"},  # 555: a model with code of its own
    ],
)
def test_a_package_of_another_kind_is_refused(files):
    """Files that no package has, and models that are no ML program."""
    with pytest.raises(BundleError, match="AE-BUNDLE-007"):
        check_model_file("Core ML", files)


def test_a_file_of_very_many_parts_is_refused_in_time():
    """A reader in Python is slow: it stops at a million."""
    started = time.monotonic()
    with pytest.raises(BundleError, match="it has too many parts"):
        check(b"\x08\x0a" * 5_000_000)
    assert time.monotonic() - started < 20


def bundle_of(tmp_path, made, **artifact):
    content = made if isinstance(made, bytes) else made.SerializeToString()
    return Bundle(
        write_bundle(tmp_path / "b.edge", {"onnx/fp32.onnx": content}, artifacts=[artifact_dict(**artifact)])
    )


@pytest.fixture(params=["onnx", "openvino"])
def target(request):
    pytest.importorskip({"onnx": "onnxruntime"}.get(request.param, request.param))
    return request.param


@pytest.fixture
def without_trial(monkeypatch):
    monkeypatch.setattr(load, "can_run_child", lambda: False)


@pytest.mark.usefixtures("without_trial")
def test_a_model_as_the_manifest_says_is_loaded(tmp_path, target):
    """Three classes on a tile of 16x16x16."""
    bundle = bundle_of(tmp_path, model(), name=f"{target}/fp32")
    (artifact,) = bundle.manifest.artifacts
    assert load_engine(bundle, artifact).run(np.ones(SIDES, np.float32)).shape == (3, *SIDES)


@hazard(AREA, "names, types or shapes of a model's tensors are not those of the manifest", MODEL_SHAPE_WRONG)
@pytest.mark.usefixtures("without_trial")
@pytest.mark.parametrize(
    "other",
    [
        {"name": "image"},
        {"out": "labels"},
        {"dtype": onnx.TensorProto.FLOAT16},
        {"dtype": onnx.TensorProto.DOUBLE},
        {"channels": 2},
        {"sides": (16, 16, 8)},
        {"sides": ("D", 16, 16)},
    ],
)
def test_a_model_of_another_interface_is_refused(tmp_path, target, other):
    """AE-ENGINE-003 at load, not at the first tile."""
    bundle = bundle_of(tmp_path, model(**other), name=f"{target}/fp32")
    (artifact,) = bundle.manifest.artifacts
    with pytest.raises(EngineError, match="AE-ENGINE-003: the model's (input|output) is .* by the manifest"):
        load_engine(bundle, artifact)


def test_a_foreign_bundle_is_tried_once(tmp_path, monkeypatch):
    """In a process of its own, the first time only; the bundle of the package never."""
    runs = []
    real = load.run_child
    monkeypatch.setattr(load, "run_child", lambda *a, **o: (runs.append(a[1]), real(*a, **o))[1])
    monkeypatch.setattr(load, "_passed", set())
    bundle = bundle_of(tmp_path, model())
    (artifact,) = bundle.manifest.artifacts
    for _ in range(2):
        load_engine(bundle, artifact)
    assert runs == [[str(bundle.path), bundle.manifest_sha256, "onnx/fp32"]]
    own = Bundle(default_bundle_path())
    load_engine(own, own.manifest.artifacts[0])
    assert len(runs) == 1


@hazard(AREA, "a model from elsewhere hangs, crashes or fills the memory as it is loaded", TRIAL_FAILED)
@pytest.mark.parametrize("detail", ["it took more than 120 s", "it ended with signal 11"])
def test_a_failed_trial_is_an_error_with_a_code(tmp_path, monkeypatch, detail):
    """And is not remembered as passed."""

    def fail(*_, **__):
        raise ChildFailed("crash", detail)

    monkeypatch.setattr(load, "run_child", fail)
    monkeypatch.setattr(load, "_passed", set())
    bundle = bundle_of(tmp_path, model())
    for _ in range(2):
        with pytest.raises(EngineError, match=f"AE-ENGINE-008: onnx/fp32 failed its trial .*{detail}"):
            load_engine(bundle, bundle.manifest.artifacts[0])


def test_a_model_that_fills_the_memory_fails_in_its_trial(tmp_path):
    """A padding of 8 GB, by operators that are all allowed: this process stays as it is."""
    made = model()
    big = helper.make_tensor("big", INT64, [5], [1, 1, 2048, 1024, 1024])
    made.graph.initializer.append(big)
    made.graph.initializer.append(helper.make_tensor("one", FLOAT, [1, 1, 1, 1, 1], [1.0]))
    made.graph.node.insert(0, helper.make_node("Expand", ["one", "big"], ["wide"]))
    made.graph.node.append(helper.make_node("ReduceMax", ["wide"], ["top"], keepdims=1))
    made.graph.node[1].output[0] = "tile"
    made.graph.node.append(helper.make_node("Add", ["tile", "top"], ["logits"]))
    bundle = bundle_of(tmp_path, made)
    with pytest.raises(EngineError, match="AE-ENGINE-00[248]"):
        load_engine(bundle, bundle.manifest.artifacts[0])


@hazard(AREA, "a bundle is replaced by another while it is opened", BUNDLE_ALTERED)
def test_a_bundle_that_changes_before_its_trial_is_refused(tmp_path):
    """The trial is of the same manifest."""
    bundle = bundle_of(tmp_path, model())
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    (bundle.path / "manifest.json").write_text(json.dumps({**manifest, "version": "2"}))
    with pytest.raises(BundleError, match="AE-BUNDLE-004"):
        load_engine(bundle, bundle.manifest.artifacts[0])

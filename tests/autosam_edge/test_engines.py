"""Every engine keeps the protocol: the same logits from the same file, and one-line errors."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.bundle import open_bundle
from autosam_edge.engines.choose import ENGINE_PACKAGES, ENGINES, make_engine
from autosam_edge.engines.engine import Engine
from autosam_edge.errors import EngineError
from autosam_edge.verify import read_golden


@pytest.fixture(params=ENGINES)
def target(request):
    pytest.importorskip(ENGINE_PACKAGES[request.param])
    return request.param


def model(outputs=1, rank=5):
    """An ONNX model that returns its input."""
    onnx = pytest.importorskip("onnx")
    shape = [1, 1, 4, 4, 4][:rank]
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y0", "y1")]
    nodes = [onnx.helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(outputs)]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1 : 1 + outputs])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


def test_an_engine_runs_a_tile_and_describes_itself(target):
    """Values, type and the facts of the provenance stamp."""
    engine = make_engine(target, model(), sha256="abc", precision="fp32", threads=1)
    assert isinstance(engine, Engine)
    tile = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 4, 4)
    np.testing.assert_array_equal(engine.run(tile), np.maximum(tile, 0)[None])
    described = engine.description
    assert (described["sha256"], described["precision"], described["threads"]) == ("abc", "fp32", "1")
    assert {"name", "version"} <= set(described)


@pytest.mark.parametrize(("data", "code"), [(b"junk", "AE-ENGINE-002"), ({"outputs": 2}, "AE-ENGINE-003"), ({"rank": 3}, "AE-ENGINE-003")])
def test_what_an_engine_cannot_run_is_refused(target, data, code):
    """Junk, two outputs, a tensor of another rank."""
    with pytest.raises(EngineError, match=code):
        make_engine(target, data if isinstance(data, bytes) else model(**data), sha256="", precision="fp32")


def test_a_tile_of_another_shape_is_refused(target):
    """One line, not a stack from a C++ core."""
    engine = make_engine(target, model(), sha256="", precision="fp32")
    with pytest.raises(EngineError, match="AE-ENGINE-004"):
        engine.run(np.zeros((4, 4, 5), dtype=np.float32))


def test_the_engines_agree_on_the_default_model(target):
    """With the trained student, on the golden tile."""
    bundle = open_bundle()
    golden = read_golden(bundle, "tile")
    engine = make_engine(target, bundle.read("onnx/fp32.onnx"), sha256="", precision="fp32")
    step = golden["stride"]
    logits = engine.run(golden["hu"].astype(np.float32))[:, ::step, ::step, ::step]
    assert np.sqrt(np.mean((logits - golden["logits"]) ** 2)) < 1e-3

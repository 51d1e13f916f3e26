"""Every engine keeps the protocol: the same logits from the same file, and one-line errors."""

from __future__ import annotations

import functools
import importlib
import logging
import sys
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from autosam_edge_test_support import run_python

from autosam_edge.bundle import open_bundle, read_files
from autosam_edge.engines.engine import Engine
from autosam_edge.engines.load import load_engine
from autosam_edge.engines.selection import ENGINES, engine_class, make_engine, why_missing
from autosam_edge.errors import EngineError
from autosam_edge.golden import read_golden_tile
from autosam_edge.system.machine import available_cores

SHAPES = {5: (1, 1, 4, 4, 4), 3: (1, 1, 64)}
TILE = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 4, 4)
CORE_ML = "autosam_edge.engines.coreml_engine"


def onnx_model(outputs, rank):
    onnx = pytest.importorskip("onnx")
    value = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, SHAPES[rank])
        for name in ("x", "y0", "y1")
    ]
    nodes = [onnx.helper.make_node("Relu", ["x"], [f"y{i}"]) for i in range(outputs)]
    graph = onnx.helper.make_graph(nodes, "g", value[:1], value[1 : 1 + outputs])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    return {"": model.SerializeToString()}


@functools.cache
def executorch():
    """What lowers a module for a shape to a ``.pte`` for XNNPACK.

    The packages warn of each other when they are imported.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch")
        exir = pytest.importorskip("executorch.exir")
        from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        engine_class("executorch")

    def lower(module, *shape):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(module.eval(), (torch.zeros(shape),))
            return bytes(
                exir.to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
                .to_executorch()
                .buffer
            )

    return torch, lower


@functools.cache
def executorch_model(outputs, rank):
    torch, lower = executorch()
    if outputs == 1:
        return {"": lower(torch.nn.ReLU(), *SHAPES[rank])}

    class Relus(torch.nn.Module):
        def forward(self, x):
            return tuple(torch.relu(x + i) for i in range(outputs))

    return {"": lower(Relus(), *SHAPES[rank])}


@functools.cache
def core_ml_model(outputs, rank):
    """With a weight: a package without any has an empty folder, and a bundle holds none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.getLogger("coremltools").setLevel(logging.CRITICAL)
        tools = pytest.importorskip("coremltools")
        mb = pytest.importorskip("coremltools.converters.mil").Builder

        @mb.program(input_specs=[mb.TensorSpec(SHAPES[rank])], opset_version=tools.target.iOS17)
        def program(x):
            x = mb.add(x=x, y=np.zeros(SHAPES[rank], np.float32))
            values = [mb.relu(x=x, name=f"y{i}") for i in range(outputs)]
            return values[0] if outputs == 1 else tuple(values)

        options = {
            "minimum_deployment_target": tools.target.iOS17,
            "compute_precision": tools.precision.FLOAT32,
            "skip_model_load": True,
        }
        package = tools.convert(
            program, convert_to="mlprogram", pass_pipeline=tools.PassPipeline.EMPTY, **options
        )
        return read_files(Path(package.package_path))


MAKERS = {"onnx": onnx_model, "onnx-2d": onnx_model, "openvino": onnx_model, "executorch": executorch_model}


@pytest.fixture(params=ENGINES)
def target(request):
    if missing := why_missing(request.param):
        pytest.skip(missing)
    return request.param


@pytest.fixture
def model(target):
    """Makes a model of the target's format that returns its input's positive part."""
    return lambda outputs=1, rank=5: MAKERS.get(target, core_ml_model)(outputs, rank)


EMPTY = {  # of the right format, and nothing in it
    "onnx": {"": b"\x08\x0a"},
    "onnx-2d": {"": b"\x08\x0a"},
    "openvino": {"": b"\x08\x0a"},
    "executorch": {"": b"\0\0\0\0ET12"},
    "Core ML": {"Data/com.apple.CoreML/model.mlmodel": b"\x08\x09"},
}


def test_an_engine_runs_a_tile_and_describes_itself(target, model):
    """Values, type and the facts of the provenance stamp."""
    engine = make_engine(target, model(), sha256="abc", precision="fp32", threads=1)
    assert isinstance(engine, Engine)
    np.testing.assert_array_equal(engine.run(TILE), np.maximum(TILE, 0)[None])
    described = engine.description
    assert (described["sha256"], described["precision"], described["threads"]) == ("abc", "fp32", "1")
    assert {"name", "version"} <= set(described)


def test_what_is_no_model_is_refused(target):
    """A file of the right format that holds no model."""
    with pytest.raises(EngineError, match="AE-ENGINE-002"):
        make_engine(target, EMPTY.get(target, EMPTY["Core ML"]), sha256="", precision="fp32")


@pytest.mark.parametrize("method", ["_load", "_infer"])
def test_too_little_memory_is_no_fault_of_the_model(target, model, method, monkeypatch):
    """It is told as what it is, not with the remedy to export the bundle again."""

    def fail(self, given):
        raise MemoryError

    monkeypatch.setattr(engine_class(target), method, fail)
    with pytest.raises(MemoryError):
        make_engine(target, model(), sha256="", precision="fp32").run(TILE)


@pytest.mark.parametrize("interface", [{"outputs": 2}, {"rank": 3}])
def test_another_interface_is_refused(target, model, interface):
    """Two outputs, a tensor of another rank."""
    with pytest.raises(EngineError, match="AE-ENGINE-003"):
        make_engine(target, model(**interface), sha256="", precision="fp32")


def test_a_tile_of_another_shape_is_refused(target, model):
    """One line, not a stack from a C++ core."""
    engine = make_engine(target, model(), sha256="", precision="fp32")
    with pytest.raises(EngineError, match="AE-ENGINE-004"):
        engine.run(np.zeros((4, 4, 5), dtype=np.float32))


@pytest.mark.parametrize(
    "artifact", [a for a in open_bundle().manifest.artifacts if a.precision == "fp32"], ids=lambda a: a.name
)
def test_the_engines_agree_on_the_default_model(artifact):
    """With the trained student, on the golden tile."""
    if missing := why_missing(artifact.target):
        pytest.skip(missing)
    bundle = open_bundle()
    golden = read_golden_tile(bundle)
    step = golden.stride
    logits = load_engine(bundle, artifact).run(golden.hu)[:, ::step, ::step, ::step]
    assert np.sqrt(np.mean((logits - golden.logits) ** 2)) < 1e-3


def test_executorch_gives_the_logits_of_torch():
    """Three classes on a tile of three different sides: no axis is swapped, no class lost."""
    torch, lower = executorch()

    class Network(torch.nn.Module):
        def forward(self, x):
            return torch.cat([torch.sigmoid(x), x * x - 1.0, x - x.mean(-1, keepdim=True)], 1)

    tile = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    engine = make_engine("executorch", {"": lower(Network(), 1, 1, 2, 3, 4)}, sha256="", precision="fp32")
    expected = Network()(torch.from_numpy(tile)[None, None])[0].numpy()
    np.testing.assert_allclose(engine.run(tile), expected, rtol=0, atol=1e-6)


def test_executorch_takes_the_threads_that_it_is_given(every_core):
    """As many as asked for, and without a number one per core."""
    model = executorch_model(1, 5)
    from executorch.extension.pybindings import _C as pybindings  # noqa: N811

    for asked, expected in ((1, 1), (2, 2), (None, available_cores())):
        make_engine("executorch", model, sha256="", precision="fp32", threads=asked)
        assert pybindings._threadpool_get_thread_count() == expected


TALK = """
import sys
from pathlib import Path
import numpy as np
from autosam_edge.engines.selection import make_engine
from autosam_edge.errors import EngineError
model = Path(sys.argv[1]).read_bytes()
engine = make_engine("executorch", {"": model}, sha256="", precision="fp32", threads=1)
print(engine.run(np.ones((4, 4, 4), np.float32)).sum())
try:
    make_engine("executorch", {"": b"\\0\\0\\0\\0ET12"}, sha256="", precision="fp32")
except EngineError as error:
    print(error.code)
print("still heard", file=sys.stderr)
"""


def test_executorch_says_nothing(tmp_path):
    """In a fresh process: no line of its C++ core on stderr, of which our own lines still reach a person."""
    (tmp_path / "model.pte").write_bytes(executorch_model(1, 5)[""])
    result = run_python("-c", TALK, tmp_path / "model.pte")
    assert (result.stdout.split(), result.stderr) == (["64.0", "AE-ENGINE-002"], "still heard\n")


PACKAGE = {
    "Manifest.json": b"{}",
    "Data/com.apple.CoreML/model.mlmodel": b"\x08\x09",
    "Data/com.apple.CoreML/weights/weight.bin": b"weights",
}


@pytest.fixture
def core_ml(monkeypatch):
    """A coremltools that says what its only model reads and is asked.

    ``inputs`` and ``outputs`` are the shapes of its spec, by name.
    """
    seen = SimpleNamespace(
        inputs={"image_hu": [1, 1, 4, 4, 4]}, outputs={"logits": [1, 2, 4, 4, 4]}, asked=[]
    )

    def features(shapes):
        return [
            SimpleNamespace(
                name=n, type=SimpleNamespace(multiArrayType=SimpleNamespace(shape=s, dataType=65568))
            )
            for n, s in shapes.items()
        ]

    class MLModel:
        def __init__(self, folder):
            seen.folder, seen.files = Path(folder), read_files(Path(folder))
            if seen.files != PACKAGE:
                raise RuntimeError("not a package")

        def get_spec(self):
            return SimpleNamespace(
                description=SimpleNamespace(input=features(seen.inputs), output=features(seen.outputs))
            )

        def predict(self, data):
            seen.asked.append({name: (value.shape, value.dtype) for name, value in data.items()})
            if list(data["image_hu"].shape) != seen.inputs["image_hu"]:
                raise RuntimeError("wrong shape")
            return {"logits": np.concatenate([data["image_hu"], -data["image_hu"]], axis=1)}

    fake = ModuleType("coremltools")
    fake.__version__, fake.models = "9.9", SimpleNamespace(MLModel=MLModel)
    monkeypatch.setitem(sys.modules, "coremltools", fake)
    monkeypatch.delitem(sys.modules, CORE_ML, raising=False)
    importlib.import_module(CORE_ML)
    yield seen
    del sys.modules[CORE_ML]


@pytest.mark.parametrize("target", [target for target in ENGINES if target.startswith("coreml")])
def test_core_ml_reads_the_package_from_a_folder(core_ml, every_core, target):
    """Every file in its place, in an .mlpackage that is gone once the model is loaded."""
    engine = make_engine(target, PACKAGE, sha256="abc", precision="fp16", threads=2)
    assert core_ml.files == PACKAGE
    assert core_ml.folder.suffix == ".mlpackage"
    assert not core_ml.folder.exists()
    assert isinstance(engine, Engine)
    assert engine.description == {
        "name": "coremltools",
        "version": "9.9",
        "precision": "fp16",
        "threads": "2",
        "sha256": "abc",
    }


def test_core_ml_is_asked_by_name(core_ml):
    """The names of the spec, one float32 array with a batch and a channel.

    The logits come without the batch.
    """
    logits = make_engine("coreml", PACKAGE, sha256="", precision="fp16").run(TILE)
    assert core_ml.asked == [{"image_hu": ((1, 1, 4, 4, 4), np.float32)}]
    np.testing.assert_array_equal(logits, np.stack([TILE, -TILE]))
    assert logits.dtype == np.float32


def test_core_ml_fails_in_one_line(core_ml):
    """What does not load, a spec of another interface, a tile of another shape."""
    with pytest.raises(EngineError, match="AE-ENGINE-002: Core ML 9.9 cannot load"):
        make_engine("coreml", EMPTY["Core ML"], sha256="", precision="fp16")
    assert not core_ml.folder.exists()
    with pytest.raises(EngineError, match="AE-ENGINE-004: Core ML failed"):
        make_engine("coreml", PACKAGE, sha256="", precision="fp16").run(np.zeros((4, 4, 5), np.float32))
    core_ml.outputs["more"] = [1]
    with pytest.raises(EngineError, match="AE-ENGINE-003: the model has 1 inputs and 2 outputs"):
        make_engine("coreml", PACKAGE, sha256="", precision="fp16")
    core_ml.outputs, core_ml.inputs = {"logits": [1]}, {"image_hu": [4, 4, 4]}
    with pytest.raises(EngineError, match="AE-ENGINE-003"):
        make_engine("coreml", PACKAGE, sha256="", precision="fp16")


@pytest.mark.skipif(sys.platform == "darwin", reason="there it runs, and the tests of every engine run it")
def test_the_interface_of_a_real_package_is_read_on_any_system():
    """Coremltools reads what it wrote; to run it needs a Mac, which is one line."""
    engine = make_engine("coreml", core_ml_model(1, 5), sha256="", precision="fp32")
    with pytest.raises(EngineError, match="AE-ENGINE-004"):
        engine.run(TILE)
    for interface in ((2, 5), (1, 3)):
        with pytest.raises(EngineError, match="AE-ENGINE-003"):
            make_engine("coreml", core_ml_model(*interface), sha256="", precision="fp32")


def test_a_signal_after_closed_sessions_is_handled() -> None:
    """The plugins of two OpenVINO cores leave an unmapped signal stack if they are released in order."""
    pytest.importorskip("openvino")
    code = """
import gc, os, signal
import autosam_edge
first, second = (autosam_edge.open_session(engine="openvino", precision="fp32", threads=1) for _ in range(2))
del first
gc.collect()
del second
gc.collect()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = run_python("-c", code)
    assert (done.returncode, done.stdout) == (0, "handled\n")


def test_threads_may_run_openvino_at_once_from_the_first_tile_on():
    """On one core, where the threads of a bare OpenVINO wait for each other at nearly every try."""
    pytest.importorskip("openvino")
    script = """
import os, sys, threading
import numpy as np
from autosam_edge.engines.openvino_engine import openvino_core, openvino
from openvino import opset13
if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
x = opset13.parameter([1, 1, 96, 96, 96], np.float32)
model = openvino.Model([opset13.relu(x)], [x], "relu")
requests = [openvino_core().compile_model(model, "CPU").create_infer_request() for _ in range(12)]
start = threading.Barrier(len(requests))
def run(request):
    start.wait()
    request.infer({0: np.zeros((1, 1, 96, 96, 96), np.float32)})
    print("done")
threads = [threading.Thread(target=run, args=(request,)) for request in requests]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    done = run_python("-c", script, check=True, timeout=120)
    assert done.stdout.count("done") == 12, done.stderr

"""Work of a graph, and the floor that follows from peaks."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("onnx")
import numpy as np
from onnx import TensorProto, helper, numpy_helper

from autosam_edge.bundle import open_bundle
from autosam_edge_benchmarks.rows.onnx_work import Work, matrix_product, operator_work
from autosam_edge_benchmarks.rows.roofline import Peaks, compare, profile_onnx

TURNED = (3, 5, 2, 2, 2)


def small_model(channels=2):
    """A convolution to 3 channels, a leaky ReLU, a view, and a transposed convolution to 5 channels."""
    nodes = [
        helper.make_node("Conv", ["image_hu", "kernel"], ["a"], pads=[1] * 6),
        helper.make_node("LeakyRelu", ["a"], ["b"]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("ConvTranspose", ["c", "turned"], ["out"], strides=[2] * 3),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image_hu", TensorProto.FLOAT, (1, channels, 4, 4, 4))],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, (1, 5, 8, 8, 8))],
        [
            numpy_helper.from_array(np.ones((3, channels, 3, 3, 3), np.float32), "kernel"),
            numpy_helper.from_array(np.ones(TURNED, np.float32), "turned"),
            numpy_helper.from_array(np.array([1, 3, 4, 4, 4]), "shape"),
        ],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9
    ).SerializeToString()


def test_each_operator_has_its_work_and_bytes():
    """64 voxels: 2 x 3 x 64 x 54 in the convolution, 2 x 192 x 40 in the transposed one; 4 bytes a number."""
    assert list(operator_work(small_model())) == [
        Work("Conv", 2.0 * 3 * 64 * 54, 4.0 * (2 * 64 + 3 * 54 + 3 * 64)),
        Work("LeakyRelu", 192.0, 4.0 * 2 * 192),
        Work("Reshape", 0.0, 0.0),
        Work("ConvTranspose", 2.0 * 192 * 40, 4.0 * (192 + 120 + 5 * 512)),
    ]


@pytest.mark.parametrize(("integer", "item"), [(False, 4), (True, 1)])
def test_a_matrix_product_is_two_operations_for_each_product(integer, item):
    """8 x 8 by 8 x 8: 1024 operations; the result has four bytes a number."""
    (work,) = operator_work(matrix_product(8, integer=integer))
    assert (work.flop, work.bytes) == (1024.0, 2 * 64 * item + 64 * 4)


@pytest.mark.parametrize(("precision", "conv_ms", "clip_ms"), [("fp32", 20.0, 2.0), ("bf16", 10.0, 1.0)])
def test_the_floor_is_the_longer_of_work_and_bytes(precision, conv_ms, clip_ms):
    """2 GFLOP at 100 or 200 GFLOP/s; 20 MB at 10 GB/s, of which bfloat16 moves half."""
    work = [Work("Conv", 2e9, 1e6), Work("Clip", 1e6, 20e6)]
    profile = {"FusedConv": 30.0, "Convolution": 10.0, "Reorder": 5.0}
    found = compare(work, profile, Peaks(100.0, 200.0, None, 10.0), precision, 2 * (conv_ms + clip_ms))
    assert (found.floor_ms, found.ratio) == (conv_ms + clip_ms, 2.0)
    assert [(cost.kind, cost.floor_ms, cost.measured_ms) for cost in found.operators] == [
        ("Conv", conv_ms, 40.0),
        ("Reorder", 0.0, 5.0),
        ("Clip", clip_ms, None),
    ]


def test_onnx_runtime_tells_the_time_of_each_kind():
    """One that sees one channel: the convolution is in the profile, which leaves no file."""
    before = set(Path.cwd().iterdir())
    times = profile_onnx(small_model(channels=1), np.zeros((4, 4, 4), np.float32), 1)
    assert times["ConvTranspose"] > 0
    assert set(Path.cwd().iterdir()) == before


def test_the_default_model_has_its_known_work():
    """PocketNet on 96^3: 50.8 billion operations a tile."""
    bundle = open_bundle(None)
    model = bundle.read_artifact("onnx/fp32.onnx")[""]
    assert sum(work.flop for work in operator_work(model)) / 1e9 == pytest.approx(50.8, abs=0.1)

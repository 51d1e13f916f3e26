"""Work and bytes of every operator of an ONNX graph, from its shapes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

_FREE = ("Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Constant", "Shape")


class Work(NamedTuple):
    """One operator.

    Args:
        kind: Type of the operator.
        flop: Multiplications and additions.
        bytes: Inputs, outputs and weights, each moved once.
    """

    kind: str
    flop: float
    bytes: float


class _Tensor(NamedTuple):
    shape: tuple[int, ...]
    item_bytes: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def operator_work(model: bytes) -> Iterator[Work]:
    """Count every operator of a model whose shapes are fixed; views of the same memory cost nothing.

    A convolution counts two operations for each product of a weight, an attention its two matrix products,
    any other operator one for each element of its output.
    """
    graph = shape_inference.infer_shapes(onnx.load_from_string(model), data_prop=True).graph
    tensors = {
        value.name: _Tensor(
            tuple(side.dim_value for side in value.type.tensor_type.shape.dim),
            _item_bytes(value.type.tensor_type.elem_type),
        )
        for value in (*graph.input, *graph.output, *graph.value_info)
    }
    for weight in graph.initializer:
        tensors[weight.name] = _Tensor(tuple(weight.dims), _item_bytes(weight.data_type))
    for node in graph.node:
        if node.op_type in _FREE:
            yield Work(node.op_type, 0.0, 0.0)
            continue
        inputs = [tensors[name] for name in node.input if name in tensors]
        outputs = [tensors[name] for name in node.output if name in tensors]
        moved = sum(tensor.size * tensor.item_bytes for tensor in (*inputs, *outputs))
        yield Work(node.op_type, _flop(node.op_type, inputs, outputs), float(moved))


def _flop(kind: str, inputs: list[_Tensor], outputs: list[_Tensor]) -> float:
    if kind in ("Conv", "ConvInteger", "QLinearConv"):
        weight = inputs[3 if kind == "QLinearConv" else 1].shape
        return 2.0 * outputs[0].size * math.prod(weight[1:])
    if kind == "ConvTranspose":
        return 2.0 * inputs[0].size * math.prod(inputs[1].shape[1:])
    if kind in ("MatMul", "Gemm", "MatMulInteger"):
        return 2.0 * outputs[0].size * inputs[0].shape[-1]
    if kind == "Attention":
        query, key = inputs[0], inputs[1]
        return 4.0 * query.size * key.shape[-2]
    return float(sum(tensor.size for tensor in outputs))


def _item_bytes(element: int) -> int:
    return int(helper.tensor_dtype_to_np_dtype(element).itemsize) if element else 4


def matrix_product(side: int, *, integer: bool) -> bytes:
    """A model that multiplies a square matrix ``a`` by a constant one: float32, or uint8 by int8."""
    numbers = np.random.default_rng(0)
    weight = numbers.integers(-64, 64, (side, side)).astype(np.int8 if integer else np.float32)
    kinds = (onnx.TensorProto.UINT8, onnx.TensorProto.INT32) if integer else (onnx.TensorProto.FLOAT,) * 2
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger" if integer else "MatMul", ["a", "b"], ["c"])],
        "product",
        [helper.make_tensor_value_info("a", kinds[0], (side, side))],
        [helper.make_tensor_value_info("c", kinds[1], (side, side))],
        [numpy_helper.from_array(weight, "b")],
    )
    opset = helper.make_opsetid("", 18)
    made = helper.make_model(graph, opset_imports=[opset], ir_version=9)
    return bytes(made.SerializeToString())

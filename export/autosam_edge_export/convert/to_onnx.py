"""ONNX models: made from the student, and stored in fewer bits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import DeduplicateInitializersPass
from onnxscript.optimizer import optimize_ir

from autosam_edge_export.convert.quantization import worth_fewer_bits
from autosam_edge_export.convert.quiet import quiet

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    import numpy.typing as npt
    import onnx_ir

    from autosam_edge_export.convert.quantization import Range

OPSET = 23  # the first with an Attention operator; ONNX Runtime reads it from 1.23 on
# What the students' programs are made of, each with a translation that tests compare with torch.
OPERATORS = frozenset(
    f"aten.{name}"
    for name in (
        *(
            "add.Tensor",
            "add_.Tensor",
            "alias.default",
            "cat.default",
            "clamp.default",
            "contiguous.default",
            "conv3d.default",
        ),
        *(
            "conv_transpose3d.input",
            "dropout.default",
            "expand.default",
            "gelu.default",
            "index_select.default",
        ),
        *(
            "instance_norm.default",
            "layer_norm.default",
            "leaky_relu.default",
            "leaky_relu_.default",
            "linear.default",
        ),
        *(
            "matmul.default",
            "mul.Tensor",
            "ones.default",
            "pad.default",
            "permute.default",
            "reshape.default",
        ),
        *(
            "scaled_dot_product_attention.default",
            "select.int",
            "slice.Tensor",
            "softmax.int",
            "sub.Tensor",
            "transpose.int",
        ),
        *("unsqueeze.default", "zeros.default"),
    )
)
# Smaller tensors (norms, biases) stay as they are: they are nothing in the file and much in the result.
_WORTH_STORING_SMALL = 1024
# Along which axis of an operator's constant its output channels lie.
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1, "Gather": 0}


def to_onnx(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Convert with static shapes, weights inside, constants once, and check it.

    Args:
        program: Maps (1, 1, D, H, W) HU to logits.
        metadata: Written to ``metadata_props``.

    Returns:
        The serialized model.
    """
    with quiet():  # the exporter warns of its own deprecations
        made = torch.onnx.export(
            program,
            input_names=["image_hu"],
            output_names=["logits"],
            opset_version=OPSET,
            verbose=False,
            optimize=False,
        )
    if made is None:
        raise RuntimeError("the exporter returned no program")
    optimize_ir(made.model, should_fold=_fold)
    DeduplicateInitializersPass(size_limit=2**31)(made.model)
    proto = made.model_proto
    for node in proto.graph.node:  # stack traces of the exporting machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:]
    for key, value in sorted(metadata.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    return _finish(proto)


def _fold(node: onnx_ir.Node) -> bool | None:
    """No for a constant that is larger than what it is made of (runtimes make it when they load); else as the optimizer likes."""
    made = sum(_elements(value) for value in node.outputs)
    held = sum(_elements(value) for value in node.inputs if value is not None)
    return False if made > max(_WORTH_STORING_SMALL, held) else None


def _elements(value: onnx_ir.Value) -> int:
    return math.prod(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else 0


def _finish(proto: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def store_half(model: bytes) -> bytes:
    """Weights in float16, arithmetic in float32: half the file at the same speed, as runtimes widen the weights when they load."""
    proto = onnx.load_from_string(model)
    _put_first(
        proto.graph,
        [node for tensor in list(proto.graph.initializer) for node in _halve(proto.graph, tensor)],
    )
    return _finish(proto)


def store_int8(model: bytes, always: Collection[str] = ()) -> bytes:
    """Large, deep weights in int8 with a scale per output channel, the others in float16, arithmetic in float32: a third of the file.

    Args:
        model: Float weights.
        always: Weights that become int8 whatever their size.
    """
    proto = onnx.load_from_string(model)
    axes = {
        name: _CHANNEL_AXIS[node.op_type]
        for node in proto.graph.node
        if node.op_type in _CHANNEL_AXIS
        for name in node.input[: 1 if node.op_type == "Gather" else 2]
    }
    nodes = []
    for tensor in list(proto.graph.initializer):
        axis = (
            axes[tensor.name] % len(tensor.dims)
            if tensor.name in axes and tensor.data_type == TensorProto.FLOAT
            else None
        )
        if axis is not None and (tensor.name in always or worth_fewer_bits(tensor.dims, axis)):
            weight = numpy_helper.to_array(tensor)
            values, scale = quantize_weight(weight, axis)
            names = [f"{tensor.name}.int8", f"{tensor.name}.scale"]
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", names, [tensor.name], name=f"{tensor.name}.widen", axis=axis
                )
            )
            _replace(proto.graph, tensor, dict(zip(names, (values, scale), strict=True)))
        else:
            nodes += _halve(proto.graph, tensor)
    _put_first(proto.graph, nodes)
    return _finish(proto)


def _halve(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    """Store a float32 constant in float16 if it is worth it and fits; the node that widens it again."""
    if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < _WORTH_STORING_SMALL:
        return []
    weight = numpy_helper.to_array(tensor)
    if np.abs(weight).max() > np.finfo(np.float16).max:
        return []
    name, stored = tensor.name, f"{tensor.name}.half"
    _replace(graph, tensor, {stored: weight.astype(np.float16)})
    return [helper.make_node("Cast", [stored], [name], name=f"{name}.widen", to=TensorProto.FLOAT)]


def quantize_weight(
    weight: npt.NDArray[np.float32], axis: int
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Symmetric int8 per channel: the values in -127..127 and the scale of each channel along ``axis``."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    scale = np.maximum(np.abs(weight).max(axis=others), np.float32(1e-12)) / np.float32(127.0)
    shape = [-1 if i == axis else 1 for i in range(weight.ndim)]
    return np.rint(weight / scale.reshape(shape)).astype(np.int8), scale.astype(np.float32)


def quantize_inputs(model: bytes, ranges: Mapping[str, Range]) -> bytes:
    """Put QuantizeLinear and DequantizeLinear before convolutions, so that a runtime with int8 kernels uses them.

    Args:
        model: Float weights.
        ranges: The input's range by the name of the convolution's weight; the others stay float.
    """
    proto = onnx.load_from_string(model)
    nodes: list[onnx.NodeProto] = []
    left = set(ranges)
    for node in proto.graph.node:
        weight = node.input[1] if node.op_type in ("Conv", "ConvTranspose") else ""
        if weight in ranges:
            left.discard(weight)
            source = node.input[0]
            names = [f"{weight}.input_scale", f"{weight}.input_zero"]
            values = ranges[weight]
            proto.graph.initializer.append(numpy_helper.from_array(np.float32(values.scale), names[0]))
            proto.graph.initializer.append(numpy_helper.from_array(np.uint8(values.zero_point), names[1]))
            small, wide = f"{weight}.input_uint8", f"{weight}.input"
            nodes.append(
                helper.make_node("QuantizeLinear", [source, *names], [small], name=f"{weight}.quantize")
            )
            nodes.append(
                helper.make_node("DequantizeLinear", [small, *names], [wide], name=f"{weight}.dequantize")
            )
            node.input[0] = wide
        nodes.append(node)
    if left:
        raise ValueError(f"the graph has no convolution with the weight {min(left)}")
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del proto.graph.node[:]
    proto.graph.node.extend(fresh)
    return _finish(proto)


def _replace(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> None:
    graph.initializer.remove(tensor)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())


def _put_first(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    rest = [onnx.NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    del graph.node[:]
    graph.node.extend([*nodes, *rest])

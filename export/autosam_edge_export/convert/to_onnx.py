"""Conversion to ONNX, and storage of ONNX weights in fewer bits."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    InlinePass,
    LiftConstantsToInitializersPass,
)
from onnxscript.optimizer import fold_constants
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules import common as rules

from autosam_edge_export.convert.operators import (
    EVERYWHERE,
    FUSED_ATTENTION,
    IN_VOLUMES,
    NORMS,
    OF_MONAI,
    SHUFFLED,
    WRITTEN_OUT,
)
from autosam_edge_export.convert.quantization import Range, should_quantize
from autosam_edge_export.convert.quiet import quiet

OPSET = 23  # the first with an Attention operator; ONNX Runtime reads it from 1.23 on
OPERATORS = EVERYWHERE | IN_VOLUMES | NORMS | FUSED_ATTENTION | OF_MONAI
OPERATORS_ON_PLANES = EVERYWHERE | SHUFFLED | WRITTEN_OUT
# Smaller tensors (norms, biases) stay float32: they take little room and change the result much.
_MIN_STORED_VALUES = 1024
# Axis of the output channels in the weight of an operator.
_CHANNEL_AXIS = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1, "Gemm": -1, "Gather": 0}
# What simplifies networks: operators that do nothing, pairs that are one, norms and padding that fit into the
# convolution beside them.
_RULES = (
    rules.no_op_transpose_rule,
    rules.transpose_transpose_rule,
    rules.reshape_reshape_rule,
    rules.flatten_to_reshape_rule,
    rules.no_op_cast_rule,
    rules.cast_cast_rule,
    rules.no_op_expand_rule,
    rules.unsqueeze_unsqueeze_rule,
    rules.mul_by_1_rule,
    rules.div_by_1_rule,
    rules.add_0_rule,
    rules.sub_0_rule,
    rules.dropout_zero_rule,
    rules.dropout_inference_rule,
    rules.fuse_pad_into_conv_rule,
    rules.normalize_pad_format_conv_rule,
    rules.fuse_batchnorm_into_conv_rule,
    rules.fuse_batchnorm_into_conv_transpose_rule,
    rules.fuse_batchnorm_into_gemm_rule,
    rules.remove_optional_bias_from_conv_rule,
    rules.remove_optional_bias_from_conv_transpose_rule,
    rules.remove_optional_bias_from_gemm_rule,
)


def to_onnx(program: torch.export.ExportedProgram, metadata: Mapping[str, str]) -> bytes:
    """Convert a program with static shapes and weights inside, and check the result.

    Args:
        program: Program that maps (1, 1, D, H, W) HU to logits.
        metadata: Metadata to write to ``metadata_props``.
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
    _optimize(made.model)
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


def _optimize(model: onnx_ir.Model) -> None:
    """Simplify a graph in place.

    ``onnxscript.optimizer.optimize_ir`` applies more rules, which our students do not need: one of them
    compares each pair of operators, which takes longer than all the rest.
    """
    InlinePass()(model)
    fold_constants(model, should_fold=_fold)
    rewrite(model, _RULES)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    DeduplicateInitializersPass(size_limit=2**31)(model)
    CommonSubexpressionEliminationPass()(model)


def _fold(node: onnx_ir.Node) -> bool | None:
    """False for a constant that is larger than its inputs, which runtimes compute at load; else None."""
    made = sum(_elements(value) for value in node.outputs)
    held = sum(_elements(value) for value in node.inputs if value is not None)
    return False if made > max(_MIN_STORED_VALUES, held) else None


def _elements(value: onnx_ir.Value) -> int:
    return math.prod(value.shape.numpy()) if value.shape is not None and value.shape.is_static() else 0


def _finish(proto: onnx.ModelProto) -> bytes:
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))


def store_half(model: bytes) -> bytes:
    """Store weights in float16.

    The file takes half the room. The speed stays, as runtimes convert the weights to float32 at load.
    """
    proto = onnx.load_from_string(model)
    widened = [node for tensor in list(proto.graph.initializer) for node in _halve(proto.graph, tensor)]
    _set_nodes(proto.graph, [*widened, *proto.graph.node])
    return _finish(proto)


def store_int8(model: bytes, always: Collection[str] = ()) -> bytes:
    """Store large weights in int8 with a scale per output channel, and the others in float16.

    The file takes a third of the room. Runtimes convert the weights to float32 at load.

    Args:
        always: Names of weights that become int8 whatever their size.
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
        if axis is not None and (tensor.name in always or should_quantize(tensor.dims, axis)):
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
    _set_nodes(proto.graph, [*nodes, *proto.graph.node])
    return _finish(proto)


def _halve(graph: onnx.GraphProto, tensor: onnx.TensorProto) -> list[onnx.NodeProto]:
    """Store a large float32 constant in float16 if it is in range; return the node that converts it back."""
    if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < _MIN_STORED_VALUES:
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
    """Put QuantizeLinear and DequantizeLinear before convolutions, for runtimes with int8 kernels.

    Raises:
        ValueError: The graph has no convolution with one of these weights.
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
            proto.graph.initializer.append(
                numpy_helper.from_array(np.array(values.scale, np.float32), names[0])
            )
            proto.graph.initializer.append(
                numpy_helper.from_array(np.array(values.zero_point, np.uint8), names[1])
            )
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
    _set_nodes(proto.graph, nodes)
    return _finish(proto)


def _replace(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, arrays: Mapping[str, npt.NDArray[np.generic]]
) -> None:
    graph.initializer.remove(tensor)
    graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in arrays.items())


def _set_nodes(graph: onnx.GraphProto, nodes: list[onnx.NodeProto]) -> None:
    """Replace the nodes of a graph by copies, as some of the new ones may be its own."""
    fresh = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(fresh)

"""What every MIL operator computes, as far as it is implemented.

A function's signature is the contract: a parameter, or a value of a ``Literal``, that stands in no signature is refused by the interpreter.
Parameters annotated as tensors are handed over as tensors, all others as Python values.

The definitions are those of the coremltools reference,
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html; each function names its class there, with the first
opset that has it and each later one that alters it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge.errors import ExportError
from autosam_edge_export.mil.package import damaged, unpack_bits

if TYPE_CHECKING:
    from collections.abc import Callable

PadType = Literal["valid", "same", "same_lower", "custom"]
Number = float | bool


@dataclass(frozen=True)
class Operator:
    """An operator that the interpreter knows.

    Args:
        function: Computes it.
        hints: The types of its parameters.
        required: The parameters without a default.
        moves: It only moves values, so that it takes them as they are stored.
    """

    function: Callable[..., Tensor | list[Tensor]]
    hints: dict[str, Any]
    required: frozenset[str]
    moves: bool


OPERATORS: dict[str, Operator] = {}


def _operator(name: str, *, moves: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        hints = get_type_hints(function)
        del hints["return"]
        optional = len(function.__defaults__ or ())
        OPERATORS[name] = Operator(function, hints, frozenset(list(hints)[: len(hints) - optional]), moves)
        return function

    return register


def refused(what: str) -> ExportError:
    """The error for what the interpreter does not implement."""
    return ExportError(
        "AE-EXPORT-008",
        f"the Core ML program cannot be checked: {what}.",
        remedy="Convert for another opset, or add it to autosam_edge_export/mil/operators.py.",
    )


@_operator("constexpr_affine_dequantize")
def _affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """iOS16.constexpr_ops.constexpr_affine_dequantize."""
    shape = [-1 if i == axis % quantized_data.ndim else 1 for i in range(quantized_data.ndim)]
    zero_point, scale = (value.reshape(shape) if value.ndim else value for value in (zero_point, scale))
    return scale * (quantized_data.float() - zero_point.float())


@_operator("constexpr_blockwise_shift_scale")
def _blockwise_shift_scale(data: Tensor, scale: Tensor, offset: Tensor | None = None) -> Tensor:
    """iOS18.compression.constexpr_blockwise_shift_scale."""
    values = data.float()
    if offset is not None:
        values = values - _spread(offset.float(), data)
    return _spread(scale, data) * values


def _spread(blocks: Tensor, like: Tensor) -> Tensor:
    """Every value repeated over its block."""
    for axis, (size, count) in enumerate(zip(like.shape, blocks.shape, strict=True)):
        blocks = blocks.repeat_interleave(size // count, axis)
    return blocks


@_operator("constexpr_lut_to_dense")
def _lut_to_dense(indices: Tensor, lut: Tensor, shape: list[int] | None = None, vector_axis: int | None = None) -> Tensor:
    """iOS16.constexpr_ops.constexpr_lut_to_dense, which has a shape; iOS18.compression.constexpr_lut_to_dense."""
    if shape is not None:
        places = unpack_bits(indices.numpy(), int(math.log2(lut.numel())), math.prod(shape))
        return lut[torch.from_numpy(places).long()].reshape(shape)
    tables = []
    for axis, (size, count) in enumerate(zip(indices.shape, lut.shape, strict=False)):
        table = torch.arange(size) // (size // count)
        tables.append(table.reshape([-1 if i == axis else 1 for i in range(indices.ndim)]))
    vectors = lut[(*tables, indices.long())]
    if vector_axis is None:
        return vectors.squeeze(-1)
    axis = vector_axis % indices.ndim
    return vectors.movedim(-1, axis + 1).flatten(axis, axis + 1)


@_operator("constexpr_cast")
def _constexpr_cast(source_val: Tensor, output_dtype: Literal["fp32"]) -> Tensor:  # noqa: ARG001 - the declared output type
    """iOS16.constexpr_ops.constexpr_cast, iOS18."""
    return source_val


@_operator("conv")
def _conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: list[int] | None = None,
    pad_type: PadType = "valid",
    pad: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """iOS15.conv.conv, iOS17."""
    axes = x.ndim - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    kernel = [(size - 1) * dilation + 1 for size, dilation in zip(weight.shape[2:], dilations, strict=True)]
    pads = _pads(pad_type, pad, list(x.shape[2:]), kernel, strides)
    if pads[::2] != pads[1::2]:
        x = F.pad(x, _inner_first(pads))
        pads = [0] * len(pads)
    return (F.conv1d, F.conv2d, F.conv3d)[axes - 1](x, weight, bias, strides, pads[::2], dilations, groups)


def _pads(pad_type: PadType, pad: list[int] | None, sides: list[int], kernel: list[int], strides: list[int]) -> list[int]:
    """Before and after every spatial axis."""
    if pad_type == "custom":
        return pad or [0] * (2 * len(sides))
    pads = []
    for side, size, stride in zip(sides, kernel, strides, strict=True):
        total = 0 if pad_type == "valid" else max(0, (math.ceil(side / stride) - 1) * stride + size - side)
        before = (total + 1) // 2 if pad_type == "same_lower" else total // 2
        pads += [before, total - before]
    return pads


def _inner_first(pads: list[int]) -> list[int]:
    """(before, after) pairs from the last axis to the first, as torch has them."""
    return [value for i in range(len(pads) - 2, -1, -2) for value in pads[i : i + 2]]


@_operator("conv_transpose")
def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: list[int] | None = None,
    output_shape: list[int] | None = None,
    pad_type: Literal["valid", "same", "custom"] = "valid",
    strides: list[int] | None = None,
    dilations: list[int] | None = None,
    groups: int = 1,
) -> Tensor:
    """iOS15.conv.conv_transpose, iOS17: everything that the kernels reach, less the padding."""
    axes = x.ndim - 2
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    convolve = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[axes - 1]
    y = convolve(x, weight, bias, strides, 0, 0, groups, dilations)
    pads = (pad if pad_type == "custom" else None) or [0] * (2 * axes)
    for axis in range(axes):
        full, before = y.shape[axis + 2], pads[2 * axis]
        size = x.shape[axis + 2] * strides[axis] if pad_type == "same" else full - before - pads[2 * axis + 1]
        if output_shape is not None:
            size = output_shape[axis + 2]
        if pad_type == "same":
            before = (full - size) // 2
        if before < 0 or before + size > full:
            raise refused(f"conv_transpose makes {full} values along an axis, of which it shall keep {size} from {before} on")
        y = y.narrow(axis + 2, before, size)
    return y


@_operator("instance_norm")
def _instance_norm(x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """iOS15.normalization.instance_norm, iOS17."""
    return torch.instance_norm(x, gamma, beta, None, None, True, 0.0, epsilon, False)


@_operator("layer_norm")
def _layer_norm(x: Tensor, axes: list[int], gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5) -> Tensor:
    """iOS15.normalization.layer_norm, iOS17; its axes are always given, as coremltools writes its own default as no constant."""
    over = sorted(axis % x.ndim for axis in axes)
    shape = [size if i in over else 1 for i, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


@_operator("linear")
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """iOS15.linear.linear, iOS17."""
    return F.linear(x, weight, bias)


@_operator("matmul")
def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """iOS15.linear.matmul, iOS17."""
    x = x.mT if transpose_x and x.ndim > 1 else x
    return torch.matmul(x, y.mT if transpose_y and y.ndim > 1 else y)


@_operator("scaled_dot_product_attention")
def _attention(query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None) -> Tensor:
    """iOS18.transformers.scaled_dot_product_attention."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.softmax(scores, -1) @ value


@_operator("softmax")
def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    """iOS15.activation.softmax, iOS17."""
    return torch.softmax(x, axis)


@_operator("gelu")
def _gelu(x: Tensor, mode: Literal["EXACT", "TANH_APPROXIMATION", "SIGMOID_APPROXIMATION"] = "EXACT") -> Tensor:
    """iOS15.activation.gelu, iOS17."""
    if mode == "SIGMOID_APPROXIMATION":
        return x * torch.sigmoid(1.702 * x)
    return F.gelu(x, approximate="none" if mode == "EXACT" else "tanh")


@_operator("relu")
def _relu(x: Tensor) -> Tensor:
    """iOS15.activation.relu, iOS17."""
    return torch.relu(x)


@_operator("leaky_relu")
def _leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """iOS15.activation.leaky_relu, iOS17."""
    return F.leaky_relu(x, alpha)


@_operator("clip")
def _clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """iOS15.elementwise_unary.clip, iOS17."""
    return torch.clamp(x, alpha, beta)


@_operator("rsqrt")
def _rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """iOS15.elementwise_unary.rsqrt, iOS17."""
    return torch.rsqrt(x + epsilon)


@_operator("sqrt")
def _sqrt(x: Tensor) -> Tensor:
    """iOS15.elementwise_unary.sqrt."""
    return torch.sqrt(x)


@_operator("square")
def _square(x: Tensor) -> Tensor:
    """iOS15.elementwise_unary.square."""
    return x * x


@_operator("exp")
def _exp(x: Tensor) -> Tensor:
    """iOS15.elementwise_unary.exp."""
    return torch.exp(x)


@_operator("add")
def _add(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.add."""
    return x + y


@_operator("sub")
def _sub(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.sub."""
    return x - y


@_operator("mul")
def _mul(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.mul."""
    return x * y


@_operator("greater_equal")
def _greater_equal(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.greater_equal."""
    return x >= y


@_operator("select")
def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """iOS15.control_flow.select."""
    return torch.where(cond, a, b)


@_operator("real_div")
def _real_div(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.real_div."""
    return x / y


@_operator("pow")
def _pow(x: Tensor, y: Tensor) -> Tensor:
    """iOS15.elementwise_binary.pow."""
    return torch.pow(x, y)


@_operator("reduce_mean")
def _reduce_mean(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """iOS15.reduction.reduce_mean, iOS17."""
    return torch.mean(x, axes if axes is not None else list(range(x.ndim)), keepdim=keep_dims)


@_operator("reduce_sum")
def _reduce_sum(x: Tensor, axes: list[int] | None = None, keep_dims: bool = False) -> Tensor:
    """iOS15.reduction.reduce_sum, iOS17."""
    return torch.sum(x, axes if axes is not None else list(range(x.ndim)), keepdim=keep_dims)


@_operator("identity", moves=True)
def _identity(x: Tensor) -> Tensor:
    """iOS15.tensor_operation.identity."""
    return x


@_operator("cast", moves=True)
def _cast(x: Tensor, dtype: Literal["fp16", "fp32", "int32", "bool"]) -> Tensor:
    """iOS15.elementwise_unary.cast, iOS17."""
    return x.to({"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}[dtype])


@_operator("fill", moves=True)
def _fill(shape: list[int], value: Number = 0.0) -> Tensor:
    """iOS15.tensor_operation.fill."""
    return torch.full(shape, value)


@_operator("concat", moves=True)
def _concat(values: list[Tensor], axis: int, interleave: Literal[False] = False) -> Tensor:  # noqa: ARG001 - refused if it is true
    """iOS15.tensor_operation.concat."""
    return torch.cat(values, axis)


@_operator("stack", moves=True)
def _stack(values: list[Tensor], axis: int) -> Tensor:
    """iOS15.tensor_operation.stack."""
    return torch.stack(values, axis)


@_operator("split", moves=True)
def _split(x: Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None) -> list[Tensor]:
    """iOS15.tensor_operation.split."""
    if split_sizes is None:
        if num_splits is None or x.shape[axis] % num_splits:
            raise damaged("a split has no even parts")
        split_sizes = [x.shape[axis] // num_splits] * num_splits
    return list(torch.split(x, split_sizes, axis))


@_operator("tile", moves=True)
def _tile(x: Tensor, reps: list[int]) -> Tensor:
    """iOS15.tensor_operation.tile."""
    return x.repeat(reps)


@_operator("pad", moves=True)
def _pad(x: Tensor, pad: list[int], mode: Literal["constant"] = "constant", constant_val: float = 0.0) -> Tensor:
    """iOS15.tensor_operation.pad, iOS17."""
    return F.pad(x, _inner_first(pad), mode, constant_val)


@_operator("reshape", moves=True)
def _reshape(x: Tensor, shape: list[int]) -> Tensor:
    """iOS15.tensor_transformation.reshape, iOS17: a 0 is the size of x's axis, counted from the last; 1 where x has none."""
    lead = x.ndim - len(shape)
    sizes = [size or (x.shape[i + lead] if i + lead >= 0 else 1) for i, size in enumerate(shape)]
    return x.reshape(sizes)


@_operator("transpose", moves=True)
def _transpose(x: Tensor, perm: list[int]) -> Tensor:
    """iOS15.tensor_transformation.transpose."""
    return x.permute(perm)


@_operator("expand_dims", moves=True)
def _expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    """iOS15.tensor_transformation.expand_dims, iOS17."""
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@_operator("squeeze", moves=True)
def _squeeze(x: Tensor, axes: list[int] | None = None) -> Tensor:
    """iOS15.tensor_transformation.squeeze, iOS17."""
    return x.squeeze() if axes is None else x.squeeze(axes)


def _selection(
    rank: int,
    begin: list[int],
    end: list[int],
    stride: list[int] | None,
    begin_mask: list[bool] | None,
    end_mask: list[bool] | None,
    squeeze_mask: list[bool] | None,
) -> tuple[slice | int, ...]:
    """What a slice takes along each axis."""
    steps = stride or [1] * rank
    if min(steps) < 1:
        raise refused(f"a slice has the stride {min(steps)}")
    no = [False] * rank
    from_start, to_end, one = begin_mask or no, end_mask or no, squeeze_mask or no
    return tuple(
        begin[i] if one[i] else slice(None if from_start[i] else begin[i], None if to_end[i] else end[i], steps[i]) for i in range(rank)
    )


@_operator("slice_by_index", moves=True)
def _slice_by_index(
    x: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """iOS15.tensor_transformation.slice_by_index, iOS17."""
    return x[_selection(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@_operator("slice_update", moves=True)
def _slice_update(
    x: Tensor,
    update: Tensor,
    begin: list[int],
    end: list[int],
    stride: list[int] | None = None,
    begin_mask: list[bool] | None = None,
    end_mask: list[bool] | None = None,
    squeeze_mask: list[bool] | None = None,
) -> Tensor:
    """iOS18.tensor_transformation.slice_update."""
    y = x.clone()
    y[_selection(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)] = update
    return y


@_operator("slice_by_size", moves=True)
def _slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """iOS15.tensor_transformation.slice_by_size, iOS17."""
    for axis, (start, length) in enumerate(zip(begin, size, strict=True)):
        first = start % x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _positions(indices: Tensor, size: int, validate_indices: bool | None) -> Tensor:
    """Indices from 0 on; below 0 they count from the end before iOS 17 (which has no ``validate_indices``) and have no meaning after.

    Raises:
        ExportError: An index is out of bounds (AE-EXPORT-008).
    """
    places = indices.long()
    if validate_indices is None:
        places = torch.where(places < 0, places + size, places)
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < size:
        raise refused(f"an index is out of the bounds of an axis of {size}, for which nothing is defined")
    return places


@_operator("gather", moves=True)
def _gather(x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool | None = None) -> Tensor:
    """iOS15.scatter_gather.gather, iOS16, iOS17."""
    axis %= x.ndim
    if batch_dims:
        pairs = zip(x, indices, strict=True)
        return torch.stack([_gather(values, places, axis - 1, batch_dims - 1, validate_indices) for values, places in pairs])
    places = _positions(indices, x.shape[axis], validate_indices)
    return x.index_select(axis, places.flatten()).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])


@_operator("gather_along_axis", moves=True)
def _gather_along_axis(x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool | None = None) -> Tensor:
    """iOS15.scatter_gather.gather_along_axis, iOS17."""
    return torch.gather(x, axis, _positions(indices, x.shape[axis], validate_indices))


@_operator("scatter")
def _scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: Literal["add", "update"],
    axis: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """iOS15.scatter_gather.scatter, iOS17; its text and its code differ in the default of ``mode``, so none is assumed here."""
    places = _positions(indices, data.shape[axis], validate_indices)
    return data.index_add(axis, places, updates) if mode == "add" else data.index_copy(axis, places, updates)

"""The MIL operators that compute, one function each.

The interpreter refuses a parameter, or a value of a ``Literal``, that is not in the signature. It passes
parameters annotated as tensors as tensors, and all others as Python values.

The definitions are those of the coremltools reference,
https://apple.github.io/coremltools/source/coremltools.converters.mil.mil.ops.defs.html; each function names
its class there, with the first opset that has it and each later one that alters it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge_export.mil.package import unpack_bits
from autosam_edge_export.mil.registry import operator, refused, register

PadType = Literal["valid", "custom"]


@operator("constexpr_affine_dequantize")
def _affine_dequantize(quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int) -> Tensor:
    """iOS16.constexpr_ops.constexpr_affine_dequantize."""
    shape = [-1 if i == axis % quantized_data.ndim else 1 for i in range(quantized_data.ndim)]
    zero_point, scale = (value.reshape(shape) if value.ndim else value for value in (zero_point, scale))
    return scale * (quantized_data.float() - zero_point.float())


@operator("constexpr_blockwise_shift_scale")
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


@operator("constexpr_lut_to_dense")
def _lut_to_dense(
    indices: Tensor, lut: Tensor, shape: list[int] | None = None, vector_axis: int | None = None
) -> Tensor:
    """iOS16.constexpr_ops.constexpr_lut_to_dense (has a shape), iOS18.compression.constexpr_lut_to_dense."""
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


@operator("conv")
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
    pads = (pad if pad_type == "custom" else None) or [0] * (2 * axes)
    strides, dilations = strides or [1] * axes, dilations or [1] * axes
    if pads[::2] != pads[1::2]:
        x = F.pad(x, inner_first(pads))
        pads = [0] * len(pads)
    return (F.conv1d, F.conv2d, F.conv3d)[axes - 1](x, weight, bias, strides, pads[::2], dilations, groups)


def inner_first(pads: list[int]) -> list[int]:
    """(before, after) pairs from the last axis to the first, as torch has them."""
    return [value for i in range(len(pads) - 2, -1, -2) for value in pads[i : i + 2]]


@operator("conv_transpose")
def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: list[int] | None = None,
    output_shape: list[int] | None = None,
    pad_type: PadType = "valid",
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
        size = output_shape[axis + 2] if output_shape else full - before - pads[2 * axis + 1]
        if before < 0 or before + size > full:
            raise refused(
                f"conv_transpose makes {full} values along an axis and keeps {size} from number {before} on"
            )
        y = y.narrow(axis + 2, before, size)
    return y


@operator("layer_norm")
def _layer_norm(
    x: Tensor, axes: list[int], gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """iOS15.normalization.layer_norm, iOS17; the axes are required, as coremltools always writes them."""
    over = sorted(axis % x.ndim for axis in axes)
    shape = [size if i in over else 1 for i, size in enumerate(x.shape)]
    variance, mean = torch.var_mean(x, over, correction=0, keepdim=True)
    y = (x - mean) / torch.sqrt(variance + epsilon)
    y = y if gamma is None else y * gamma.reshape(shape)
    return y if beta is None else y + beta.reshape(shape)


@operator("matmul")
def _matmul(x: Tensor, y: Tensor, transpose_x: bool = False, transpose_y: bool = False) -> Tensor:
    """iOS15.linear.matmul, iOS17."""
    x = x.mT if transpose_x and x.ndim > 1 else x
    return torch.matmul(x, y.mT if transpose_y and y.ndim > 1 else y)


@operator("instance_norm")
def _instance_norm(
    x: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None, epsilon: float = 1e-5
) -> Tensor:
    """iOS15.normalization.instance_norm, iOS17."""
    return torch.instance_norm(x, gamma, beta, None, None, True, 0.0, epsilon, False)


@operator("linear")
def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """iOS15.linear.linear, iOS17."""
    return F.linear(x, weight, bias)


@operator("softmax")
def _softmax(x: Tensor, axis: int = -1) -> Tensor:
    """iOS15.activation.softmax, iOS17."""
    return torch.softmax(x, axis)


@operator("gelu")
def _gelu(x: Tensor, mode: Literal["EXACT"] = "EXACT") -> Tensor:  # noqa: ARG001
    """iOS15.activation.gelu, iOS17."""
    return F.gelu(x)


@operator("leaky_relu")
def _leaky_relu(x: Tensor, alpha: float) -> Tensor:
    """iOS15.activation.leaky_relu, iOS17."""
    return F.leaky_relu(x, alpha)


@operator("clip")
def _clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """iOS15.elementwise_unary.clip, iOS17."""
    return torch.clamp(x, alpha, beta)


@operator("select")
def _select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """iOS15.control_flow.select."""
    return torch.where(cond, a, b)


_BINARY: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": lambda x, y: x + y,
    "sub": lambda x, y: x - y,
    "mul": lambda x, y: x * y,
    "greater_equal": lambda x, y: x >= y,
}
"""iOS15.elementwise_binary."""
for _name, _function in _BINARY.items():
    register(_name, _function, {"x": Tensor, "y": Tensor})

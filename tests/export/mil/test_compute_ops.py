"""Operators that compute are what their definitions say, written down here once more in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from autosam_edge_test_mil import interpreter_of_definition, mb, padded, values


def convolved(x, weight, bias, strides, pads, dilations, groups):
    """The definition of a convolution, position by position."""
    axes = range(weight.ndim - 2)
    x = padded(x, pads)
    sides = [(x.shape[i + 2] - (weight.shape[i + 2] - 1) * dilations[i] - 1) // strides[i] + 1 for i in axes]
    y = np.zeros((x.shape[0], weight.shape[0], *sides))
    per_group, outputs = weight.shape[1], weight.shape[0] // groups
    for place in np.ndindex(*sides):
        cut = [
            slice(p * strides[i], p * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1, dilations[i])
            for i, p in enumerate(place)
        ]
        for channel in range(weight.shape[0]):
            group = channel // outputs
            patch = x[(slice(None), slice(group * per_group, (group + 1) * per_group), *cut)]
            y[(slice(None), channel, *place)] = (patch * weight[channel]).reshape(x.shape[0], -1).sum(
                1
            ) + bias[channel]
    return y


def transposed(x, weight, bias, strides, dilations, groups):
    """The definition of a transposed convolution without padding: every input value spreads the kernel."""
    axes = range(weight.ndim - 2)
    sides = [(x.shape[i + 2] - 1) * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1 for i in axes]
    outputs, inputs = weight.shape[1], x.shape[1] // groups
    y = np.zeros((x.shape[0], outputs * groups, *sides))
    for place in np.ndindex(*x.shape[2:]):
        cut = [
            slice(p * strides[i], p * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1, dilations[i])
            for i, p in enumerate(place)
        ]
        for channel in range(x.shape[1]):
            group = channel // inputs
            spread = x[(slice(None), channel, *place)].reshape(-1, *[1] * (weight.ndim - 1)) * weight[channel]
            y[(slice(None), slice(group * outputs, (group + 1) * outputs), *cut)] += spread
    return y + bias.reshape(1, -1, *[1] * len(sides))


def normalized(x, axes, epsilon=1e-5):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def softmax(x, axis=-1):
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


def gelu(x):
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


A = values(2, 3, 4)
CONV1, CONV3 = values(4, 1, 3), values(2, 3, 3, 3, 3)
TRANS2, TRANS3 = values(4, 1, 3, 3), values(3, 2, 2, 2, 2)
BIAS2, BIAS4 = values(2), values(4)
SHAPE = (2, 3, 4)
EDGE = np.float32([-1, 0, 1, 0])
CHOICE = A > 0
# By case: the input's shape, the program, and the definition.
CASES = {
    "conv 1d, grouped, strided, unequal custom padding": (
        (2, 2, 7),
        lambda x: mb.conv(
            x=x, weight=CONV1, bias=BIAS4, pad_type="custom", pad=[2, 1], strides=[2], groups=2
        ),
        lambda x: convolved(x, CONV1, BIAS4, [2], [2, 1], [1], 2),
    ),
    "conv 3d, dilated, padded alike": (
        (1, 3, 6, 5, 5),
        lambda x: mb.conv(x=x, weight=CONV3, bias=BIAS2, pad_type="custom", pad=[1] * 6, dilations=[2, 1, 1]),
        lambda x: convolved(x, CONV3, BIAS2, [1, 1, 1], [1] * 6, [2, 1, 1], 1),
    ),
    "conv 3d, valid": (
        (1, 3, 4, 3, 5),
        lambda x: mb.conv(x=x, weight=CONV3, bias=BIAS2, pad_type="valid"),
        lambda x: convolved(x, CONV3, BIAS2, [1, 1, 1], [0] * 6, [1, 1, 1], 1),
    ),
    "conv_transpose 2d, grouped, dilated, custom padding": (
        (1, 4, 3, 4),
        lambda x: mb.conv_transpose(
            x=x,
            weight=TRANS2,
            bias=BIAS2,
            pad_type="custom",
            pad=[1, 0, 2, 1],
            strides=[2, 1],
            dilations=[1, 2],
            groups=2,
        ),
        lambda x: transposed(x, TRANS2, BIAS2, [2, 1], [1, 2], 2)[:, :, 1:, 2:-1],
    ),
    "conv_transpose 3d, output shape": (
        (1, 3, 2, 3, 2),
        lambda x: mb.conv_transpose(
            x=x,
            weight=TRANS3,
            pad_type="custom",
            pad=[1, 1, 0, 0, 0, 0],
            strides=[2, 2, 2],
            output_shape=[1, 2, 3, 6, 4],
        ),
        lambda x: transposed(x, TRANS3, np.zeros(2), [2, 2, 2], [1, 1, 1], 1)[:, :, 1:4],
    ),
    "instance_norm of rank 3": (
        (1, 3, 5),
        lambda x: mb.instance_norm(x=x, epsilon=1e-2),
        lambda x: normalized(x, (2,), 1e-2),
    ),
    "instance_norm of rank 4": (
        (2, 4, 3, 3),
        lambda x: mb.instance_norm(x=x, gamma=BIAS4, beta=BIAS4),
        lambda x: normalized(x, (2, 3)) * BIAS4.reshape(1, 4, 1, 1) + BIAS4.reshape(1, 4, 1, 1),
    ),
    "instance_norm of rank 5": (
        (1, 2, 3, 2, 2),
        lambda x: mb.instance_norm(x=x),
        lambda x: normalized(x, (2, 3, 4)),
    ),
    "layer_norm over the last axes": (
        SHAPE,
        lambda x: mb.layer_norm(x=x, axes=[-2, -1], gamma=A[0], beta=A[1], epsilon=1e-3),
        lambda x: normalized(x, (1, 2), 1e-3) * A[0] + A[1],
    ),
    "layer_norm over an inner axis": (
        SHAPE,
        lambda x: mb.layer_norm(x=x, axes=[1], gamma=A[0, :, 0]),
        lambda x: normalized(x, (1,)) * A[0, :, :1],
    ),
    "linear": (
        SHAPE,
        lambda x: mb.linear(x=x, weight=A[0], bias=A[0, :, 0]),
        lambda x: x @ A[0].T + A[0, :, 0],
    ),
    "matmul": (SHAPE, lambda x: mb.matmul(x=x, y=A[0].T.copy()), lambda x: x @ A[0].T),
    "matmul, second transposed": (
        SHAPE,
        lambda x: mb.matmul(x=x, y=A, transpose_y=True),
        lambda x: x @ A.swapaxes(1, 2),
    ),
    "matmul, first transposed": (
        SHAPE,
        lambda x: mb.matmul(x=x, y=A, transpose_x=True),
        lambda x: x.swapaxes(1, 2) @ A,
    ),
    "softmax": (SHAPE, lambda x: mb.softmax(x=x, axis=1), lambda x: softmax(x, 1)),
    "gelu": (SHAPE, lambda x: mb.gelu(x=x, mode="EXACT"), gelu),
    "leaky_relu": (SHAPE, lambda x: mb.leaky_relu(x=x, alpha=0.25), lambda x: np.where(x >= 0, x, 0.25 * x)),
    "clip": (
        SHAPE,
        lambda x: mb.clip(x=x, alpha=-0.5, beta=1.0),
        lambda x: np.minimum(np.maximum(x, -0.5), 1.0),
    ),
    "add": (SHAPE, lambda x: mb.add(x=x, y=A[0]), lambda x: x + A[0]),
    "sub": (SHAPE, lambda x: mb.sub(x=A, y=x), lambda x: A - x),
    "mul": (SHAPE, lambda x: mb.mul(x=x, y=A), lambda x: x * A),
    "greater_equal": (
        SHAPE,
        lambda x: mb.cast(x=mb.greater_equal(x=x, y=A), dtype="fp32"),
        lambda x: np.where(x < A, 0, 1),
    ),
    "greater_equal, with equals": (
        SHAPE,
        lambda x: mb.cast(x=mb.greater_equal(x=mb.sub(x=x, y=x), y=EDGE), dtype="fp32"),
        lambda x: np.broadcast_to([1, 1, 0, 1], x.shape),
    ),
    "select": (
        SHAPE,
        lambda x: mb.select(cond=mb.greater_equal(x=x, y=A), a=mb.mul(x=x, y=2.0), b=A),
        lambda x: np.where(x >= A, 2 * x, A),
    ),
    "select by a constant": (
        SHAPE,
        lambda x: mb.select(cond=CHOICE, a=x, b=A),
        lambda x: np.where(CHOICE, x, A),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_its_definition(case, tmp_path):
    """In a program for iOS 17."""
    interpreter_of_definition(case, *CASES[case], tmp_path)

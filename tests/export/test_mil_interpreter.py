"""The interpreter computes what the operators' definitions say, from the bytes of a saved package."""

from __future__ import annotations

import gc
import logging
import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch._decomp import get_decompositions

logging.getLogger("coremltools").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ct = pytest.importorskip("coremltools")
    from coremltools.converters import mil
    from coremltools.converters.mil.mil import types
    from coremltools.optimize import coreml as compression
    from coremltools.proto import Model_pb2

from autosam_edge.errors import ExportError
from autosam_edge_export.device_form import DeviceForm
from autosam_edge_export.edge import EdgeOptions, edge_form
from autosam_edge_export.mil import Interpreter
from autosam_edge_training.students import build_student

mb = mil.Builder
IOS15, IOS16, IOS17, IOS18 = ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18
MODEL = "Data/com.apple.CoreML/model.mlmodel"
HALF = types.fp16
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module", autouse=True)
def _frozen():
    """A conversion ends with a collection of garbage; what is alive already need not be looked at each time."""
    gc.freeze()
    yield
    gc.unfreeze()


def values(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def content(package):
    return {path.relative_to(package).as_posix(): path.read_bytes() for path in package.rglob("*") if path.is_file()}


def convert(source, target, folder, **options):
    """The files of the saved package."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(source, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True, **options)
        model.save(str(folder / "model.mlpackage"))
    return content(folder / "model.mlpackage")


def build(make, shape, folder, target=IOS17, dtype=types.fp32):
    """The files of a program of one input."""

    @mb.program(input_specs=[mb.TensorSpec(shape, dtype)], opset_version=target)
    def program(x):
        return make(x)

    return convert(program, target, folder, pass_pipeline=ct.PassPipeline.EMPTY, compute_precision=ct.precision.FLOAT32)


def padded(x, pads, value=0.0):
    return np.pad(x, [(0, 0)] * (x.ndim - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True)), constant_values=value)


def convolved(x, weight, bias, strides, pads, dilations, groups):
    """The definition of a convolution, position by position."""
    axes = range(weight.ndim - 2)
    x = padded(x, pads)
    sides = [(x.shape[i + 2] - (weight.shape[i + 2] - 1) * dilations[i] - 1) // strides[i] + 1 for i in axes]
    y = np.zeros((x.shape[0], weight.shape[0], *sides))
    per_group, outputs = weight.shape[1], weight.shape[0] // groups
    for place in np.ndindex(*sides):
        cut = [
            slice(p * strides[i], p * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1, dilations[i]) for i, p in enumerate(place)
        ]
        for channel in range(weight.shape[0]):
            group = channel // outputs
            patch = x[(slice(None), slice(group * per_group, (group + 1) * per_group), *cut)]
            y[(slice(None), channel, *place)] = (patch * weight[channel]).reshape(x.shape[0], -1).sum(1) + bias[channel]
    return y


def transposed(x, weight, bias, strides, dilations, groups):
    """The definition of a transposed convolution without padding: every input value spreads the kernel."""
    axes = range(weight.ndim - 2)
    sides = [(x.shape[i + 2] - 1) * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1 for i in axes]
    outputs, inputs = weight.shape[1], x.shape[1] // groups
    y = np.zeros((x.shape[0], outputs * groups, *sides))
    for place in np.ndindex(*x.shape[2:]):
        cut = [
            slice(p * strides[i], p * strides[i] + (weight.shape[i + 2] - 1) * dilations[i] + 1, dilations[i]) for i, p in enumerate(place)
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


def attended(query, key, value, mask):
    return softmax(query @ np.swapaxes(key, -1, -2) / math.sqrt(query.shape[-1]) + mask) @ value


def scattered(x, indices, updates, combine):
    y = x.copy()
    for i, index in enumerate(indices):
        y[:, index] = combine(y[:, index], updates[:, i])
    return y


A = values(2, 3, 4)
CONV1, CONV2, CONV3 = values(4, 1, 3), values(4, 3, 2, 3), values(2, 3, 3, 3, 3)
TRANS1, TRANS2, TRANS3 = values(3, 2, 4), values(4, 1, 3, 3), values(3, 2, 2, 2, 2)
BIAS2, BIAS4 = values(2), values(4)
KEY, VALUE, MASK = values(2, 5, 4), values(2, 5, 6), values(3, 5)
SEEN = np.array([[True, False, True, True, False]] * 3)
ROWS = np.array([[2, 0], [1, 1]], dtype=np.int32)
SHAPE = (2, 3, 4)
EDGE = np.float32([-1, 0, 1, 0])
CHOICE = A > 0
# By case: the input's shape, the program, and the definition.
CASES = {
    "conv 1d, grouped, strided, unequal custom padding": (
        (2, 2, 7),
        lambda x: mb.conv(x=x, weight=CONV1, bias=BIAS4, pad_type="custom", pad=[2, 1], strides=[2], groups=2),
        lambda x: convolved(x, CONV1, BIAS4, [2], [2, 1], [1], 2),
    ),
    "conv 2d, same, even kernel": (
        (1, 3, 5, 6),
        lambda x: mb.conv(x=x, weight=CONV2, pad_type="same", strides=[1, 2]),
        lambda x: convolved(x, CONV2, np.zeros(4), [1, 2], [0, 1, 0, 1], [1, 1], 1),
    ),
    "conv 2d, same_lower, even kernel": (
        (1, 3, 5, 6),
        lambda x: mb.conv(x=x, weight=CONV2, pad_type="same_lower"),
        lambda x: convolved(x, CONV2, np.zeros(4), [1, 1], [1, 0, 1, 1], [1, 1], 1),
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
    "conv_transpose 1d, same": (
        (1, 3, 5),
        lambda x: mb.conv_transpose(x=x, weight=TRANS1, bias=BIAS2, pad_type="same", strides=[2]),
        lambda x: transposed(x, TRANS1, BIAS2, [2], [1], 1)[..., 1:11],
    ),
    "conv_transpose 2d, grouped, dilated, custom padding": (
        (1, 4, 3, 4),
        lambda x: mb.conv_transpose(
            x=x, weight=TRANS2, bias=BIAS2, pad_type="custom", pad=[1, 0, 2, 1], strides=[2, 1], dilations=[1, 2], groups=2
        ),
        lambda x: transposed(x, TRANS2, BIAS2, [2, 1], [1, 2], 2)[:, :, 1:, 2:-1],
    ),
    "conv_transpose 3d, output shape": (
        (1, 3, 2, 3, 2),
        lambda x: mb.conv_transpose(
            x=x, weight=TRANS3, pad_type="custom", pad=[1, 1, 0, 0, 0, 0], strides=[2, 2, 2], output_shape=[1, 2, 3, 6, 4]
        ),
        lambda x: transposed(x, TRANS3, np.zeros(2), [2, 2, 2], [1, 1, 1], 1)[:, :, 1:4],
    ),
    "instance_norm of rank 3": ((1, 3, 5), lambda x: mb.instance_norm(x=x, epsilon=1e-2), lambda x: normalized(x, (2,), 1e-2)),
    "instance_norm of rank 4": (
        (2, 4, 3, 3),
        lambda x: mb.instance_norm(x=x, gamma=BIAS4, beta=BIAS4),
        lambda x: normalized(x, (2, 3)) * BIAS4.reshape(1, 4, 1, 1) + BIAS4.reshape(1, 4, 1, 1),
    ),
    "instance_norm of rank 5": ((1, 2, 3, 2, 2), lambda x: mb.instance_norm(x=x), lambda x: normalized(x, (2, 3, 4))),
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
    "linear": (SHAPE, lambda x: mb.linear(x=x, weight=A[0], bias=A[0, :, 0]), lambda x: x @ A[0].T + A[0, :, 0]),
    "matmul": (SHAPE, lambda x: mb.matmul(x=x, y=A[0].T.copy()), lambda x: x @ A[0].T),
    "matmul, second transposed": (SHAPE, lambda x: mb.matmul(x=x, y=A, transpose_y=True), lambda x: x @ A.swapaxes(1, 2)),
    "matmul, first transposed": (SHAPE, lambda x: mb.matmul(x=x, y=A, transpose_x=True), lambda x: x.swapaxes(1, 2) @ A),
    "softmax": (SHAPE, lambda x: mb.softmax(x=x, axis=1), lambda x: softmax(x, 1)),
    "gelu": (SHAPE, lambda x: mb.gelu(x=x, mode="EXACT"), gelu),
    "gelu by tanh": (
        SHAPE,
        lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"),
        lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "gelu by sigmoid": (SHAPE, lambda x: mb.gelu(x=x, mode="SIGMOID_APPROXIMATION"), lambda x: x / (1 + np.exp(-1.702 * x))),
    "relu": (SHAPE, lambda x: mb.relu(x=x), lambda x: np.where(x > 0, x, 0)),
    "leaky_relu": (SHAPE, lambda x: mb.leaky_relu(x=x, alpha=0.25), lambda x: np.where(x >= 0, x, 0.25 * x)),
    "clip": (SHAPE, lambda x: mb.clip(x=x, alpha=-0.5, beta=1.0), lambda x: np.minimum(np.maximum(x, -0.5), 1.0)),
    "add": (SHAPE, lambda x: mb.add(x=x, y=A[0]), lambda x: x + A[0]),
    "sub": (SHAPE, lambda x: mb.sub(x=A, y=x), lambda x: A - x),
    "mul": (SHAPE, lambda x: mb.mul(x=x, y=A), lambda x: x * A),
    "real_div": (SHAPE, lambda x: mb.real_div(x=A, y=x), lambda x: A / x),
    "greater_equal": (SHAPE, lambda x: mb.cast(x=mb.greater_equal(x=x, y=A), dtype="fp32"), lambda x: np.where(x < A, 0, 1)),
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
    "select by a constant": (SHAPE, lambda x: mb.select(cond=CHOICE, a=x, b=A), lambda x: np.where(CHOICE, x, A)),
    "pow": (SHAPE, lambda x: mb.pow(x=x, y=3.0), lambda x: x * x * x),
    "square": (SHAPE, lambda x: mb.square(x=x), lambda x: x * x),
    "sqrt": (SHAPE, lambda x: mb.sqrt(x=mb.square(x=x)), np.abs),
    "rsqrt": (SHAPE, lambda x: mb.rsqrt(x=mb.square(x=x), epsilon=0.5), lambda x: 1 / np.sqrt(x * x + 0.5)),
    "exp": (SHAPE, lambda x: mb.exp(x=x), lambda x: math.e**x),
    "reduce_mean": (SHAPE, lambda x: mb.reduce_mean(x=x, axes=[0, -1], keep_dims=True), lambda x: x.sum((0, 2), keepdims=True) / 8),
    "reduce_sum": (SHAPE, lambda x: mb.reduce_sum(x=x, axes=[1]), lambda x: x[:, 0] + x[:, 1] + x[:, 2]),
    "concat": (SHAPE, lambda x: mb.concat(values=[x, A, x], axis=1), lambda x: np.concatenate([x, A, x], 1)),
    "stack": (SHAPE, lambda x: mb.stack(values=[x, A], axis=-1), lambda x: np.stack([x, A], -1)),
    "split into sizes": (SHAPE, lambda x: mb.split(x=x, split_sizes=[1, 3], axis=-1)[1], lambda x: x[..., 1:]),
    "split into a number": (SHAPE, lambda x: mb.split(x=x, num_splits=2, axis=2)[1], lambda x: x[..., 2:]),
    "slice_by_index": (
        (4, 5, 6),
        lambda x: mb.slice_by_index(
            x=x, begin=[1, -3, 4], end=[9, -1, 0], stride=[2, 1, 1], begin_mask=[False, False, True], end_mask=[False, False, True]
        ),
        lambda x: x[1::2, 2:4],
    ),
    "slice_by_index that drops an axis": (
        SHAPE,
        lambda x: mb.slice_by_index(x=x, begin=[0, -1, 1], end=[2, 0, 3], squeeze_mask=[False, True, False]),
        lambda x: x[:, 2, 1:3],
    ),
    "slice_by_size": (SHAPE, lambda x: mb.slice_by_size(x=x, begin=[0, -2, 1], size=[2, 1, -1]), lambda x: x[:, 1:2, 1:]),
    "reshape with 0 and -1": (SHAPE, lambda x: mb.reshape(x=x, shape=[0, -1, 2]), lambda x: x.reshape(2, 6, 2)),
    "reshape with zeros from the right": (SHAPE, lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]), lambda x: x.reshape(1, 2, 3, 4)),
    "transpose": (SHAPE, lambda x: mb.transpose(x=x, perm=[2, 0, -2]), lambda x: np.moveaxis(x, 2, 0)),
    "expand_dims": (SHAPE, lambda x: mb.expand_dims(x=x, axes=[-1, 1]), lambda x: x[:, None, :, :, None]),
    "squeeze": ((1, 3, 1, 2), lambda x: mb.squeeze(x=x, axes=[-2]), lambda x: x[:, :, 0]),
    "squeeze everything": ((1, 3, 1, 2), lambda x: mb.squeeze(x=x), lambda x: x[0, :, 0]),
    "tile": (SHAPE, lambda x: mb.tile(x=x, reps=[1, 2, 1]), lambda x: np.concatenate([x, x], 1)),
    "pad": (SHAPE, lambda x: mb.pad(x=x, pad=[1, 0, 0, 2], constant_val=7.0), lambda x: padded(x, [1, 0, 0, 2], 7.0)),
    "gather": (SHAPE, lambda x: mb.gather(x=x, indices=ROWS, axis=1), lambda x: np.stack([x[:, [2, 0]], x[:, [1, 1]]], 1)),
    "gather by batch": (
        SHAPE,
        lambda x: mb.gather(x=x, indices=ROWS, axis=-1, batch_dims=1),
        lambda x: np.stack([x[0][:, [2, 0]], x[1][:, [1, 1]]]),
    ),
    "gather_along_axis": (
        (2, 3),
        lambda x: mb.gather_along_axis(x=x, indices=ROWS, axis=1),
        lambda x: np.array([[x[0, 2], x[0, 0]], [x[1, 1], x[1, 1]]]),
    ),
    "scatter by adding": (
        (2, 3),
        lambda x: mb.scatter(data=x, indices=np.int32([2, 2]), updates=A[0, :2, :2], axis=1, mode="add"),
        lambda x: scattered(x, [2, 2], A[0, :2, :2], lambda old, new: old + new),
    ),
    "scatter by replacing": (
        (2, 3),
        lambda x: mb.scatter(data=x, indices=np.int32([2, 0]), updates=A[0, :2, :2], axis=-1, mode="update"),
        lambda x: scattered(x, [2, 0], A[0, :2, :2], lambda old, new: new),
    ),
    "cast": (SHAPE, lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), np.trunc),
    "identity": (SHAPE, lambda x: mb.identity(x=x), lambda x: x),
    "fill": (SHAPE, lambda x: mb.mul(x=x, y=mb.fill(shape=[3, 1], value=2.0)), lambda x: x + x),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_its_definition(case, tmp_path):
    """In a program for iOS 17."""
    shape, make, definition = CASES[case]
    interpreter = Interpreter(build(make, shape, tmp_path))
    x = values(*shape, 1).reshape(shape) * 1.5
    found = interpreter.run(torch.from_numpy(x)).numpy()
    expected = definition(x.astype(np.float64))
    assert interpreter.operators[case.split()[0].rstrip(",")] >= 1
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


NEW_CASES = {
    "scaled_dot_product_attention": (
        (2, 3, 4),
        lambda x: mb.scaled_dot_product_attention(query=x, key=KEY, value=VALUE, attn_mask=MASK),
        lambda x: attended(x, KEY, VALUE, MASK),
    ),
    "scaled_dot_product_attention, masked": (
        (2, 3, 4),
        lambda x: mb.scaled_dot_product_attention(query=x, key=KEY, value=VALUE, attn_mask=SEEN),
        lambda x: attended(x, KEY, VALUE, np.where(SEEN, 0, -np.inf)),
    ),
    "slice_update": (
        (4, 5),
        lambda x: mb.slice_update(x=x, update=A[0, :2, :2], begin=[0, 1], end=[4, 3], stride=[2, 1]),
        lambda x: np.concatenate(
            [np.where([[1], [0], [1], [0]], np.repeat(A[0, :2, :2], 2, 0), x[:, 1:3])[:, i : i + 1] for i in (0, 1)], 1
        ),
    ),
}


@pytest.mark.parametrize("case", NEW_CASES)
def test_an_operator_of_ios_18_is_its_definition(case, tmp_path):
    """As above; a slice that is updated is looked at where it is updated."""
    shape, make, definition = NEW_CASES[case]
    interpreter = Interpreter(build(make, shape, tmp_path, IOS18))
    x = values(*shape, 1).reshape(shape)
    found = interpreter.run(torch.from_numpy(x)).numpy()
    if case == "slice_update":
        np.testing.assert_array_equal(found[:, [0, 3, 4]], x[:, [0, 3, 4]])
        found = found[:, 1:3]
    np.testing.assert_allclose(found, definition(x.astype(np.float64)), rtol=2e-5, atol=2e-5)
    assert interpreter.spec_version == 9


def test_indices_below_zero_count_from_the_end_until_ios_17(tmp_path):
    """Where they have no meaning any more, so that nothing is computed from them."""

    def make(x):
        return mb.gather(x=x, indices=np.int32([-1, 0]), axis=0)

    for target in (IOS15, IOS16):
        found = Interpreter(build(make, (3,), tmp_path / target.name, target)).run(torch.tensor([1.0, 2.0, 3.0]))
        assert found.tolist() == [3.0, 1.0]
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*index is out of the bounds"):
        Interpreter(build(make, (3,), tmp_path / "17", IOS17)).run(torch.zeros(3))


def test_half_programs_accumulate_in_single_and_store_in_half(tmp_path):
    """4096 ones add up, a variance may be too large for half, a sum is rounded to even, and what is too large becomes infinite."""
    ones = np.ones((1, 4096), dtype=np.float16)
    long = Interpreter(build(lambda x: mb.linear(x=x, weight=ones), (1, 4096), tmp_path / "a", dtype=HALF))
    assert long.outputs[0].dtype == "float16"
    assert long.run(torch.ones(1, 4096)).item() == 4096.0
    wide = Interpreter(build(lambda x: mb.layer_norm(x=x, axes=[0]), (2,), tmp_path / "c", dtype=HALF))
    assert wide.run(torch.tensor([-300.0, 300.0])).tolist() == [-1.0, 1.0]
    small = np.float16([2.0**-11, 3 * 2.0**-11, 65504.0])
    added = Interpreter(build(lambda x: mb.add(x=x, y=small), (3,), tmp_path / "b", dtype=HALF))
    assert added.run(torch.tensor([1.0, 1.0, 65504.0])).tolist() == [1.0, 1.0 + 2.0**-9, math.inf]
    assert added.run(torch.tensor([1.0 + 2.0**-12, 0.0, 0.0]))[0].item() == 1.0, "the image is rounded as well"


PACKED = RANDOM.integers(0, 64, (4, 6, 5)).astype(np.uint8)
TABLE = values(64)


def bits(array, width):
    """Packed by hand: value i lies at the bits from i * width on."""
    whole = sum(int(value) << (i * width) for i, value in enumerate(array.flatten()))
    return np.frombuffer(whole.to_bytes(math.ceil(array.size * width / 8), "little"), dtype=np.uint8)


def stored(width):
    """Values of fewer than eight bits, as coremltools marks them."""
    return np.dtype(getattr(types, f"np_uint{width}_dtype"))


INT8 = RANDOM.integers(-128, 128, (4, 6)).astype(np.int8)
SCALE = np.abs(values(6)).astype(np.float32)
ZERO = np.arange(-3, 3).astype(np.int8)
INT4 = RANDOM.integers(-8, 8, (4, 6)).astype(np.dtype(types.np_int4_dtype))
BLOCKS = np.abs(values(2, 3))
FOUR = RANDOM.integers(0, 16, (4, 6)).astype(stored(4))
SMALL = {width: RANDOM.integers(0, 2**width, (4, 6)).astype(stored(width)) for width in (1, 2, 3, 6)}
TABLES = values(2, 1, 16, 1)
VECTORS = values(1, 1, 16, 3)
# By case: the target, the constant, and what it holds.
COMPRESSED = {
    "affine by channel": (
        IOS16,
        lambda: mb.constexpr_affine_dequantize(quantized_data=INT8, zero_point=ZERO, scale=SCALE, axis=np.int32(1)),
        (INT8.astype(np.float64) - ZERO) * SCALE,
    ),
    "affine": (
        IOS17,
        lambda: mb.constexpr_affine_dequantize(quantized_data=INT8, zero_point=np.int8(3), scale=np.float32(0.5), axis=np.int32(0)),
        (INT8.astype(np.float64) - 3) * 0.5,
    ),
    "six bits": (
        IOS16,
        lambda: mb.constexpr_lut_to_dense(indices=bits(PACKED, 6), lut=TABLE, shape=np.uint32(PACKED.shape)),
        TABLE[PACKED],
    ),
    "four bits": (
        IOS17,
        lambda: mb.constexpr_lut_to_dense(indices=bits(PACKED % 16, 4), lut=TABLE[:16], shape=np.uint32(PACKED.shape)),
        TABLE[PACKED % 16],
    ),
    "single to half and back": (IOS16, lambda: mb.constexpr_cast(source_val=np.float16(A), output_dtype="fp32"), A.astype(np.float16)),
    "four bits, a table for two rows": (
        IOS18,
        lambda: mb.constexpr_lut_to_dense(indices=FOUR, lut=TABLES),
        np.array([[TABLES[row // 2, 0, int(FOUR[row, column]), 0] for column in range(6)] for row in range(4)]),
    ),
    "four bits, vectors along the first axis": (
        IOS18,
        lambda: mb.constexpr_lut_to_dense(indices=FOUR, lut=VECTORS, vector_axis=np.int32(0)),
        np.array([[VECTORS[0, 0, int(FOUR[row // 3, column]), row % 3] for column in range(6)] for row in range(12)]),
    ),
    "blocks of two rows and columns": (
        IOS18,
        lambda: mb.constexpr_blockwise_shift_scale(data=INT4, scale=BLOCKS),
        np.array([[int(INT4[row, column]) * BLOCKS[row // 2, column // 2] for column in range(6)] for row in range(4)]),
    ),
    "blocks in the program itself": (
        IOS18,
        lambda: mb.constexpr_blockwise_shift_scale(data=INT4[:1], scale=BLOCKS[:1]),
        np.array([[int(INT4[0, column]) * BLOCKS[0, column // 2] for column in range(6)]]),
    ),
    "shifted blocks": (
        IOS18,
        lambda: mb.constexpr_blockwise_shift_scale(data=INT8, scale=SCALE[None], offset=ZERO[None]),
        (INT8.astype(np.float64) - ZERO) * SCALE,
    ),
}
for width, indices in SMALL.items():
    COMPRESSED[f"{width} bits"] = (
        IOS18,
        lambda indices=indices, width=width: mb.constexpr_lut_to_dense(indices=indices, lut=TABLE[: 2**width].reshape(1, 1, -1, 1)),
        TABLE[indices.astype(np.int64)],
    )


@pytest.mark.parametrize("case", COMPRESSED)
def test_a_compressed_constant_is_its_definition(case, tmp_path):
    """From the bits in the file to the values that are added to zeros."""
    target, make, expected = COMPRESSED[case]
    interpreter = Interpreter(build(lambda x: mb.add(x=x, y=make()), (1,), tmp_path, target))
    assert any(name.startswith("constexpr_") for name in interpreter.operators)
    np.testing.assert_allclose(interpreter.run(torch.zeros(1)).numpy(), expected, rtol=1e-6)


def two_strangers(x):
    return mb.add(x=mb.erf(x=x), y=mb.tanh(x=x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (two_strangers, "no operator erf, tanh"),
        (lambda x: mb.pad(x=x, pad=[1, 1], mode="reflect"), "pad has mode = reflect"),
        (lambda x: mb.concat(values=[x, x], axis=0, interleave=True), "concat has interleave = True"),
        (lambda x: mb.scatter(data=x, indices=np.int32([0]), updates=values(1, 4), mode="mul"), "scatter has mode = mul"),
    ],
)
def test_what_is_not_implemented_is_refused_before_anything_runs(make, words, tmp_path):
    """All operators by name; parameters with their value."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-008: .*{words}"):
        Interpreter(build(make, (3, 4), tmp_path))


def test_a_slice_backwards_is_refused(tmp_path):
    """When it runs."""
    interpreter = Interpreter(build(lambda x: mb.slice_by_index(x=x, begin=[3], end=[0], stride=[-1]), (4,), tmp_path))
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*stride -1"):
        interpreter.run(torch.zeros(4))


def altered(files, change):
    """The package with its program changed."""
    model = Model_pb2.Model.FromString(files[MODEL])
    main = model.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    change(next(operation for operation in block.operations if operation.type == "relu"))
    return {**files, MODEL: model.SerializeToString()}


def test_a_parameter_that_the_definition_lacks_is_refused(tmp_path):
    """And one that it needs; names of nothing and shapes that do not follow are damage."""
    files = build(lambda x: mb.relu(x=x), (4,), tmp_path)
    assert Interpreter(altered(files, lambda relu: None)).run(torch.ones(4)).tolist() == [1.0] * 4
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*relu has the parameter threshold"):
        Interpreter(altered(files, lambda relu: relu.inputs["threshold"].CopyFrom(relu.inputs["x"])))
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*relu has no x"):
        Interpreter(altered(files, lambda relu: relu.inputs.clear()))
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*relu uses nothing before it is made"):
        Interpreter(altered(files, lambda relu: setattr(relu.inputs["x"].arguments[0], "name", "nothing")))
    wrong = altered(files, lambda relu: setattr(relu.outputs[0].type.tensorType.dimensions[0].constant, "size", 5))
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*declares the shape"):
        Interpreter(wrong).run(torch.ones(4))


def test_an_image_of_another_shape_is_refused(tmp_path):
    """Nothing is broadcast."""
    with pytest.raises(ValueError, match="takes the shape"):
        Interpreter(build(lambda x: mb.relu(x=x), (4,), tmp_path)).run(torch.zeros(1))


def test_a_value_that_is_used_late_is_kept_and_others_are_not(tmp_path):
    """The skip connection stands; the intermediate values are named once in what is freed."""

    def make(x):
        first = mb.relu(x=x)
        second = mb.exp(x=first)
        return mb.add(x=mb.square(x=second), y=first)

    interpreter = Interpreter(build(make, (2,), tmp_path))
    freed = [name for names in interpreter._freed for name in names]
    assert len(freed) == len(set(freed)) == 4, "the input and three results, but not the output"
    np.testing.assert_allclose(interpreter.run(torch.tensor([-1.0, 1.0])).numpy(), [1.0, math.e**2 + 1], rtol=1e-6)


def student_program(name, patch, options):
    torch.manual_seed(0)
    student = build_student(name).eval()
    for key, parameter in student.named_parameters():
        if "bias_table" in key:
            torch.nn.init.normal_(parameter, std=0.5)
    form = DeviceForm(edge_form(student, EdgeOptions(**options)), (-125.0, 275.0)).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(form, (torch.zeros(1, 1, *patch),)).run_decompositions(
            get_decompositions([torch.ops.aten.new_ones, torch.ops.aten.new_zeros])
        )
    for node in list(program.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            program.graph.erase_node(node)
    return form, program


def student_package(program, patch, target, precision, folder):
    return convert(
        program,
        target,
        folder,
        compute_precision=precision,
        inputs=[ct.TensorType(name="image_hu", shape=(1, 1, *patch))],
        outputs=[ct.TensorType(name="logits")],
    )


def close_to_torch(form, interpreter, patch):
    image = torch.from_numpy(np.random.default_rng(1).uniform(-200, 300, (1, 1, *patch)).astype(np.float32))
    with torch.no_grad():
        expected = form(image)
    return float((interpreter.run(image) - expected).abs().max()), float(expected.std())


def test_pocketnet_in_core_ml_is_pocketnet_in_torch(tmp_path):
    """1e-4 at most in float32, a twentieth of the logits' spread in float16, and the facts of the program."""
    patch = (32, 32, 32)
    form, program = student_program("pocketnet", patch, {})
    interpreter = Interpreter(student_package(program, patch, IOS17, ct.precision.FLOAT32, tmp_path / "single"))
    assert close_to_torch(form, interpreter, patch)[0] < 1e-4
    assert (interpreter.inputs[0].name, interpreter.inputs[0].shape) == ("image_hu", (1, 1, *patch))
    assert (interpreter.outputs[0].name, interpreter.outputs[0].dtype) == ("logits", "float32")
    assert interpreter.max_rank == 5
    assert interpreter.operators["conv"] == sum(node.target is torch.ops.aten.conv3d.default for node in program.graph.nodes)
    assert "com.github.apple.coremltools.version" in interpreter.metadata
    error, spread = close_to_torch(
        form, Interpreter(student_package(program, patch, IOS17, ct.precision.FLOAT16, tmp_path / "half")), patch
    )
    assert 0 < error < 0.05 * spread


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "target"),
    [({}, IOS17), ({"convolution": "2d-sum", "transposed": "shuffle", "attention": "fused"}, IOS18), ({"convolution": "2d-concat"}, IOS15)],
)
def test_swinunetr_in_core_ml_is_swinunetr_in_torch(options, target, tmp_path):
    """Windows, shifts, bias, merging: 1e-4 at most, in every form."""
    patch = (64, 32, 32)
    form, program = student_program("swinunetr-tiny", patch, options)
    interpreter = Interpreter(student_package(program, patch, target, ct.precision.FLOAT32, tmp_path))
    assert close_to_torch(form, interpreter, patch)[0] < 1e-4
    assert interpreter.max_rank == 5


COMPRESSIONS = {
    "int8 by channel": (compression.linear_quantize_weights, compression.OpLinearQuantizerConfig, {"mode": "linear_symmetric"}),
    "six bits": (compression.palettize_weights, compression.OpPalettizerConfig, {"mode": "kmeans", "nbits": 6}),
    "four bits": (compression.palettize_weights, compression.OpPalettizerConfig, {"mode": "uniform", "nbits": 4}),
    "four bits by group": (
        compression.palettize_weights,
        compression.OpPalettizerConfig,
        {"mode": "kmeans", "nbits": 4, "granularity": "per_grouped_channel", "group_size": 4},
    ),
}


@pytest.mark.parametrize(
    ("kind", "target"), [(kind, target) for target in (IOS17, IOS18) for kind in COMPRESSIONS if target is IOS18 or "group" not in kind]
)
def test_what_coremltools_compresses_is_what_it_decompresses(kind, target, tmp_path):
    """The same package with its weights widened by coremltools computes the same; the weights did change."""
    compress, config, options = COMPRESSIONS[kind]
    weight = values(16, 8, 3, 3, 3)
    x = torch.from_numpy(values(1, 8, 4, 4, 4))
    files = build(lambda x: mb.conv(x=x, weight=weight, pad_type="same"), (1, 8, 4, 4, 4), tmp_path, target)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True)
        small = compress(model, compression.OptimizationConfig(global_config=config(weight_threshold=100, **options)))
        small.save(str(tmp_path / "small.mlpackage"))
        compression.decompress_weights(small).save(str(tmp_path / "wide.mlpackage"))
    found, wide = (Interpreter(content(tmp_path / f"{name}.mlpackage")) for name in ("small", "wide"))
    assert set(found.operators) > set(wide.operators) == {"conv"}
    np.testing.assert_allclose(found.run(x).numpy(), wide.run(x).numpy(), atol=1e-5)
    assert 0.01 < float((found.run(x) - Interpreter(files).run(x)).abs().max()) < 10

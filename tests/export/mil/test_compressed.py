"""Constants in fewer bits hold what their definitions say, and what coremltools itself reads in them."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import IOS16, IOS17, IOS18, bits, build, content, ct, mb, types, values

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from coremltools.optimize import coreml as compression

from autosam_edge_export.mil import Interpreter

RANDOM = np.random.default_rng(0)
A = values(2, 3, 4)
PACKED = RANDOM.integers(0, 64, (4, 6, 5)).astype(np.uint8)
TABLE = values(64)


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
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=INT8, zero_point=ZERO, scale=SCALE, axis=np.int32(1)
        ),
        (INT8.astype(np.float64) - ZERO) * SCALE,
    ),
    "affine": (
        IOS17,
        lambda: mb.constexpr_affine_dequantize(
            quantized_data=INT8, zero_point=np.int8(3), scale=np.float32(0.5), axis=np.int32(0)
        ),
        (INT8.astype(np.float64) - 3) * 0.5,
    ),
    "six bits": (
        IOS16,
        lambda: mb.constexpr_lut_to_dense(indices=bits(PACKED, 6), lut=TABLE, shape=np.uint32(PACKED.shape)),
        TABLE[PACKED],
    ),
    "four bits": (
        IOS17,
        lambda: mb.constexpr_lut_to_dense(
            indices=bits(PACKED % 16, 4), lut=TABLE[:16], shape=np.uint32(PACKED.shape)
        ),
        TABLE[PACKED % 16],
    ),
    "four bits, a table for two rows": (
        IOS18,
        lambda: mb.constexpr_lut_to_dense(indices=FOUR, lut=TABLES),
        np.array(
            [[TABLES[row // 2, 0, int(FOUR[row, column]), 0] for column in range(6)] for row in range(4)]
        ),
    ),
    "four bits, vectors along the first axis": (
        IOS18,
        lambda: mb.constexpr_lut_to_dense(indices=FOUR, lut=VECTORS, vector_axis=np.int32(0)),
        np.array(
            [
                [VECTORS[0, 0, int(FOUR[row // 3, column]), row % 3] for column in range(6)]
                for row in range(12)
            ]
        ),
    ),
    "blocks of two rows and columns": (
        IOS18,
        lambda: mb.constexpr_blockwise_shift_scale(data=INT4, scale=BLOCKS),
        np.array(
            [
                [int(INT4[row, column]) * BLOCKS[row // 2, column // 2] for column in range(6)]
                for row in range(4)
            ]
        ),
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
        lambda indices=indices, width=width: mb.constexpr_lut_to_dense(
            indices=indices, lut=TABLE[: 2**width].reshape(1, 1, -1, 1)
        ),
        TABLE[indices.astype(np.int64)],
    )


@pytest.mark.parametrize("case", COMPRESSED)
def test_a_compressed_constant_is_its_definition(case, tmp_path):
    """From the bits in the file to the values that are added to zeros."""
    target, make, expected = COMPRESSED[case]
    interpreter = Interpreter(build(lambda x: mb.add(x=x, y=make()), (1,), tmp_path, target))
    assert any(name.startswith("constexpr_") for name in interpreter.operators)
    np.testing.assert_allclose(interpreter.run(torch.zeros(1)).numpy(), expected, rtol=1e-6)


COMPRESSIONS = {
    "int8 by channel": (
        compression.linear_quantize_weights,
        compression.OpLinearQuantizerConfig,
        {"mode": "linear_symmetric"},
    ),
    "six bits": (
        compression.palettize_weights,
        compression.OpPalettizerConfig,
        {"mode": "kmeans", "nbits": 6},
    ),
    "four bits": (
        compression.palettize_weights,
        compression.OpPalettizerConfig,
        {"mode": "uniform", "nbits": 4},
    ),
    "four bits by group": (
        compression.palettize_weights,
        compression.OpPalettizerConfig,
        {"mode": "kmeans", "nbits": 4, "granularity": "per_grouped_channel", "group_size": 4},
    ),
}


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        (kind, target)
        for target in (IOS17, IOS18)
        for kind in COMPRESSIONS
        if target is IOS18 or "group" not in kind
    ],
)
def test_what_coremltools_compresses_is_what_it_decompresses(kind, target, tmp_path):
    """The same package with its weights widened by coremltools computes the same; the weights did change."""
    compress, config, options = COMPRESSIONS[kind]
    weight = values(16, 8, 3, 3, 3)
    x = torch.from_numpy(values(1, 8, 4, 4, 4))
    files = build(
        lambda x: mb.conv(x=x, weight=weight, pad_type="custom", pad=[1] * 6),
        (1, 8, 4, 4, 4),
        tmp_path,
        target,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.models.MLModel(str(tmp_path / "model.mlpackage"), skip_model_load=True)
        small = compress(
            model, compression.OptimizationConfig(global_config=config(weight_threshold=100, **options))
        )
        small.save(str(tmp_path / "small.mlpackage"))
        compression.decompress_weights(small).save(str(tmp_path / "wide.mlpackage"))
    found, wide = (Interpreter(content(tmp_path / f"{name}.mlpackage")) for name in ("small", "wide"))
    assert set(found.operators) > set(wide.operators) == {"conv"}
    np.testing.assert_allclose(found.run(x).numpy(), wide.run(x).numpy(), atol=1e-5)
    assert 0.01 < float((found.run(x) - Interpreter(files).run(x)).abs().max()) < 10

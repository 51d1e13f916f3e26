"""Core ML programs of a few operators: written down, saved, read back from the package's bytes."""

from __future__ import annotations

import logging
import math
import warnings

import numpy as np
import pytest

torch = pytest.importorskip("torch")
logging.getLogger("coremltools").setLevel(logging.CRITICAL)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    ct = pytest.importorskip("coremltools")
    from coremltools.converters import mil
    from coremltools.converters.mil.mil import types

from autosam_edge_export.mil import Interpreter

mb = mil.Builder
IOS15, IOS16, IOS17, IOS18 = ct.target.iOS15, ct.target.iOS16, ct.target.iOS17, ct.target.iOS18
MODEL, WEIGHTS = "Data/com.apple.CoreML/model.mlmodel", "Data/com.apple.CoreML/weights/weight.bin"


def values(*shape):
    """Normal, and the same for the same shape."""
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def content(package):
    """The files of a package by their path in it."""
    return {
        path.relative_to(package).as_posix(): path.read_bytes()
        for path in package.rglob("*")
        if path.is_file()
    }


def convert(source, target, folder, **options):
    """The files of the saved package, ``model.mlpackage`` in the folder; it says that its license is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ct.convert(
            source, convert_to="mlprogram", minimum_deployment_target=target, skip_model_load=True, **options
        )
        model.user_defined_metadata["license"] = "none"
        model.save(str(folder / "model.mlpackage"))
    return content(folder / "model.mlpackage")


def build(make, shape, folder, target=IOS17, dtype=types.fp32):
    """The files of a program of one input, as it is written: no pass changes it."""

    @mb.program(input_specs=[mb.TensorSpec(shape, dtype)], opset_version=target)
    def program(x):
        return make(x)

    return convert(
        program, target, folder, pass_pipeline=ct.PassPipeline.EMPTY, compute_precision=ct.precision.FLOAT32
    )


def bits(array, width):
    """Packed by hand: value i lies at the bits from i * width on."""
    whole = sum(int(value) << (i * width) for i, value in enumerate(array.flatten()))
    return np.frombuffer(whole.to_bytes(math.ceil(array.size * width / 8), "little"), dtype=np.uint8)


def padded(x, pads, value=0.0):
    """By (before, after) along each of the last axes."""
    return np.pad(
        x,
        [(0, 0)] * (x.ndim - len(pads) // 2) + list(zip(pads[::2], pads[1::2], strict=True)),
        constant_values=value,
    )


def interpreter_of_definition(case, shape, make, definition, folder, target=IOS17):
    """An interpreter whose program computes what the definition says; the case starts with the operator."""
    interpreter = Interpreter(build(make, shape, folder, target))
    x = values(*shape, 1).reshape(shape) * 1.5
    found = interpreter.run(torch.from_numpy(x)).numpy()
    expected = definition(x.astype(np.float64))
    assert interpreter.operators[case.split()[0].rstrip(",")] >= 1
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)
    return interpreter

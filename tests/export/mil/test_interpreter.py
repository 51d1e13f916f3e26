"""The interpreter runs a saved program value by value, and refuses what it does not know."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import MODEL, build, mb, types
from coremltools.proto import Model_pb2

from autosam_edge.errors import ExportError
from autosam_edge_export.mil import Interpreter

HALF = types.fp16


def test_half_programs_accumulate_in_single_and_store_in_half(tmp_path):
    """4096 ones add up, a variance may exceed float16, a sum rounds to even, an overflow is infinite."""
    ones = np.ones((1, 4096), dtype=np.float16)
    long = Interpreter(build(lambda x: mb.linear(x=x, weight=ones), (1, 4096), tmp_path / "a", dtype=HALF))
    assert long.outputs[0].dtype == "float16"
    assert long.run(torch.ones(1, 4096)).item() == 4096.0
    wide = Interpreter(build(lambda x: mb.layer_norm(x=x, axes=[0]), (2,), tmp_path / "c", dtype=HALF))
    assert wide.run(torch.tensor([-300.0, 300.0])).tolist() == [-1.0, 1.0]
    small = np.float16([2.0**-11, 3 * 2.0**-11, 65504.0])
    added = Interpreter(build(lambda x: mb.add(x=x, y=small), (3,), tmp_path / "b", dtype=HALF))
    assert added.run(torch.tensor([1.0, 1.0, 65504.0])).tolist() == [1.0, 1.0 + 2.0**-9, math.inf]
    assert added.run(torch.tensor([1.0 + 2.0**-12, 0.0, 0.0]))[0].item() == 1.0, (
        "the image is rounded as well"
    )


def two_strangers(x):
    return mb.add(x=mb.erf(x=x), y=mb.tanh(x=x))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (two_strangers, "no operator erf, tanh"),
        (lambda x: mb.pad(x=x, pad=[1, 1], mode="reflect"), "pad has mode = reflect"),
        (lambda x: mb.concat(values=[x, x], axis=0, interleave=True), "concat has interleave = True"),
        (lambda x: mb.gelu(x=x, mode="TANH_APPROXIMATION"), "gelu has mode = TANH_APPROXIMATION"),
    ],
)
def test_what_is_not_implemented_is_refused_before_anything_runs(make, words, tmp_path):
    """All operators by name; parameters with their value."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-008: .*{words}"):
        Interpreter(build(make, (3, 4), tmp_path))


def altered(files, change):
    """The package with its program changed."""
    model = Model_pb2.Model.FromString(files[MODEL])
    main = model.mlProgram.functions["main"]
    block = main.block_specializations[main.opset]
    change(next(operation for operation in block.operations if operation.type == "leaky_relu"))
    return {**files, MODEL: model.SerializeToString()}


def test_a_parameter_that_the_definition_lacks_is_refused(tmp_path):
    """And one that it needs; names of nothing and shapes that do not follow are damage."""
    files = build(lambda x: mb.leaky_relu(x=x, alpha=0.5), (4,), tmp_path)
    assert Interpreter(altered(files, lambda relu: None)).run(torch.ones(4)).tolist() == [1.0] * 4
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*relu has the parameter threshold"):
        Interpreter(altered(files, lambda relu: relu.inputs["threshold"].CopyFrom(relu.inputs["x"])))
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*relu has no alpha, x"):
        Interpreter(altered(files, lambda relu: relu.inputs.clear()))
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*relu uses nothing before it is made"):
        Interpreter(altered(files, lambda relu: setattr(relu.inputs["x"].arguments[0], "name", "nothing")))
    wrong = altered(
        files, lambda relu: setattr(relu.outputs[0].type.tensorType.dimensions[0].constant, "size", 5)
    )
    with pytest.raises(ExportError, match="AE-EXPORT-009: .*declares the shape"):
        Interpreter(wrong).run(torch.ones(4))


def test_an_image_of_another_shape_is_refused(tmp_path):
    """Nothing is broadcast."""
    with pytest.raises(ValueError, match="takes the shape"):
        Interpreter(build(lambda x: mb.leaky_relu(x=x, alpha=0.5), (4,), tmp_path)).run(torch.zeros(1))


def test_a_value_that_is_used_late_is_kept_and_others_are_not(tmp_path):
    """The skip connection stands; the intermediate values are named once in what is freed."""

    def make(x):
        first = mb.leaky_relu(x=x, alpha=0.5)
        second = mb.softmax(x=first)
        return mb.add(x=mb.mul(x=second, y=second), y=first)

    interpreter = Interpreter(build(make, (2,), tmp_path))
    freed = [name for names in interpreter._freed for name in names]
    assert len(freed) == len(set(freed)) == 4, "the input and three results, but not the output"
    np.testing.assert_allclose(interpreter.run(torch.tensor([1.0, 1.0])).numpy(), [1.25, 1.25], rtol=1e-6)

"""Operators that move, make and convert values are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import IOS15, IOS16, IOS17, build, interpreter_of_definition, mb, padded, values

from autosam_edge.errors import ExportError
from autosam_edge_export.mil import Interpreter

A = values(2, 3, 4)
ROWS = np.array([[2, 0], [1, 1]], dtype=np.int32)
SHAPE = (2, 3, 4)
# By case: the input's shape, the program, and the definition.
CASES = {
    "concat": (SHAPE, lambda x: mb.concat(values=[x, A, x], axis=1), lambda x: np.concatenate([x, A, x], 1)),
    "slice_by_index": (
        (4, 5, 6),
        lambda x: mb.slice_by_index(
            x=x,
            begin=[1, -3, 4],
            end=[9, -1, 0],
            stride=[2, 1, 1],
            begin_mask=[False, False, True],
            end_mask=[False, False, True],
        ),
        lambda x: x[1::2, 2:4],
    ),
    "slice_by_index that drops an axis": (
        SHAPE,
        lambda x: mb.slice_by_index(x=x, begin=[0, -1, 1], end=[2, 0, 3], squeeze_mask=[False, True, False]),
        lambda x: x[:, 2, 1:3],
    ),
    "reshape with 0 and -1": (
        SHAPE,
        lambda x: mb.reshape(x=x, shape=[0, -1, 2]),
        lambda x: x.reshape(2, 6, 2),
    ),
    "reshape with zeros from the right": (
        SHAPE,
        lambda x: mb.reshape(x=x, shape=[1, 0, -1, 0]),
        lambda x: x.reshape(1, 2, 3, 4),
    ),
    "transpose": (SHAPE, lambda x: mb.transpose(x=x, perm=[2, 0, -2]), lambda x: np.moveaxis(x, 2, 0)),
    "expand_dims": (SHAPE, lambda x: mb.expand_dims(x=x, axes=[-1, 1]), lambda x: x[:, None, :, :, None]),
    "tile": (SHAPE, lambda x: mb.tile(x=x, reps=[1, 2, 1]), lambda x: np.concatenate([x, x], 1)),
    "pad": (
        SHAPE,
        lambda x: mb.pad(x=x, pad=[1, 0, 0, 2], constant_val=7.0),
        lambda x: padded(x, [1, 0, 0, 2], 7.0),
    ),
    "gather": (
        SHAPE,
        lambda x: mb.gather(x=x, indices=ROWS, axis=1),
        lambda x: np.stack([x[:, [2, 0]], x[:, [1, 1]]], 1),
    ),
    "cast": (SHAPE, lambda x: mb.cast(x=mb.cast(x=x, dtype="int32"), dtype="fp32"), np.trunc),
}


@pytest.mark.parametrize("case", CASES)
def test_an_operator_is_its_definition(case, tmp_path):
    """In a program for iOS 17."""
    interpreter_of_definition(case, *CASES[case], tmp_path)


def test_indices_below_zero_count_from_the_end_until_ios_17(tmp_path):
    """Where they have no meaning any more, so that nothing is computed from them."""

    def make(x):
        return mb.gather(x=x, indices=np.int32([-1, 0]), axis=0)

    for target in (IOS15, IOS16):
        found = Interpreter(build(make, (3,), tmp_path / target.name, target)).run(
            torch.tensor([1.0, 2.0, 3.0])
        )
        assert found.tolist() == [3.0, 1.0]
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*index is out of the bounds"):
        Interpreter(build(make, (3,), tmp_path / "17", IOS17)).run(torch.zeros(3))


def test_a_slice_backwards_is_refused(tmp_path):
    """When it runs."""
    interpreter = Interpreter(
        build(lambda x: mb.slice_by_index(x=x, begin=[3], end=[0], stride=[-1]), (4,), tmp_path)
    )
    with pytest.raises(ExportError, match="AE-EXPORT-008: .*stride -1"):
        interpreter.run(torch.zeros(4))

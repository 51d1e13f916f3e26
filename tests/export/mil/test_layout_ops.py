"""Operators that move, make and convert values are what their definitions say."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_mil import (
    IOS15,
    IOS16,
    IOS17,
    IOS18,
    build,
    interpreter_of_definition,
    mb,
    padded,
    values,
)

from autosam_edge.errors import ExportError
from autosam_edge_export.mil import Interpreter


def scattered(x, indices, updates, combine):
    y = x.copy()
    for i, index in enumerate(indices):
        y[:, index] = combine(y[:, index], updates[:, i])
    return y


A = values(2, 3, 4)
ROWS = np.array([[2, 0], [1, 1]], dtype=np.int32)
SHAPE = (2, 3, 4)
# By case: the input's shape, the program, and the definition.
CASES = {
    "concat": (SHAPE, lambda x: mb.concat(values=[x, A, x], axis=1), lambda x: np.concatenate([x, A, x], 1)),
    "stack": (SHAPE, lambda x: mb.stack(values=[x, A], axis=-1), lambda x: np.stack([x, A], -1)),
    "split into sizes": (
        SHAPE,
        lambda x: mb.split(x=x, split_sizes=[1, 3], axis=-1)[1],
        lambda x: x[..., 1:],
    ),
    "split into a number": (SHAPE, lambda x: mb.split(x=x, num_splits=2, axis=2)[1], lambda x: x[..., 2:]),
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
    "slice_by_size": (
        SHAPE,
        lambda x: mb.slice_by_size(x=x, begin=[0, -2, 1], size=[2, 1, -1]),
        lambda x: x[:, 1:2, 1:],
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
    "squeeze": ((1, 3, 1, 2), lambda x: mb.squeeze(x=x, axes=[-2]), lambda x: x[:, :, 0]),
    "squeeze everything": ((1, 3, 1, 2), lambda x: mb.squeeze(x=x), lambda x: x[0, :, 0]),
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
    interpreter_of_definition(case, *CASES[case], tmp_path)


def updated(x):
    y = x.copy()
    y[0:4:2, 1:3] = A[0, :2, :2]
    return y


def test_a_slice_update_of_ios_18_is_its_definition(tmp_path):
    """What is not in the slice stays."""

    def make(x):
        return mb.slice_update(x=x, update=A[0, :2, :2], begin=[0, 1], end=[4, 3], stride=[2, 1])

    assert interpreter_of_definition("slice_update", (4, 5), make, updated, tmp_path, IOS18).spec_version == 9


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

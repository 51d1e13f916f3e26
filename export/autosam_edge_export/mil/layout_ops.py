"""The MIL operators that move, make and convert values, written as those in ``compute_ops``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge_export.mil.compute_ops import inner_first
from autosam_edge_export.mil.registry import operator, refused


@operator("cast", moves=True)
def _cast(x: Tensor, dtype: Literal["fp16", "fp32", "int32", "bool"]) -> Tensor:
    """iOS15.elementwise_unary.cast, iOS17."""
    types = {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}
    return x.to(types[dtype])


@operator("concat", moves=True)
def _concat(values: list[Tensor], axis: int, interleave: Literal[False] = False) -> Tensor:  # noqa: ARG001
    """iOS15.tensor_operation.concat."""
    return torch.cat(values, axis)


@operator("tile", moves=True)
def _tile(x: Tensor, reps: list[int]) -> Tensor:
    """iOS15.tensor_operation.tile."""
    return x.repeat(reps)


@operator("pad", moves=True)
def _pad(
    x: Tensor, pad: list[int], mode: Literal["constant"] = "constant", constant_val: float = 0.0
) -> Tensor:
    """iOS15.tensor_operation.pad, iOS17."""
    return F.pad(x, inner_first(pad), mode, constant_val)


@operator("reshape", moves=True)
def _reshape(x: Tensor, shape: list[int]) -> Tensor:
    """iOS15.tensor_transformation.reshape, iOS17: 0 is the size of x's axis, counted from the last, or 1."""
    lead = x.ndim - len(shape)
    sizes = [size or (x.shape[i + lead] if i + lead >= 0 else 1) for i, size in enumerate(shape)]
    return x.reshape(sizes)


@operator("transpose", moves=True)
def _transpose(x: Tensor, perm: list[int]) -> Tensor:
    """iOS15.tensor_transformation.transpose."""
    return x.permute(perm)


@operator("expand_dims", moves=True)
def _expand_dims(x: Tensor, axes: list[int]) -> Tensor:
    """iOS15.tensor_transformation.expand_dims, iOS17."""
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("slice_by_index", moves=True)
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
    steps, no = stride or [1] * x.ndim, [False] * x.ndim
    if min(steps) < 1:
        raise refused(f"a slice has the stride {min(steps)}")
    from_start, to_end, one = begin_mask or no, end_mask or no, squeeze_mask or no
    return x[
        tuple(
            begin[i]
            if one[i]
            else slice(None if from_start[i] else begin[i], None if to_end[i] else end[i], steps[i])
            for i in range(x.ndim)
        )
    ]


@operator("gather", moves=True)
def _gather(
    x: Tensor,
    indices: Tensor,
    axis: int = 0,
    batch_dims: Literal[0] = 0,  # noqa: ARG001
    validate_indices: bool | None = None,
) -> Tensor:
    """iOS15.scatter_gather.gather, iOS16, iOS17.

    Before iOS 17 (without ``validate_indices``), an index below 0 counts from the end; later it is refused.
    """
    axis %= x.ndim
    size, places = x.shape[axis], indices.long()
    if validate_indices is None:
        places = torch.where(places < 0, places + size, places)
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < size:
        raise refused(f"an index is out of the bounds of an axis of {size}, for which nothing is defined")
    taken = x.index_select(axis, places.flatten())
    return taken.reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

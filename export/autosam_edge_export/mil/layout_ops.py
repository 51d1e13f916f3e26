"""The MIL operators that move, make and convert values, written as those in ``compute_ops``."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge_export.mil.compute_ops import inner_first
from autosam_edge_export.mil.package import damaged
from autosam_edge_export.mil.registry import operator, refused

Number = float | bool


@operator("identity", moves=True)
def _identity(x: Tensor) -> Tensor:
    """iOS15.tensor_operation.identity."""
    return x


@operator("cast", moves=True)
def _cast(x: Tensor, dtype: Literal["fp16", "fp32", "int32", "bool"]) -> Tensor:
    """iOS15.elementwise_unary.cast, iOS17."""
    return x.to(
        {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "bool": torch.bool}[dtype]
    )


@operator("fill", moves=True)
def _fill(shape: list[int], value: Number = 0.0) -> Tensor:
    """iOS15.tensor_operation.fill."""
    return torch.full(shape, value)


@operator("concat", moves=True)
def _concat(values: list[Tensor], axis: int, interleave: Literal[False] = False) -> Tensor:  # noqa: ARG001
    """iOS15.tensor_operation.concat."""
    return torch.cat(values, axis)


@operator("stack", moves=True)
def _stack(values: list[Tensor], axis: int) -> Tensor:
    """iOS15.tensor_operation.stack."""
    return torch.stack(values, axis)


@operator("split", moves=True)
def _split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: list[int] | None = None
) -> list[Tensor]:
    """iOS15.tensor_operation.split."""
    if split_sizes is None:
        if num_splits is None or x.shape[axis] % num_splits:
            raise damaged("a split has no even parts")
        split_sizes = [x.shape[axis] // num_splits] * num_splits
    return list(torch.split(x, split_sizes, axis))


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


@operator("squeeze", moves=True)
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
        begin[i]
        if one[i]
        else slice(None if from_start[i] else begin[i], None if to_end[i] else end[i], steps[i])
        for i in range(rank)
    )


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
    return x[_selection(x.ndim, begin, end, stride, begin_mask, end_mask, squeeze_mask)]


@operator("slice_update", moves=True)
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


@operator("slice_by_size", moves=True)
def _slice_by_size(x: Tensor, begin: list[int], size: list[int]) -> Tensor:
    """iOS15.tensor_transformation.slice_by_size, iOS17."""
    for axis, (start, length) in enumerate(zip(begin, size, strict=True)):
        first = start % x.shape[axis]
        x = x.narrow(axis, first, x.shape[axis] - first if length == -1 else length)
    return x


def _positions(indices: Tensor, size: int, validate_indices: bool | None) -> Tensor:
    """Indices from 0 on.

    Before iOS 17 (without ``validate_indices``), an index below 0 counts from the end; later it is refused.

    Raises:
        ExportError: An index is out of bounds (AE-EXPORT-008).
    """
    places = indices.long()
    if validate_indices is None:
        places = torch.where(places < 0, places + size, places)
    if places.numel() and not 0 <= int(places.min()) <= int(places.max()) < size:
        raise refused(f"an index is out of the bounds of an axis of {size}, for which nothing is defined")
    return places


@operator("gather", moves=True)
def _gather(
    x: Tensor, indices: Tensor, axis: int = 0, batch_dims: int = 0, validate_indices: bool | None = None
) -> Tensor:
    """iOS15.scatter_gather.gather, iOS16, iOS17."""
    axis %= x.ndim
    if batch_dims:
        pairs = zip(x, indices, strict=True)
        return torch.stack(
            [_gather(values, places, axis - 1, batch_dims - 1, validate_indices) for values, places in pairs]
        )
    places = _positions(indices, x.shape[axis], validate_indices)
    return x.index_select(axis, places.flatten()).reshape(
        *x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]
    )


@operator("gather_along_axis", moves=True)
def _gather_along_axis(
    x: Tensor, indices: Tensor, axis: int = 0, validate_indices: bool | None = None
) -> Tensor:
    """iOS15.scatter_gather.gather_along_axis, iOS17."""
    return torch.gather(x, axis, _positions(indices, x.shape[axis], validate_indices))


@operator("scatter")
def _scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    mode: Literal["add", "update"],
    axis: int = 0,
    validate_indices: bool | None = None,
) -> Tensor:
    """iOS15.scatter_gather.scatter, iOS17; ``mode`` is required, as coremltools documents two defaults."""
    places = _positions(indices, data.shape[axis], validate_indices)
    return data.index_add(axis, places, updates) if mode == "add" else data.index_copy(axis, places, updates)

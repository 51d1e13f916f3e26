"""A stage of the Swin transformer at rank <= 5, with attention over a few windows at a time.

MONAI's stage partitions windows through a rank-8 view, builds the shift mask of windows x tokens x tokens (161 MB at 96^3) on every
call, and holds the scores of all windows at once (484 MB). Here

- windows are cut from one slab of windows at a time, so one rank-5 permute does it;
- the shift mask is two features per shifted axis: with t = 1 in the tail that wrapped around and h = 1 - t, q carries (t, h) and k
  carries -100 (h, t). Their product adds 0 within a region and -100 or less between two, exactly, in any precision;
- the relative-position bias is gathered from its table by an index that is itself a difference of two short vectors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from autosam_edge_export.edge.layers import one_item
from autosam_edge_training.merging import MERGING_ORDERS, merging_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from monai.networks.nets.swin_unetr import BasicLayer, SwinTransformerBlock, WindowAttention

Attention = Literal["matmul", "fused"]
MASK = -100.0  # what MONAI adds between regions


def partition(slab: Tensor, window: Sequence[int]) -> Tensor:
    """One slab of windows, (a, H, W, C), into (windows, tokens, C); a is the window's depth, H and W are multiples of its sides."""
    a, height, width, channels = slab.shape
    _, b, c = window
    y = slab.reshape(a, height // b, b, width // c, c * channels).permute(1, 3, 0, 2, 4)
    return y.reshape(-1, a * b * c, channels)


def assemble(tokens: Tensor, window: Sequence[int], height: int, width: int) -> Tensor:
    """The inverse of :func:`partition`: (windows, tokens, C) -> (a, H, W, C)."""
    a, b, c = window
    channels = tokens.shape[-1]
    y = tokens.reshape(height // b, width // c, a, b, c * channels).permute(2, 0, 3, 1, 4)
    return y.reshape(a, height, width, channels)


def roll(x: Tensor, shift: Sequence[int]) -> Tensor:
    """``torch.roll`` by ``-shift`` over the first three axes, as slices laid end to end; negative shifts roll back."""
    for axis, steps in enumerate(shift):
        if steps:
            cut = steps % x.shape[axis]
            before = (slice(None),) * axis
            x = torch.cat([x[(*before, slice(cut, None))], x[(*before, slice(0, cut))]], dim=axis)
    return x


def wrap_marks(grid: Sequence[int], shift: Sequence[int], like: Tensor) -> tuple[Tensor, Tensor]:
    """What q and k carry on a padded grid so that regions do not see each other, each (D, H, W, 2 x shifted axes).

    Args:
        grid: (D, H, W), multiples of the window.
        shift: By axis; at least one is not 0.
        like: Gives type and device.
    """
    query, key = [], []
    for axis, steps in enumerate(shift):
        if steps:
            tail = torch.zeros(grid[axis], dtype=like.dtype, device=like.device)
            tail[-steps:] = 1.0
            shape = [1, 1, 1]
            shape[axis] = grid[axis]
            tail = tail.reshape(shape).expand(*grid)
            query += [tail, 1.0 - tail]
            key += [1.0 - tail, tail]
    return torch.stack(query, dim=-1), torch.stack(key, dim=-1) * MASK


class EdgeAttention(nn.Module):
    """Window attention on MONAI's parameters.

    Args:
        attention: The module replaced.
        kind: ``matmul`` writes the product, bias and softmax out; ``fused`` is one scaled-dot-product operator.
    """

    def __init__(self, attention: WindowAttention, kind: Attention) -> None:
        super().__init__()
        self.heads, self.kind = attention.num_heads, kind
        self.proj = attention.proj
        self.table = nn.Parameter(attention.relative_position_bias_table.t().contiguous(), requires_grad=False)
        scale = torch.ones_like(attention.qkv.bias)
        scale[: attention.dim] = attention.scale
        self.weight = nn.Parameter(attention.qkv.weight * scale[:, None], requires_grad=False)
        self.bias = nn.Parameter(attention.qkv.bias * scale, requires_grad=False)
        # MONAI's index of the tokens i, j is place[i] - place[j] + middle; a smaller window uses the first rows and columns of it.
        index = attention.relative_position_index
        self.middle = int(index[0, 0])
        self.register_buffer("place", (index[:, 0] - self.middle).to(torch.int32))

    def position_bias(self, tokens: int) -> Tensor:
        """(heads, tokens, tokens)."""
        place = self.place[:tokens]
        index = place[:, None] - place[None, :] + self.middle
        return torch.index_select(self.table, 1, index.reshape(-1)).reshape(self.heads, tokens, tokens)

    def forward(self, x: Tensor, marks: tuple[Tensor, Tensor] | None, bias: Tensor) -> Tensor:
        """Attend within each window.

        Args:
            x: (windows, tokens, C).
            marks: Of :func:`wrap_marks`, for q and k, each (windows, tokens, features); None for windows that are not shifted.
            bias: Of :meth:`position_bias`.
        """
        windows, tokens, channels = x.shape
        projected = F.linear(x, self.weight, self.bias).reshape(windows, tokens, 3 * self.heads, channels // self.heads)
        q, k, v = projected.permute(0, 2, 1, 3).chunk(3, dim=1)
        if marks is not None:
            for_q, for_k = (mark[:, None].expand(-1, self.heads, -1, -1) for mark in marks)
            q, k = torch.cat([q, for_q], dim=-1), torch.cat([k, for_k], dim=-1)
        if self.kind == "fused":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=1.0)
        else:
            y = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) + bias, dim=-1).matmul(v)
        return self.proj(y.permute(0, 2, 1, 3).reshape(windows, tokens, channels))


class EdgeBlock(nn.Module):
    """One Swin block on a (D, H, W, C) grid.

    Args:
        block: The module replaced.
        kind: See :class:`EdgeAttention`.
        windows_at_once: Most windows whose scores exist together; whole rows of windows, and at least one.
    """

    def __init__(self, block: SwinTransformerBlock, kind: Attention, windows_at_once: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.attention = EdgeAttention(block.attn, kind)
        self.expand, self.contract = block.mlp.linear1, block.mlp.linear2
        self.window, self.shift = tuple(block.window_size), tuple(block.shift_size)
        self.windows_at_once = windows_at_once

    def forward(self, x: Tensor) -> Tensor:
        """(D, H, W, C) -> the same."""
        x = x + self._attend(self.norm1(x))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        sides = x.shape[:3]
        window = [min(side, most) for side, most in zip(sides, self.window, strict=True)]
        shift = [0 if side <= most else steps for side, most, steps in zip(sides, self.window, self.shift, strict=True)]
        grid = [-(-side // edge) * edge for side, edge in zip(sides, window, strict=True)]
        extra = [after - before for after, before in zip(grid, sides, strict=True)]
        if any(extra):
            x = F.pad(x, (0, 0, 0, extra[2], 0, extra[1], 0, extra[0]))
        marks = None
        if any(shift):
            x = roll(x, shift)
            marks = wrap_marks(grid, shift, x)
        a, b, _ = window
        bias = self.attention.position_bias(a * b * window[2])
        rows = b * max(1, self.windows_at_once // (grid[2] // window[2]))
        slabs = []
        for depth in range(0, grid[0], a):
            parts = []
            for row in range(0, grid[1], rows):
                part = (slice(depth, depth + a), slice(row, min(row + rows, grid[1])))
                here = None if marks is None else (partition(marks[0][part], window), partition(marks[1][part], window))
                tokens = self.attention(partition(x[part], window), here, bias)
                parts.append(assemble(tokens, window, part[1].stop - row, grid[2]))
            slabs.append(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        y = torch.cat(slabs, dim=0) if len(slabs) > 1 else slabs[0]
        y = roll(y, [-steps for steps in shift])
        return y[: sides[0], : sides[1], : sides[2]]


class EdgeMerging(nn.Module):
    """Patch merging: 2 x 2 x 2 neighbors become channels, in the order that the checkpoint was trained with.

    Args:
        merging: The module replaced.
    """

    def __init__(self, merging: nn.Module) -> None:
        super().__init__()
        self.order = MERGING_ORDERS[merging_of(merging)]
        self.norm, self.reduction = merging.norm, merging.reduction

    def forward(self, x: Tensor) -> Tensor:
        """(D, H, W, C) -> (D/2, H/2, W/2, 2 C), sides rounded up."""
        odd = [side % 2 for side in x.shape[:3]]
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[2], 0, odd[1], 0, odd[0]))
        corners = [x[i::2, j::2, k::2] for i, j, k in self.order]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class EdgeStage(nn.Module):
    """A stage of MONAI's SwinTransformer.

    Args:
        stage: The module replaced.
        kind, windows_at_once: See :class:`EdgeBlock`.
    """

    def __init__(self, stage: BasicLayer, kind: Attention, windows_at_once: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([EdgeBlock(block, kind, windows_at_once) for block in stage.blocks])
        self.merging = None if stage.downsample is None else EdgeMerging(stage.downsample)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> (1, 2 C, D/2, H/2, W/2)."""
        one_item(x)
        x = x[0].permute(1, 2, 3, 0)
        for block in self.blocks:
            x = block(x)
        if self.merging is not None:
            x = self.merging(x)
        return x.permute(3, 0, 1, 2)[None]

"""A stage of the Swin transformer at rank <= 5, with attention over a few windows at a time.

MONAI's stage partitions windows through a rank-8 view, builds the shift mask of windows x tokens x tokens
(161 MB at 96^3) on every call, and holds the scores of all windows at once (484 MB). Here

- windows are cut from one slab of windows at a time, so one rank-5 permute does it;
- the shift mask is a mark per axis, 1 in the tail that wrapped around, that travels with the tokens and
  becomes two features of q and k, whose product adds 0 within a region and -100 or less between two, exactly,
  in any precision;
- the relative-position bias is gathered from its table by an index that is itself a difference of two short
  vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.nets.swin_unetr import (
    BasicLayer,
    PatchMerging,
    PatchMergingV2,
    SwinTransformer,
    SwinTransformerBlock,
    WindowAttention,
)
from torch import Tensor, nn
from torch.nn import functional as F

from autosam_edge_export.edge.layers import MeansLayerNorm, one_item
from autosam_edge_export.edge.options import EdgeOptions

MASK = -100.0  # what MONAI adds between regions
_CORNERS = (0, 4, 2, 1, 6, 5, 3, 7)  # MONAI's order of the neighbors 4 d + 2 h + w in the channels


def partition(slab: Tensor, window: Sequence[int]) -> Tensor:
    """One slab of windows as tokens, (a, H, W, C) -> (windows, tokens, C).

    a is the depth of a window; H and W are multiples of its other sides.
    """
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
    """``torch.roll`` by ``-shift`` over the first three axes, as concatenated slices."""
    for axis, steps in enumerate(shift):
        if steps:
            cut = steps % x.shape[axis]
            before = (slice(None),) * axis
            x = torch.cat([x[(*before, slice(cut, None))], x[(*before, slice(0, cut))]], dim=axis)
    return x


def tail_marks(grid: Sequence[int], shift: Sequence[int], like: Tensor) -> Tensor:
    """1 where a padded grid wrapped around, by axis: (D, H, W, 3).

    Args:
        grid: Sides of the grid (D, H, W), multiples of the window's.
        shift: Shift of each axis (D, H, W), tokens; an axis with 0 has no tail.
    """
    marks = []
    for axis, steps in enumerate(shift):
        ends = (grid[axis] - steps, torch.zeros), (steps, torch.ones)
        tail = torch.cat([make(count, dtype=like.dtype, device=like.device) for count, make in ends])
        shape = [1, 1, 1, 1]
        shape[axis] = grid[axis]
        marks.append(tail.reshape(shape).expand(*grid, 1))
    return torch.cat(marks, dim=-1)


class EdgeAttention(nn.Module):
    """Window attention on MONAI's parameters.

    The projections also carry the marks to where they count: with m a mark, each head's q ends in (m, 1 - m)
    and its k in -100 (1 - m, m) for each axis.

    Args:
        kind: Form of the attention, see :class:`~autosam_edge_export.edge.options.EdgeOptions`.
        marked: True if :func:`tail_marks` stand behind the channels of the tokens.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, attention: WindowAttention, kind: str, *, marked: bool) -> None:
        super().__init__()
        self.heads, self.kind = attention.num_heads, kind
        self.proj = attention.proj
        self.table = nn.Parameter(
            attention.relative_position_bias_table.detach().t().contiguous(), requires_grad=False
        )
        axes = 3 if marked else 0
        weights, biases = attention.qkv.weight.detach().chunk(3), attention.qkv.bias.detach().chunk(3)
        q_weight, q_bias = weights[0] * attention.scale, biases[0] * attention.scale
        self.q = _projection(q_weight, q_bias, self.heads, axes, [(1.0, 0.0), (-1.0, 1.0)])
        self.k = _projection(weights[1], biases[1], self.heads, axes, [(-MASK, MASK), (MASK, 0.0)])
        self.v = _projection(weights[2], biases[2], self.heads, axes, [])
        # MONAI's index of the tokens i, j is rows[i] - columns[j]; a smaller window uses the first rows and
        # columns of it. (Two vectors, as converters take a number that is added to whole ones for a float.)
        index = cast("Tensor", attention.relative_position_index).to(torch.int32)
        self.register_buffer("rows", index[:, 0].clone())
        self.register_buffer("columns", index[0, 0] - index[0, :])

    def position_bias(self, tokens: int) -> Tensor:
        """(heads, tokens, tokens)."""
        index = self.rows[:tokens, None] - self.columns[None, :tokens]
        return torch.index_select(self.table, 1, index.reshape(-1)).reshape(self.heads, tokens, tokens)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Attend within each window.

        Args:
            bias: Result of :meth:`position_bias`, (heads, tokens, tokens).

        Returns:
            (windows, tokens, C).
        """
        q, k, v = self.q(x), self.k(x), self.v(x)
        y = self._by_head(q, k, v, bias) if self.kind == "by-head" else self._at_once(q, k, v, bias)
        return self.proj(y)

    def _by_head(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        heads = []
        for head in range(self.heads):
            of_q, of_k, of_v = (self._of_head(x, head) for x in (q, k, v))
            scores = torch.bmm(of_q, of_k.transpose(1, 2)) + bias[head : head + 1]
            heads.append(torch.bmm(torch.softmax(scores, dim=-1), of_v))
        return torch.cat(heads, dim=-1)

    def _of_head(self, x: Tensor, head: int) -> Tensor:
        step = x.shape[-1] // self.heads
        return x[..., head * step : (head + 1) * step]

    def _at_once(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        windows, tokens, _ = q.shape
        q, k, v = (x.reshape(windows, tokens, self.heads, -1).permute(0, 2, 1, 3) for x in (q, k, v))
        if self.kind == "fused":
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias[None], scale=1.0)
        else:
            y = torch.softmax(torch.matmul(q, k.transpose(-2, -1)) + bias, dim=-1).matmul(v)
        return y.permute(0, 2, 1, 3).reshape(windows, tokens, -1)


def _projection(
    weight: Tensor, bias: Tensor, heads: int, axes: int, marks: Sequence[tuple[float, float]]
) -> nn.Linear:
    """A projection (C -> C) with extra features per head.

    Behind its features, each head gets slope * mark + offset for each axis and each of ``marks``.
    """
    outputs, channels = weight.shape
    features = outputs // heads
    wide = weight.new_zeros(heads, features + axes * len(marks), channels + axes)
    offsets = weight.new_zeros(wide.shape[:2])
    wide[:, :features, :channels] = weight.reshape(heads, features, channels)
    offsets[:, :features] = bias.reshape(heads, features)
    for axis in range(axes):
        for row, (slope, offset) in enumerate(marks, start=features + axis * len(marks)):
            wide[:, row, channels + axis], offsets[:, row] = slope, offset
    linear = nn.Linear(channels + axes, wide[..., 0].numel(), dtype=weight.dtype, device=weight.device)
    linear.weight.data, linear.bias.data = wide.flatten(0, 1), offsets.flatten()
    return linear


class EdgeBlock(nn.Module):
    """One Swin block on a (D, H, W, C) grid.

    Args:
        options: Options of the edge form.
    """

    windows_at_once = 49
    """Largest number of windows whose scores exist together, rounded down to whole rows, at least one; fewer
    windows take less memory and more operators."""

    def __init__(self, block: SwinTransformerBlock, options: EdgeOptions) -> None:
        super().__init__()
        self.norm1, self.norm2 = block.norm1, block.norm2
        self.marked = any(block.shift_size)
        self.attention = EdgeAttention(block.attn, options.attention, marked=self.marked)
        self.expand, self.contract = block.mlp.linear1, block.mlp.linear2
        self.window, self.shift = tuple(block.window_size), tuple(block.shift_size)

    def forward(self, x: Tensor) -> Tensor:
        """(D, H, W, C) -> the same."""
        x = x + self._attend(self.norm1(x))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))

    def _attend(self, x: Tensor) -> Tensor:
        sides = x.shape[:3]
        window = [min(side, most) for side, most in zip(sides, self.window, strict=True)]
        shift = [
            0 if side <= most else steps
            for side, most, steps in zip(sides, self.window, self.shift, strict=True)
        ]
        grid = [-(-side // edge) * edge for side, edge in zip(sides, window, strict=True)]
        extra = [after - before for after, before in zip(grid, sides, strict=True)]
        if any(extra):
            x = F.pad(x, (0, 0, 0, extra[2], 0, extra[1], 0, extra[0]))
        x = roll(x, shift)
        if self.marked:
            x = torch.cat([x, tail_marks(grid, shift, x)], dim=-1)
        a, b, _ = window
        bias = self.attention.position_bias(a * b * window[2])
        rows = b * max(1, self.windows_at_once // (grid[2] // window[2]))
        slabs = []
        for depth in range(0, grid[0], a):
            parts = []
            for row in range(0, grid[1], rows):
                part = x[depth : depth + a, row : row + rows]
                tokens = self.attention(partition(part, window), bias)
                parts.append(assemble(tokens, window, part.shape[1], grid[2]))
            slabs.append(torch.cat(parts, dim=1) if len(parts) > 1 else parts[0])
        y = torch.cat(slabs, dim=0) if len(slabs) > 1 else slabs[0]
        y = roll(y, [-steps for steps in shift])
        return y[: sides[0], : sides[1], : sides[2]]


class EdgeMerging(nn.Module):
    """Patch merging: 2 x 2 x 2 neighbors become channels, in MONAI's order."""

    def __init__(self, merging: PatchMergingV2) -> None:
        super().__init__()
        if type(merging) is not PatchMerging:  # a class with the same parameters may have another order
            raise ValueError(f"{type(merging).__name__} is no patch merging that a student is trained with")
        self.norm, self.reduction = merging.norm, merging.reduction

    def forward(self, x: Tensor) -> Tensor:
        """(D, H, W, C) -> (D/2, H/2, W/2, 2 C), sides rounded up."""
        odd = [side % 2 for side in x.shape[:3]]
        if any(odd):
            x = F.pad(x, (0, 0, 0, odd[2], 0, odd[1], 0, odd[0]))
        depth, height, width, channels = x.shape
        x = x.reshape(depth // 2, 2, height // 2, 2, width * channels).permute(0, 2, 1, 3, 4)
        x = x.reshape(depth * height // 4, 4, width // 2, 2 * channels).permute(0, 2, 1, 3)
        x = x.reshape(depth // 2, height // 2, width // 2, 8 * channels)
        x = torch.cat([x[..., corner * channels : (corner + 1) * channels] for corner in _CORNERS], dim=-1)
        return self.reduction(self.norm(x))


class EdgeStage(nn.Module):
    """A stage of MONAI's SwinTransformer."""

    def __init__(self, stage: BasicLayer, options: EdgeOptions) -> None:
        super().__init__()
        self.planes = options.planes
        self.blocks = nn.ModuleList(
            [EdgeBlock(cast("SwinTransformerBlock", block), options) for block in stage.blocks]
        )
        self.merging = (
            None if stage.downsample is None else EdgeMerging(cast("PatchMergingV2", stage.downsample))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, D, H, W) -> (1, 2 C, D/2, H/2, W/2), or on planes (D, C, H, W) -> (D/2, 2 C, H/2, W/2)."""
        if self.planes:
            return self._on_grid(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        one_item(x)
        return self._on_grid(x[0].permute(1, 2, 3, 0)).permute(3, 0, 1, 2)[None]

    def _on_grid(self, x: Tensor) -> Tensor:
        """(D, H, W, C) -> (D/2, H/2, W/2, 2 C)."""
        for block in self.blocks:
            x = block(x)
        return x if self.merging is None else self.merging(x)


class PlaneTransformer(nn.Module):
    """MONAI's SwinTransformer on planes, with the norms of its outputs written out.

    Args:
        transformer: Module to replace; its stages are replaced after it.
    """

    def __init__(self, transformer: SwinTransformer) -> None:
        super().__init__()
        norm = cast("nn.Module | None", transformer.patch_embed.norm)
        if transformer.use_v2 or norm is not None:
            raise ValueError("SwinTransformer V2 and normalized patches have no form on planes here")
        self.embed = transformer.patch_embed.proj
        stages = (transformer.layers1, transformer.layers2, transformer.layers3, transformer.layers4)
        self.stages = nn.ModuleList([stage[0] for stage in stages])
        channels = [transformer.embed_dim * 2**level for level in range(len(stages) + 1)]
        self.norms = nn.ModuleList(
            [MeansLayerNorm(nn.LayerNorm(count, elementwise_affine=False)) for count in channels]
        )

    def forward(self, x: Tensor, normalize: bool = True) -> list[Tensor]:
        """The embedding and the output of each stage.

        (D, 1, H, W) -> (D / 2^i, C 2^(i - 1), H / 2^i, W / 2^i) for i = 1, 2, ...
        """
        outputs = [self.embed(x)]
        for stage in self.stages:
            outputs.append(stage(outputs[-1]))
        if not normalize:
            return outputs
        return [
            norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            for norm, y in zip(self.norms, outputs, strict=True)
        ]

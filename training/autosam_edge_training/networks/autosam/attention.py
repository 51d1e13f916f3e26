"""SAM's attention with its decomposed relative positions, over the tokens of a three-dimensional window."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

RelPos = Literal["crop", "interp"]

_REGIONS = 8  # one bit per axis, see windows.window_regions
# Logit of a token of another region: exp(-1000) is 0 in every float type, and 1000 is exact in all of them.
_APART = -1000.0


class WindowAttention(nn.Module):
    """Multi-head attention with decomposed relative positions, ``q . Rd + q . Rh + q . Rw`` (q unscaled).

    Args:
        table_window: Side of the windows that SAM's tables are drawn for; they have ``2 * table_window - 1``
            rows.
        rel_pos: Fit of a table to the window: ``crop`` takes the central rows, so that an offset means
            what it meant to SAM; ``interp`` stretches, as SAM does.

    ``rel_pos_d`` is the mean of SAM's two tables (:meth:`derive_depth_table`).
    """

    def __init__(self, dim: int, heads: int, *, table_window: int = 14, rel_pos: RelPos = "crop") -> None:
        super().__init__()
        self.heads = heads
        self.scale = (dim // heads) ** -0.5
        self.rel_pos = rel_pos
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        rows = 2 * table_window - 1
        self.rel_pos_d = nn.Parameter(torch.zeros(rows, dim // heads))
        self.rel_pos_h = nn.Parameter(torch.zeros(rows, dim // heads))
        self.rel_pos_w = nn.Parameter(torch.zeros(rows, dim // heads))

    @torch.no_grad()
    def derive_depth_table(self) -> None:
        """Set the depth table to the mean of SAM's two tables."""
        self.rel_pos_d.copy_((self.rel_pos_h + self.rel_pos_w) / 2)

    def forward(self, windows: Tensor, regions: Tensor | None = None) -> Tensor:
        """Attend within each window.

        Args:
            windows: (N, d, h, w, C).
            regions: (windows of one volume, d * h * w) int64, where only tokens of equal region see each
                other; None: all do.

        Returns:
            (N, d, h, w, C).
        """
        count, *size, dim = windows.shape
        tokens = size[0] * size[1] * size[2]
        # (N, T, 3, heads, c) -> 3 x (N, heads, T, c)
        query, key, value = (
            self.qkv(windows).reshape(count, tokens, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        )
        biases = self._position_biases(query, (size[0], size[1], size[2]))
        if regions is not None:
            # (N, 1, T), the volumes of the batch in a row
            regions = regions.repeat(count // regions.shape[0], 1)[:, None]
        mixed = self._attend(query * self.scale, key, value, biases, regions)
        return self.proj(mixed.transpose(1, 2).reshape(count, *size, dim))

    def _position_biases(self, query: Tensor, size: tuple[int, int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Each query's bias for the keys' depth, row and column, (N, heads, T, d), (.., h) and (.., w)."""
        rows = [
            relative_rows(table, side, self.rel_pos)
            for table, side in zip((self.rel_pos_d, self.rel_pos_h, self.rel_pos_w), size, strict=True)
        ]
        placed = query.reshape(*query.shape[:2], *size, -1)
        by_depth = torch.einsum("nadhwc,dkc->nadhwk", placed, rows[0]).flatten(2, 4)
        by_row = torch.einsum("nadhwc,hkc->nadhwk", placed, rows[1]).flatten(2, 4)
        by_column = torch.einsum("nadhwc,wkc->nadhwk", placed, rows[2]).flatten(2, 4)
        return by_depth, by_row, by_column

    @staticmethod
    def _attend(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        biases: tuple[Tensor, Tensor, Tensor],
        regions: Tensor | None,
    ) -> Tensor:
        """Attention as one product of longer queries and keys for a fused kernel; no N x N logits.

        The bias of a key is picked from the query's biases by the key's one-hot coordinates, and a mark per
        region adds ``_APART`` where it is not the key's own.
        """
        count, heads, tokens, channels = query.shape
        sides = [bias.shape[-1] for bias in biases]
        axes = [torch.arange(side, device=query.device) for side in sides]
        coordinates = torch.cartesian_prod(*axes)  # (T, 3)
        marks = torch.cat(
            [F.one_hot(coordinates[:, axis], side) for axis, side in enumerate(sides)], dim=1
        ).to(key.dtype)
        longer_query = [query, *(bias.to(query.dtype) for bias in biases)]
        longer_key = [key, marks.expand(count, heads, -1, -1)]
        if regions is not None:
            own = F.one_hot(regions, _REGIONS).to(query.dtype)
            longer_query.append((_APART * (1.0 - own)).expand(-1, heads, -1, -1))
            longer_key.append(own.expand(-1, heads, -1, -1))
        length = sum(part.shape[-1] for part in longer_query)
        # Fused kernels want one length for query, key and value, a multiple of 8.
        filler = query.new_zeros(()).expand(count, heads, tokens, -length % 8)
        length += filler.shape[-1]
        mixed = F.scaled_dot_product_attention(
            torch.cat([*longer_query, filler], dim=-1),
            torch.cat([*longer_key, filler], dim=-1),
            F.pad(value, (0, length - channels)),
            scale=1.0,
        )
        return mixed[..., :channels]


def relative_rows(table: Tensor, side: int, how: RelPos) -> Tensor:
    """Rows of a table of relative positions for every pair of a query and a key on one axis.

    Args:
        table: (2 * n - 1, c), the offset 0 in the middle.
        how: Value of ``rel_pos``, see :class:`WindowAttention`.

    Returns:
        (side, side, c): query, key.
    """
    rows = 2 * side - 1
    if table.shape[0] != rows:
        if how == "crop":
            first = (table.shape[0] - rows) // 2
            assert first >= 0, "the config allows no window beyond the table"
            table = table[first : first + rows]
        else:
            table = F.interpolate(table.T[None], size=rows, mode="linear", align_corners=False)[0].T
    steps = torch.arange(side, device=table.device)
    return table[steps[:, None] - steps + side - 1]

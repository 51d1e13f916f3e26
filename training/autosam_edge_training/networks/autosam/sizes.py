"""The vision transformers by name; sizes live here and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from autosam_edge_training.strict import STRICT, checked_dataclass

ViTName = Literal["b", "l", "h", "tiny"]


@checked_dataclass(config=STRICT, kw_only=True)
class ViT:
    """Numbers of a vision transformer with SAM's layout.

    Args:
        heads: Attention heads; divide ``dim``.
        taps: Blocks, counted from 0, whose tokens go to a neck: SAM's global blocks; the last one is the last
            block.
        patch: Side of its 2D patches in pixels.
        grid: Side of its table of positions; the relative ones of global blocks are drawn for it.
        table_window: Side of the windows that the relative positions of its other blocks are drawn for.
        depth_positions: Rows of the table of positions along depth; other depths resize it.
    """

    dim: int
    depth: int
    heads: int
    taps: tuple[int, ...]
    patch: int = 16
    grid: int = 64
    table_window: int = 14
    depth_positions: int = 32

    def __post_init__(self) -> None:
        if min(
            self.dim, self.depth, self.heads, self.grid, self.table_window, self.depth_positions
        ) < 1 or self.patch not in (4, 8, 16, 32):
            raise ValueError("expected numbers of at least 1 and patches of 4, 8, 16 or 32")
        if self.dim % self.heads:
            raise ValueError(f"{self.heads} heads do not divide {self.dim} channels")
        rising = tuple(sorted(set(self.taps)))
        if rising != self.taps or not rising or rising[0] < 0 or rising[-1] != self.depth - 1:
            raise ValueError(f"expected taps that rise to the last block, {self.depth - 1}, not {self.taps}")


class NamedSize(NamedTuple):
    """A ViT and what a teacher's config holds beside it unless the recipe says otherwise."""

    vit: ViT
    defaults: Mapping[str, Any] = MappingProxyType({})


# B, L and H: segment_anything/build_sam.py. One neck per quarter of the blocks.
SIZES: Mapping[str, NamedSize] = MappingProxyType(
    {
        "b": NamedSize(ViT(dim=768, depth=12, heads=12, taps=(2, 5, 8, 11))),
        "l": NamedSize(ViT(dim=1024, depth=24, heads=16, taps=(5, 11, 17, 23))),
        "h": NamedSize(ViT(dim=1280, depth=32, heads=16, taps=(7, 15, 23, 31))),
        "tiny": NamedSize(
            ViT(dim=48, depth=4, heads=3, taps=(0, 1, 2, 3), grid=8, table_window=7, depth_positions=8),
            MappingProxyType(
                {
                    "patch": (32, 32, 32),
                    "window": (4, 4, 4),
                    "necks": {"out": 16},
                    "apg": {"widths": (8, 16, 24)},
                    "decoder": {"mid": 8},
                }
            ),
        ),
    }
)

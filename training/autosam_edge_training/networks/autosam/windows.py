"""Windows over the token grid: cut, shifted, and put together again."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

Size = tuple[int, int, int]


def padded_grid(grid: Size, window: Size) -> Size:
    """The grid with each side rounded up to whole windows."""
    depth, height, width = (-(-side // size) * size for side, size in zip(grid, window, strict=True))
    return depth, height, width


def shift_that_applies(grid: Size, window: Size, shift: Size) -> Size:
    """The shift, without the sides that one window covers: there it would only cut what belongs together."""
    depth, height, width = (
        by if side > size else 0 for side, size, by in zip(grid, window, shift, strict=True)
    )
    return depth, height, width


def split_windows(tokens: Tensor, window: Size, shift: Size = (0, 0, 0)) -> Tensor:
    """Cut a grid into windows; sides are padded with zeros at their ends as in SAM, then rolled by the shift.

    Args:
        tokens: (B, D, H, W, C).

    Returns:
        (B * windows, d, h, w, C), the windows of one volume next to each other.
    """
    batch, *grid, channels = tokens.shape
    padded = padded_grid((grid[0], grid[1], grid[2]), window)
    missing = [to - side for to, side in zip(padded, grid, strict=True)]
    if any(missing):
        tokens = F.pad(tokens, (0, 0, 0, missing[2], 0, missing[1], 0, missing[0]))
    if any(shift):
        tokens = torch.roll(tokens, tuple(-by for by in shift), dims=(1, 2, 3))
    counts = [side // size for side, size in zip(padded, window, strict=True)]
    tokens = tokens.reshape(batch, counts[0], window[0], counts[1], window[1], counts[2], window[2], channels)
    # (B, nD, d, nH, h, nW, w, C) -> (B, nD, nH, nW, d, h, w, C)
    return tokens.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, *window, channels)


def merge_windows(windows: Tensor, grid: Size, shift: Size = (0, 0, 0)) -> Tensor:
    """Undo :func:`split_windows`.

    Args:
        windows: (B * windows, d, h, w, C).
        grid: (D, H, W) of the tokens that were cut.
        shift: Shift that ``split_windows`` was called with.

    Returns:
        (B, D, H, W, C).
    """
    _, *window, channels = windows.shape
    padded = padded_grid(grid, (window[0], window[1], window[2]))
    counts = [side // size for side, size in zip(padded, window, strict=True)]
    tokens = windows.reshape(-1, *counts, *window, channels)
    # (B, nD, nH, nW, d, h, w, C) -> (B, nD, d, nH, h, nW, w, C)
    tokens = tokens.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(-1, *padded, channels)
    if any(shift):
        tokens = torch.roll(tokens, shift, dims=(1, 2, 3))
    return tokens[:, : grid[0], : grid[1], : grid[2]]


def window_regions(grid: Size, window: Size, shift: Size, *, device: torch.device | None = None) -> Tensor:
    """Which tokens of a shifted window are neighbors in the volume and which came around its end.

    Args:
        grid: (D, H, W) tokens.
        shift: Shift that :func:`split_windows` is called with.

    Returns:
        (windows, d * h * w) int64 from 0 to 7, one bit per side that wrapped; tokens attend to each other
        where they are equal.
    """
    wrapped = [
        torch.arange(side, device=device) >= side - by
        if by
        else torch.zeros(side, dtype=torch.bool, device=device)
        for side, by in zip(padded_grid(grid, window), shift, strict=True)
    ]
    bits = 4 * wrapped[0].long()[:, None, None] + 2 * wrapped[1].long()[:, None] + wrapped[2].long()
    return split_windows(bits[None, ..., None], window).flatten(1)

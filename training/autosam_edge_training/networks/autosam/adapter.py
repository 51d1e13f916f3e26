"""The spatial adapter: the small trained detour in front of a frozen block."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

Activation = Literal["relu", "gelu"]


class SpatialAdapter(nn.Module):
    """``A(X) = X + act(DWConv(X W_down)) W_up``, no biases.

    Args:
        dim: C, channels of a token.
        hidden: Channels between ``down`` and ``up``.
        act: Activation after the depthwise 3x3x3 convolution.

    ``W_up`` starts at zero: the first step of training sees SAM's own features. There is no activation after
    it, which would keep the gradient of a zero output at zero.

    Source: paper, figure 2B.
    """

    def __init__(self, dim: int, hidden: int, *, act: Activation = "relu") -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden, bias=False)
        self.conv = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.act = nn.ReLU() if act == "relu" else nn.GELU()
        self.up = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D', H', W', C) to the same."""
        hidden = self.down(tokens).permute(0, 4, 1, 2, 3)  # channels first for the convolution
        hidden = self.act(self.conv(hidden)).permute(0, 2, 3, 4, 1)
        return tokens + self.up(hidden)

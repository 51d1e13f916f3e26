"""The spatial adapter: a small trained module in front of a frozen block."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SpatialAdapter(nn.Module):
    """``A(X) = X + ReLU(DWConv(X W_down)) W_up``, 3x3x3, no biases.

    Args:
        hidden: Number of channels between ``down`` and ``up``.

    ``W_up`` starts at zero: the first step of training sees SAM's own features. There is no activation after
    it, which would keep the gradient of a zero output at zero.

    Source: paper, figure 2B.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, hidden, bias=False)
        self.conv = nn.Conv3d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self.up = nn.Linear(hidden, dim, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, D', H', W', C) to the same."""
        hidden = self.down(tokens).permute(0, 4, 1, 2, 3)  # channels first for the convolution
        hidden = F.relu(self.conv(hidden)).permute(0, 2, 3, 4, 1)
        return tokens + self.up(hidden)

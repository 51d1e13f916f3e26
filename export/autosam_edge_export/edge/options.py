"""In which of its forms the edge form comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EdgeOptions:
    """What a target chooses.

    Args:
        attention: ``matmul`` over all heads at once; ``by-head`` where reordering heads costs more than
            operators do; ``fused`` where the target has one operator for it.
        windows_at_once: Most windows whose scores exist together: memory against the number of operators.
        convolution: ``3d`` as it is; ``2d-sum`` or ``2d-concat`` over the depth taps, on planes.
        norm: ``flat`` as an instance norm at rank 3 and a layer norm; ``means`` both written out, on planes.

    Raises:
        ValueError: A norm for planes with 3D convolutions.
    """

    attention: Literal["matmul", "by-head", "fused"] = "matmul"
    windows_at_once: int = 49
    convolution: Literal["3d", "2d-sum", "2d-concat"] = "3d"
    norm: Literal["flat", "means"] = "flat"

    def __post_init__(self) -> None:
        if not self.planes and self.norm != "flat":
            raise ValueError(f"{self.norm} is a form for planes, which 3D convolutions do not take")

    @property
    def planes(self) -> bool:
        """Whether tensors are (D, C, H, W) inside."""
        return self.convolution != "3d"

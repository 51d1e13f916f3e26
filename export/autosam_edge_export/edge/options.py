"""The options of the edge form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class EdgeOptions:
    """What a target chooses.

    Args:
        attention: Form of the attention: ``matmul`` over all heads at once; ``by-head`` where reordering
            heads costs more than operators do; ``fused`` where the target has one operator for it.
        convolution: Form of the convolutions: ``3d``; ``2d-sum`` or ``2d-concat`` over the depth taps, on
            planes.
        norm: Form of the norms: ``flat``, an instance norm at rank 3 and a layer norm; ``native``, the same
            with the instance norm at rank 5, which keeps the layout of 3D convolutions; ``means`` written
            out, on planes.
        upsampling: Form of the transposed convolutions on planes: ``transposed``; or ``shuffle``, a pointwise
            convolution whose channels are then laid out side by side, where a GPU lacks the operator.

    Raises:
        ValueError: A form for planes with 3D convolutions, or one for volumes on planes.
    """

    attention: Literal["matmul", "by-head", "fused"] = "matmul"
    convolution: Literal["3d", "2d-sum", "2d-concat"] = "3d"
    norm: Literal["flat", "native", "means"] = "flat"
    upsampling: Literal["transposed", "shuffle"] = "transposed"

    def __post_init__(self) -> None:
        if not self.planes and (forms := {self.norm, self.upsampling} & {"means", "shuffle"}):
            raise ValueError(f"{min(forms)} is a form for planes, which 3D convolutions do not take")
        if self.planes and self.norm == "native":
            raise ValueError("native is a form for volumes, and on planes there is none")

    @property
    def planes(self) -> bool:
        """Whether tensors are (D, C, H, W) inside."""
        return self.convolution != "3d"


IN_ONNX = EdgeOptions(attention="fused", norm="native")
"""The form in ONNX files, which ONNX Runtime and OpenVINO read."""

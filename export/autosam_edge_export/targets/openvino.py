"""OpenVINO on x86 boxes: it reads the same ONNX files and has kernels for bfloat16 and int8 where the processor has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge_export.convert.to_onnx import OPERATORS
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import BF16_NOT_SUPPORTED
from autosam_edge_export.targets.target import Conversion, Target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge_export.convert.student_forms import Job


def openvino_capabilities() -> Sequence[str]:
    """What OpenVINO's CPU plugin has kernels for here, such as ``BF16``."""
    import openvino

    return tuple(openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class OpenVino(Target):
    """The ONNX file of the precision; bfloat16 is arithmetic and not storage, so it is float32's file."""

    name = "openvino"
    options = EdgeOptions(attention="fused")
    operators = OPERATORS
    packages = ("onnx", "onnxscript", "openvino")
    extra = "openvino"

    def convert(self, job: Job, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`; bfloat16 that the processor lacks is AE-EXPORT-013."""
        if precision == "bf16" and "BF16" not in openvino_capabilities():
            raise BF16_NOT_SUPPORTED(
                "this processor has no bfloat16, and OpenVINO would compute float32: nothing would be proven."
            )
        stored = "fp32" if precision == "bf16" else precision
        return Conversion(f"onnx/{stored}.onnx", {"": job.onnx(self.options, stored)})

"""OpenVINO on x86 computers: it reads ONNX files and uses bfloat16 and int8 where the processor has them."""

from __future__ import annotations

from collections.abc import Sequence

from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_onnx import OPERATORS
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import BF16_NOT_SUPPORTED
from autosam_edge_export.targets.target import Conversion, Target


def openvino_capabilities() -> Sequence[str]:
    """Number formats with kernels in OpenVINO's CPU plugin on this machine, such as ``BF16``."""
    from autosam_edge.engines.openvino_engine import openvino_core

    return tuple(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))


class OpenVino(Target):
    """The ONNX file of the precision; bf16 is an arithmetic and no storage, so it uses the file of fp32."""

    name = "openvino"
    options = EdgeOptions(attention="fused")
    operators = OPERATORS
    packages = ("onnx", "onnxscript", "openvino")
    extra = "openvino"

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`.

        Raises:
            ExportError: The processor has no bfloat16 (AE-EXPORT-013).
        """
        if precision == "bf16" and "BF16" not in openvino_capabilities():
            raise BF16_NOT_SUPPORTED(
                "this processor has no bfloat16; OpenVINO would compute float32 and prove nothing about bf16."
            )
        stored = "fp32" if precision == "bf16" else precision
        return Conversion(f"onnx/{stored}.onnx", {"": forms.onnx(self.options, stored)})

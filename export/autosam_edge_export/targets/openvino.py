"""OpenVINO on x86 computers: it reads ONNX files and uses bfloat16 and int8 where the processor has them."""

from __future__ import annotations

from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_onnx import OPERATORS
from autosam_edge_export.edge import IN_ONNX
from autosam_edge_export.targets.target import Conversion, Target


class OpenVino(Target):
    """The ONNX file of the precision; bf16 is an arithmetic and no storage, so it uses the file of fp32."""

    name = "openvino"
    options = IN_ONNX
    operators = OPERATORS
    packages = ("onnx", "onnxscript", "openvino")
    extra = "openvino"

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`."""
        stored = "fp32" if precision == "bf16" else precision
        return Conversion(f"onnx/{stored}.onnx", {"": forms.onnx(self.options, stored)})

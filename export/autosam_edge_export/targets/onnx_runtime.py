"""ONNX Runtime for phones, tablets, browsers, and the processor of this machine."""

from __future__ import annotations

from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_onnx import OPERATORS, OPERATORS_ON_PLANES
from autosam_edge_export.edge import IN_ONNX, EdgeOptions
from autosam_edge_export.targets.target import Conversion, Target


class OnnxRuntime(Target):
    """One ONNX file with weights inside.

    Its CPU has kernels for 3D convolutions and transposed ones, and one for attention that never writes all
    scores out.
    """

    name = "onnx"
    options = IN_ONNX
    operators = OPERATORS
    packages = ("onnx", "onnxscript", "onnxruntime")
    extra = "export"

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        return Conversion(f"{self.name}/{precision}.onnx", {"": forms.onnx(self.options, precision)})


class OnnxOnPlanes(OnnxRuntime):
    """One ONNX file of operators that WebGPU has, so that no part of the network runs on the processor.

    Its norms are sums that WebAssembly rounds no more than other runtimes; those of its own instance norm are
    a hundred times coarser.
    """

    name = "onnx-2d"
    options = EdgeOptions(convolution="2d-sum", norm="means", upsampling="shuffle")
    operators = OPERATORS_ON_PLANES

"""OpenVINO on x86 boxes: it reads the same ONNX files and has kernels for bfloat16 and int8 where the processor has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.onnx_model import OPERATORS
from autosam_edge_export.targets.target import Capabilities, Conversion, Target

if TYPE_CHECKING:
    from autosam_edge_export.job import Job


class OpenVino(Target):
    """The ONNX file of the precision; bfloat16 is arithmetic and not storage, so it is float32's file."""

    name = "openvino"
    options = EdgeOptions(attention="fused")
    capabilities = Capabilities(OPERATORS, max_rank=5)
    packages = ("onnx", "onnxscript", "openvino")
    extra = "openvino"

    def convert(self, job: Job, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`."""
        stored = "fp32" if precision == "bf16" else precision
        return Conversion(f"onnx/{stored}.onnx", {"": job.onnx(self.options, stored)})

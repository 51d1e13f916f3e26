"""ExecuTorch: phones, tablets and boxes, on the processor through XNNPACK, or on Apple's through Core ML."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from autosam_edge.errors import ExportError
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.executorch_tools import lower
from autosam_edge_export.quiet import quiet
from autosam_edge_export.targets.target import Capabilities, Conversion, Target

if TYPE_CHECKING:
    from autosam_edge_export.job import Job

# What the students' programs on planes are made of. There is no 3D convolution: ExecuTorch has no kernel for one on any processor.
_OPERATORS = frozenset(
    f"aten.{name}"
    for name in (
        *("add.Tensor", "add_.Tensor", "alias.default", "bmm.default", "cat.default", "clamp.default", "contiguous.default"),
        *("conv2d.default", "conv_transpose2d.input", "dropout.default", "expand.default", "gelu.default", "index_select.default"),
        *("leaky_relu.default", "leaky_relu_.default", "linear.default", "mean.dim", "mul.Tensor", "ones.default", "pad.default"),
        *("permute.default", "reshape.default", "rsqrt.default", "select.int", "slice.Tensor", "softmax.int", "sub.Tensor"),
        *("transpose.int", "unsqueeze.default", "zeros.default"),
    )
)
_LEAST_DELEGATED = 0.95  # of the work; with less, the portable kernels take seconds a tile


class ExecuTorch(Target):
    """One ``.pte`` for XNNPACK, on planes: nothing heavy is left to ExecuTorch's own kernels."""

    name = "executorch"
    options = EdgeOptions(attention="by-head", convolution="2d-sum", norm="means")
    capabilities = Capabilities(_OPERATORS, max_rank=5)
    packages = ("executorch", "torchao")
    extra = "executorch"

    def convert(self, job: Job, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`.

        Raises:
            ExportError: XNNPACK takes too little of the work (AE-EXPORT-011).
        """
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        program = job.program(self.options)
        if precision == "int8":
            program = _with_int8_convolutions(program, job)
        job.say(f"lowering to {self.name}/{precision}")
        lowered = lower(program, [XnnpackPartitioner()])
        share = lowered.delegation["work_share"]
        if share < _LEAST_DELEGATED:
            raise ExportError(
                "AE-EXPORT-011",
                f"XNNPACK takes {100 * share:.0f} % of the work, needs {100 * _LEAST_DELEGATED:.0f} %: the rest would crawl.",
                remedy="Rewrite what it leaves in the edge form, or choose another target.",
            )
        path = f"{self.name}/{precision}.pte"
        record = path.replace(".pte", ".etrecord")
        return Conversion(path, {"": lowered.pte}, {"delegation": lowered.delegation}, {record: lowered.record})


def _with_int8_convolutions(program: torch.export.ExportedProgram, job: Job) -> torch.export.ExportedProgram:
    """Weights in int8 per channel, inputs in int8 with the range of the moment, for the layers that the quantization plan allows.

    A range that follows the input needs no range for the output, and each layer stays as exact as its own input.
    """
    with quiet():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer, get_symmetric_quantization_config
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    layers = {f"student.network.{name.removeprefix('student.')}" for name in job.quantization().ranges}

    def allowed(node: torch.fx.Node) -> bool:  # asked for a convolution and for its weight
        return node.op == "get_attr" or any(path in layers for path, _ in node.meta.get("nn_module_stack", {}).values())

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    with quiet(), torch.no_grad():
        quantizer = XNNPACKQuantizer().set_operator_type(torch.ops.aten.conv2d.default, config).set_filter_function(allowed)
        prepared = prepare_pt2e(program.module(), quantizer)
        prepared(*program.example_inputs[0])
        return torch.export.export(convert_pt2e(prepared), program.example_inputs[0])

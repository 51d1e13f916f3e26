"""ExecuTorch: phones, tablets and boxes, on the processor through XNNPACK."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.to_executorch import lower
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import DELEGATE_TOO_SMALL
from autosam_edge_export.targets.target import Conversion, Target

if TYPE_CHECKING:
    from autosam_edge_export.convert.student_forms import Job

# What the students' programs on planes are made of. There is no 3D convolution: ExecuTorch has no kernel for
# one on any processor.
_OPERATORS = frozenset(
    f"aten.{name}"
    for name in (
        *(
            "add.Tensor",
            "add_.Tensor",
            "alias.default",
            "bmm.default",
            "cat.default",
            "clamp.default",
            "contiguous.default",
        ),
        *(
            "conv2d.default",
            "conv_transpose2d.input",
            "dropout.default",
            "expand.default",
            "gelu.default",
            "index_select.default",
        ),
        *(
            "leaky_relu.default",
            "leaky_relu_.default",
            "linear.default",
            "mean.dim",
            "mul.Tensor",
            "ones.default",
            "pad.default",
        ),
        *(
            "permute.default",
            "reshape.default",
            "rsqrt.default",
            "select.int",
            "slice.Tensor",
            "softmax.int",
            "sub.Tensor",
        ),
        *("transpose.int", "unsqueeze.default", "zeros.default"),
    )
)
_LEAST_DELEGATED = 0.95  # of the work; with less, the portable kernels take seconds a tile


class ExecuTorch(Target):
    """One ``.pte`` for XNNPACK, on planes: nothing heavy is left to ExecuTorch's own kernels."""

    name = "executorch"
    options = EdgeOptions(attention="by-head", convolution="2d-sum", norm="means")
    operators = _OPERATORS
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
            raise DELEGATE_TOO_SMALL(
                f"XNNPACK takes {100 * share:.0f} % of the work, needs {100 * _LEAST_DELEGATED:.0f} %: the rest would crawl."
            )
        path = f"{self.name}/{precision}.pte"
        record = path.replace(".pte", ".etrecord")
        return Conversion(
            path, {"": lowered.pte}, {"delegation": lowered.delegation}, {record: lowered.record}
        )


def _with_int8_convolutions(program: torch.export.ExportedProgram, job: Job) -> torch.export.ExportedProgram:
    """Weights in int8 per channel, inputs in int8 with the range of the moment, for the layers that the quantization plan allows.

    A range that follows the input needs no range for the output, and each layer stays as exact as its own
    input.
    """
    with quiet():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    layers = {f"student.network.{name.removeprefix('student.')}" for name in job.quantization().ranges}

    def allowed(node: torch.fx.Node) -> bool:  # asked for a convolution and for its weight
        return node.op == "get_attr" or any(
            path in layers for path, _ in node.meta.get("nn_module_stack", {}).values()
        )

    config = get_symmetric_quantization_config(is_per_channel=True, is_dynamic=True)
    with quiet(), torch.no_grad():
        quantizer = (
            XNNPACKQuantizer()
            .set_operator_type(torch.ops.aten.conv2d.default, config)
            .set_filter_function(allowed)
        )
        prepared = prepare_pt2e(program.module(), quantizer)
        prepared(*program.example_inputs[0])
        return torch.export.export(_with_layouts(convert_pt2e(prepared)), program.example_inputs[0])


def _with_layouts(module: torch.fx.GraphModule) -> torch.fx.GraphModule:
    """Say where data changes its layout: to XNNPACK's, channels last, before a range is taken, and back before a reshape.

    Where it is left to the delegate, ExecuTorch 1.5 makes the first copy not there but at the earliest
    operator that it reaches going back from there: layers between then meet data in two layouts, and the
    program fails, at the latest when it runs. The second copy is part of a reshape anyway, but as a clone,
    which XNNPACK does not take. Lowering drops a copy of what already is in its layout.
    """
    graph, operators = module.graph, torch.ops.aten

    def copied(x: torch.fx.Node, reader: torch.fx.Node, layout: torch.memory_format) -> torch.fx.Node:
        with graph.inserting_before(reader):
            return graph.call_function(operators._to_copy.default, (x,), {"memory_format": layout})

    for reshape in graph.find_nodes(op="call_function", target=operators.reshape.default):
        (x,) = reshape.all_input_nodes
        if x.meta["val"].dim() == 4:
            reshape.replace_input_with(x, copied(x, reshape, torch.contiguous_format))
    for bounds in graph.find_nodes(
        op="call_function", target=torch.ops.quantized_decomposed.choose_qparams.tensor
    ):
        (x,) = bounds.all_input_nodes
        copy = copied(x, bounds, torch.channels_last)
        for reader in (bounds, *(user for bound in bounds.users for user in bound.users)):
            reader.replace_input_with(x, copy)
    module.recompile()
    return module

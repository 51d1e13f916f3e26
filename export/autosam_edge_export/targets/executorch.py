"""ExecuTorch for phones, tablets and small computers, on the processor through XNNPACK."""

from __future__ import annotations

import dataclasses

import torch

from autosam_edge_export.convert.operators import EVERYWHERE, IN_PLANES, WRITTEN_OUT
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_executorch import lower
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import DELEGATE_TOO_SMALL
from autosam_edge_export.targets.target import Conversion, Target

_MIN_DELEGATED = 0.95  # of the work; with less, the portable kernels take seconds a tile


class ExecuTorch(Target):
    """One ``.pte`` on planes, which XNNPACK runs almost completely."""

    name = "executorch"
    options = EdgeOptions(attention="by-head", convolution="2d-sum", norm="means")
    operators = EVERYWHERE | IN_PLANES | WRITTEN_OUT  # it has no kernel for a 3D convolution
    packages = ("executorch", "torchao")
    extra = "executorch"

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`.

        Raises:
            ExportError: XNNPACK takes too little of the work (AE-EXPORT-011).
        """
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

        program = forms.program(self.options)
        if precision == "int8":
            program = _with_int8_convolutions(program, forms)
        forms.log(f"lowering to {self.name}/{precision}")
        lowered = lower(program, [XnnpackPartitioner()])
        share = lowered.delegation.work_share
        if share < _MIN_DELEGATED:
            raise DELEGATE_TOO_SMALL(
                f"XNNPACK takes {100 * share:.0f} % of the work, needs {100 * _MIN_DELEGATED:.0f} %."
            )
        path = f"{self.name}/{precision}.pte"
        record = path.replace(".pte", ".etrecord")
        return Conversion(
            path,
            {"": lowered.pte},
            {"delegation": dataclasses.asdict(lowered.delegation)},
            {record: lowered.record},
        )


def _with_int8_convolutions(
    program: torch.export.ExportedProgram, forms: StudentForms
) -> torch.export.ExportedProgram:
    """The program with int8 in the layers that the quantization plan names.

    Weights have a scale per channel; the range of an input is computed at run time, so that no range of an
    output is needed.
    """
    with quiet():
        from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
            XNNPACKQuantizer,
            get_symmetric_quantization_config,
        )
        from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    layers = {f"student.network.{name.removeprefix('student.')}" for name in forms.quantization.ranges}

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
    """Add copies between memory layouts: channels last before a range, and back before a reshape.

    Without the first copy, ExecuTorch 1.5 adds one at the earliest operator that leads to the range; the
    layers between get data in two layouts, and the program fails when it runs at the latest. Without the
    second copy, a reshape contains it as a clone, which XNNPACK does not take. Lowering removes a copy of
    data that already has the layout.
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

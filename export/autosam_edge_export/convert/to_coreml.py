"""Conversion to Core ML with coremltools, which folds fewer constants than by default."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from autosam_edge.bundle import read_files
from autosam_edge_export.convert.operators import EVERYWHERE, IN_PLANES, IN_VOLUMES, NORMS
from autosam_edge_export.convert.quantization import should_quantize
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.error_codes import PACKAGES_CONFLICT

OPERATORS = EVERYWHERE | IN_PLANES | IN_VOLUMES | NORMS
_MAX_FOLDED_VALUES = 1024


def try_converting() -> None:
    """Convert one layer, which takes a second, to find out whether the packages work together.

    Raises:
        ExportError: They do not (AE-EXPORT-010).
    """
    program = torch.export.export(nn.Conv3d(1, 1, 3), (torch.zeros(1, 1, 4, 4, 4),))
    try:
        to_coreml(program, {}, deployment="iOS17", precision="fp16")
    except Exception as error:  # whatever two packages that do not fit raise
        raise PACKAGES_CONFLICT(
            f"coremltools {version('coremltools')} cannot convert with numpy {np.__version__} "
            f"and torch {torch.__version__} ({type(error).__name__})."
        ) from error


def plain_program(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program as coremltools reads it: decomposed and without aliases."""
    plain: torch.export.ExportedProgram = program.run_decompositions({})
    for node in list(plain.graph.nodes):
        if node.target is torch.ops.aten.alias.default:
            node.replace_all_uses_with(node.args[0])
            plain.graph.erase_node(node)
    plain.graph_module.recompile()
    return plain


def to_coreml(
    program: torch.export.ExportedProgram, metadata: Mapping[str, str], *, deployment: str, precision: str
) -> Any:  # noqa: ANN401
    """A Core ML model.

    Args:
        program: Program that maps (1, 1, D, H, W) HU to logits.
        deployment: Name in coremltools of the oldest system that reads the model, such as ``iOS17``.
        precision: Number format of the weights; input and output are float32.
    """
    with quiet():
        import coremltools as ct

        plain = plain_program(program)
        model = ct.convert(
            plain,
            convert_to="mlprogram",
            minimum_deployment_target=getattr(ct.target, deployment),
            compute_precision=ct.precision.FLOAT32 if precision == "fp32" else ct.precision.FLOAT16,
            inputs=[
                ct.TensorType(name="image_hu", shape=program.example_inputs[0][0].shape, dtype=np.float32)
            ],
            outputs=[ct.TensorType(name="logits", dtype=np.float32)],
            pass_pipeline=_pipeline(precision, plain),
            skip_model_load=True,
        )
    model.user_defined_metadata.update(metadata)
    model.short_description = metadata.get("intended_use", "")
    model.license = metadata.get("license", "")
    return model


def _quantized_weights(program: torch.export.ExportedProgram) -> list[str]:
    """Names of the weights to store in fewer bits, as coremltools names them in float16."""
    names = []
    for node in program.graph.nodes:
        weight = node.args[1] if node.op == "call_function" and len(node.args) > 1 else None
        if isinstance(weight, torch.fx.Node) and weight.op == "placeholder":
            shape = weight.meta["val"].shape
            if len(shape) > 1 and should_quantize(shape, 1 if "transpose" in str(node.target) else 0):
                names.append(f"{weight.name}_to_fp16")
    return names


def _pipeline(precision: str, program: torch.export.ExportedProgram) -> Any:  # noqa: ANN401
    """Coremltools' default passes with three changes.

    Constants are folded by our own pass, integers keep 32 bits, and large weights are stored in the number of
    bits that the precision asks for.
    """
    import coremltools as ct
    import coremltools.optimize.coreml as compression

    _register_folding()
    pipeline = ct.PassPipeline()
    pipeline.remove_passes({"common::add_int16_cast"})
    pipeline.passes = [
        name.replace("common::const_elimination", "autosam_edge::fold_constants") for name in pipeline.passes
    ]
    how, kind = "", None
    if precision == "int8-weights":
        how = "linear_quantize_weights"
        kind = compression.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8")
    elif precision.startswith("palette"):
        bits = int(precision.removeprefix("palette"))
        how, kind = "palettize_weights", compression.OpPalettizerConfig(mode="kmeans", nbits=bits)
    if kind:
        kinds = dict.fromkeys(_quantized_weights(program), kind)
        config = compression.OptimizationConfig(op_name_configs=kinds)
        pipeline.append_pass(f"compression::{how}")
        pipeline.set_options(f"compression::{how}", {"config": config})
    return pipeline


def _register_folding() -> None:
    """Register a pass that folds constants unless the result is larger than its inputs.

    coremltools folds all constants: the gathered relative-position bias is ten times as large as its table.
    """
    from coremltools.converters.mil import Builder
    from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
    from coremltools.converters.mil.mil.passes.helper import block_context_manager
    from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY, register_pass

    if "autosam_edge::fold_constants" in PASS_REGISTRY:
        return

    @register_pass(namespace="autosam_edge")
    class fold_constants(AbstractGraphPass):  # type: ignore[misc]  # noqa: N801  its name is the pass's
        def apply(self, prog: Any) -> None:  # noqa: ANN401
            for function in prog.functions.values():
                self._fold(function)

        @block_context_manager  # type: ignore[untyped-decorator]
        def _fold(self, block: Any) -> None:  # noqa: ANN401
            for operation in list(block.operations):
                if operation.op_type != "const" and _should_fold(operation):
                    for output in operation.outputs:
                        constant = Builder.const(val=output.val, before_op=operation, name=output.name)
                        block.replace_uses_of_var_after_op(
                            anchor_op=operation, old_var=output, new_var=constant, force_replace=True
                        )
                        output.set_name(f"{output.name}_folded")
                    operation.remove_from_block()


def _should_fold(operation: Any) -> bool:  # noqa: ANN401
    """Whether all results of an operation are constant and no larger than its inputs."""
    inputs = [
        var
        for value in operation.inputs.values()
        for var in (value if isinstance(value, (list, tuple)) else [value])
    ]
    if not all(output.can_be_folded_to_const() for output in operation.outputs):
        return False
    made = sum(np.size(output.val) for output in operation.outputs)
    if made <= _MAX_FOLDED_VALUES:
        return True
    stored = all(var.op is not None and var.op.op_type == "const" for var in inputs)
    return stored and made <= sum(np.size(var.val) for var in inputs)


def saved_files(model: Any) -> dict[str, bytes]:  # noqa: ANN401
    """Files of a model's package by their path in it, without the map for ExecuTorch's debugger."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.mlpackage"
        model.save(str(path))
        return {
            name: content
            for name, content in read_files(path).items()
            if name != "executorch_debug_handle_mapping.json"
        }

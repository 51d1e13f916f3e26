"""ExecuTorch on Apple's devices with everything delegated to Core ML; lowered ahead of time on any system."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from pathlib import Path

from autosam_edge.bundle import read_files
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_coreml import OPERATORS, try_converting
from autosam_edge_export.convert.to_executorch import lower
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import DELEGATE_TOO_SMALL
from autosam_edge_export.mil.engine import MilEngine
from autosam_edge_export.targets.target import Conversion, Target


class ExecuTorchCoreMl(Target):
    """One ``.pte`` in which a single Core ML program does all the work, in float16, from iOS 17 on."""

    name = "executorch-coreml"
    options = EdgeOptions()
    operators = OPERATORS
    packages = ("executorch", "coremltools")
    extra = "executorch"
    interpretable = True

    def check_toolchain(self) -> None:
        try_converting()

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        """See :class:`~autosam_edge_export.targets.target.Target`.

        Raises:
            ExportError: Core ML takes less than everything (AE-EXPORT-011).
        """
        forms.log(f"lowering to {self.name}/{precision}")
        with quiet():
            import coremltools as ct
            from executorch.backends.apple.coreml.compiler import CoreMLBackend
            from executorch.backends.apple.coreml.partition.coreml_partitioner import CoreMLPartitioner

        settings = CoreMLBackend.generate_compile_specs(
            compute_precision=ct.precision.FLOAT16, minimum_deployment_target=ct.target.iOS17
        )
        lowered = lower(forms.program(self.options), [CoreMLPartitioner(compile_specs=settings)])
        if lowered.delegation.delegates != 1 or lowered.delegation.work_share < 1.0:
            raise DELEGATE_TOO_SMALL(
                f"Core ML takes {100 * lowered.delegation.work_share:.0f} % of the work "
                f"in {lowered.delegation.delegates} parts, expected all of it in one part."
            )
        facts = {
            "delegation": dataclasses.asdict(lowered.delegation),
            **MilEngine(_package(lowered.pte)).facts,
        }
        return Conversion(f"{self.name}/{precision}.pte", {"": lowered.pte}, facts)

    def make_interpreter(self, model: Mapping[str, bytes]) -> MilEngine:
        return MilEngine(_package(model[""]))


def _package(pte: bytes) -> dict[str, bytes]:
    """The files of the Core ML package that a ``.pte`` carries."""
    with quiet():
        from executorch.backends.apple.coreml import executorchcoreml
        from executorch.exir._serialize._program import deserialize_pte_binary

        program = deserialize_pte_binary(pte).program
    (delegate,) = program.execution_plan[0].delegates
    content = bytes(program.backend_delegate_data[delegate.processed.index].data)
    with tempfile.TemporaryDirectory() as folder:
        executorchcoreml.unflatten_directory_contents(content, folder)
        (package,) = Path(folder).rglob("*.mlpackage")
        return read_files(package)

"""Core ML on iPhone, iPad and Mac: ML program packages, made on any system."""

from __future__ import annotations

from collections.abc import Mapping

from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_coreml import OPERATORS, saved_files, to_coreml, try_converting
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.mil.engine import MilEngine
from autosam_edge_export.targets.target import Conversion, Target


class CoreMl(Target):
    """One kind of ``.mlpackage``.

    Args:
        deployment: Name in coremltools of the oldest system that reads the package.
    """

    packages = ("coremltools",)
    extra = "coreml"
    interpretable = True

    def __init__(self, name: str, options: EdgeOptions, deployment: str) -> None:
        self.name, self.options, self.deployment = name, options, deployment
        self.operators = OPERATORS

    def check_toolchain(self) -> None:
        try_converting()

    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        forms.log(f"converting to {self.name}/{precision}")
        files = saved_files(
            to_coreml(
                forms.program(self.options), forms.metadata, deployment=self.deployment, precision=precision
            )
        )
        return Conversion(f"{self.name}/{precision}.mlpackage", files, MilEngine(files).facts)

    def make_interpreter(self, model: Mapping[str, bytes]) -> MilEngine:
        return MilEngine(model)


# For iOS 17 and later with 3D convolutions, which a GPU has, and with 2D ones, which the Neural Engine has;
# and with iOS 18's storage of weights.
COREML = CoreMl("coreml", EdgeOptions(), "iOS17")
COREML_2D = CoreMl("coreml-2d", EdgeOptions(convolution="2d-concat"), "iOS17")
COREML_IOS18 = CoreMl("coreml-ios18", EdgeOptions(), "iOS18")

"""A target: a runtime that artifacts are made for."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from autosam_edge.engines.engine import Engine
from autosam_edge.error_codes import EXTRA_MISSING
from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.error_codes import OPERATOR_UNSUPPORTED

MAX_RANK = 5  # largest rank of a tensor in every target


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Args:
        path: Path in the bundle, of a file or of a folder; two targets may share one.
        files: Contents by the path in that folder; the name of a single file is ``""``.
        developer_files: Files for developers, which the manifest does not list, by their path in the bundle.
    """

    path: str
    files: Mapping[str, bytes]
    facts: Mapping[str, object] = field(default_factory=dict)
    developer_files: Mapping[str, bytes] = field(default_factory=dict)


class Target(ABC):
    """One runtime that artifacts are made for.

    Attributes:
        name: Name of the target.
        options: Options of the edge form that the target takes.
        operators: Torch operators that the export supports, such as ``aten.conv3d.default``.
        packages: Names of the modules that a conversion needs.
        extra: Name of the extra of this distribution that installs them.
        interpretable: Whether :meth:`make_interpreter` is available.
    """

    name: str
    options: EdgeOptions
    operators: frozenset[str]
    packages: tuple[str, ...]
    extra: str
    interpretable = False

    @abstractmethod
    def convert(self, forms: StudentForms, precision: str) -> Conversion:
        """Make an artifact.

        Raises:
            ExportError: The result of the converter cannot be used.
        """

    def check_toolchain(self) -> None:  # noqa: B027  most targets have nothing to try
        """Check in a second whether the packages work together.

        Raises:
            ExportError: They do not (AE-EXPORT-010).
        """

    def make_interpreter(self, model: Mapping[str, bytes]) -> Engine:
        """An engine that evaluates an artifact on a machine without the target's runtime."""
        raise NotImplementedError(f"there is no interpreter for {self.name}")


def require_packages(target: Target) -> None:
    """Refuse a target whose packages are not installed.

    Raises:
        MissingExtraError: A package is not installed (AE-EXTRA-001).
    """
    for package in target.packages:
        if importlib.util.find_spec(package) is None:
            raise EXTRA_MISSING(
                f"{target.name} needs {package}, which is not installed.",
                remedy=f"pip install 'autosam-edge[{target.extra}]'",
            )


def preflight(target: Target, program: torch.export.ExportedProgram) -> None:
    """Refuse a program with operators or ranks of tensors that the export for a target does not support.

    Raises:
        ExportError: The message names every such operator (AE-EXPORT-007).
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    lacking = {
        str(node.target) for node in nodes if isinstance(node.target, torch._ops.OpOverload)
    } - target.operators
    high = {str(node.target) for node in nodes if _rank(node) > MAX_RANK}
    problems = [f"the operators {', '.join(sorted(lacking))}"] if lacking else []
    problems += [f"tensors of a rank over {MAX_RANK}: {', '.join(sorted(high))}"] if high else []
    if problems:
        raise OPERATOR_UNSUPPORTED(
            f"the export to {target.name} does not support parts of this student: {' and '.join(problems)}.",
            remedy="Choose another target, or a network without these parts.",
        )


def _rank(node: torch.fx.Node) -> int:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else 0

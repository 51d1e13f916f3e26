"""What a target is: a name, what it needs and can run, how an artifact for it is made, and what runs one where its runtime does not."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from autosam_edge.error_codes import EXTRA_MISSING
from autosam_edge_export.error_codes import OPERATOR_UNSUPPORTED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autosam_edge.engines.engine import Engine
    from autosam_edge_export.convert.student_forms import Job
    from autosam_edge_export.edge import EdgeOptions


MAX_RANK = 5  # of any tensor, in every target


@dataclass(frozen=True)
class Conversion:
    """An artifact.

    Args:
        path: In the bundle, of a file or of a folder; the same path from two targets is one artifact.
        files: Its files by their path in it; the only one of a file is named ``""``.
        facts: What the converter has to say of it, for the report.
        beside: Files for developers that stand beside it and that no bundle lists, by their path in the
            bundle.
    """

    path: str
    files: Mapping[str, bytes]
    facts: Mapping[str, Any] = field(default_factory=dict)
    beside: Mapping[str, bytes] = field(default_factory=dict)


class Target(ABC):
    """One runtime that artifacts are made for.

    Attributes:
        name: Of the target.
        options: The edge form it takes.
        operators: Torch operators that its converter and runtime take, such as ``aten.conv3d.default``.
        packages: Modules that a conversion needs.
        extra: Of this distribution, that brings them.
        interpretable: Whether :meth:`stand_in` evaluates its artifacts.
    """

    name: str
    options: EdgeOptions
    operators: frozenset[str]
    packages: tuple[str, ...]
    extra: str
    interpretable = False

    @abstractmethod
    def convert(self, job: Job, precision: str) -> Conversion:
        """Make an artifact.

        Args:
            job: The student and the forms of it that targets share.
            precision: One that :data:`~autosam_edge_export.proof.parity.TOLERANCES` names for this target.

        Raises:
            ExportError: The converter's result is not what was asked for.
        """

    def trial(self) -> None:  # noqa: B027  most targets have nothing to try
        """Find out, in a second, whether the packages work together.

        Raises:
            ExportError: They do not (AE-EXPORT-010).
        """

    def stand_in(self, model: Mapping[str, bytes]) -> Engine:
        """What evaluates an artifact where the target's runtime is not."""
        raise NotImplementedError(f"{self.name} is executed or nothing")


def require_packages(target: Target) -> None:
    """Refuse, before anything is loaded, what cannot be converted or read back here.

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
    """Refuse, before any conversion starts, what a target cannot take.

    Raises:
        ExportError: AE-EXPORT-007, naming every operator.
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    lacking = {
        str(node.target) for node in nodes if isinstance(node.target, torch._ops.OpOverload)
    } - target.operators
    high = {str(node.target) for node in nodes if _rank(node) > MAX_RANK}
    problems = [f"lacks {', '.join(sorted(lacking))}"] if lacking else []
    problems += [f"takes no tensor of a rank over {MAX_RANK}: {', '.join(sorted(high))}"] if high else []
    if problems:
        raise OPERATOR_UNSUPPORTED(
            f"{target.name} cannot run this student: it {' and '.join(problems)}.",
            remedy="Rewrite these parts in the edge form, or choose another target.",
        )


def _rank(node: torch.fx.Node) -> int:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else 0

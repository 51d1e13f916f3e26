"""What a target is: a name, what it can run, and how an artifact for it is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from autosam_edge.errors import ExportError

if TYPE_CHECKING:
    from autosam_edge_export.edge import EdgeOptions
    from autosam_edge_export.job import Job


@dataclass(frozen=True)
class Capabilities:
    """What a target's converter and runtime take.

    Args:
        operators: Names of torch operators, such as ``aten.conv3d.default``.
        max_rank: Of any tensor.
    """

    operators: frozenset[str]
    max_rank: int


class Target(Protocol):
    """One runtime that artifacts are made for."""

    name: str
    options: EdgeOptions
    capabilities: Capabilities

    def convert(self, job: Job, precision: str) -> tuple[str, bytes]:
        """Make an artifact.

        Args:
            job: The student and the forms of it that targets share.
            precision: One that :data:`~autosam_edge_export.parity.TOLERANCES` names for this target.

        Returns:
            Its path in the bundle and its bytes; the same path from two targets is one file.
        """
        ...


def preflight(target: Target, program: torch.export.ExportedProgram) -> None:
    """Refuse, before any conversion starts, what a target cannot take.

    Raises:
        ExportError: AE-EXPORT-007, naming every operator.
    """
    nodes = [node for node in program.graph.nodes if node.op == "call_function"]
    lacking = {str(node.target) for node in nodes if isinstance(node.target, torch._ops.OpOverload)} - target.capabilities.operators
    high = {str(node.target) for node in nodes if _rank(node) > target.capabilities.max_rank}
    problems = [f"lacks {', '.join(sorted(lacking))}"] if lacking else []
    problems += [f"takes no tensor of a rank over {target.capabilities.max_rank}: {', '.join(sorted(high))}"] if high else []
    if problems:
        raise ExportError(
            "AE-EXPORT-007",
            f"{target.name} cannot run this student: it {' and '.join(problems)}.",
            remedy="Rewrite these parts in the edge form, or choose another target.",
        )


def _rank(node: torch.fx.Node) -> int:
    value = node.meta.get("val")
    return value.ndim if isinstance(value, torch.Tensor) else 0

"""The targets by name, one file each; no target knows another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.errors import ExportError
from autosam_edge_export.parity import TOLERANCES
from autosam_edge_export.targets.onnx_runtime import OnnxRuntime
from autosam_edge_export.targets.openvino import OpenVino

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge_export.targets.target import Target

TARGETS: dict[str, Target] = {target.name: target for target in (OnnxRuntime(), OpenVino())}


def precisions_of(target: str) -> tuple[str, ...]:
    """The precisions that a target has tolerances for."""
    return tuple(precision for name, precision in TOLERANCES if name == target)


def wanted_artifacts(targets: Sequence[str], precisions: Sequence[str]) -> list[tuple[Target, str]]:
    """Every pair of the targets and precisions that exists; onnx/fp32 comes first, as the others are timed against the first.

    Raises:
        ExportError: A target or a precision is not known, or a target has none of the precisions (AE-EXPORT-001).
    """
    known = ", ".join(f"{t}/{p}" for t, p in TOLERANCES)
    pairs = []
    for name in dict.fromkeys(targets):
        fitting = [precision for precision in precisions_of(name) if precision in precisions]
        if not fitting:
            raise ExportError("AE-EXPORT-001", f"there is no {name}/{'|'.join(precisions)}.", remedy=f"Choose among: {known}.")
        pairs += [(TARGETS[name], precision) for precision in fitting]
    if unknown := set(precisions) - {precision for _, precision in pairs}:
        raise ExportError("AE-EXPORT-001", f"no target of these has the precision {min(unknown)}.", remedy=f"Choose among: {known}.")
    return sorted(pairs, key=lambda pair: (pair[0].name, pair[1]) != ("onnx", "fp32"))

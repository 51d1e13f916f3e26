"""The targets by name, one file each; no target knows another."""

from __future__ import annotations

from collections.abc import Sequence

from autosam_edge_export.error_codes import TARGET_UNKNOWN
from autosam_edge_export.proof.tolerances import TOLERANCES
from autosam_edge_export.targets.coreml import COREML, COREML_2D, COREML_IOS18
from autosam_edge_export.targets.executorch import ExecuTorch
from autosam_edge_export.targets.executorch_coreml import ExecuTorchCoreMl
from autosam_edge_export.targets.onnx_runtime import OnnxOnPlanes, OnnxRuntime
from autosam_edge_export.targets.openvino import OpenVino
from autosam_edge_export.targets.target import Target

_ALL: tuple[Target, ...] = (
    OnnxRuntime(),
    OnnxOnPlanes(),
    OpenVino(),
    COREML,
    COREML_2D,
    COREML_IOS18,
    ExecuTorch(),
    ExecuTorchCoreMl(),
)
TARGETS: dict[str, Target] = {target.name: target for target in _ALL}


def wanted_artifacts(targets: Sequence[str], precisions: Sequence[str]) -> list[tuple[Target, str]]:
    """Every pair of these targets and precisions that exists.

    onnx/fp32 comes first, as times are relative to the first artifact. ``int8`` means ``int8-weights`` for a
    target without arithmetic in int8.

    Raises:
        ExportError: A target or a precision is not known, or a target has none of the precisions
            (AE-EXPORT-001).
    """
    pairs, taken = [], set()
    for name in dict.fromkeys(targets):
        if name not in TARGETS:
            raise TARGET_UNKNOWN(
                f"there is no target {name!r}.", remedy=f"Choose among {', '.join(TARGETS)}."
            )
        held = [precision for target, precision in TOLERANCES if target == name]
        meant = {precision: precision for precision in precisions}
        if "int8" in meant and "int8" not in held:
            meant["int8"] = "int8-weights"
        fitting = [precision for precision in held if precision in meant.values()]
        taken |= {asked for asked, precision in meant.items() if precision in held}
        if not fitting:
            raise TARGET_UNKNOWN(
                f"there is no {name}/{'|'.join(precisions)}.", remedy=f"{name} has {', '.join(held)}."
            )
        pairs += [(TARGETS[name], precision) for precision in fitting]
    if unknown := set(precisions) - taken:
        known = dict.fromkeys(precision for target, precision in TOLERANCES if target in targets)
        raise TARGET_UNKNOWN(
            f"none of these targets has the precision {min(unknown) or repr('')}.",
            remedy=f"Choose among {', '.join(known)}.",
        )
    return sorted(pairs, key=lambda pair: (pair[0].name, pair[1]) != ("onnx", "fp32"))

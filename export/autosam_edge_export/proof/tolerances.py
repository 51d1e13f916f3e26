"""How close an artifact must be to the trained student, by target and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from autosam_edge.parity import MAX_LOGIT_RMS


@dataclass(frozen=True)
class Tolerance:
    """The figures that an artifact must reach.

    Args:
        organ_dice: Smallest Dice of any organ against the student, mean over the volumes that show the organ.
        agreement: Smallest share of voxels with the same label, in any volume.
        logit_rms: Largest root mean square difference of the logits, in any volume and on the golden tile.
    """

    organ_dice: float
    mean_dice: float
    agreement: float
    logit_rms: float


_BY_PRECISION = {  # Dice of each organ, mean Dice, agreement; the runtime knows the limit of the logits
    precision: Tolerance(*figures, MAX_LOGIT_RMS[precision])
    for precision, figures in {
        "fp32": (0.999, 0.999, 0.9999),
        "fp16": (0.998, 0.998, 0.9995),
        "bf16": (0.99, 0.995, 0.998),
        "int8-weights": (0.998, 0.998, 0.999),
        "int8": (0.97, 0.99, 0.998),
        "palette6": (0.97, 0.99, 0.998),
        "palette4": (0.9, 0.97, 0.995),
    }.items()
}
_COREML = ("fp32", "fp16", "int8-weights", "palette6", "palette4")
_PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8-weights", "int8"),
    "onnx-2d": ("fp32", "fp16", "int8-weights"),
    "openvino": ("fp32", "bf16", "int8"),
    "coreml": _COREML,
    "coreml-2d": _COREML,
    "coreml-ios18": _COREML,
    "executorch": ("fp32", "int8"),
    "executorch-coreml": ("fp16",),
}
TOLERANCES: Mapping[tuple[str, str], Tolerance] = {
    (target, precision): _BY_PRECISION[precision]
    for target, precisions in _PRECISIONS.items()
    for precision in precisions
}

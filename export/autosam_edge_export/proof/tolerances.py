"""How close an artifact must be to the trained student, by target and precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


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


_EIGHT_BITS = Tolerance(organ_dice=0.97, mean_dice=0.99, agreement=0.998, logit_rms=0.3)
_BY_PRECISION = {
    "fp32": Tolerance(organ_dice=0.999, mean_dice=0.999, agreement=0.9999, logit_rms=1e-3),
    "fp16": Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.9995, logit_rms=2e-2),
    "bf16": Tolerance(organ_dice=0.99, mean_dice=0.995, agreement=0.998, logit_rms=0.2),
    "int8-weights": Tolerance(organ_dice=0.998, mean_dice=0.998, agreement=0.999, logit_rms=0.1),
    "int8": _EIGHT_BITS,
    "palette6": _EIGHT_BITS,
    "palette4": Tolerance(organ_dice=0.9, mean_dice=0.97, agreement=0.995, logit_rms=1.0),
}
_COREML = ("fp32", "fp16", "int8-weights", "palette6", "palette4")
_PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8-weights", "int8"),
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

"""Segmentation loss on occupancies (teacher.md 5.1): soft Dice plus cross entropy, weights 1:1."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def dice_cross_entropy(logits: Tensor, occupancy: Tensor, *, class_weight: Tensor | None = None) -> Tensor:
    """Soft Dice + cross entropy, the paper's eq. 1, for targets that are fractions.

    Args:
        logits: (B, C, D, H, W).
        occupancy: (B, C, D, H, W) float, the fraction of each voxel that a class fills; sums to 1 over C.
        class_weight: (C,) weights of the cross entropy, or None.

    Returns:
        Scalar. Dice is averaged over the classes that the patch holds; a class that is absent is held down by the cross entropy, since
        its Dice would only reward silence by a step.
    """
    log_probability = F.log_softmax(logits.float(), dim=1)
    weighted = occupancy * log_probability
    per_class = -weighted.mean(dim=(0, 2, 3, 4))
    cross_entropy = per_class.sum() if class_weight is None else (per_class * class_weight).sum()
    probability = log_probability.exp()
    axes = (0, 2, 3, 4)
    overlap = (probability * occupancy).sum(axes)
    # Squares in the denominator (V-Net form) so that a fractional target is its own best prediction.
    size = (probability * probability).sum(axes) + (occupancy * occupancy).sum(axes)
    present = occupancy.sum(axes) > 1.0
    dice = 1.0 - (2.0 * overlap + 1.0) / (size + 1.0)
    return cross_entropy + dice[present].mean()


def class_weights(fractions: Tensor) -> Tensor:
    """Cross-entropy weights from how much of the tissue each class fills.

    Args:
        fractions: (C,) share of all voxels, background first.

    Returns:
        (C,) weights (median / share)^(1/3), kept between 0.5 and 4: an adrenal gland counts about four times a voxel of liver.
    """
    weight = (fractions.median() / fractions.clamp_min(1e-8)) ** (1.0 / 3.0)
    return weight.clamp(0.5, 4.0)

"""Equations 1 and 2 of the paper, on targets that may be fractions; see docs/adr/0016-recipes.md."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from autosam_edge_training.choices import Reduction

Segmentation = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Logits, occupancy and the known part of it, each (B, C, D, H, W), to a scalar, the mean over the patches.

The occupancy sums to 1 over C; where it was filled by :func:`complete`, less of it is known.
"""


def dice_cross_entropy(
    logits: Tensor, occupancy: Tensor, known: Tensor | None = None, *, class_weight: Tensor | None = None
) -> Tensor:
    """Soft Dice + cross entropy for targets that are fractions, Dice over the classes that a patch holds.

    Args:
        logits: (B, C, D, H, W).
        occupancy: (B, C, D, H, W) float, the fraction of each voxel that a class fills; sums to 1 over C.
        known: (B, C, D, H, W) part of the occupancy that the class weights count for; None is all of it. With
            weights on the network's own probabilities, a voxel that is not known would become the class of
            the largest weight.
        class_weight: (C,) weights of the cross entropy, or None.

    Returns:
        Scalar, a mean over the patches. A class that a patch lacks is held down by the cross entropy, since
        its Dice would only reward silence by a step.
    """
    log_probability = F.log_softmax(logits.float(), dim=1)
    axes = (2, 3, 4)
    per_class = -(occupancy * log_probability).mean(dim=(0, *axes))
    if class_weight is not None and (known is None or known is occupancy):
        per_class = per_class * class_weight
    elif class_weight is not None and known is not None:
        per_class = per_class - (known * log_probability).mean(dim=(0, *axes)) * (class_weight - 1.0)
    cross_entropy = per_class.sum()
    probability = log_probability.exp()
    overlap = (probability * occupancy).sum(axes)
    # Squares in the denominator (V-Net form) so that a fractional target is its own best prediction.
    size = (probability * probability).sum(axes) + (occupancy * occupancy).sum(axes)
    present = (occupancy.sum(axes) > 1.0).float()
    dice = 1.0 - (2.0 * overlap + 1.0) / (size + 1.0)
    return cross_entropy + ((dice * present).sum(dim=1) / present.sum(dim=1)).mean()


def equation_1(logits: Tensor, occupancy: Tensor, known: Tensor | None = None) -> Tensor:
    """The paper's equation 1: soft Dice over all classes, background included, + cross entropy, 1:1.

    Args:
        logits: (B, C, D, H, W).
        occupancy: (B, C, D, H, W); sums to 1 over C.
        known: (B, C, D, H, W) part of the occupancy that the Dice is computed on; None is all of it. On the
            network's own probabilities this form of Dice would reward the class that is the largest already.

    Source: MONAI's ``DiceCELoss(softmax=True)`` on one-hot targets, of which this is the value.
    """
    probability = logits.float().softmax(dim=1)
    cross_entropy = F.cross_entropy(logits.float(), occupancy)
    if known is not None and known is not occupancy:
        probability, occupancy = probability * known.sum(dim=1, keepdim=True), known
    axes = (2, 3, 4)
    overlap = (probability * occupancy).sum(axes)
    dice = 1.0 - (2.0 * overlap + 1e-5) / (probability.sum(axes) + occupancy.sum(axes) + 1e-5)
    return dice.mean() + cross_entropy


def distillation(
    logits: Tensor, probability: Tensor, *, reduction: Reduction, trust: Tensor | None = None
) -> Tensor:
    """The second term of equation 2: squared distance of the student's probabilities from the teacher's.

    Args:
        logits: Logits of the student, (B, C, D, H, W).
        probability: Probabilities of the teacher, (B, C, D, H, W).
        reduction: Mean of the loss. ``voxel``: squared norm over the classes, mean over voxels and patches.
            ``element``: mean over the classes too, which is smaller by the factor C.
        trust: Weight of each voxel, (B, 1, D, H, W), see :func:`trust_in`; None is 1 everywhere.

    Source: equation 2 of the paper; as printed it has no teacher in it (docs/adr/0016-recipes.md).
    """
    squared = (logits.float().softmax(dim=1) - probability) ** 2
    if trust is not None:
        squared = squared * trust
    return squared.sum(dim=1).mean() if reduction == "voxel" else squared.mean()


def divergence(logits: Tensor, probability: Tensor, *, temperature: float, trust: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the student from the teacher, both softened, summed over the classes.

    Args:
        logits: Logits of the student, (B, C, D, H, W).
        probability: Probabilities of the teacher, (B, C, D, H, W).
        temperature: Divisor of the logits of both; the loss is multiplied by its square, so that the gradient
            keeps its size.
        trust: Weight of each voxel, (B, 1, D, H, W), see :func:`trust_in`.

    Returns:
        Scalar, the mean over voxels and patches.

    Source: Hinton, Vinyals and Dean 2015 (arXiv 1503.02531), section 2.
    """
    if temperature != 1.0:
        probability = probability.clamp_min(0.0) ** (1.0 / temperature)
        probability = probability / probability.sum(dim=1, keepdim=True)
    log_student = F.log_softmax(logits.float() / temperature, dim=1)
    each = F.kl_div(log_student, probability, reduction="none").sum(dim=1, keepdim=True)
    return (each * trust).mean() * temperature**2


def trust_in(probability: Tensor, occupancy: Tensor) -> Tensor:
    """How much a voxel counts when a student learns from its teacher: less where only the teacher labeled it.

    Args:
        probability: Probabilities of the teacher, (B, C, D, H, W).
        occupancy: (B, C, D, H, W); what is missing to a sum of 1 over C is not known.

    Returns:
        (B, 1, D, H, W): 1 where the labels are known, else the teacher's largest probability.
    """
    unknown = (1.0 - occupancy.sum(dim=1, keepdim=True)).clamp(0.0, 1.0)
    return 1.0 - unknown * (1.0 - probability.amax(dim=1, keepdim=True))


def complete(logits: Tensor, occupancy: Tensor, possible: Tensor) -> Tensor:
    """Fill what is not known with the network's own probabilities among the classes that are possible there.

    Cross entropy with this target has the gradient of the marginal cross entropy: minus the log of the summed
    probability of all possible classes. A class that is not possible where nothing is known is held down
    there.

    Args:
        logits: (B, C, D, H, W).
        occupancy: (B, C, D, H, W); what is missing to a sum of 1 over C is not known.
        possible: (B, C), 1 for the classes that a voxel that is not known may be.

    Returns:
        (B, C, D, H, W) that sums to 1 over C, without a gradient.
    """
    unknown = (1.0 - occupancy.sum(dim=1, keepdim=True)).clamp_min(0.0)
    if float(unknown.max()) < 1e-4:  # rounding of shares
        return occupancy
    with torch.no_grad():
        probability = logits.float().softmax(dim=1) * possible[:, :, None, None, None]
        return occupancy + unknown * probability / probability.sum(dim=1, keepdim=True).clamp_min(1e-8)


def supervised(
    output: Tensor | tuple[Tensor, Tensor], occupancy: Tensor, possible: Tensor, loss: Segmentation
) -> tuple[Tensor, Tensor]:
    """Segmentation loss of a student's output; a coarse second output counts half.

    Args:
        output: Logits (B, C, D, H, W), or these and coarse ones (B, C, D/n, H/n, W/n).
        occupancy: (B, C, D, H, W); what is missing to a sum of 1 over C is not known.
        possible: (B, C), 1 for the classes that a voxel that is not known may be.
        loss: Segmentation loss.

    Returns:
        The loss, and the logits on the full grid.
    """
    if not isinstance(output, tuple):
        return loss(output, complete(output, occupancy, possible), occupancy), output
    logits, coarse = output
    small = F.avg_pool3d(occupancy, occupancy.shape[-1] // coarse.shape[-1])
    truth = loss(logits, complete(logits, occupancy, possible), occupancy)
    return truth + 0.5 * loss(coarse, complete(coarse, small, possible), small), logits


def class_weights(fractions: Tensor) -> Tensor:
    """Cross-entropy weights from how much of the tissue each class fills.

    Args:
        fractions: (C,) share of all voxels, background first.

    Returns:
        (C,) weights (median / share)^(1/3), kept between 0.5 and 4: an adrenal gland counts about four times
        a voxel of liver.
    """
    weight = (fractions.median() / fractions.clamp_min(1e-8)) ** (1.0 / 3.0)
    return weight.clamp(0.5, 4.0)

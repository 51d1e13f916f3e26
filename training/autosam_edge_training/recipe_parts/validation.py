"""Dice on the model's grid during a run; final scores are those of :mod:`autosam_edge_training.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from autosam_edge.measurements import dice
from autosam_edge_training.data import Case
from autosam_edge_training.networks.whole_case import run_whole_case


def validate(
    network: nn.Module, cases: Sequence[Case], patch: tuple[int, int, int], *, device: torch.device
) -> list[float | None]:
    """Mean Dice of every organ, against the class that fills most of each voxel.

    A case that is labeled in part counts for the organs that are labeled everywhere in it.

    Args:
        network: (1, 1, D, H, W) normalized to logits; left in the mode that it was in.
        patch: Voxels (D, H, W) of the sliding window.

    Returns:
        One number per class but the background, 0 to 1; None where no case has the organ.
    """
    was_training = network.training
    network.eval()
    scores = np.full((len(cases), cases[0].classes - 1), np.nan)
    for row, case in enumerate(cases):
        logits = run_whole_case(network, case, patch, overlap=0.25, device=device)
        found, truth = logits.argmax(dim=0).cpu().numpy(), case.labels
        for organ in range(1, case.classes):
            if (case.known is None or organ in case.known) and (truth == organ).any():
                scores[row, organ - 1] = dice(found == organ, truth == organ)
    network.train(was_training)
    return [float(np.nanmean(column)) if not np.isnan(column).all() else None for column in scores.T]

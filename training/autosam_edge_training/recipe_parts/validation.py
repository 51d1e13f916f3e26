"""Dice on the model's grid during a run; final scores are those of :mod:`autosam_edge_training.evaluate`."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from monai.inferers.utils import sliding_window_inference
from torch import nn

from autosam_edge.measurements import dice
from autosam_edge_training.data import Case


@torch.no_grad()
def validate(
    network: nn.Module,
    cases: Sequence[Case],
    patch: tuple[int, int, int],
    *,
    device: torch.device,
    overlap: float = 0.25,
) -> list[float | None]:
    """Mean Dice of every organ, against the class that fills most of each voxel.

    Args:
        network: (1, 1, D, H, W) normalized to logits; left in the mode that it was in.
        patch: Voxels (D, H, W) of the sliding window.
        overlap: Share of a window that its neighbor covers again, 0 to below 1.

    Returns:
        One number per class but the background, 0 to 1; None where no case has the organ.
    """
    was_training = network.training
    network.eval()
    scores = np.full((len(cases), cases[0].classes - 1), np.nan)
    for row, case in enumerate(cases):
        image = (case.image.astype(np.float32) - case.intensity.offset) / case.intensity.scale
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", UserWarning
            )  # MONAI indexes with a list, which newer torch dislikes
            logits = sliding_window_inference(
                torch.from_numpy(image)[None, None].to(device),
                patch,
                1,
                network,
                overlap=overlap,
                mode="gaussian",
                cval=case.intensity.low,
            )
        found, truth = logits[0].argmax(dim=0).cpu().numpy(), case.labels
        for organ in range(1, case.classes):
            if (truth == organ).any():
                scores[row, organ - 1] = dice(found == organ, truth == organ)
    network.train(was_training)
    return [float(np.nanmean(column)) if not np.isnan(column).all() else None for column in scores.T]

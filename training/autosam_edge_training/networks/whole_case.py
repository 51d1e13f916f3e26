"""A network on a whole case, window by window, as the runtime runs it on a scan."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from monai.inferers.utils import sliding_window_inference

from autosam_edge.pipeline.tiles import TilePlan
from autosam_edge_training.data import Case
from autosam_edge_training.data.case import ROWS_BEYOND_ENDS


@torch.no_grad()
def run_whole_case(
    network: Callable[[torch.Tensor], torch.Tensor],
    case: Case,
    patch: tuple[int, int, int],
    *,
    overlap: float,
    device: torch.device,
    result_device: torch.device | None = None,
) -> torch.Tensor:
    """The network's blended answer for every voxel of a case.

    Beyond its ends the network sees the first and the last slice again, beside it air.

    Args:
        network: (1, 1, D, H, W) normalized windows to (1, C, D, H, W).
        result_device: Device of the result; None takes that of the network.

    Returns:
        (C, D, H, W) float32.
    """
    plan = TilePlan(case.shape, patch, overlap, ROWS_BEYOND_ENDS)
    image = torch.from_numpy(case.image_in(case.whole)[plan.source_rows])[None, None]
    result_device = result_device or device
    with warnings.catch_warnings():
        # MONAI indexes with a list, which newer torch dislikes.
        warnings.simplefilter("ignore", UserWarning)
        found = sliding_window_inference(
            image.to(result_device),
            patch,
            1,
            network,
            overlap=overlap,
            mode="gaussian",
            cval=case.intensity.low,
            sw_device=device,
            device=result_device,
        )
    assert isinstance(found, torch.Tensor)
    before = plan.pad_before[0]
    return found[0, :, before : before + case.shape[0]]

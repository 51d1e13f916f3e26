"""Single steps of a run, each by itself, for the golden vectors."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from autosam_edge.geometry import Grid
from autosam_edge.pipeline.decision import DecisionWeights
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.pipeline.run import TileRun
from autosam_edge.volume import Volume

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from autosam_edge.model import InputContract, Model


def on_model_grid(volume: Volume, contract: InputContract) -> npt.NDArray[np.float32]:
    """A whole volume on the model's grid, (D, H, W) HU; for small scans."""
    resampler = Resampler.of_scan(volume.grid, contract.spacing_mm, contract.window_hu)
    return resampler.whole(volume.grid.orientation.to_canonical(volume.hu))


def first_tile(
    model: Model, hu: npt.NDArray[np.int16], patch: tuple[int, int, int]
) -> npt.NDArray[np.float32]:
    """What the network sees first of a scan on the model's grid, (D, H, W) HU, with tiles of another size.

    It shows what lies beyond the ends of the scan (docs/adr/0018-scan-ends.md).

    Args:
        model: Model whose rules apply.
        hu: (D, H, W) scan on the model's grid, HU.
        patch: Sides (D, H, W) of a tile, voxels.
    """
    d, h, w = hu.shape
    volume = Volume(hu, Grid.axis_aligned((d, h, w), model.input.spacing_mm))
    run = TileRun(replace(model, input=replace(model.input, patch=patch)), volume)
    return next(run.steps({}))


def decide(model: Model, probabilities: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Labels (D, H, W) of probabilities (C, D, H, W), by the decision weights of a model.

    docs/adr/0019-decision-weights.md gives the reasons.
    """
    rows, weights = probabilities.swapaxes(0, 1).copy(), DecisionWeights(model.class_weights)
    weights.apply(rows)
    return weights.winners(rows)[0]

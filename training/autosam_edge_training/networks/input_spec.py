"""The input that a network takes and the labels that it gives: those of the data that it was trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge_training.data import Intensity
from autosam_edge_training.strict import STRICT, checked_dataclass

if TYPE_CHECKING:
    from autosam_edge_training.data import Prepared


@checked_dataclass(config=STRICT)
class NetworkInput:
    """How the data of a network are prepared.

    Args:
        spacing_mm: Voxel spacing of the grid (D, H, W), mm.
        intensity: Window and scale of the HU.
        labels: Names by value, the background first.
        dataset: Name of the data set.
    """

    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    labels: tuple[str, ...]
    dataset: str

    @classmethod
    def of(cls, prepared: Prepared) -> NetworkInput:
        """The input of a network that is trained on a prepared data set."""
        return cls(prepared.spacing_mm, prepared.intensity, tuple(prepared.labels), prepared.dataset)

    def differs_in(self, other: NetworkInput) -> list[str]:
        """Names of the parts that differ; the name of the data set does not count."""
        return [
            part
            for part in ("labels", "spacing_mm", "intensity")
            if getattr(self, part) != getattr(other, part)
        ]

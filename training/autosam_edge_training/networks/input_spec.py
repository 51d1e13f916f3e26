"""The input that a network takes and the labels that it gives: those of the data that it was trained on."""

from __future__ import annotations

from autosam_edge.model import InputContract
from autosam_edge_training.data import Intensity, Prepared
from autosam_edge_training.data.case import ROWS_BEYOND_ENDS
from autosam_edge_training.strict import STRICT, checked_dataclass


@checked_dataclass(config=STRICT)
class NetworkInput:
    """How the data of a network are prepared.

    Args:
        spacing_mm: Voxel spacing of the grid (D, H, W), mm.
    """

    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    labels: tuple[str, ...]
    dataset: str

    @classmethod
    def of(cls, prepared: Prepared) -> NetworkInput:
        """The input of a network that is trained on a prepared data set."""
        return cls(prepared.spacing_mm, prepared.intensity, tuple(prepared.labels), prepared.dataset)

    def contract(self, patch: tuple[int, int, int], overlap: float) -> InputContract:
        """The input contract of a bundle or a session of the network.

        Args:
            patch: Sides of a tile (D, H, W), voxels.

        Raises:
            ValueError: The grid, the window, the patch or the overlap is impossible.
        """
        return InputContract(
            modality="CT",
            axes="DHW",
            unit="HU",
            spacing_mm=self.spacing_mm,
            window_hu=self.intensity.window_hu,
            resampling="antialiased-linear",
            patch=patch,
            overlap=overlap,
            blend="gaussian",
            rows_beyond_ends=ROWS_BEYOND_ENDS,
        )

    def differs_in(self, other: NetworkInput) -> list[str]:
        """Names of the parts that differ; the name of the data set does not count."""
        return [
            part
            for part in ("labels", "spacing_mm", "intensity")
            if getattr(self, part) != getattr(other, part)
        ]

"""What a trained network takes and gives, as its file says it: the grid, the intensities and the labels."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from autosam_edge_training.data import BTCV_INTENSITY, Intensity
from autosam_edge_training.data.layouts import BTCV_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from autosam_edge_training.data import Prepared


@dataclass(frozen=True)
class NetworkInput:
    """One data set's preparation, which every network trained on it shares.

    Args:
        spacing_mm: Of the grid (D, H, W).
        intensity: How HU become what the network sees.
        labels: Names by value, the background first.
        dataset: Its name; empty where the file does not tell.
    """

    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    labels: tuple[str, ...]
    dataset: str = ""

    @classmethod
    def of(cls, prepared: Prepared) -> NetworkInput:
        """That of a prepared data set."""
        return cls(prepared.spacing_mm, prepared.intensity, tuple(prepared.labels), prepared.dataset)

    @classmethod
    def read(cls, facts: Mapping[str, str]) -> NetworkInput:
        """From a file's metadata. A file that says nothing is from before they were kept, and holds BTCV at 3 mm.

        Raises:
            ValueError: A part is missing or is not what :meth:`facts` writes.
        """
        if not {"spacing_mm", "intensity", "labels"} & facts.keys():
            return cls((3.0, 3.0, 3.0), BTCV_INTENSITY, BTCV_NAMES)
        try:
            depth, height, width = map(float, json.loads(facts["spacing_mm"]))
            low, high, offset, scale = map(float, json.loads(facts["intensity"]))
            labels = tuple(map(str, json.loads(facts["labels"])))
            return cls(
                (depth, height, width),
                Intensity((low, high), offset, scale),
                labels,
                facts.get("dataset", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"the metadata do not say what the network's input and labels are ({type(error).__name__})"
            ) from error

    def facts(self) -> dict[str, str]:
        """As metadata of a file of weights."""
        return {
            "spacing_mm": json.dumps(self.spacing_mm),
            "intensity": json.dumps([*self.intensity.window_hu, self.intensity.offset, self.intensity.scale]),
            "labels": json.dumps(self.labels),
            "dataset": self.dataset,
        }

    def differs_in(self, other: NetworkInput) -> list[str]:
        """What is another in ``other``; networks of two data sets that were prepared alike do not differ."""
        return [
            part
            for part in ("labels", "spacing_mm", "intensity")
            if getattr(self, part) != getattr(other, part)
        ]

"""The student as the device sees it: HU in, logits out."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autosam_edge_training.data import Intensity


class DeviceForm(nn.Module):
    """Window and scale inside the graph, so that no app can get them wrong.

    Args:
        student: Maps normalized (1, 1, D, H, W) to logits (1, C, D, H, W).
    """

    def __init__(self, student: nn.Module, intensity: Intensity) -> None:
        super().__init__()
        self.student = student
        self.low, self.high = intensity.window_hu
        self.offset, self.factor = intensity.offset, 1.0 / intensity.scale

    def forward(self, image_hu: Tensor) -> Tensor:
        """(1, 1, D, H, W) float32 HU -> (1, C, D, H, W) float32 logits."""
        scaled = (image_hu.clamp(self.low, self.high) - self.offset) * self.factor
        logits: Tensor = self.student(scaled)
        return logits


class TorchEngine:
    """The trained student itself behind the runtime's engine protocol: what artifacts are compared with."""

    def __init__(self, student: nn.Module, intensity: Intensity) -> None:
        self._model = DeviceForm(student, intensity).eval()

    @property
    def description(self) -> dict[str, str]:
        return {
            "name": "torch",
            "version": torch.__version__,
            "precision": "fp32",
            "threads": str(torch.get_num_threads()),
            "sha256": "",
        }

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return np.asarray(self._model(torch.from_numpy(tile)[None, None])[0].numpy())

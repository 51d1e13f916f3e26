"""The interpreter behind the runtime's engine protocol."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch

from autosam_edge_export.mil.interpreter import Interpreter


class MilEngine:
    """Evaluates a Core ML package where there is no Core ML; slow, and no measure of any device's speed.

    Args:
        model: Files of the package by their path in it.

    Raises:
        ExportError: See :class:`~autosam_edge_export.mil.interpreter.Interpreter`.
    """

    def __init__(self, model: Mapping[str, bytes]) -> None:
        self._interpreter = Interpreter(model)

    @property
    def description(self) -> dict[str, str]:
        return {
            "name": "interpreter",
            "version": torch.__version__,
            "precision": "as stored",
            "threads": str(torch.get_num_threads()),
            "sha256": "",
        }

    @property
    def facts(self) -> dict[str, object]:
        """Facts of the program: format version, number of uses of each operator, highest rank of a tensor."""
        program = self._interpreter
        return {
            "specification": program.spec_version,
            "operators": dict(sorted(program.operators.items())),
            "highest_rank": program.max_rank,
        }

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return np.asarray(self._interpreter.run(torch.from_numpy(tile)[None, None])[0].numpy())

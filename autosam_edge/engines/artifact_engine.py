"""Base of the engines of real runtimes: their description and their errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.error_codes import ENGINE_FAILED, MODEL_NOT_LOADED, MODEL_SHAPE_WRONG

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt


class ArtifactEngine(ABC):
    """Runs one verified artifact.

    Args:
        model: Content of the artifact's files by name; a single file has the name ``""``.
        sha256: SHA-256 of the artifact, verified by the bundle, hexadecimal.
        precision: Number format, named as in the manifest.
        threads: Number of threads of the runtime; 0 means one per core.

    Raises:
        EngineError: The model does not load (AE-ENGINE-002) or has another interface (AE-ENGINE-003).
    """

    package: str
    title: str

    def __init__(self, model: Mapping[str, bytes], *, sha256: str, precision: str, threads: int = 0) -> None:
        version = self._version()
        try:
            inputs, outputs = self._load(model, precision, threads)
        except Exception as error:  # the runtimes raise several unrelated types from their C++ cores
            raise MODEL_NOT_LOADED(
                f"{self.title} {version} cannot load the model ({type(error).__name__}).",
                remedy=f"Export the bundle again, or install a newer {self.package}.",
            ) from error
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 5:
            raise MODEL_SHAPE_WRONG(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs, expected one 5D tensor each."
            )
        self._description = {
            "name": self.package,
            "version": version,
            "precision": precision,
            "threads": str(threads or "all"),
            "sha256": sha256,
        }

    @property
    def description(self) -> dict[str, str]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        return dict(self._description)

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        try:
            logits = self._infer(tile[None, None])
        except Exception as error:  # as above
            raise ENGINE_FAILED(
                f"{self.title} failed on a tile of shape {tile.shape} ({type(error).__name__})."
            ) from error
        return np.asarray(logits[0], dtype=np.float32)

    @abstractmethod
    def _version(self) -> str:
        """The runtime's version."""

    @abstractmethod
    def _load(self, model: Mapping[str, bytes], precision: str, threads: int) -> tuple[Any, Any]:
        """Make the model ready; its inputs and outputs, each with a ``shape``."""

    @abstractmethod
    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 1, D, H, W) HU -> (1, C, D, H, W) logits."""

"""The interface of an inference engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@runtime_checkable
class Engine(Protocol):
    """Runs the network on one tile.

    An engine may be used from one thread at a time; a session sees to that. The tile's shape
    is the bundle's patch.
    """

    @property
    def description(self) -> dict[str, str]:
        """``name``, ``version``, ``precision``, ``threads``, and the artifact's ``sha256``."""
        ...

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Logits of a tile.

        Args:
            tile: (D, H, W) float32, HU.

        Returns:
            (C, D, H, W) float32; valid until the next call.

        Raises:
            EngineError: The engine failed.
        """
        ...

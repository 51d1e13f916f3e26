"""Base of the engines of real runtimes: their description and their errors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from autosam_edge.engines.model_file import Format, check_model_file
from autosam_edge.error_codes import ENGINE_FAILED, MODEL_NOT_LOADED, MODEL_SHAPE_WRONG

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt


class TensorInterface(NamedTuple):
    """One input or output of a model.

    Args:
        name: Name of the tensor; empty if the format has none.
        dtype: ``float32``, or the runtime's own name of another type.
        shape: Sides; one that may vary is no number.
    """

    name: str
    dtype: str
    shape: tuple[object, ...]


class ArtifactEngine(ABC):
    """Runs one verified artifact.

    Args:
        model: Content of the artifact's files by name; a single file has the name ``""``.
        sha256: SHA-256 of the artifact, verified by the bundle, hexadecimal.
        precision: Number format, named as in the manifest.
        threads: Number of threads of the runtime; 0 means one per core.

    Raises:
        BundleError: The model's file is not allowed (AE-BUNDLE-007).
        EngineError: The model does not load (AE-ENGINE-002) or has another interface (AE-ENGINE-003).
    """

    package: str
    title: str
    file_format: Format

    def __init__(self, model: Mapping[str, bytes], *, sha256: str, precision: str, threads: int = 0) -> None:
        check_model_file(self.file_format, model)
        self._precision, self._threads = precision, threads
        version = self._version()
        try:
            inputs, outputs = self._load(model)
        except MemoryError:
            raise
        except Exception as error:  # the runtimes raise several unrelated types from their C++ cores
            raise MODEL_NOT_LOADED(
                f"{self.title} {version} cannot load the model ({type(error).__name__}).",
                remedy=f"Export the bundle again, or install a newer {self.package}.",
            ) from error
        tensors = [*inputs, *outputs]
        if len(inputs) != 1 or len(outputs) != 1 or any(len(tensor.shape) != 5 for tensor in tensors):
            raise MODEL_SHAPE_WRONG(
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs, expected one 5D tensor each."
            )
        self._tensors = {"input": inputs[0], "output": outputs[0]}
        self._description = {
            "name": self.package,
            "version": version,
            "precision": precision,
            "threads": str(threads or "all"),
            "sha256": sha256,
        }

    @classmethod
    def has_instructions(cls, precision: str) -> bool:  # noqa: ARG003  for the engines that look
        """True if this processor computes in a number format without imitating it."""
        return True

    @property
    def description(self) -> dict[str, str]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        return dict(self._description)

    def require_interface(self, patch: tuple[int, int, int], classes: int) -> None:
        """Refuse a model whose tensors differ from what the manifest says.

        Args:
            patch: Shape (D, H, W) of a tile, voxels.
            classes: Number of outputs with the background.

        Raises:
            EngineError: A name, a type or a shape differs (AE-ENGINE-003).
        """
        for which, name, channels in (("input", "image_hu", 1), ("output", "logits", classes)):
            found = self._tensors[which]
            expected = TensorInterface(name if found.name else "", "float32", (1, channels, *patch))
            if found != expected:
                raise MODEL_SHAPE_WRONG(
                    f"the model's {which} is {_in_words(found)}, by the manifest it is {_in_words(expected)}."
                )

    def run(self, tile: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """See :class:`~autosam_edge.engines.engine.Engine`."""
        try:
            logits = self._infer(tile[None, None])
        except MemoryError:
            raise
        except Exception as error:  # as above
            raise ENGINE_FAILED(
                f"{self.title} failed on a tile of shape {tile.shape} ({type(error).__name__})."
            ) from error
        return np.asarray(logits[0], dtype=np.float32)

    @abstractmethod
    def _version(self) -> str:
        """The runtime's version."""

    @abstractmethod
    def _load(
        self, model: Mapping[str, bytes]
    ) -> tuple[Sequence[TensorInterface], Sequence[TensorInterface]]:
        """Make the model ready; its inputs and outputs."""

    @abstractmethod
    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """(1, 1, D, H, W) HU -> (1, C, D, H, W) logits."""


def _in_words(tensor: TensorInterface) -> str:
    shape = "x".join(str(side)[:20] for side in tensor.shape)
    return f"{tensor.name[:40]!r} {tensor.dtype} {shape}"

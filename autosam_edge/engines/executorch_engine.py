"""ExecuTorch on the CPU, with the delegates that its Python package brings."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.engines.artifact_engine import ArtifactEngine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Nothing on the process's stderr: ExecuTorch's C++ core notes every file of the processor's description that it looks for."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a descriptor is wanted
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


with quiet_stderr(), warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its own deprecations
    import executorch.version
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime


@dataclass(frozen=True)
class _Tensor:
    shape: tuple[int, ...]


class ExecuTorchEngine(ArtifactEngine):
    """A ``.pte`` in ExecuTorch's own runtime; its threads are the process's, so that two engines share them."""

    package = "executorch"
    title = "ExecuTorch"

    def _version(self) -> str:
        return str(executorch.version.__version__)

    def _load(self, model: Mapping[str, bytes], precision: str, threads: int) -> tuple[Any, Any]:  # noqa: ARG002
        with quiet_stderr():
            portable_lib._unsafe_reset_threadpool(threads or os.cpu_count() or 1)
            self._program = Runtime.get().load_program(model[""])
            self._method = self._program.load_method("forward")
        described = self._method.metadata
        inputs = [_Tensor(described.input_tensor_meta(i).sizes()) for i in range(described.num_inputs())]
        return inputs, [_Tensor(described.output_tensor_meta(i).sizes()) for i in range(described.num_outputs())]

    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with quiet_stderr():
            (logits,) = self._method.execute([torch.from_numpy(np.require(image_hu, requirements="W"))])
        return logits.numpy()  # type: ignore[no-any-return]  # executorch ships no types

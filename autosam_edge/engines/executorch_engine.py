"""ExecuTorch on the CPU, with the delegates that its Python package brings."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

# The extension itself, not executorch.runtime: that one brings the compiler, 1,800 modules and 130 MB that
# running does not need.
import executorch.version
import numpy as np
import torch

# It is linked against the libraries of torch, so torch is imported before it.
from executorch.extension.pybindings import _C as pybindings  # noqa: N811

from autosam_edge.engines.artifact_engine import ArtifactEngine, TensorInterface

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt


_FLOAT32 = 6  # ScalarType of the C++ core
_STDERR = threading.Lock()


@contextlib.contextmanager
def quiet_stderr() -> Iterator[None]:
    """Discard what the process writes to stderr: ExecuTorch's C++ core logs every file that it looks for.

    One thread at a time: a second one would restore the discarded stream of the first as the original.
    """
    with _STDERR:
        sys.stderr.flush()
        kept = os.dup(2)
        try:
            with open(os.devnull, "wb") as nowhere:  # noqa: PTH123  a descriptor is wanted
                os.dup2(nowhere.fileno(), 2)
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class ExecuTorchEngine(ArtifactEngine):
    """A ``.pte`` in ExecuTorch's runtime; all engines of the process share its threads."""

    package = "executorch"
    title = "ExecuTorch"
    file_format = "ExecuTorch"

    def _version(self) -> str:
        return str(executorch.version.__version__)

    def _load(self, model: Mapping[str, bytes]) -> tuple[list[TensorInterface], list[TensorInterface]]:
        with quiet_stderr():
            pybindings._unsafe_reset_threadpool(self._threads or os.cpu_count() or 1)
            self._held = model[""]  # the program reads from these bytes as it runs
            checked = pybindings.Verification.InternalConsistency
            self._program = pybindings._load_program_from_buffer(self._held, program_verification=checked)
            self._method = self._program.load_method("forward")
        described = self._method.method_meta()
        inputs = [_tensor(described.input_tensor_meta(i)) for i in range(described.num_inputs())]
        return inputs, [_tensor(described.output_tensor_meta(i)) for i in range(described.num_outputs())]

    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        (logits,) = self._method([torch.from_numpy(np.require(image_hu, requirements="W"))])
        return logits.numpy()  # type: ignore[no-any-return]  # executorch ships no types


def _tensor(value: Any) -> TensorInterface:  # noqa: ANN401  a class of executorch
    dtype = "float32" if value.dtype() == _FLOAT32 else f"ScalarType {value.dtype()}"
    return TensorInterface("", dtype, tuple(value.sizes()))

"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from autosam_edge.errors import EngineError


class OnnxEngine:
    """Runs one verified ONNX artifact.

    Args:
        model: The artifact's bytes; weights inside, no external data.
        sha256: Hash of the bytes, as verified by the bundle.
        precision: As the manifest names it.
        threads: Intra-op threads; 0 lets ONNX Runtime use one per physical core.

    Raises:
        EngineError: The model does not load (AE-ENGINE-002) or has another interface (AE-ENGINE-003).
    """

    def __init__(self, model: bytes, *, sha256: str, precision: str, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # a planned arena is allocated beside the first: 310 MB instead of 229 for one 96^3 tile
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises several unrelated types from its C++ core
            raise EngineError(
                "AE-ENGINE-002",
                f"ONNX Runtime {ort.__version__} cannot load the model ({type(error).__name__}).",
                remedy="Export the bundle again, or install a newer onnxruntime.",
            ) from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1 or len(inputs[0].shape) != 5:
            raise EngineError(
                "AE-ENGINE-003",
                f"the model has {len(inputs)} inputs and {len(outputs)} outputs, expected one 5D tensor each.",
                remedy="Export the bundle with this version of autosam-edge.",
            )
        self._input = inputs[0].name
        self._output = outputs[0].name
        self._description = {
            "name": "onnxruntime",
            "version": ort.__version__,
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
            (logits,) = self._session.run([self._output], {self._input: tile[None, None]})
        except Exception as error:  # as above
            raise EngineError(
                "AE-ENGINE-004",
                f"ONNX Runtime failed on a tile of shape {tile.shape} ({type(error).__name__}).",
                remedy="Close other programs if memory is short, or export the bundle again.",
            ) from error
        return np.asarray(logits[0], dtype=np.float32)

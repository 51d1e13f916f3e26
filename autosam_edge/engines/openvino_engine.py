"""OpenVINO on x86 and ARM processors; reads the same ONNX file."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import openvino

from autosam_edge.errors import EngineError

# What the layers that are not quantized are computed in; a processor without bfloat16 takes float32. In bfloat16 the layers that int8
# leaves in float would lose what they were left for.
_ARITHMETIC = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


class OpenVinoEngine:
    """Runs one verified ONNX artifact with OpenVINO's CPU plugin.

    Args:
        model: The artifact's bytes; weights inside, no external data.
        sha256: Hash of the bytes, as verified by the bundle.
        precision: As the manifest names it: ``fp32``, ``bf16`` or ``int8``.
        threads: Inference threads; 0 lets OpenVINO use one per core.

    Raises:
        EngineError: The model does not load (AE-ENGINE-002) or has another interface (AE-ENGINE-003).
    """

    def __init__(self, model: bytes, *, sha256: str, precision: str, threads: int = 0) -> None:
        settings = {
            "INFERENCE_PRECISION_HINT": _ARITHMETIC[precision],
            "PERFORMANCE_HINT": "LATENCY",
            **({"INFERENCE_NUM_THREADS": threads} if threads else {}),
        }
        version = openvino.get_version().split("-")[0]
        try:
            compiled = openvino.Core().compile_model(openvino.Core().read_model(io.BytesIO(model)), "CPU", settings)
        except Exception as error:  # OpenVINO raises plain RuntimeError and its own types from its C++ core
            raise EngineError(
                "AE-ENGINE-002",
                f"OpenVINO {version} cannot load the model ({type(error).__name__}).",
                remedy="Export the bundle again, or install a newer openvino.",
            ) from error
        if len(compiled.inputs) != 1 or len(compiled.outputs) != 1 or len(compiled.inputs[0].shape) != 5:
            raise EngineError(
                "AE-ENGINE-003",
                f"the model has {len(compiled.inputs)} inputs and {len(compiled.outputs)} outputs, expected one 5D tensor each.",
                remedy="Export the bundle with this version of autosam-edge.",
            )
        self._request = compiled.create_infer_request()
        self._description = {
            "name": "openvino",
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
            self._request.infer({0: tile[None, None]})
            logits = self._request.get_output_tensor(0).data
        except Exception as error:  # as above
            raise EngineError(
                "AE-ENGINE-004",
                f"OpenVINO failed on a tile of shape {tile.shape} ({type(error).__name__}).",
                remedy="Close other programs if memory is short, or export the bundle again.",
            ) from error
        return np.asarray(logits[0], dtype=np.float32)

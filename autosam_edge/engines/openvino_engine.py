"""OpenVINO on x86 and ARM processors; reads the same ONNX file."""

from __future__ import annotations

import io
import threading
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.engines.artifact_engine import ArtifactEngine, TensorInterface
from autosam_edge.engines.telemetry import telemetry_off

with telemetry_off("openvino"):
    import openvino

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

# What the layers that are not quantized are computed in. In bfloat16 the layers that int8 leaves in float
# would lose what they were left for.
_ARITHMETIC = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}


_MAKING_CORE = threading.Lock()


def openvino_core() -> openvino.Core:
    """The one core of the process, also where threads ask for it at once."""
    with _MAKING_CORE:
        return _make_core()


@cache
def _make_core() -> openvino.Core:
    """A core that is never released, in a process in which threads may run OpenVINO at once.

    Each core loads the plugin of the processor, which sets an alternate stack for the signals of the main
    thread (sigaltstack) and restores the one before it when it is unloaded. With two cores that are released
    in the order in which they were made, the main thread is left with a stack that was unmapped, and the next
    signal, such as Ctrl-C, crashes the process.

    The first look at the numbers of a tensor prepares the bindings to Python. Two threads that have their
    first look at once wait for each other forever (2026.4), so that it is taken here.
    """
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino.Core()


class OpenVinoEngine(ArtifactEngine):
    """An ONNX artifact in OpenVINO's CPU plugin: ``fp32``, ``bf16`` or ``int8``."""

    package = "openvino"
    title = "OpenVINO"
    file_format = "ONNX"

    @classmethod
    def has_instructions(cls, precision: str) -> bool:
        """Whether OpenVINO names the format among the optimizations for this processor."""
        if precision != "bf16":
            return True
        # Without bfloat16 it imitates it on processors with AVX-512 and takes float32 on others.
        return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")

    def _version(self) -> str:
        return str(openvino.get_version().split("-")[0])

    def _load(self, model: Mapping[str, bytes]) -> tuple[list[TensorInterface], list[TensorInterface]]:
        settings = {
            "INFERENCE_PRECISION_HINT": _ARITHMETIC[self._precision],
            "PERFORMANCE_HINT": "LATENCY",
            **({"INFERENCE_NUM_THREADS": self._threads} if self._threads else {}),
        }
        core = openvino_core()
        compiled = core.compile_model(core.read_model(io.BytesIO(model[""])), "CPU", settings)
        self._request = compiled.create_infer_request()
        return [_tensor(value) for value in compiled.inputs], [_tensor(value) for value in compiled.outputs]

    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        self._request.infer({0: image_hu})
        # The types of openvino are not followed.
        return self._request.get_output_tensor(0).data  # type: ignore[no-any-return]


def _tensor(value: Any) -> TensorInterface:  # noqa: ANN401  a class of openvino
    dtype = "float32" if value.element_type == openvino.Type.f32 else value.element_type.get_type_name()
    shape = value.partial_shape
    sides = tuple(side.get_length() if side.is_static else "?" for side in shape)
    return TensorInterface(value.any_name, dtype, sides)

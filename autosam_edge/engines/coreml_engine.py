"""Core ML on a Mac; the system chooses between processor, GPU and Neural Engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coremltools

from autosam_edge.engines.artifact_engine import ArtifactEngine, TensorInterface

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

_FLOAT32 = 65568  # ArrayFeatureType.ArrayDataType of Core ML


class CoreMlEngine(ArtifactEngine):
    """An ``.mlpackage`` in Core ML, read from a temporary folder; the system sets the number of threads."""

    package = "coremltools"
    title = "Core ML"
    file_format = "Core ML"

    def _version(self) -> str:
        return str(coremltools.__version__)

    def _load(self, model: Mapping[str, bytes]) -> tuple[list[TensorInterface], list[TensorInterface]]:
        with tempfile.TemporaryDirectory(suffix=".mlpackage") as folder:
            for name, content in model.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            self._model = coremltools.models.MLModel(folder)  # compiles it into a place of its own
        described = self._model.get_spec().description
        self._inputs, self._outputs = (
            [_tensor(feature) for feature in features] for features in (described.input, described.output)
        )
        return self._inputs, self._outputs

    def _infer(self, image_hu: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        outputs = self._model.predict({self._inputs[0].name: image_hu})
        return outputs[self._outputs[0].name]  # type: ignore[no-any-return]


def _tensor(feature: Any) -> TensorInterface:  # noqa: ANN401  a protobuf message
    array = feature.type.multiArrayType
    dtype = "float32" if array.dataType == _FLOAT32 else f"ArrayDataType {array.dataType}"
    return TensorInterface(feature.name, dtype, tuple(array.shape))

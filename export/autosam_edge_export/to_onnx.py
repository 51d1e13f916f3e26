"""Student -> one ONNX file."""

from __future__ import annotations

import io
import logging
import warnings
from typing import TYPE_CHECKING

import onnx
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

OPSET = 20


def convert(model: nn.Module, patch: tuple[int, int, int], metadata: Mapping[str, str]) -> bytes:
    """Convert with static shapes, weights inside the file, and check it.

    Args:
        model: Maps (1, 1, D, H, W) HU to logits; eval mode.
        patch: (D, H, W).
        metadata: Written to ``metadata_props``.

    Returns:
        The serialized model.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    example = torch.zeros(1, 1, *patch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns of its own deprecations
        program = torch.onnx.export(
            model, (example,), input_names=["image_hu"], output_names=["logits"], opset_version=OPSET, dynamo=True, verbose=False
        )
    if program is None:
        raise RuntimeError("the exporter returned no program")
    buffer = io.BytesIO()
    program.save(buffer)
    proto = onnx.load_from_string(buffer.getvalue())
    for key, value in sorted(metadata.items()):
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
    for node in proto.graph.node:  # stack traces of the exporting machine
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del value.metadata_props[:]
    for tensor in proto.graph.initializer:
        del tensor.metadata_props[:]
    del proto.graph.metadata_props[:]
    onnx.checker.check_model(proto, full_check=True)
    return bytes(proto.SerializeToString(deterministic=True))

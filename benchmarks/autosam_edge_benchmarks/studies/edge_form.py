"""The edge form of a student compared with its original form, both as ONNX in ONNX Runtime on one machine."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import nn

from autosam_edge.engines.selection import make_engine
from autosam_edge.system.clock import doubt
from autosam_edge_benchmarks.result_header import Result, new_result
from autosam_edge_export.bundle_writer import NO_DESCRIPTION, LoadedStudent
from autosam_edge_export.convert.to_onnx import store_half, store_int8, to_onnx
from autosam_edge_export.edge import IN_ONNX, edge_form
from autosam_edge_export.proof.cost import measure_cost, time_tiles
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.networks.hu_input import DeviceForm
from autosam_edge_training.networks.students import build_student, parameter_count


def measure_edge_form(
    student: str,
    checkpoint: Path | None = None,
    *,
    patch: tuple[int, int, int] = (96, 96, 96),
    rounds: int = 7,
    log: Callable[[str], None] = lambda _: None,
) -> Result:
    """Convert a student in its original form and in edge form, and measure both.

    Args:
        student: Name of the student; with a checkpoint, that of the checkpoint counts.
        checkpoint: Weights of the student (safetensors); None for random ones, with large position biases.

    Returns:
        For each form: size, load time, memory, time of a tile, and largest difference of a logit from torch.
    """
    result = new_result("edge_form")
    student, module = _load(student, checkpoint)
    models = _convert_all(module, patch, log)
    tile = np.random.default_rng(0).uniform(-200, 300, patch).astype(np.float32)
    with torch.inference_mode():
        expected = DeviceForm(module, BTCV_INTENSITY)(torch.from_numpy(tile)[None, None])[0].numpy()
    engines = {
        name: make_engine("onnx", {"": model}, sha256="", precision="fp32") for name, model in models.items()
    }
    timing = time_tiles(engines, tile, rounds)
    tile_ms = {name: round(timing.median_ms(name), 1) for name in engines}
    forms = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            log(f"measuring {name}")
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
            forms.append(
                {
                    "form": name,
                    "megabytes": round(len(model) / 1e6, 2),
                    **asdict(measure_cost(path, "onnx", "fp32", patch)),
                    "tile_ms": tile_ms[name],
                    "relative_time": round(tile_ms[name] / tile_ms["stock"], 3),
                    "logit_error": float(np.abs(engines[name].run(tile) - expected).max()),
                }
            )
    return {
        **result,
        "student": student,
        "trained": checkpoint is not None,
        "parameters": parameter_count(module),
        "patch": list(patch),
        "doubt_of_times": doubt(timing.others_cores),
        "forms": forms,
    }


def _load(student: str, checkpoint: Path | None) -> tuple[str, nn.Module]:
    """Name and network of the student."""
    if checkpoint is not None:
        given = LoadedStudent(checkpoint, NO_DESCRIPTION)
        return given.kind, given.module
    torch.manual_seed(0)
    module = build_student(student).eval()
    for name, parameter in module.named_parameters():
        if "bias_table" in name:  # near zero otherwise, which would hide an error of the edge form
            nn.init.normal_(parameter, std=0.5)
    return student, module


def _convert_all(
    module: nn.Module, patch: tuple[int, int, int], log: Callable[[str], None]
) -> dict[str, bytes]:
    """ONNX models by name of the form."""
    models = {}
    for name, flash in (("stock", False), ("stock, flash attention", True)):
        log(name)
        for part in module.modules():
            if hasattr(part, "use_flash_attention"):
                setattr(part, "use_flash_attention", flash)  # noqa: B010  a torch module types its attributes
        models[name] = _convert(module, patch)
    attentions: tuple[Literal["matmul", "fused"], ...] = ("matmul", "fused")
    for attention in attentions:
        log(f"edge, {attention}")
        form = edge_form(module, replace(IN_ONNX, attention=attention))
        models[f"edge, {attention} attention"] = _convert(form, patch)
    fused = models["edge, fused attention"]
    models["edge, fused attention, fp16 weights"] = store_half(fused)
    models["edge, fused attention, int8 weights"] = store_int8(fused)
    return models


def _convert(module: nn.Module, patch: tuple[int, int, int]) -> bytes:
    form = DeviceForm(module, BTCV_INTENSITY).eval()
    with torch.no_grad():
        return to_onnx(torch.export.export(form, (torch.zeros(1, 1, *patch),)), {})

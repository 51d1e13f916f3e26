"""The edge form against the student as it stands, both converted to ONNX and run by ONNX Runtime on one machine in one run."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from autosam_edge.engines.selection import make_engine
from autosam_edge_benchmarks.result_header import new_report
from autosam_edge_export.convert.to_onnx import store_half, store_int8, to_onnx
from autosam_edge_export.edge import EdgeOptions, edge_form
from autosam_edge_export.proof.cost import measure_cost, time_tiles
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.networks.hu_input import DeviceForm
from autosam_edge_training.networks.students import build_student, load_student, parameter_count

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn


def measure_edge_form(
    student: str,
    checkpoint: Path | None = None,
    *,
    patch: tuple[int, int, int] = (96, 96, 96),
    rounds: int = 7,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Convert a student stock and in edge form; size, load time, memory, time of a tile, distance from torch.

    Args:
        student: Name; random weights with position-bias tables drawn large, if there is no checkpoint.
        checkpoint: Its safetensors.
        patch: Tile (D, H, W).
        rounds: Turns; medians are reported.
        say: Called with one line per step.
    """
    report = new_report("edge_form")
    torch.manual_seed(0)
    module = build_student(student).eval() if checkpoint is None else load_student(checkpoint)[0]  # type: ignore[arg-type]
    if checkpoint is None:
        for name, parameter in module.named_parameters():
            if "bias_table" in name:
                torch.nn.init.normal_(parameter, std=0.5)
    models = {}
    for name, flash in (("stock", False), ("stock, flash attention", True)):
        say(name)
        for part in module.modules():
            if hasattr(part, "use_flash_attention"):
                part.use_flash_attention = flash
        models[name] = _convert(module, patch)
    for attention in ("matmul", "fused"):
        say(f"edge, {attention}")
        models[f"edge, {attention} attention"] = _convert(
            edge_form(module, EdgeOptions(attention=attention)), patch
        )  # type: ignore[arg-type]
    fused = models["edge, fused attention"]
    models["edge, fused attention, fp16 weights"] = store_half(fused)
    models["edge, fused attention, int8 weights"] = store_int8(fused)
    tile = np.random.default_rng(0).uniform(-200, 300, patch).astype(np.float32)
    with torch.inference_mode():
        expected = DeviceForm(module, BTCV_INTENSITY)(torch.from_numpy(tile)[None, None])[0].numpy()
    forms = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in models.items():
            say(f"measuring {name}")
            path = Path(folder) / "model.onnx"
            path.write_bytes(model)
            cost = measure_cost(path, "onnx", "fp32", patch)
            forms.append({"form": name, "megabytes": round(len(model) / 1e6, 2), **cost.__dict__})
    engines = {
        name: make_engine("onnx", {"": model}, sha256="", precision="fp32") for name, model in models.items()
    }
    taken = time_tiles(engines, tile, rounds)
    for entry in forms:
        logits = engines[entry["form"]].run(tile)
        entry["tile_ms"] = taken[entry["form"]]
        entry["relative_time"] = round(taken[entry["form"]] / taken["stock"], 3)
        entry["logit_error"] = float(np.abs(logits - expected).max())
    parameters = parameter_count(module)
    return {
        **report,
        "student": student,
        "trained": checkpoint is not None,
        "parameters": parameters,
        "patch": list(patch),
        "forms": forms,
    }


def _convert(module: nn.Module, patch: tuple[int, int, int]) -> bytes:
    form = DeviceForm(module, BTCV_INTENSITY).eval()
    with torch.no_grad():
        return to_onnx(torch.export.export(form, (torch.zeros(1, 1, *patch),)), {})

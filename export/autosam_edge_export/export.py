"""The export command: convert, compare, describe, and only then let the bundle exist."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import os
import shutil
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import torch

from autosam_edge import __version__
from autosam_edge.bundle import SCHEMA_VERSION, Artifact, Bundle, InputContract, default_bundle_path
from autosam_edge.engines.onnx_engine import OnnxEngine
from autosam_edge.errors import ExportError, OutputError
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import make_phantom
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_export.device_form import DeviceForm, TorchEngine
from autosam_edge_export.parity import TOLERANCES, compare, judge
from autosam_edge_export.to_onnx import OPSET, convert
from autosam_edge_export.working_set import measure_working_set_mb
from autosam_edge_training.students import load_student, parameter_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autosam_edge.volume import Volume

STUDENT_FILE = "student.safetensors"
WEIGHTS_LICENSE = "Research use only: trained on BTCV (Synapse syn3193805), whose terms do not allow other use. The code is Apache-2.0."
GOLDEN_STRIDE = 4
# The organs for which keeping one part does not cost Dice on the validation cases: docs/adr/0009-one-part.md.
ONE_PART = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "liver",
    "stomach",
    "inferior_vena_cava",
    "adrenal_gland_right",
    "adrenal_gland_left",
)


def export_bundle(
    checkpoint: Path | None,
    out: Path,
    *,
    target: str = "onnx",
    precision: str = "fp32",
    name: str | None = None,
    patch: tuple[int, int, int] = (96, 96, 96),
    overlap: float = 0.25,
    volumes: Mapping[str, Volume] | None = None,
    model_card: Path | None = None,
    training_data: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Turn a trained student into a bundle and prove it equal.

    Args:
        checkpoint: Student's safetensors; None takes the one in the default bundle.
        out: The bundle to write, a folder; it must not exist, or be a bundle of ours, which is replaced at the end.
        target: ``onnx``.
        precision: ``fp32``.
        name: Model name; None makes one from the student's.
        patch: Tile (D, H, W), multiples of 32.
        overlap: Of the tiles at run time.
        volumes: CT volumes to compare on, by name; None uses two phantoms.
        model_card: Markdown file to put in; None writes a short one from the facts.
        training_data: One sentence for the manifest; None takes the checkpoint's.
        say: Called with one line per stage.

    Returns:
        The entry of ``parity.json`` with ``bundle`` and ``megabytes`` beside it.

    Raises:
        ExportError: The target is not known (AE-EXPORT-001), the checkpoint is not a student (AE-EXPORT-002), or parity fails
            (AE-EXPORT-003 to -005). No bundle is left.
        OutputError: The bundle cannot be written.
    """
    if (target, precision) not in TOLERANCES:
        known = ", ".join(f"{t}/{p}" for t, p in TOLERANCES)
        raise ExportError("AE-EXPORT-001", f"there is no target {target}/{precision}.", remedy=f"Choose one of: {known}.")
    if any(side % 32 for side in patch):
        raise ExportError("AE-EXPORT-006", f"the patch {patch} does not divide.", remedy="Use sides that are multiples of 32.")
    weights = default_bundle_path() / STUDENT_FILE if checkpoint is None else checkpoint
    student, facts = _load(weights)
    contract = InputContract("CT", "DHW", "HU", (3.0, 3.0, 3.0), (-125.0, 275.0), "antialiased-linear", patch, overlap, "gaussian")
    torch.manual_seed(0)

    say(f"converting {facts['student']} ({parameter_count(student):,} parameters) to {target}/{precision}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise OutputError(
            "AE-OUTPUT-001", f"{out.name} cannot be written ({error.strerror}).", remedy="Choose a folder you may write."
        ) from error
    try:
        artifact_path = f"{target}/{precision}.onnx"
        (staging / target).mkdir()
        form = DeviceForm(student, contract.window_hu).eval()
        metadata = {
            "model": facts["student"],
            "intended_use": RESEARCH_USE,
            "license": WEIGHTS_LICENSE,
            "software": f"autosam-edge {__version__}",
        }
        (staging / artifact_path).write_bytes(convert(form, patch, metadata))
        say("measuring the memory of a tile")
        artifact = Artifact(target, precision, artifact_path, measure_working_set_mb(staging / artifact_path, patch))

        engine = TorchEngine(student, contract.window_hu)
        _write_golden(staging, engine, contract)
        shutil.copyfile(weights, staging / STUDENT_FILE)
        model_name = name or f"{facts['student']}-3mm"
        data = training_data or facts.get("training_data", f"{len(facts.get('cases', '').split(','))} cases of BTCV")
        card = (
            model_card.read_text()
            if model_card
            else f"# {model_name}\n\n{RESEARCH_USE}\n\nTrained on: {data}\n\nLicense: {WEIGHTS_LICENSE}\n"
        )
        (staging / "MODEL_CARD.md").write_text(card)
        (staging / "parity.json").write_text("[]\n")
        provenance = {
            **{key: facts[key] for key in ("student", "merging", "steps") if key in facts},
            "parameters": parameter_count(student),
            "checkpoint_sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
            "exported": datetime.now(timezone.utc).date().isoformat(),
            "exporter": f"autosam-edge {__version__}",
            "torch": torch.__version__,
            "onnx": onnx.__version__,
            "opset": OPSET,
        }
        _write_manifest(staging, model_name, contract, [artifact], data, provenance)

        say("comparing with the trained student")
        bundle = Bundle(staging)
        model = bundle.read(artifact_path)
        converted = OnnxEngine(model, sha256=bundle.manifest.files[artifact_path], precision=precision)
        entry = judge(target, precision, compare(bundle, converted, engine, volumes or _phantoms()))
        (staging / "parity.json").write_text(json.dumps([entry], indent=1) + "\n")
        _write_manifest(staging, model_name, contract, [artifact], data, provenance)
        Bundle(staging).verify()
        _publish(staging, out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return {**entry, "bundle": str(out), "megabytes": round(len(model) / 1e6, 2)}


def _load(weights: Path) -> tuple[torch.nn.Module, dict[str, str]]:
    """The student and its facts."""
    try:
        return load_student(weights)
    except Exception as error:  # safetensors raises its own SafetensorError from Rust, beside OSError and our ValueError
        raise ExportError(
            "AE-EXPORT-002",
            f"{weights.name} is not a student's checkpoint: {str(error).splitlines()[0]}.",
            remedy="Give the student.safetensors that training wrote.",
        ) from error


def _phantoms() -> dict[str, Volume]:
    """Two synthetic scans, for a proof that needs no data."""
    return {f"phantom-{seed}": make_phantom(seed).volume for seed in (1, 2)}


def _write_golden(folder: Path, engine: TorchEngine, contract: InputContract) -> None:
    """A tile of a phantom and what the trained student says of it, at every fourth voxel."""
    from autosam_edge.geometry import Orientation
    from autosam_edge.preprocess import Resampler

    phantom = make_phantom(1, spacing_mm=contract.spacing_mm)
    orientation = Orientation.of(phantom.volume.grid)
    resampler = Resampler(orientation.canonical_grid(phantom.volume.grid), contract.spacing_mm, contract.window_hu)
    rows = resampler.rows(orientation.to_canonical(phantom.volume.hu), 0, resampler.shape[0])
    tile = np.full(contract.patch, contract.window_hu[0], dtype=np.float32)
    middle = tuple(slice(max(0, (s - p) // 2), max(0, (s - p) // 2) + p) for s, p in zip(rows.shape, contract.patch, strict=True))
    part = np.rint(rows[middle])
    tile[tuple(slice(0, s) for s in part.shape)] = part
    sparse = engine.run(tile)[:, ::GOLDEN_STRIDE, ::GOLDEN_STRIDE, ::GOLDEN_STRIDE]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, tile_hu=tile.astype(np.int16), logits=sparse, stride=np.array(GOLDEN_STRIDE))
    (folder / "golden").mkdir()
    (folder / "golden" / "tile.npz").write_bytes(buffer.getvalue())


def _write_manifest(
    folder: Path, name: str, contract: InputContract, artifacts: Sequence[Artifact], training_data: str, provenance: Mapping[str, Any]
) -> None:
    """Write ``manifest.json`` with the hash of every file beside it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "manifest.json")
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "name": name,
        "version": __version__,
        "license": WEIGHTS_LICENSE,
        "intended_use": RESEARCH_USE,
        "training_data": training_data,
        "input": dataclasses.asdict(contract),
        "postprocess": {"one_part": list(ONE_PART)},
        "labels": [dataclasses.asdict(label) for label in BTCV_LABELS],
        "artifacts": [dataclasses.asdict(artifact) for artifact in artifacts],
        "files": {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
        "provenance": dict(provenance),
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _publish(staging: Path, out: Path) -> None:
    """Move the finished bundle into place; an older bundle of ours gives way, anything else is refused."""
    staging.chmod(0o755)
    if out.exists():
        if not (out / "manifest.json").is_file():
            raise OutputError("AE-OUTPUT-002", f"{out.name} exists and is not a bundle.", remedy="Choose another name.")
        old = Path(tempfile.mkdtemp(prefix=f".{out.name}.old.", dir=out.parent))
        os.replace(out, old / "bundle")  # noqa: PTH105  pairs with the next line
        os.replace(staging, out)  # noqa: PTH105
        shutil.rmtree(old)
    else:
        os.replace(staging, out)  # noqa: PTH105

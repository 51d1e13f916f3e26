"""A student as a MONAI Bundle: MONAI loads the network, labels scans and writes NIfTI files.

::

    configs/metadata.json    what the network takes and gives, which packages it needs
    configs/inference.json   the steps of the inference: transforms, the network, transforms back to the scan
    models/model.safetensors the weights as they were trained
    docs/README.md           the model card, and how to run the bundle
    LICENSE

The specification's ``model.pt`` is a pickle, so there is none: ``inference.json`` reads the safetensors. The
resampling is the runtime's (:mod:`autosam_edge_export.monai_resample`), so the bundle needs ``autosam-edge``.

Source:
    MONAI Bundle Specification (docs/source/mb_specification.rst of MONAI) and its metadata schema of
    2024-07-25.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from autosam_edge import __version__
from autosam_edge.model import InputContract
from autosam_edge.pipeline.body_box import BOX_MARGIN_MM
from autosam_edge.volume import RESEARCH_USE, Label
from autosam_edge_export.bundle_writer import LoadedStudent
from autosam_edge_training.data import Intensity
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.students import MONAI, build_student, monai_arguments
from autosam_edge_training.strict import JsonObject

WEIGHTS_FILE = "models/model.safetensors"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)


def write_monai_bundle(student: LoadedStudent, contract: InputContract, folder: Path) -> None:
    """Write a student as a MONAI Bundle. The same arguments and packages give the same bytes.

    Args:
        folder: Empty folder.

    Raises:
        OSError: A file cannot be written.
    """
    network, packages = _network(student.metadata)
    labels, intensity = student.labels, student.input.intensity
    spacing = " x ".join(f"{side:g}" for side in contract.spacing_mm)
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir()
    shutil.copyfile(student.weights, folder / WEIGHTS_FILE)
    about = {
        **_versions(student.version, packages),
        "name": student.name,
        "task": f"Segmentation of {len(labels)} abdominal organs in CT",
        "description": f"Labels {len(labels)} organs in a CT scan, resampled to {spacing} mm. {RESEARCH_USE}",
        "authors": "The autosam-edge authors",
        "copyright": f"The autosam-edge authors. {student.license}",
        "intended_use": RESEARCH_USE,
        "data_source": student.training_data,
        "data_type": "nibabel",
        "network_data_format": _data_format(contract, intensity, labels),
    }
    _write_json(folder / "configs" / "metadata.json", about)
    inference = _inference(contract, intensity, network, student.model(contract).class_weights)
    _write_json(folder / "configs" / "inference.json", inference)
    (folder / "docs" / "README.md").write_text(
        f"{student.model_card.rstrip()}\n\n{_how_to_run(packages)}", encoding="utf-8"
    )
    (folder / "LICENSE").write_text(f"{student.license}\n\n{RESEARCH_USE}\n", encoding="utf-8")


def _network(checkpoint: CheckpointMetadata) -> tuple[JsonObject, dict[str, str]]:
    """``network_def``, and versions of the packages that the bundle needs beside MONAI."""
    packages = ["nibabel", "safetensors"]
    kind, classes = checkpoint.student, checkpoint.classes
    if kind.startswith(MONAI):
        name = kind.removeprefix(MONAI)
        network = {"_target_": name, **monai_arguments(name, classes, checkpoint.arguments)}
    elif kind.startswith("pocketnet"):
        target = "autosam_edge_training.networks.pocketnet.PocketNet"
        pocketnet: Any = build_student(kind, classes=classes)
        network = {"_target_": target, "classes": classes, "widths": list(pocketnet.widths)}
    else:
        swin: Any = build_student(kind, classes=classes)
        network = {
            "_target_": "SwinUNETR",
            "in_channels": 1,
            "out_channels": classes,
            "feature_size": swin.swinViT.embed_dim,
            "use_flash_attention": True,
        }
        packages.append("einops")
    return network, {name: metadata.version(name) for name in packages} | {"autosam-edge": __version__}


def _versions(version: str, packages: Mapping[str, str]) -> JsonObject:
    """The part of ``metadata.json`` on the bundle's own version and those that it was made with."""
    return {
        "schema": _SCHEMA,
        "version": version,
        "changelog": {version: f"exported by autosam-edge {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": dict(packages),
    }


def _template(name: str, values: Mapping[str, object]) -> JsonObject:
    """Read a configuration beside this module, with the values in the place of their ``%NAME``.

    An item of a list whose value is None is left out.
    """

    def filled(node: object) -> object:
        if isinstance(node, dict):
            return {key: filled(value) for key, value in node.items()}
        if isinstance(node, list):
            return [item for item in map(filled, node) if item is not None]
        return values[node[1:]] if isinstance(node, str) and node.startswith("%") else node

    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return {key: filled(value) for key, value in json.loads(text).items()}


def _data_format(contract: InputContract, intensity: Intensity, labels: Sequence[Label]) -> JsonObject:
    """``network_data_format`` of ``metadata.json``: the tensors that the network takes and gives."""
    window = f"{contract.window_hu[0]:g} to {contract.window_hu[1]:g}"
    scaled = f"{intensity.low:g} to {intensity.high:g}"
    values = {
        "patch": list(contract.patch),
        "range": [intensity.low, intensity.high],
        "image": f"{window} HU as {scaled}; axes to superior, posterior, left",
        "classes": len(labels) + 1,
        "channels": {"0": "background"} | {str(label.value): label.name for label in labels},
        "values": [0, len(labels)],
    }
    return _template("monai_data_format.json", values)


def _inference(
    contract: InputContract,
    intensity: Intensity,
    network: Mapping[str, object],
    class_weights: Sequence[float],
) -> JsonObject:
    """``inference.json``: the names are those that MONAI's own programs look for.

    Overlapping tiles average probabilities, which are then interpolated back, as in the runtime. All slices
    are kept, and of them the body, or all where there is none, so that tiles lie where the runtime's lie: the
    body is what is above 0.03 of the window, below the least dense fat and above the rim that the resampling
    makes around it. ``scan`` keeps the scan for its geometry, and ``evaluator`` is for programs that ask for
    it; ``run`` does the same without pytorch-ignite.
    """

    def scaled(low: float, high: float, to_low: float, to_high: float) -> dict[str, object]:
        edges = {"a_min": low, "a_max": high, "b_min": to_low, "b_max": to_high}
        return {"_target_": "ScaleIntensityRanged", "keys": "image", **edges, "clip": True}

    weigh = "$lambda pred: pred * torch.tensor(@class_weights, device=pred.device)[:, None, None, None]"
    unit = (intensity.low, intensity.high) == (0.0, 1.0)
    values = {
        "network": dict(network),
        "spacing_mm": list(contract.spacing_mm),
        "patch": list(contract.patch),
        "overlap": contract.overlap,
        "blend": contract.blend,
        "rows_beyond_ends": contract.rows_beyond_ends,
        "low": intensity.low,
        "class_weights": list(class_weights),
        "to_unit": scaled(*contract.window_hu, 0.0, 1.0),
        "margin": [round(BOX_MARGIN_MM / spacing) for spacing in contract.spacing_mm],
        "from_unit": None if unit else scaled(0.0, 1.0, intensity.low, intensity.high),
        "weigh": None
        if set(class_weights) == {1.0}
        else {"_target_": "Lambdad", "keys": "pred", "func": weigh},
    }
    return _template("monai_inference.json", values)


def _how_to_run(packages: Mapping[str, str]) -> str:
    """The part of the README below the model card."""
    return f"""## Run it with MONAI

```sh
pip install 'monai[fire]' {" ".join(packages)}
python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json \\
    --bundle_root . --dataset_dir SCANS --output_dir OUT
```

`SCANS` is a folder of CT scans as NIfTI, in HU. `OUT` gets `*_labels.nii.gz`, one label per voxel on the
scan's own grid. The weights are safetensors and there is no `model.pt`: nothing is unpickled.

The labels are those of `autosam-edge segment`, with two differences. An organ may have several parts, as this
bundle does not apply the rule that keeps one part. Tiles may lie one voxel elsewhere, as the body is found in
another way. The memory grows with the number of classes times the size of the scan.

{RESEARCH_USE}
"""


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

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
from importlib.metadata import version
from pathlib import Path
from typing import Any

import monai
import numpy as np
import torch

from autosam_edge import __version__
from autosam_edge.model import InputContract
from autosam_edge.pipeline.body_box import BOX_MARGIN_MM
from autosam_edge.volume import RESEARCH_USE, Label
from autosam_edge_training.data import Intensity
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.students import MONAI, build_student, monai_arguments

WEIGHTS_FILE = "models/model.safetensors"
_OWN = {"autosam-edge": __version__}
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
# Share of the window: below the least dense fat, above the rim that the resampling makes around the body.
_AIR = 0.03
Config = dict[str, Any]
"""An object of a configuration file."""


def write_monai_bundle(
    weights: Path,
    checkpoint: CheckpointMetadata,
    contract: InputContract,
    intensity: Intensity,
    labels: Sequence[Label],
    folder: Path,
    *,
    name: str,
    license: str,  # noqa: A002  what the bundle's own manifest calls it
    training_data: str,
    model_card: str,
    class_weights: Sequence[float],
) -> None:
    """Write a student as a MONAI Bundle. The same arguments and packages give the same bytes.

    Args:
        intensity: Normalization of HU that the network was trained with.
        labels: Label table, in the order of the network's channels after the background.

    Raises:
        ValueError: The folder is not empty, or the labels are not the checkpoint's classes.
        OSError: A file cannot be written.
    """
    if any(folder.iterdir()):
        raise ValueError(f"{folder.name} is not empty; a MONAI bundle is written into an empty folder")
    if len(labels) + 1 != checkpoint.classes:
        found = f"the checkpoint has {checkpoint.classes} classes, the label table {len(labels)} organs"
        raise ValueError(f"{found}; expected one more class than organs, for the background")
    imports, network, packages = _network(checkpoint)
    spacing = " x ".join(f"{side:g}" for side in contract.spacing_mm)
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir()
    shutil.copyfile(weights, folder / WEIGHTS_FILE)
    metadata = {
        **_versions(packages),
        "name": name,
        "task": f"Segmentation of {len(labels)} abdominal organs in CT",
        "description": f"Labels {len(labels)} organs in a CT scan, resampled to {spacing} mm. {RESEARCH_USE}",
        "authors": "The autosam-edge authors",
        "copyright": f"The autosam-edge authors. {license}",
        "intended_use": RESEARCH_USE,
        "data_source": training_data,
        "data_type": "nibabel",
        "network_data_format": _data_format(contract, intensity, labels),
    }
    _write_json(folder / "configs" / "metadata.json", metadata)
    inference = _inference(contract, intensity, imports, network, class_weights)
    _write_json(folder / "configs" / "inference.json", inference)
    (folder / "docs" / "README.md").write_text(
        f"{model_card.rstrip()}\n\n{_how_to_run(packages)}", encoding="utf-8"
    )
    (folder / "LICENSE").write_text(f"{license}\n\n{RESEARCH_USE}\n", encoding="utf-8")


def _network(checkpoint: CheckpointMetadata) -> tuple[list[str], Config, dict[str, str]]:
    """Import statements, ``network_def``, and versions of the packages that the bundle needs beside MONAI."""
    packages = {name: version(name) for name in ("nibabel", "safetensors")}
    kind, classes = checkpoint.student, checkpoint.classes
    if kind.startswith(MONAI):
        name = kind.removeprefix(MONAI)
        network = {"_target_": name, **monai_arguments(name, classes, checkpoint.arguments)}
        return [], network, packages | _OWN
    student: Any = build_student(kind, classes=classes)
    if kind.startswith("pocketnet"):
        target = "autosam_edge_training.networks.pocketnet.PocketNet"
        return [], {"_target_": target, "classes": classes, "widths": list(student.widths)}, packages | _OWN
    network = {
        "_target_": "SwinUNETR",
        "in_channels": 1,
        "out_channels": classes,
        "feature_size": student.swinViT.embed_dim,
        "use_flash_attention": True,
    }
    packages["einops"] = version("einops")
    if checkpoint.merging != "legacy":
        return [], network, packages | _OWN
    imports = ["$from autosam_edge_training.networks.patch_merging import LegacyPatchMerging"]
    return imports, network | {"downsample": "$LegacyPatchMerging"}, packages | _OWN


def _versions(packages: Mapping[str, str]) -> Config:
    """The part of ``metadata.json`` on the bundle's own version and those that it was made with."""
    return {
        "schema": _SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported by autosam-edge {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": dict(packages),
    }


def _data_format(contract: InputContract, intensity: Intensity, labels: Sequence[Label]) -> Config:
    """``network_data_format`` of ``metadata.json``: the tensors that the network takes and gives."""
    window = f"{contract.window_hu[0]:g} to {contract.window_hu[1]:g}"
    channels = {"0": "background"} | {str(label.value): label.name for label in labels}
    image = {
        "type": "image",
        "format": "hounsfield",
        "modality": "CT",
        "num_channels": 1,
        "spatial_shape": list(contract.patch),
        "dtype": "float32",
        "value_range": [intensity.low, intensity.high],
        "is_patch_data": True,
        "channel_def": {
            "0": f"{window} HU as {intensity.low:g} to {intensity.high:g}; axes to superior, posterior, left"
        },
    }
    logits = image | {
        "format": "labels",
        "num_channels": len(channels),
        "value_range": [],
        "channel_def": channels,
    }
    segmentation = {
        "format": "segmentation",
        "num_channels": 1,
        "spatial_shape": ["*", "*", "*"],
        "dtype": "uint8",
        "value_range": [0, len(labels)],
        "is_patch_data": False,
    }
    return {
        "inputs": {"image": image},
        "outputs": {"pred": logits},
        "post_processed_outputs": {"pred": logits | segmentation},
    }


def _inference(
    contract: InputContract,
    intensity: Intensity,
    imports: Sequence[str],
    network: Mapping[str, Any],
    class_weights: Sequence[float],
) -> Config:
    """``inference.json``: the names are those that MONAI's own programs look for."""
    return {
        "imports": ["$from glob import glob", "$from safetensors.torch import load_file", *imports],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/scans'",
        "output_dir": "$@bundle_root + '/labels'",
        "checkpoint": f"$@bundle_root + '/{WEIGHTS_FILE}'",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": dict(network),
        # Probabilities are what overlapping tiles average and what is interpolated back, as in the runtime.
        "network": "$torch.nn.Sequential(@network_def, torch.nn.Softmax(dim=1)).eval()"
        ".requires_grad_(False).to(@device)",
        "resample": {
            "_target_": "autosam_edge_export.monai_resample.Resample",
            "spacing_mm": list(contract.spacing_mm),
        },
        "extend_ends": {
            "_target_": "autosam_edge_export.monai_resample.ExtendEnds",
            "patch": list(contract.patch),
            "overlap": contract.overlap,
            "rows_beyond_ends": contract.rows_beyond_ends,
        },
        "class_weights": list(class_weights),
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(contract, intensity)},
        "datalist": "$sorted(glob(@dataset_dir + '/*.nii*'))",
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': path} for path in @datalist]",
            "transform": "@preprocessing",
        },
        "dataloader": {
            "_target_": "DataLoader",
            "dataset": "@dataset",
            "batch_size": 1,
            "shuffle": False,
            "num_workers": 0,
        },
        "inferer": {
            "_target_": "SlidingWindowInferer",
            "roi_size": list(contract.patch),
            "sw_batch_size": 1,
            "overlap": contract.overlap,
            "mode": contract.blend,
            "cval": intensity.low,
        },
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(class_weights)},
        # For programs that ask for it; "run" does the same without pytorch-ignite.
        "evaluator": {
            "_target_": "SupervisedEvaluator",
            "device": "@device",
            "val_data_loader": "@dataloader",
            "network": "@network",
            "inferer": "@inferer",
            "postprocessing": "@postprocessing",
        },
        "initialize": ["$@network_def.load_state_dict(load_file(@checkpoint), strict=True)"],
        "label": "$lambda scan: @postprocessing("
        "{**scan, 'pred': @inferer(scan['image'][None].to(@device), @network)[0]})",
        "run": ["$[@label(scan)['pred'].meta['saved_to'] for scan in @dataset]"],
    }


def _preprocessing(contract: InputContract, intensity: Intensity) -> list[Config]:
    """Transforms from a file to the network's grid; ``scan`` keeps the scan for its geometry."""
    low, high = contract.window_hu
    margin = [round(BOX_MARGIN_MM / spacing) for spacing in contract.spacing_mm]
    unit = (intensity.low, intensity.high) == (0.0, 1.0)

    def scaled(low: float, high: float, to_low: float, to_high: float) -> Config:
        edges = {"a_min": low, "a_max": high, "b_min": to_low, "b_max": to_high}
        return {"_target_": "ScaleIntensityRanged", "keys": "image", **edges, "clip": True}

    return [
        {"_target_": "LoadImaged", "keys": "image", "reader": "NibabelReader"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        {"_target_": "CopyItemsd", "keys": "image", "names": "scan"},
        # (C, D, H, W): to superior, posterior, left
        {"_target_": "Orientationd", "keys": "image", "axcodes": "SPL", "labels": None},
        scaled(low, high, 0.0, 1.0),
        {"_target_": "Lambdad", "keys": "image", "func": "@resample"},
        # All slices, and of them the body, or all where there is none: tiles lie where the runtime's lie.
        {
            "_target_": "CropForegroundd",
            "keys": "image",
            "source_key": "image",
            "select_fn": f"$lambda x: (x >= min({_AIR}, x.max())).any(1, keepdim=True).expand(x.shape)",
            "margin": margin,
            "allow_smaller": True,
        },
        *([] if unit else [scaled(0.0, 1.0, intensity.low, intensity.high)]),
        {"_target_": "Lambdad", "keys": "image", "func": "@extend_ends"},
    ]


def _postprocessing(class_weights: Sequence[float]) -> list[Config]:
    """Transforms from the network's grid to labels on the scan's own grid."""
    weigh = "$lambda pred: pred * torch.tensor(@class_weights, device=pred.device)[:, None, None, None]"
    weighted = [{"_target_": "Lambdad", "keys": "pred", "func": weigh}] if set(class_weights) != {1.0} else []
    return [
        {
            "_target_": "ResampleToMatchd",
            "keys": "pred",
            "key_dst": "scan",
            "mode": "bilinear",
            "dtype": "$np.float32",
        },
        *weighted,
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "labels",
            "output_dtype": "$np.uint8",
            "separate_folder": False,
            "savepath_in_metadict": True,
        },
    ]


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

"""A student as a MONAI Bundle: MONAI loads it and labels scans with it, without the runtime.

::

    configs/metadata.json    what the network takes and gives, which packages it needs
    configs/inference.json   the way of a scan: MONAI's transforms, the network, MONAI's transforms back
    models/model.safetensors the weights as they were trained
    docs/README.md           the model card, and how to run it
    LICENSE

The specification's ``model.pt`` is a pickle, so there is none: ``inference.json`` reads the safetensors.

Source:
    MONAI Bundle Specification (docs/source/mb_specification.rst of MONAI) and its metadata schema of
    2024-07-25.
"""

from __future__ import annotations

import json
import shutil
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import monai
import numpy as np
import torch

from autosam_edge import __version__
from autosam_edge.pipeline.resample import BOX_MARGIN_MM
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.students import MONAI, build_student, monai_arguments

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from autosam_edge.model import InputContract
    from autosam_edge.volume import Label
    from autosam_edge_training.data import Intensity

WEIGHTS_FILE = "models/model.safetensors"
_SCHEMA = (
    "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20240725.json"
)
_AIR = 0.03  # of the window: below the least dense fat and above the rim that the resampling lays around the body


def write_monai_bundle(
    weights: Path,
    facts: CheckpointMetadata,
    contract: InputContract,
    intensity: Intensity,
    labels: Sequence[Label],
    folder: Path,
    *,
    name: str,
    license: str,  # noqa: A002  what the bundle's own manifest calls it
    training_data: str,
    model_card: str,
) -> None:
    """Write a student as a MONAI Bundle. The same arguments and packages give the same bytes.

    Args:
        weights: The student's safetensors.
        facts: Its metadata, as ``autosam_edge_training.networks.students.load_student`` returns them.
        contract: What the network's input is.
        intensity: How HU become what the network sees.
        labels: The label table, in the order of the network's channels after the background.
        folder: Exists and is empty.
        name: Of the model.
        license: Of the weights.
        training_data: One sentence.
        model_card: Markdown.

    Raises:
        ValueError: The folder is not empty, or the labels are not the checkpoint's classes.
        OSError: A file cannot be written.
    """
    if any(folder.iterdir()):
        raise ValueError(f"{folder.name} is not empty; a MONAI bundle is written into an empty folder")
    classes = facts.classes
    if len(labels) + 1 != classes:
        raise ValueError(
            f"the checkpoint has {classes} classes, the label table {len(labels)} organs and the background"
        )
    imports, network, packages = _network(facts, classes)
    for part in ("configs", "docs", "models"):
        (folder / part).mkdir()
    shutil.copyfile(weights, folder / WEIGHTS_FILE)
    metadata = _metadata(
        contract,
        intensity,
        labels,
        packages,
        facts={"name": name, "license": license, "training_data": training_data},
    )
    _write_json(folder / "configs" / "metadata.json", metadata)
    _write_json(folder / "configs" / "inference.json", _inference(contract, intensity, imports, network))
    (folder / "docs" / "README.md").write_text(
        f"{model_card.rstrip()}\n\n{_how_to_run(packages)}", encoding="utf-8"
    )
    (folder / "LICENSE").write_text(f"{license}\n\n{RESEARCH_USE}\n", encoding="utf-8")


def _network(facts: CheckpointMetadata, classes: int) -> tuple[list[str], dict[str, Any], dict[str, str]]:
    """How MONAI's config builds the student: import statements, ``network_def``, and the packages that it needs beside MONAI's own."""
    packages = {"nibabel": version("nibabel"), "safetensors": version("safetensors")}
    own = {"autosam-edge": __version__}
    if (kind := facts.student).startswith(MONAI):
        name, arguments = kind.removeprefix(MONAI), facts.arguments
        return [], {"_target_": name, **monai_arguments(name, classes, arguments)}, packages
    student: Any = build_student(kind, classes=classes)
    if kind == "pocketnet":
        target = "autosam_edge_training.networks.pocketnet.PocketNet"
        return [], {"_target_": target, "classes": classes, "widths": list(student.widths)}, packages | own
    network = {
        "_target_": "SwinUNETR",
        "in_channels": 1,
        "out_channels": classes,
        "feature_size": student.swinViT.embed_dim,
        "use_flash_attention": True,
    }
    packages["einops"] = version("einops")
    if facts.merging != "legacy":
        return [], network, packages
    imports = ["$from autosam_edge_training.networks.patch_merging import LegacyPatchMerging"]
    return imports, network | {"downsample": "$LegacyPatchMerging"}, packages | own


def _metadata(
    contract: InputContract,
    intensity: Intensity,
    labels: Sequence[Label],
    packages: Mapping[str, str],
    *,
    facts: Mapping[str, str],
) -> dict[str, Any]:
    """``metadata.json``, with the keys that the specification asks for and those it knows."""
    spacing = " x ".join(f"{side:g}" for side in contract.spacing_mm)
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
        "schema": _SCHEMA,
        "version": __version__,
        "changelog": {__version__: f"exported by autosam-edge {__version__}"},
        "monai_version": monai.__version__,
        "pytorch_version": str(torch.__version__).split("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": dict(packages),
        "name": facts["name"],
        "task": f"Segmentation of {len(labels)} abdominal organs in CT",
        "description": f"Labels {len(labels)} organs in a CT scan, resampled to {spacing} mm. {RESEARCH_USE}",
        "authors": "The autosam-edge authors",
        "copyright": f"The autosam-edge authors. {facts['license']}",
        "intended_use": RESEARCH_USE,
        "data_source": facts["training_data"],
        "data_type": "nibabel",
        "network_data_format": {
            "inputs": {"image": image},
            "outputs": {"pred": logits},
            "post_processed_outputs": {"pred": logits | segmentation},
        },
    }


def _inference(
    contract: InputContract, intensity: Intensity, imports: Sequence[str], network: Mapping[str, Any]
) -> dict[str, Any]:
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
        "network": "$torch.nn.Sequential(@network_def, torch.nn.Softmax(dim=1)).eval().requires_grad_(False).to(@device)",
        **_resampling(contract),
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
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing()},
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
        "label": "$lambda scan: @postprocessing({**scan, 'pred': @inferer(scan['image'][None].to(@device), @network)[0]})",
        "run": ["$[@label(scan)['pred'].meta['saved_to'] for scan in @dataset]"],
    }


def _resampling(contract: InputContract) -> dict[str, Any]:
    """The antialiased linear filter of :mod:`autosam_edge.pipeline.resample` as expressions.

    MONAI's Spacing does not antialias and begins its grid at the scan's first voxel, not around its center.
    The network notices: on the phantoms, a Gaussian and Spacing give a Dice of 0.96 with the runtime's
    labels, these give 0.9999.
    """
    return {
        "spacing_mm": list(contract.spacing_mm),
        # Of each axis: voxels, and the step between two voxels of the network's grid, in voxels of the scan.
        "axes": "$lambda x: [(n, t / s) for n, s, t in zip(x.shape[1:], x.pixdim.tolist(), @spacing_mm)]",
        "count": "$lambda n, step: max(1, int(np.ceil(n / step - 1e-6)))",
        "positions": "$lambda n, step: (np.arange(@count(n, step)) - (@count(n, step) - 1) / 2) * step + (n - 1) / 2",
        "distances": "$lambda n, step: np.abs(@positions(n, step).clip(0, n - 1)[:, None] - np.arange(n)) / max(1, step)",
        "weights": "$lambda x: [torch.as_tensor(np.maximum(0, 1 - @distances(*axis))).float() for axis in @axes(x)]",
        "filters": "$lambda x: [weight / weight.sum(1, keepdim=True) for weight in @weights(x)]",
        "values": "$lambda x: torch.einsum('cdhw,zw,yh,xd->cxyz', x.as_tensor(), *@filters(x)[::-1])",
        "shift": "$lambda x: monai.transforms.create_translate(3, [@positions(*axis)[0] for axis in @axes(x)])",
        "stretch": "$lambda x: monai.transforms.create_scale(3, [step for _, step in @axes(x)])",
        "affine": "$lambda x: x.affine.matmul(torch.as_tensor(@shift(x).dot(@stretch(x))))",
        "resample": "$lambda x: monai.data.MetaTensor(@values(x), meta={**x.meta, 'affine': @affine(x)})",
    }


def _preprocessing(contract: InputContract, intensity: Intensity) -> list[dict[str, Any]]:
    """From a file to the network's grid; ``scan`` keeps the scan for its geometry."""
    low, high = contract.window_hu
    margin = [round(BOX_MARGIN_MM / spacing) for spacing in contract.spacing_mm]
    unit = (intensity.low, intensity.high) == (0.0, 1.0)

    def scaled(low: float, high: float, to_low: float, to_high: float) -> dict[str, Any]:
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
    ]


def _postprocessing() -> list[dict[str, Any]]:
    """From the network's grid to labels on the scan's own."""
    return [
        {
            "_target_": "ResampleToMatchd",
            "keys": "pred",
            "key_dst": "scan",
            "mode": "bilinear",
            "dtype": "$np.float32",
        },
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

`SCANS` is a folder of CT scans as NIfTI, in HU. `OUT` gets `*_labels.nii.gz`, one label per voxel on the scan's own grid. The weights are
safetensors and there is no `model.pt`: nothing is unpickled.

The labels are those of `autosam-edge segment` but for two things. Organs may have stray parts, as MONAI has no rule that keeps the surest.
And where the body's outline is found a voxel elsewhere, tiles lie a voxel elsewhere. Memory grows with classes x scan.

{RESEARCH_USE}
"""


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

"""Data sets of two bright boxes, and recipes so small that a run takes a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("lightning_fabric")
import nibabel as nib
import yaml
from safetensors import safe_open

from autosam_edge_training import train_student, train_teacher
from autosam_edge_training.config import as_dict
from autosam_edge_training.data import BTCV_INTENSITY, Listing, Pair, prepare_dataset
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.schedule import Schedule

SIDE = 32  # voxels of a case along each axis
SPACING_MM = (3.0, 3.0, 3.0)
NAMES = ("background", "liver", "spleen")
HU = (-60, 100, 200)  # of each class: the image tells the truth
PLAIN = {"flip": 0.0, "rotate": 0.0, "scale": 0.0}
NO_DROPOUT = {"channels": [4, 8], "strides": [2], "norm": "instance"}
UNET = {"student": "monai:UNet", "arguments": {**NO_DROPOUT, "dropout": 0.1}}
TIME_AND_MEMORY = {"seconds_per_step", "peak_memory_mb"}


def boxes(seed: int) -> np.ndarray:
    """Labels (D, H, W): a liver of 14 x 16 x 12 voxels in the lower half, a spleen of 8^3 in the upper."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((SIDE, SIDE, SIDE), np.uint8)
    for value, size, low, high in ((1, (14, 16, 12), 0, 2), (2, (8, 8, 8), 17, 24)):
        d, h, w = int(rng.integers(low, high + 1)), *(int(rng.integers(1, SIDE - side)) for side in size[1:])
        labels[d : d + size[0], h : h + size[1], w : w + size[2]] = value
    return labels


def write_boxes(folder: Path, name: str, seed: int, *, swapped: bool = False, noise_hu: float = 10.0) -> Pair:
    """A scan and its truth as NIfTI; ``swapped`` exchanges liver and spleen in the truth only."""
    labels = boxes(seed)
    hu = np.take(HU, labels) + np.random.default_rng([seed, 1]).normal(0.0, noise_hu, labels.shape)
    truth = np.take(np.array([0, 2, 1], np.uint8), labels) if swapped else labels
    folder.mkdir(parents=True, exist_ok=True)
    pair = Pair(name, folder / f"{name}.nii.gz", folder / f"{name}-label.nii.gz")
    for path, array in ((pair.image, hu.round().astype(np.int16)), (pair.label, truth)):
        nib.save(nib.Nifti1Image(np.ascontiguousarray(array.T), np.diag([-3.0, -3.0, 3.0, 1.0])), path)
    return pair


def prepare_boxes(
    folder: Path,
    *,
    training: int = 2,
    names: tuple[str, ...] = NAMES,
    intensity: Any = BTCV_INTENSITY,
    dataset: str = "btcv",
    targets: Any = "labels",
    spacing_mm: tuple[float, float, float] = SPACING_MM,
    **scan: Any,
) -> Path:
    """A prepared folder of such scans, two to train on, one to validate and one to test."""
    counts = {"training": training, "validation": 1, "test": 1}
    seeds = iter(range(100))
    splits = {
        split: tuple(
            write_boxes(folder / "scans", f"{split}{number}", next(seeds), **scan) for number in range(count)
        )
        for split, count in counts.items()
    }
    listing = Listing(dataset, folder / "scans", names, intensity, splits)
    prepare_dataset(listing, folder / "prepared", targets=targets, spacing_mm=spacing_mm)
    return folder / "prepared"


def prepare_unlabeled(
    folder: Path, *, name: str = "strange", seed: int = 7, spacing_mm: tuple[float, float, float] = SPACING_MM
) -> Path:
    """A prepared folder of one such scan that nobody labeled."""
    pair = replace(write_boxes(folder / "scans", name, seed), label=None, known=())
    splits = {"training": [pair], "validation": [], "test": []}
    listing = Listing("partial", folder / "scans", NAMES, BTCV_INTENSITY, splits)
    prepare_dataset(listing, folder / "prepared", targets="occupancy", spacing_mm=spacing_mm)
    return folder / "prepared"


def student_config(**changes: Any) -> train_student.Config:
    """Five steps of a UNet with dropout on patches smaller than a case, with checkpoints and an average."""
    values = {
        "schedule": Schedule(steps=5, lr=1e-2, warmup=0.0, batch=1),
        "sampling": Sampling(patch=(16, 16, 16)),
    }
    shared = {"report_every": 1, "validate_every": 2, "precision": "fp32", "ema": 0.9}
    return train_student.Config(**{**values, **UNET, **shared, **changes})


def distill_config(**changes: Any) -> train_student.Config:
    """The same student with a teacher, lambda 0.5."""
    return student_config(**{"weight": 0.5, **changes})


def teacher_config(**changes: Any) -> train_teacher.Config:
    """Five steps of the smallest teacher."""
    network = changes.pop("network", tiny_teacher())
    values = {
        "schedule": Schedule(steps=5, lr=1e-2, warmup=0.0, batch=1),
        "sampling": Sampling(patch=network.patch),
    }
    shared = {"report_every": 1, "validate_every": 2, "precision": "fp32", "ema": 0.9, "smoke": True}
    return train_teacher.Config(**{**values, "network": network, **shared, **changes})


def tiny_teacher(**changes: Any) -> TeacherConfig:
    """4^3 tokens of 4^3 voxels."""
    small = {"patch": (16, 16, 16), "necks": {"out": 8}, "apg": {"widths": (4, 8)}, "decoder": {"mid": 4}}
    return TeacherConfig(**{"vit": "tiny", **small, **changes})


@dataclass(frozen=True)
class Recipe:
    """One of the three recipes.

    Args:
        command: Words of the command line that trains it.
        config: Small config of the recipe.
        train: Maps (config, data, out) to the path of the weights; distillation includes its teacher.
    """

    command: tuple[str, ...]
    config: Any
    train: Callable[[Any, Path, Path], Path]


def recipe(name: str, teacher: Path) -> Recipe:
    """``student``, ``teacher`` or ``distill``; ``teacher`` is what a distillation learns from."""
    if name == "distill":
        return Recipe(("distill",), distill_config(), partial(train_student.train, teachers=[teacher]))
    module, config = {
        "student": (train_student, student_config()),
        "teacher": (train_teacher, teacher_config()),
    }[name]
    return Recipe(("train", name), config, module.train)


def write_recipe(config: Any, path: Path) -> Path:
    """The YAML file of a recipe."""
    path.write_text(yaml.safe_dump(as_dict(config)))
    return path


def weights_of(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file."""
    with safe_open(path, framework="pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata())  # noqa: SIM118  safe_open has no __iter__


def same_weights(a: Path, b: Path) -> bool:
    """Whether two files hold the same tensors, bit for bit."""
    first, second = weights_of(a)[0], weights_of(b)[0]
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def reports(run: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` without what no two runs share."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in TIME_AND_MEMORY} for line in lines]


def losses(run: Path) -> list[float]:
    """The loss of every report."""
    return [line["loss"] for line in reports(run)]


def changed(config: Any, part: str, **changes: Any) -> Any:
    """A recipe with other values in one of its parts."""
    return replace(config, **{part: replace(getattr(config, part), **changes)})

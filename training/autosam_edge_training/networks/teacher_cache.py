"""A teacher's probabilities for every voxel of the training cases, computed once and cached on the disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from autosam_edge.atomic_files import staged_folder
from autosam_edge.errors import AutosamEdgeError
from autosam_edge_training.data import Case, Prepared
from autosam_edge_training.error_codes import CACHE_DIFFERS
from autosam_edge_training.networks.checkpoint import open_network, require_same_input, teacher_sha256
from autosam_edge_training.networks.whole_case import run_whole_case

_RECORD = "teacher.json"
_FULL = 255


def cache_probabilities(
    path: Path,
    prepared: Prepared,
    out: Path,
    *,
    patch: tuple[int, int, int] | None = None,
    overlap: float = 0.5,
    device: torch.device | None = None,
    sam: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Compute a teacher's probabilities for every training case, (C, D, H, W) uint8, 255 = probability 1.

    A case takes about 0.5 GB at 1 x 1 x 1.5 mm. The folder appears whole or not at all.

    Args:
        patch: Voxels (D, H, W) of the sliding window; None takes the patch that the teacher was trained on.
        device: Device of the teacher; None takes a GPU if there is one.

    Raises:
        TrainingError: The teacher cannot be used (AE-TRAIN-007, -008).
        OutputError: ``out`` holds something or cannot be written.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, metadata = open_network(path, sam=sam)
    require_same_input(metadata, prepared, "the teacher")
    network.to(device)
    patch = patch or metadata.patch
    cases = prepared.cases("training")
    with staged_folder(out) as stage:
        for done, case in enumerate(cases, start=1):
            array = probabilities(network, case, patch, overlap=overlap, device=device)
            np.save(stage / f"{case.name}.npy", array)
            progress(done, len(cases))
        write_record(stage, path, prepared, patch=patch, overlap=overlap)
    return out


def write_record(stage: Path, teacher: Path, prepared: Prepared, **settings: object) -> None:
    """Write which teacher and which data a cache belongs to."""
    record = {**_identity(teacher, prepared), **settings}
    (stage / _RECORD).write_text(json.dumps(record, indent=1) + "\n")


def load_cached_probabilities(
    folder: Path, path: Path, prepared: Prepared
) -> dict[str, npt.NDArray[np.uint8]]:
    """Open the cached probabilities of a teacher, memory-mapped arrays (C, D, H, W) by the name of the case.

    Args:
        folder: Folder that :func:`cache_probabilities` made.

    Raises:
        TrainingError: The folder belongs to another teacher or other data, or is damaged (AE-TRAIN-009).
    """
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        cached = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in prepared.split["training"]
        }
    except (OSError, ValueError) as error:
        raise _cache_mismatch(folder, f"it is missing a file or damaged ({type(error).__name__})") from error
    if other := [key for key, value in _identity(path, prepared).items() if record.get(key) != value]:
        raise _cache_mismatch(folder, f"{', '.join(other)} differ")
    for name, array in cached.items():
        expected = (prepared.classes, *prepared.arrays[name].shape)
        if array.shape != expected or array.dtype != np.uint8:
            raise _cache_mismatch(
                folder, f"{name}.npy holds {array.dtype} {array.shape}, expected uint8 {expected}"
            )
    return cached


def probabilities(
    network: nn.Module, case: Case, patch: tuple[int, int, int], *, overlap: float, device: torch.device
) -> npt.NDArray[np.uint8]:
    """The softmax of a whole case, (C, D, H, W) uint8; the rounding error of a window is at most 1 / 510."""
    soft = run_whole_case(
        lambda tile: network(tile).softmax(dim=1),
        case,
        patch,
        overlap=overlap,
        device=device,
        result_device=torch.device("cpu"),
    )
    return np.asarray((soft * _FULL).round_().to(torch.uint8).numpy())


def _identity(path: Path, prepared: Prepared) -> dict[str, str]:
    return {"teacher_sha256": teacher_sha256(path), "data_sha256": prepared.sha256}


def _cache_mismatch(folder: Path, why: str) -> AutosamEdgeError:
    return CACHE_DIFFERS(f"the cache {folder.name} does not belong to this teacher and these data: {why}.")

"""What a teacher says of every voxel of the training cases, computed once and kept on the disk."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from monai.inferers import sliding_window_inference

from autosam_edge.atomic_files import staged_folder
from autosam_edge.errors import AutosamEdgeError
from autosam_edge_training.error_codes import CACHE_DIFFERS
from autosam_edge_training.networks.checkpoint import network_sha256, open_network, require_same_input

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt
    from torch import nn

    from autosam_edge_training.data import Case, Prepared

_RECORD = "teacher.json"
_FULL = 255
_USUAL_PATCH = 96, 96, 96


def keep_probabilities(
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
    """Ask the teacher once for the whole of every training case and keep its answers, (C, D, H, W) uint8, 255 = sure.

    About 0.5 GB per case at 1 x 1 x 1.5 mm. The folder appears whole or not at all.

    Args:
        path: The teacher's file.
        prepared: The data.
        out: Folder to make.
        patch: Of the sliding window, voxels; None: as large as what the teacher was trained on.
        overlap: Of neighboring windows.
        device: Where to compute; a GPU where there is one.
        sam: See :func:`autosam_edge_training.networks.checkpoint.open_network`.
        progress: Called with (cases done, cases in all).
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network, facts = open_network(path, sam=sam)
    require_same_input(facts, prepared, "the teacher")
    network.to(device)
    patch = patch or _trained_patch(facts)
    cases = prepared.cases("training")
    with staged_folder(out) as stage:
        for done, case in enumerate(cases, start=1):
            np.save(
                stage / f"{case.name}.npy",
                probabilities(network, case, patch, overlap=overlap, device=device),
            )
            progress(done, len(cases))
        record = {**_identity(path, prepared), "patch": patch, "overlap": overlap}
        (stage / _RECORD).write_text(json.dumps(record, indent=1) + "\n")
    return out


def kept_probabilities(folder: Path, path: Path, prepared: Prepared) -> dict[str, npt.NDArray[np.uint8]]:
    """The kept answers of a teacher for the training cases, memory-mapped, by case.

    Raises:
        TrainingError: The folder is of another teacher or other data, or is damaged (AE-TRAIN-009).
    """
    try:
        record = json.loads((folder / _RECORD).read_bytes())
        kept = {
            name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            for name in prepared.split["training"]
        }
    except (OSError, ValueError) as error:
        raise _not_of_these(folder, f"it is missing a file or damaged ({type(error).__name__})") from error
    if other := [key for key, value in _identity(path, prepared).items() if record.get(key) != value]:
        raise _not_of_these(folder, f"{', '.join(other)} differ")
    for name, array in kept.items():
        expected = (prepared.classes, *prepared.arrays[name].shape)
        if array.shape != expected or array.dtype != np.uint8:
            raise _not_of_these(
                folder, f"{name}.npy holds {array.dtype} {array.shape}, expected uint8 {expected}"
            )
    return kept


@torch.no_grad()
def probabilities(
    network: nn.Module, case: Case, patch: tuple[int, int, int], *, overlap: float, device: torch.device
) -> npt.NDArray[np.uint8]:
    """(C, D, H, W) uint8 of the softmax of a whole case; the largest error of a window's answer is 1 / 510."""
    image = (case.image.astype(np.float32) - case.intensity.offset) / case.intensity.scale
    soft = sliding_window_inference(
        torch.from_numpy(image)[None, None],
        patch,
        1,
        lambda tile: network(tile).softmax(dim=1),
        overlap=overlap,
        mode="gaussian",
        cval=case.intensity.low,
        sw_device=device,
        device=torch.device("cpu"),
    )
    assert isinstance(soft, torch.Tensor)
    return np.asarray((soft[0] * _FULL).round_().to(torch.uint8).numpy())


def _trained_patch(facts: dict[str, str]) -> tuple[int, int, int]:
    """A network answers best to what is as large as what it was trained on; a file from before recipes were kept does not tell."""
    recipe = json.loads(facts.get("recipe") or facts.get("config", "{}"))
    if "sampling" not in recipe:
        return _USUAL_PATCH
    depth, height, width = recipe["sampling"]["patch"]
    return depth, height, width


def _identity(path: Path, prepared: Prepared) -> dict[str, Any]:
    return {"teacher_sha256": network_sha256(path), "data_sha256": prepared.sha256}


def _not_of_these(folder: Path, why: str) -> AutosamEdgeError:
    return CACHE_DIFFERS(f"the probabilities in {folder.name} are not of this teacher and these data: {why}.")

"""A teacher's probabilities of every training case, computed once and cached, a compressed file for each.

They lie on the grid of the teacher. A student on another grid, coarser or finer, gets them resampled when it
starts, so that one folder teaches students of all spacings. What a folder of another tool holds lies on the
grid of the data that it was first cached for, and teaches students of that spacing and coarser ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from autosam_edge.errors import AutosamEdgeError
from autosam_edge_training.choices import Split
from autosam_edge_training.data import Case, Entry, Prepared, SoftLabels, prepare_entry
from autosam_edge_training.error_codes import CACHE_DIFFERS, FOREIGN_TEACHER_INVALID
from autosam_edge_training.networks.checkpoint import network_sha256, open_network, require_same_input
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata
from autosam_edge_training.networks.foreign_files import foreign_sha256
from autosam_edge_training.networks.whole_case import run_whole_case

Parts = Sequence[tuple[Prepared, Split]]
"""The parts of data sets that a run trains on."""
Digest = Callable[[Prepared, Entry], str]
"""What identifies the teacher of a case."""
# An organ's box ends where the teacher gives it less than this: a hundredth everywhere is no organ.
_LEAST = 0.01


def cache_probabilities(
    teachers: Sequence[Path],
    parts: Parts,
    out: Path,
    *,
    patch: tuple[int, int, int] | None = None,
    sam: Path | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Path:
    """Compute the probabilities of one or more teachers for every case that has no file in the cache yet.

    Each file appears whole or not at all; a call that was stopped goes on where it was. Where a case is
    prepared on another grid than the teacher's, its scan is read again. The teacher runs on a GPU if there is
    one.

    Args:
        teachers: Weights files, of any spacing; what is kept is the mean of all, on the grid of the first.
        out: Folder of the cache, ``CASE.npz``; made if it is not there.
        patch: Voxels (D, H, W) of the sliding window; None takes the patch that a teacher was trained on.

    Raises:
        TrainingError: The teacher cannot be used (AE-TRAIN-007, -008), or a file that is there already is of
            another teacher or another scan, or damaged (AE-TRAIN-009).
        InputError: A scan is missing or cannot be read.
    """
    digest = digest_of_cases(teachers)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks = [open_network(teacher, sam=sam) for teacher in teachers]
    for network, metadata in networks:
        for prepared, _ in parts:
            require_same_input(metadata, prepared, "the teacher", any_spacing=True)
        network.to(device)

    def ask(prepared: Prepared, entry: Entry) -> SoftLabels:
        answers = [
            probabilities(network, metadata, _case(prepared, entry, metadata), patch, device)
            for network, metadata in networks
        ]
        return answers[0] if len(answers) == 1 else _mean(answers)

    return fill_cache(out, parts, digest, ask, progress)


def fill_cache(
    out: Path,
    parts: Parts,
    digest: Digest,
    ask: Callable[[Prepared, Entry], SoftLabels],
    progress: Callable[[int, int], None],
) -> Path:
    """Write what ``ask`` says of every case that has no file yet.

    Args:
        digest: See :func:`digest_of_cases`.

    Raises:
        TrainingError: A file that is there already is of another teacher or scan, or damaged (AE-TRAIN-009).
        OutputError: The folder cannot be written.
    """
    missing = []
    for prepared, split in parts:
        for entry in prepared.manifest.entries(split):
            if (out / f"{entry.name}.npz").is_file():
                _read(out, entry, digest(prepared, entry))
            else:
                missing.append((prepared, entry))
    for done, (prepared, entry) in enumerate(missing, start=1):
        soft = ask(prepared, entry)
        soft.write(out / f"{entry.name}.npz", _identity(entry, digest(prepared, entry)))
        progress(done, len(missing))
    return out


def load_cached_probabilities(folder: Path, teachers: Sequence[Path], parts: Parts) -> dict[str, SoftLabels]:
    """Read the cached probabilities of teachers, each on the grid of its case, by the name of the case.

    Args:
        folder: Folder that :func:`cache_probabilities` made.
        teachers: Weights files, or the one folder of another tool.

    Raises:
        TrainingError: A case has no file, or one that is damaged or of another teacher or another scan, or
            that of another tool's folder is coarser than the data (AE-TRAIN-009).
    """
    digest, cached = digest_of_cases(teachers), {}
    for prepared, split in parts:
        for entry in prepared.manifest.split(split):
            soft = _read(folder, entry, digest(prepared, entry))
            if teachers[0].is_dir():
                _require_fine_cache(folder, soft, prepared)
            shape = prepared.arrays[entry.name].shape
            if soft.classes != prepared.classes:
                raise _cache_mismatch(folder, f"{entry.name}.npz holds {soft.classes} classes")
            if soft.spacing_mm != prepared.spacing_mm:
                soft = soft.resampled(prepared.spacing_mm, shape)
            elif soft.shape != shape:
                raise _cache_mismatch(folder, f"{entry.name}.npz holds {soft.shape} voxels, expected {shape}")
            cached[entry.name] = soft
    return cached


def _require_fine_cache(folder: Path, soft: SoftLabels, prepared: Prepared) -> None:
    """Refuse probabilities of another tool that were cached for coarser data.

    Raises:
        TrainingError: They were (AE-TRAIN-009).
    """
    if any(kept > side for kept, side in zip(soft.spacing_mm, prepared.spacing_mm, strict=True)):
        kept, sides = (" x ".join(f"{side:g}" for side in one.spacing_mm) for one in (soft, prepared))
        raise CACHE_DIFFERS(
            f"the cache {folder.name} was made for data of {kept} mm, coarser than {sides} mm.",
            remedy="Give another `cache`; made for the finest data, it teaches students of every spacing.",
        )


def digest_of_cases(teachers: Sequence[Path]) -> Digest:
    """SHA-256 that identifies the teachers of a case: one for all cases, or that of its files in a folder.

    Raises:
        TrainingError: A folder is one of several teachers (AE-TRAIN-029), or a file cannot be read (-007).
    """
    if any(teacher.is_dir() for teacher in teachers):
        if len(teachers) > 1:
            raise FOREIGN_TEACHER_INVALID(
                "a folder of another tool is one of several teachers.", remedy="Give the folder alone."
            )
        return partial(foreign_sha256, teachers[0])
    digests = [network_sha256(teacher) for teacher in teachers]
    digest = digests[0] if len(digests) == 1 else _joined(digests)
    return lambda _prepared, _entry: digest


def teacher_digest(teachers: Sequence[Path], parts: Parts) -> str:
    """SHA-256 that identifies one or more teachers, or what a folder holds of all cases."""
    digest = digest_of_cases(teachers)
    digests = [
        digest(prepared, entry) for prepared, split in parts for entry in prepared.manifest.split(split)
    ]
    return digests[0] if len(set(digests)) == 1 else _joined(digests)


def _joined(digests: Sequence[str]) -> str:
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def probabilities(
    network: nn.Module,
    metadata: CheckpointMetadata,
    case: Case,
    patch: tuple[int, int, int] | None,
    device: torch.device,
) -> SoftLabels:
    """The softmax of a whole case, in the precision that the network was trained in."""
    low = metadata.config["precision"] == "bf16"

    def softmax(tile: Tensor) -> Tensor:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=low):
            logits = network(tile)
        return logits.float().softmax(dim=1)

    found = run_whole_case(
        softmax, case, patch or metadata.patch, overlap=0.5, device=device, result_device=torch.device("cpu")
    )
    array: npt.NDArray[np.float32] = found.numpy()
    return SoftLabels.of(array, metadata.input.spacing_mm, least=_LEAST)


def _case(prepared: Prepared, entry: Entry, metadata: CheckpointMetadata) -> Case:
    """A case on the teacher's grid."""
    spacing_mm = metadata.input.spacing_mm
    if spacing_mm == prepared.spacing_mm:
        return prepared.case(entry.name)
    entry.check()
    return prepare_entry(entry, dataclasses.replace(prepared, spacing_mm=spacing_mm, targets="labels"))


def _mean(answers: Sequence[SoftLabels]) -> SoftLabels:
    """The mean of several answers on the grid of the first."""
    first = answers[0]
    total = np.zeros((first.classes, *first.shape), dtype=np.float32)
    for one in answers:
        soft = one if one.spacing_mm == first.spacing_mm else one.resampled(first.spacing_mm, first.shape)
        for value, box in soft.organ_boxes.items():
            total[(value, *box)] += soft.share_in(value, box) / len(answers)
    return SoftLabels.of(total, first.spacing_mm, least=_LEAST)


def _read(folder: Path, entry: Entry, teacher: str) -> SoftLabels:
    """The file of a case, if it belongs to this scan and this teacher."""
    name = f"{entry.name}.npz"
    try:
        soft, identity = SoftLabels.read(folder / name)
    except (OSError, ValueError) as error:
        raise _cache_mismatch(folder, f"{name} is missing or damaged ({type(error).__name__})") from error
    expected = _identity(entry, teacher)
    if other := [key for key, value in expected.items() if identity.get(key) != value]:
        raise _cache_mismatch(folder, f"{name} is of another {' and another '.join(other)}")
    return soft


def _identity(entry: Entry, teacher: str) -> dict[str, str]:
    return {"teacher": teacher, "scan": entry.image_sha256}


def _cache_mismatch(folder: Path, why: str) -> AutosamEdgeError:
    return CACHE_DIFFERS(f"the cache {folder.name} does not belong to this teacher and these data: {why}.")

"""A trained teacher as one safetensors file: trained parameters, and the hash of the SAM file of the rest."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from autosam_edge.errors import AutosamEdgeError, TrainingError
from autosam_edge_training.config import parse_config
from autosam_edge_training.error_codes import SAM_FILE_NEEDED, TEACHER_FILE_INVALID
from autosam_edge_training.networks.autosam.autosam import AutoSAM
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import file_sha256, fill_encoder
from autosam_edge_training.networks.autosam.trainables import trainable_parameters
from autosam_edge_training.networks.checkpoint_metadata import AUTOSAM, CheckpointMetadata, write_network


def save_teacher(path: Path, model: AutoSAM, metadata: CheckpointMetadata) -> None:
    """Write a teacher.

    The file holds the trained parameters; the frozen ones are those of the SAM file with the recorded hash.
    Without such a file, or if everything trained, it holds all parameters.

    Args:
        path: ``*.safetensors``; it appears whole or not at all.
        model: Built from ``metadata.arguments``.
        metadata: Metadata of the file; ``sam_sha256`` is that of the SAM file that it started from.
    """
    if parse_config(TeacherConfig, metadata.arguments).trains == "all":
        metadata = dataclasses.replace(metadata, sam_sha256="")
    stored = _stored(model, from_sam=bool(metadata.sam_sha256))
    state = {key: value.detach().cpu().contiguous() for key, value in stored.items()}
    write_network(path, state, metadata)


def load_teacher(path: Path, *, sam: Path | None = None) -> tuple[AutoSAM, CheckpointMetadata]:
    """Read a file of :func:`save_teacher`.

    Args:
        sam: SAM's published checkpoint that the teacher was trained on; not needed if the file holds all
            parameters.

    Raises:
        TrainingError: The file is not a teacher's, or damaged (AE-TRAIN-015); the SAM file is not given or is
            another one (-016); see also :func:`fill_encoder`.
    """
    state, metadata = _read(path)
    try:
        config = parse_config(TeacherConfig, metadata.arguments)
    except TrainingError as error:
        raise _not_a_teacher(path, "its metadata hold no valid network") from error
    recorded = metadata.sam_sha256
    model = build_autosam(config)
    expected = _stored(model, from_sam=bool(recorded))
    if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in expected):
        raise _not_a_teacher(path, "its weights are not those of its network")
    if recorded:
        fill_encoder(model, _require_sam(path, sam, recorded))
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(state[name])
    return model.eval(), metadata


def _stored(model: AutoSAM, *, from_sam: bool) -> dict[str, Tensor]:
    """The parameters that a file holds; with ``from_sam`` the frozen ones come from the SAM file."""
    return dict(trainable_parameters(model)) if from_sam else dict(model.named_parameters())


def _read(path: Path) -> tuple[dict[str, Tensor], CheckpointMetadata]:
    try:
        metadata, state = CheckpointMetadata.read(path), load_file(path)
    except (OSError, SafetensorError) as error:
        raise _not_a_teacher(path, "it is missing, damaged or not safetensors") from error
    except ValueError as error:
        raise _not_a_teacher(path, str(error)) from error
    if metadata.student != AUTOSAM:
        raise _not_a_teacher(path, f"it holds {metadata.student}")
    return state, metadata


def _require_sam(path: Path, sam: Path | None, recorded: str) -> Path:
    """The SAM file that a teacher was trained on."""
    if sam is None:
        raise SAM_FILE_NEEDED(
            f"{path.name} holds only the trained parameters; the SAM file with SHA-256 {recorded} is missing."
        )
    found = file_sha256(sam)
    if found != recorded:
        raise SAM_FILE_NEEDED(
            f"{path.name} was trained on the SAM file with SHA-256 {recorded}, and {sam.name} has {found}."
        )
    return sam


def _not_a_teacher(path: Path, why: str) -> AutosamEdgeError:
    return TEACHER_FILE_INVALID(f"{path.name} is not a teacher's checkpoint: {why}.")

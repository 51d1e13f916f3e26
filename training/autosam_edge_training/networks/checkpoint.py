"""The file of a trained network of any kind: open it, name it, and compare its input with the data."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from torch import nn

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training.config import parse_config
from autosam_edge_training.data import Prepared
from autosam_edge_training.error_codes import NETWORK_FILE_INVALID, NETWORK_INPUT_DIFFERS
from autosam_edge_training.networks.autosam.checkpoint import load_teacher
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.checkpoint_metadata import AUTOSAM, CheckpointMetadata
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import load_student


def open_network(path: Path, *, sam: Path | None = None) -> tuple[nn.Module, CheckpointMetadata]:
    """Load a trained network of either kind: an AutoSAM teacher or a student.

    Args:
        path: ``teacher.safetensors`` or ``student.safetensors``.

    Raises:
        TrainingError: The file holds no network (AE-TRAIN-007); see also :func:`load_teacher`.
    """
    try:
        return load_teacher(path, sam=sam) if read_metadata(path).student == AUTOSAM else load_student(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _no_network(path, error) from error


def read_metadata(path: Path) -> CheckpointMetadata:
    """Read the metadata of a trained network's file.

    Raises:
        TrainingError: The file holds no network (AE-TRAIN-007).
    """
    try:
        return CheckpointMetadata.read(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _no_network(path, error) from error


def network_name(metadata: CheckpointMetadata) -> str:
    """Name, such as ``swinunetr-tiny``, ``autosam-vit-b`` or ``autosam-192x8 without prompts``."""
    if metadata.student != AUTOSAM:
        return metadata.student
    config = parse_config(TeacherConfig, metadata.arguments)
    size = f"vit-{config.vit}" if isinstance(config.vit, str) else f"{config.vit.dim}x{config.vit.depth}"
    return f"autosam-{size}" if config.apg.enabled else f"autosam-{size} without prompts"


def network_sha256(path: Path) -> str:
    """SHA-256 of a trained network's file.

    Raises:
        TrainingError: The file cannot be read (AE-TRAIN-007).
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise _no_network(path, error) from error


def require_same_input(
    metadata: CheckpointMetadata, prepared: Prepared, what: str, *, any_spacing: bool = False
) -> None:
    """Refuse a network that was trained on another grid, window or label table than the data have.

    Args:
        any_spacing: True where the spacing of the network may be another one.

    Raises:
        TrainingError: AE-TRAIN-008, naming what differs.
    """
    differences = metadata.input.differs_in(NetworkInput.of(prepared))
    if any_spacing:
        differences = [part for part in differences if part != "spacing_mm"]
    if differences:
        raise NETWORK_INPUT_DIFFERS(f"{what} was trained on data with other {', '.join(differences)}.")


def _no_network(path: Path, error: Exception) -> AutosamEdgeError:
    why = (error.strerror if isinstance(error, OSError) else None) or error
    return NETWORK_FILE_INVALID(f"{path.name} holds no trained network: {why}.")

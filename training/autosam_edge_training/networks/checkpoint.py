"""The file of a trained network of any kind: open it, name it, and compare its input with the data."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.file_hash import file_digest
from autosam_edge_training.error_codes import NETWORK_FILE_INVALID, NETWORK_INPUT_DIFFERS
from autosam_edge_training.networks.autosam import load_teacher
from autosam_edge_training.networks.autosam.checkpoint import KIND
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.students import load_student

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from autosam_edge_training.data import Prepared


def open_network(path: Path, *, sam: Path | None = None) -> tuple[nn.Module, dict[str, str]]:
    """A trained network of either kind: an AutoSAM teacher, or a student (a larger one makes a control of the paper's teacher).

    Args:
        path: ``teacher.safetensors`` or ``student.safetensors``.
        sam: The SAM file, where a teacher was trained on one.

    Returns:
        The network in eval mode, what learned still marked so, and what its file says.

    Raises:
        TrainingError: The file holds neither (AE-TRAIN-007), or see :func:`load_teacher`.
    """
    try:
        teacher = _metadata(path).get("kind") == KIND
        network, facts = load_teacher(path, sam=sam) if teacher else load_student(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise _no_network(path, error) from error
    return network.eval(), facts


def network_name(path: Path) -> str:
    """``swinunetr-tiny``, ``autosam-vit-b``; a ViT of one's own is told by its size, as in ``autosam-192x8 without prompts``.

    Raises:
        TrainingError: The file is of no trained network (AE-TRAIN-007).
    """
    try:
        facts = _metadata(path)
        if facts.get("kind") != KIND:
            return facts["student"]
        config = json.loads(facts["config"])
        return teacher_name(config["vit"], prompts=config["apg"]["enabled"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise _no_network(path, error) from error


def teacher_name(vit: str | dict[str, Any], *, prompts: bool) -> str:
    """Of an AutoSAM; see :func:`network_name`."""
    size = f"vit-{vit}" if isinstance(vit, str) else f"{vit['dim']}x{vit['depth']}"
    return f"autosam-{size}" if prompts else f"autosam-{size} without prompts"


def network_sha256(path: Path) -> str:
    """SHA-256 of a trained network's file.

    Raises:
        TrainingError: It is not there or cannot be read (AE-TRAIN-007).
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise _no_network(path, error) from error


def require_same_input(facts: dict[str, str], prepared: Prepared, what: str) -> None:
    """Refuse a network that was trained on another grid, window or label table than the data have.

    Raises:
        TrainingError: AE-TRAIN-008, naming what differs.
    """
    try:
        other = NetworkInput.read(facts).differs_in(NetworkInput.of(prepared))
    except ValueError:
        other = ["labels", "spacing_mm", "intensity"]
    if other:
        raise NETWORK_INPUT_DIFFERS(f"{what} was trained on data with other {', '.join(other)}.")


def _metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return dict(file.metadata() or {})


def _no_network(path: Path, error: Exception) -> AutosamEdgeError:
    why = (error.strerror if isinstance(error, OSError) else None) or error
    remedy = "Give the safetensors file that a run wrote."
    return NETWORK_FILE_INVALID(f"{path.name} holds no trained network: {why}.", remedy=remedy)

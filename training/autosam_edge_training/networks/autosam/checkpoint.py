"""A trained teacher as one safetensors file: what trained, and which SAM file the rest comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from autosam_edge.atomic_files import staged_file
from autosam_edge.errors import AutosamEdgeError, TrainingError
from autosam_edge_training.config import as_dict, parse_config
from autosam_edge_training.error_codes import SAM_FILE_NEEDED, TEACHER_FILE_INVALID
from autosam_edge_training.networks.autosam.autosam import AutoSAM
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import file_sha256, load_sam
from autosam_edge_training.networks.autosam.trainables import trainable_parameters

KIND = "autosam-teacher"
_REMEDY = "Give the teacher.safetensors that training wrote."


def save_teacher(
    path: Path,
    model: AutoSAM,
    config: TeacherConfig,
    *,
    sam_sha256: str | None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write a teacher.

    The file holds what trained; the frozen rest is named by the SAM file's hash. Where there is no such file,
    or everything trained, it holds all weights: random ones cannot be had again from anywhere else.

    Args:
        path: ``*.safetensors``; appears in one piece.
        model: Built from ``config``.
        config: The network.
        sam_sha256: What :func:`load_sam` returned.
        metadata: Facts about the training, as strings.

    Raises:
        ValueError: ``metadata`` uses a key of ours.
    """
    from_sam = sam_sha256 if config.trains == "adapters" else None
    facts = {"kind": KIND, "config": json.dumps(as_dict(config)), "sam_sha256": from_sam or ""}
    if metadata and metadata.keys() & facts.keys():
        raise ValueError(
            f"the metadata keys {sorted(metadata.keys() & facts.keys())} are the checkpoint's own"
        )
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in _stored(model, from_sam=from_sam is not None).items()
    }
    with staged_file(path) as stage:
        save_file(state, stage, metadata={**(metadata or {}), **facts})


def load_teacher(path: Path, *, sam: Path | None = None) -> tuple[AutoSAM, dict[str, str]]:
    """Read a checkpoint of :func:`save_teacher`.

    Args:
        path: The checkpoint.
        sam: The SAM file that it was trained on; not needed where it says it holds all weights.

    Returns:
        The teacher in eval mode, what trained still trainable, and the metadata: ``config`` (JSON),
        ``sam_sha256`` (empty: none) and the facts that were given when it was saved.

    Raises:
        TrainingError: AE-TRAIN-015 not a teacher's checkpoint, or damaged; -016 the SAM file is not given or
            is another one; what :func:`load_sam` raises.
    """
    state, facts = _read(path)
    try:
        config = parse_config(TeacherConfig, json.loads(facts["config"]))
    except (json.JSONDecodeError, KeyError, TrainingError) as error:
        raise _not_a_teacher(path, "its metadata holds no valid config") from error
    recorded = facts.get("sam_sha256", "")
    if recorded:
        _check_sam(path, sam, recorded)
    model = build_autosam(config)
    expected = _stored(model, from_sam=bool(recorded))
    if state.keys() != expected.keys() or any(state[name].shape != expected[name].shape for name in expected):
        raise _not_a_teacher(path, "its weights are not those of its config")
    if recorded:
        load_sam(model, sam, sha256=recorded)
    with torch.no_grad():
        for name, parameter in expected.items():
            parameter.copy_(state[name])
    return model.eval(), facts


def _stored(model: AutoSAM, *, from_sam: bool) -> dict[str, Tensor]:
    """The parameters that a file holds; ``from_sam``: the frozen ones can be had from the SAM file."""
    return dict(trainable_parameters(model)) if from_sam else dict(model.named_parameters())


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            facts = dict(file.metadata() or {})
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  safe_open has no __iter__
    except (OSError, SafetensorError) as error:
        raise _not_a_teacher(path, "it is missing, damaged or not safetensors") from error
    if facts.get("kind") != KIND:
        raise _not_a_teacher(path, "its metadata does not say so")
    return state, facts


def _check_sam(path: Path, sam: Path | None, recorded: str) -> None:
    if sam is None:
        raise SAM_FILE_NEEDED(
            f"{path.name} holds only what trained; the SAM file with SHA-256 {recorded} is missing."
        )
    found = file_sha256(sam)
    if found != recorded:
        raise SAM_FILE_NEEDED(
            f"{path.name} was trained on the SAM file with SHA-256 {recorded}, and {sam.name} has {found}."
        )


def _not_a_teacher(path: Path, why: str) -> AutosamEdgeError:
    return TEACHER_FILE_INVALID(f"{path.name} is not a teacher's checkpoint: {why}.")

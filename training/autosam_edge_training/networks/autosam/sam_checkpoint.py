"""SAM's public checkpoints into the teacher's frozen half."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from autosam_edge.errors import AutosamEdgeError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training.error_codes import (
    CHECKPOINT_DAMAGED,
    PICKLE_UNSAFE,
    SAM_FILE_MISSING,
    SAM_SIZE_DIFFERS,
)
from autosam_edge_training.networks.autosam.attention import WindowAttention
from autosam_edge_training.networks.autosam.autosam import AutoSAM

_ENCODER = "image_encoder."
# The 6 + 137 keys of SAM's own neck, prompt encoder and mask decoder, which the teacher replaces.
_IGNORED = ("image_encoder.neck.", "prompt_encoder.", "mask_decoder.")
# SAM's parameter -> the teacher's, within the image encoder, where they are not the same.
_RENAMED = {"pos_embed": "positions.pos_embed"}
# What the teacher's image encoder has and SAM's has not.
_OURS = (
    "patch_embed.depth_weight",
    "patch_embed.depth_bias",
    "positions.depth_embed",
    ".adapter.",
    ".rel_pos_d",
)

_DOWNLOAD = (
    "Download sam_vit_b_01ec64.pth, sam_vit_l_0b3195.pth or sam_vit_h_4b8939.pth from "
    "facebookresearch/segment-anything."
)


class RandomWeightsWarning(UserWarning):
    """The frozen weights of a teacher are noise."""


def load_sam(model: AutoSAM, path: Path | None) -> str | None:
    """Fill the image encoder of a new teacher, or leave it random, with a warning, where there is no file.

    Returns:
        The file's SHA-256, or None without a file.

    Raises:
        TrainingError: There is no such file (AE-TRAIN-010); see also :func:`fill_encoder`.
    """
    if path is None:
        warnings.warn(
            "NO SAM CHECKPOINT: the teacher's frozen weights are random. Use this to try the software only.",
            RandomWeightsWarning,
            stacklevel=2,
        )
        return None
    sha256 = file_sha256(path)
    fill_encoder(model, path)
    return sha256


def fill_encoder(model: AutoSAM, path: Path) -> None:
    """Fill the image encoder with SAM's weights and derive the depth tables of relative positions from them.

    Args:
        model: Teacher, changed in place; unchanged on an error.
        path: A public SAM checkpoint, or safetensors with the same keys.

    Raises:
        TrainingError: AE-TRAIN-010 there is no such file; -011 a pickle that holds more than tensors (it was
            not run); -012 damaged or not a table of tensors; -014 keys or shapes of another network.
    """
    weights = match_sam(model, read_tensors(path))
    parameters = dict(model.image_encoder.named_parameters())
    with torch.no_grad():
        for name, tensor in weights.items():
            parameters[name].copy_(tensor)
    for block in model.image_encoder.blocks:
        attention = block.attn
        assert isinstance(attention, WindowAttention)
        attention.derive_depth_table()


def match_sam(model: AutoSAM, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The checkpoint's tensors by the names of the teacher's image encoder.

    Returns:
        A tensor for each parameter of the image encoder that is SAM's: 171 for ViT-B, 339 for L, 451 for H.

    Raises:
        TrainingError: AE-TRAIN-014: a key is missing or unknown, or a shape is another.
    """
    given = {}
    unknown = []
    for key, tensor in state.items():
        if key.startswith(_IGNORED):
            continue
        if key.startswith(_ENCODER):
            name = key.removeprefix(_ENCODER)
            given[_RENAMED.get(name, name)] = tensor
        else:
            unknown.append(key)
    expected = sam_parameters(model)
    unknown += [f"{_ENCODER}{name}" for name in given.keys() - expected.keys()]
    missing = [f"{_ENCODER}{name}" for name in expected.keys() - given.keys()]
    reshaped = [
        f"{_ENCODER}{name} {tuple(given[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in given.keys() & expected.keys()
        if given[name].shape != expected[name].shape
    ]
    kinds = {"unknown": unknown, "missing": missing, "of another shape": reshaped}
    faults = [
        f"{len(names)} {what} ({min(names)}{', ...' if len(names) > 1 else ''})"
        for what, names in kinds.items()
        if names
    ]
    if faults:
        raise SAM_SIZE_DIFFERS(f"the SAM checkpoint is not of this ViT: keys {', '.join(faults)}.")
    return given


def sam_parameters(model: AutoSAM) -> dict[str, Tensor]:
    """The image encoder's parameters that come from SAM, by name."""
    return {
        name: p
        for name, p in model.image_encoder.named_parameters()
        if not any(ours in name for ours in _OURS)
    }


def read_tensors(path: Path) -> dict[str, Tensor]:
    """A file's table of tensors; a pickle is read as tensors only, nothing in it is run."""
    state: Any
    try:
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except pickle.UnpicklingError as error:
        # torch's own message advises to turn the protection off.
        raise PICKLE_UNSAFE(
            f"{path.name} is refused: it is a pickle that holds other objects than tensors, or code. "
            "Nothing in it was run.",
            remedy=f"Do not use this file. {_DOWNLOAD}",
        ) from error
    except FileNotFoundError as error:
        raise _no_file(path) from error
    except Exception as error:
        # The readers of a damaged file raise nearly anything, IndexError and struct.error among it.
        raise CHECKPOINT_DAMAGED(
            f"{path.name} cannot be read as a checkpoint, it is damaged or cut short."
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()
    ):
        raise CHECKPOINT_DAMAGED(
            f"{path.name} does not hold a table of tensors by name.",
            remedy=f"Give a SAM checkpoint. {_DOWNLOAD}",
        )
    return dict(state)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file in hexadecimal.

    Raises:
        TrainingError: AE-TRAIN-010: it is not there or cannot be read.
    """
    try:
        return file_digest(path)
    except OSError as error:
        raise _no_file(path) from error


def _no_file(path: Path) -> AutosamEdgeError:
    return SAM_FILE_MISSING(f"there is no readable file {path.name}.", remedy=f"Check the path. {_DOWNLOAD}")

"""Load public weights of SAM or MedSAM; needs ``segment_anything`` and torchvision (extra ``[sam2d]``)."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError

import torch
from segment_anything import SamPredictor, sam_model_registry

from autosam_edge.errors import first_line
from autosam_edge_benchmarks.error_codes import NOT_SAM
from autosam_edge_training.data.manifest import hash_file

_KIND_BY_WIDTH = {768: "vit_b", 1024: "vit_l", 1280: "vit_h"}


def load_predictor(path: Path, *, device: str = "cpu") -> tuple[SamPredictor, dict[str, str]]:
    """Load a checkpoint of SAM, or of a fine-tuned SAM such as MedSAM; the weights determine its size.

    Args:
        path: Checkpoint such as ``sam_vit_b_01ec64.pth``; no code in it is run.

    Returns:
        Predictor, and its entries for the provenance: kind and SHA-256 of the weights.

    Raises:
        TrainingError: The file is not a checkpoint of SAM (AE-TRAIN-025).
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        kind = _KIND_BY_WIDTH[state["image_encoder.patch_embed.proj.weight"].shape[0]]
        sam = sam_model_registry[kind](checkpoint=None)
        sam.load_state_dict(state, strict=True)
    except (OSError, RuntimeError, UnpicklingError, KeyError, TypeError, AttributeError, EOFError) as error:
        raise NOT_SAM(f"{path.name} is not a checkpoint of SAM: {first_line(error)}.") from error
    facts = {"sam": kind, "sam_sha256": hash_file(path)}
    return SamPredictor(sam.to(device).eval()), facts

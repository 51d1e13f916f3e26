"""What the teacher is held against: segment-anything's own modules, at small sizes."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import partial
from types import ModuleType

import pytest

# segment-anything imports these names for its predictor, which is not used here.
_TORCHVISION = {
    "torchvision": (),
    "torchvision.ops": (),
    "torchvision.ops.boxes": ("batched_nms", "box_area"),
    "torchvision.transforms": (),
    "torchvision.transforms.functional": ("resize", "to_pil_image"),
}


@pytest.fixture(scope="session")
def segment_anything():
    """The package itself; without torchvision, names stand in for it while the package is imported."""
    pytest.importorskip("torch")
    # MONAI tries to import it too, and where torchvision is missing leaves parts behind that a second import
    # would not bind again.
    for name in [name for name in sys.modules if name.split(".")[0] == "segment_anything"]:
        del sys.modules[name]
    stubs = (
        {} if importlib.util.find_spec("torchvision") else {name: ModuleType(name) for name in _TORCHVISION}
    )
    for name, stub in stubs.items():
        for attribute in _TORCHVISION[name]:
            setattr(stub, attribute, None)
    sys.modules.update(stubs)
    try:
        return importlib.import_module("segment_anything")
    except ModuleNotFoundError as error:
        if error.name != "segment_anything":
            raise
        return pytest.skip("segment-anything is not installed")
    finally:
        for name in stubs:
            del sys.modules[name]


@pytest.fixture
def small_vit():
    """Two blocks with windows of 7, two global ones, on 10 x 10 tokens: windows are padded."""
    from autosam_edge_training.networks.autosam.sizes import ViT

    return ViT(dim=48, depth=4, heads=3, taps=(1, 3), grid=10, table_window=7, depth_positions=8)


@pytest.fixture
def small_sam(segment_anything):
    """SAM's image encoder of that size, all weights random and none zero."""
    import torch

    torch.manual_seed(0)
    encoder = segment_anything.modeling.ImageEncoderViT(
        img_size=160,
        patch_size=16,
        embed_dim=48,
        depth=4,
        num_heads=3,
        out_chans=16,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=7,
        global_attn_indexes=(1, 3),
    )
    with torch.no_grad():
        for name, parameter in encoder.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.uniform_(0.5, 1.5)
            elif "pos" in name:
                parameter.normal_(std=0.5)
            elif parameter.ndim == 1:
                parameter.normal_(std=0.2)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5)
    return encoder.eval()


@pytest.fixture
def small_checkpoint(small_sam):
    """A checkpoint with SAM's layout around it: the encoder and something of the other two parts."""
    import torch

    state = {f"image_encoder.{name}": tensor.clone() for name, tensor in small_sam.state_dict().items()}
    return {
        **state,
        "prompt_encoder.no_mask_embed.weight": torch.ones(1, 16),
        "mask_decoder.iou_token.weight": torch.ones(1, 16),
    }


@pytest.fixture
def sam_taps():
    """SAM's own trunk: tokens (1, H', W', C) after each global block for an image (1, 3, H, W)."""

    def run(encoder, image):
        tokens = encoder.patch_embed(image) + encoder.pos_embed
        tapped = []
        for block in encoder.blocks:
            tokens = block(tokens)
            if block.window_size == 0:
                tapped.append(tokens)
        return tapped

    return run


@pytest.fixture
def teacher_of(small_vit, small_checkpoint, tmp_path):
    """Builds a teacher around the small SAM's weights from changes to its config."""
    import torch

    from autosam_edge_training.networks.autosam.build import build_autosam
    from autosam_edge_training.networks.autosam.config import TeacherConfig
    from autosam_edge_training.networks.autosam.sam_checkpoint import load_sam

    def build(**changes):
        torch.save(small_checkpoint, tmp_path / "sam.pth")
        parts = {"necks": {"out": 8}, "apg": {"enabled": False}, "decoder": {"mid": 4}}
        model = build_autosam(TeacherConfig(**{"vit": small_vit, "classes": 3, **parts, **changes}))
        load_sam(model, tmp_path / "sam.pth")
        return model.eval()

    return build

"""Checkpoints of SAM are loaded whole or refused; without torchvision, two functions replace it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from types import ModuleType

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if importlib.util.find_spec("segment_anything") is None:
    pytest.skip("segment-anything is not installed", allow_module_level=True)
from PIL import Image

from autosam_edge.cli.extras import needs
from autosam_edge.errors import MissingExtraError, TrainingError

LEAF = "autosam_edge_benchmarks.paper.sam_predictor"
NAMES = (
    "torchvision",
    "torchvision.ops",
    "torchvision.ops.boxes",
    "torchvision.transforms",
    "torchvision.transforms.functional",
)


HAS_TORCHVISION = importlib.util.find_spec("torchvision") is not None


@pytest.fixture
def fresh(monkeypatch):
    """Neither the leaf nor segment-anything is loaded before, nor stays loaded after."""

    def ours():
        return [name for name in sys.modules if name == LEAF or name.split(".")[0] == "segment_anything"]

    for name in ours():
        monkeypatch.delitem(sys.modules, name)
    yield
    for name in ours():
        del sys.modules[name]


@pytest.fixture
def leaf(fresh, monkeypatch):
    """The module itself."""
    if not HAS_TORCHVISION:
        for name in NAMES:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        boxes, functional = (
            sys.modules["torchvision.ops.boxes"],
            sys.modules["torchvision.transforms.functional"],
        )
        boxes.batched_nms = boxes.box_area = None
        functional.to_pil_image = Image.fromarray
        functional.resize = lambda image, size: image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return importlib.import_module(LEAF)


@pytest.mark.skipif(HAS_TORCHVISION, reason="torchvision is installed")
def test_without_torchvision_the_extra_is_named(fresh):
    """The leaf cannot be loaded: AE-EXTRA-001 says which extra brings what it needs."""
    with pytest.raises(MissingExtraError, match="sam2d") as caught, needs("sam2d"):
        importlib.import_module(LEAF)
    assert caught.value.code == "AE-EXTRA-001"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a checkpoint",
        {"a": 1},
        {"image_encoder.patch_embed.proj.weight": torch.zeros(768, 3, 16, 16)},
    ],
)
def test_what_is_no_checkpoint_is_refused(leaf, tmp_path, content):
    """No pickle, no table of SAM's tensors, or only some of them: AE-TRAIN-025."""
    path = tmp_path / "sam.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(TrainingError) as caught:
        leaf.load_predictor(path)
    assert caught.value.code == "AE-TRAIN-025"


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_code_in_a_checkpoint_is_not_run(leaf, tmp_path):
    """A pickle that calls a function is refused, and the function was not called."""
    torch.save({"image_encoder.patch_embed.proj.weight": Trap(tmp_path / "ran")}, tmp_path / "sam.pth")
    with pytest.raises(TrainingError) as caught:
        leaf.load_predictor(tmp_path / "sam.pth")
    assert caught.value.code == "AE-TRAIN-025"
    assert not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_checkpoint_of_sam_answers_points(leaf, tmp_path):
    """Random weights of ViT-B with SAM's keys: the size is found, and a point gets one mask of the slice."""
    from segment_anything import sam_model_registry

    torch.manual_seed(0)
    torch.save(sam_model_registry["vit_b"](checkpoint=None).state_dict(), tmp_path / "sam.pth")
    predictor, facts = leaf.load_predictor(tmp_path / "sam.pth")
    assert facts["sam"] == "vit_b"
    assert len(facts["sam_sha256"]) == 64
    predictor.set_image(np.zeros((64, 96, 3), np.uint8))
    logits = predictor.predict(
        np.array([[40.0, 20.0]]), np.ones(1, np.int64), multimask_output=False, return_logits=True
    )[0]
    assert logits.shape == (1, 64, 96)
    assert np.isfinite(logits).all()

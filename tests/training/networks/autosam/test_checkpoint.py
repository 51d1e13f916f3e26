"""A teacher comes back as it was saved, or not at all."""

from __future__ import annotations

import dataclasses
import json

import pytest

torch = pytest.importorskip("torch")
from autosam_edge_test_networks import checkpoint_metadata
from autosam_edge_test_recipes import weights_of
from safetensors.torch import save_file

from autosam_edge.errors import TrainingError
from autosam_edge_training.config import as_dict
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.checkpoint import load_teacher, save_teacher
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import load_sam
from autosam_edge_training.networks.autosam.trainables import trainable_parameters


def metadata_of(config, sam_sha256):
    """Metadata of a teacher's file."""
    return checkpoint_metadata("autosam", classes=3, arguments=as_dict(config), sam_sha256=sam_sha256)


@pytest.fixture
def config(small_vit):
    return TeacherConfig(
        vit=small_vit,
        classes=3,
        patch=(32,) * 3,
        window=(4,) * 3,
        necks={"out": 8},
        apg={"widths": (4, 8)},
        decoder={"mid": 4},
    )


@pytest.fixture
def sam(small_checkpoint, tmp_path):
    torch.save(small_checkpoint, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture
def trained(config, sam):
    """A teacher on SAM's weights, everything that trains moved from its start, and SAM's hash."""
    torch.manual_seed(3)
    model = build_autosam(config)
    sha256 = load_sam(model, sam)
    with torch.no_grad():
        for parameter in trainable_parameters(model).values():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return model.eval(), sha256


def test_a_teacher_comes_back_from_what_trained_and_sams_file(trained, config, sam, tmp_path):
    """The file holds the trainables and no more; with SAM's file every logit is the same."""
    model, sha256 = trained
    save_teacher(tmp_path / "t.safetensors", model, metadata_of(config, sha256))
    state, facts = weights_of(tmp_path / "t.safetensors")
    assert state.keys() == trainable_parameters(model).keys()
    assert facts["sam_sha256"] == sha256
    loaded, metadata = load_teacher(tmp_path / "t.safetensors", sam=sam)
    assert metadata == metadata_of(config, sha256)
    assert not loaded.training
    assert trainable_parameters(loaded).keys() == trainable_parameters(model).keys()
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(image), model(image))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["sam.pth", "t.safetensors"]


@pytest.mark.parametrize("trains", ["adapters", "all"])
def test_without_a_sam_file_the_checkpoint_is_whole(tmp_path, trains):
    """Random frozen weights, or all weights of an own ViT: everything comes back, whatever the seed."""
    config = TeacherConfig(vit="tiny", classes=3, trains=trains)
    model = build_autosam(config).eval()
    save_teacher(tmp_path / "t.safetensors", model, metadata_of(config, ""))
    loaded, metadata = load_teacher(tmp_path / "t.safetensors")
    assert metadata.sam_sha256 == ""
    assert all(torch.equal(p, dict(model.named_parameters())[name]) for name, p in loaded.named_parameters())
    assert metadata.arguments["trains"] == trains


def test_all_that_trained_needs_no_sam_even_if_it_began_there(trained, config, tmp_path):
    """``trains: all`` changed SAM's weights, so its file is of no use."""
    everything = dataclasses.replace(config, trains="all")
    save_teacher(tmp_path / "t.safetensors", trained[0], metadata_of(everything, trained[1]))
    loaded, _ = load_teacher(tmp_path / "t.safetensors")
    assert torch.equal(
        loaded.image_encoder.blocks[0].attn.qkv.weight, trained[0].image_encoder.blocks[0].attn.qkv.weight
    )


def test_the_sam_file_is_asked_for_and_checked(trained, config, small_checkpoint, tmp_path):
    """None, another one with the same shapes, one that is not there."""
    save_teacher(tmp_path / "t.safetensors", trained[0], metadata_of(config, trained[1]))
    with pytest.raises(TrainingError, match="AE-TRAIN-016.*missing"):
        load_teacher(tmp_path / "t.safetensors")
    small_checkpoint["image_encoder.pos_embed"][0, 0, 0, 0] += 1.0
    torch.save(small_checkpoint, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match="AE-TRAIN-016.*other.pth has"):
        load_teacher(tmp_path / "t.safetensors", sam=tmp_path / "other.pth")
    with pytest.raises(TrainingError, match="AE-TRAIN-010"):
        load_teacher(tmp_path / "t.safetensors", sam=tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "fault",
    [
        "absent",
        "noise",
        "cut",
        "a student's",
        "no arguments",
        "wrong arguments",
        "a weight less",
        "another shape",
    ],
)
def test_what_is_no_teacher_is_refused(trained, config, sam, tmp_path, fault):
    """Each with the same code and its reason."""
    path = tmp_path / "t.safetensors"
    save_teacher(path, trained[0], metadata_of(config, trained[1]))
    state, facts = weights_of(path)
    if fault == "absent":
        path.unlink()
    elif fault in ("noise", "cut"):
        path.write_bytes(b"noise" * 100 if fault == "noise" else path.read_bytes()[:-100])
    else:
        if fault == "a student's":
            facts["student"] = "pocketnet"
        elif fault == "no arguments":
            del facts["arguments"]
        elif fault == "wrong arguments":
            facts["arguments"] = json.dumps({"vit": "tiny", "surprise": 1})
        elif fault == "a weight less":
            del state["mask_decoder.classify.weight"]
        else:
            state["mask_decoder.classify.weight"] = torch.zeros(5, 4, 3, 3, 3)
        save_file(state, path, metadata=facts)
    with pytest.raises(TrainingError, match="AE-TRAIN-015"):
        load_teacher(path, sam=sam)

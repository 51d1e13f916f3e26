"""The students have the sizes the paper gives, and a checkpoint holds exactly one of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from safetensors import safe_open
from safetensors.torch import save_file

from autosam_edge_training.convnet import Fold, PocketNet
from autosam_edge_training.merging import LegacyPatchMerging
from autosam_edge_training.students import build_student, load_student, parameter_count, save_student


@pytest.mark.parametrize(("name", "parameters"), [("swinunetr-tiny", 4_078_220), ("swinunetr-small", 15_703_304), ("pocketnet", 3_669_148)])
def test_sizes(name, parameters):
    """4.0 M and 15.7 M are the paper's; PocketNet stays below Tiny."""
    assert parameter_count(build_student(name)) == parameters


def test_fold_keeps_every_voxel():
    """Channel (i, j, k) of the folded image is the image at offset (i, j, k)."""
    x = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    folded = Fold()(x)
    assert folded.shape == (1, 8, 2, 2, 2)
    assert torch.equal(folded[0, 0b101], x[0, 0, 1::2, 0::2, 1::2])
    assert sorted(folded.flatten().tolist()) == list(range(64))


def test_pocketnet_has_two_outputs_in_training_and_one_after():
    """Logits on the full grid; the coarse ones only feed deep supervision."""
    net = PocketNet(classes=3, widths=(8, 16, 16))
    x = torch.rand(1, 1, 16, 24, 32)
    fine, coarse = net.train()(x)
    assert fine.shape == (1, 3, 16, 24, 32)
    assert coarse.shape == (1, 3, 4, 6, 8)
    assert net.eval()(x).shape == (1, 3, 16, 24, 32)


def test_every_parameter_of_pocketnet_learns():
    """No dead branch: all gradients are there and not all zero."""
    net = PocketNet(classes=3, widths=(8, 16, 16)).train()
    fine, coarse = net(torch.rand(1, 1, 16, 16, 16))
    (fine.square().mean() + coarse.square().mean()).backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_a_checkpoint_comes_back_bit_for_bit(tmp_path):
    """Weights and facts survive; nothing is pickled."""
    student = build_student("pocketnet")
    save_student(tmp_path / "s.safetensors", student, {"student": "pocketnet", "classes": "14"})
    loaded, facts = load_student(tmp_path / "s.safetensors")
    assert facts["student"] == "pocketnet"
    assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), loaded.state_dict().values(), strict=True))


@pytest.mark.parametrize("facts", [{}, {"student": "unet"}, {"student": "swinunetr-tiny"}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, facts):
    """No name, an unknown name, another student's weights."""
    save_student(tmp_path / "s.safetensors", build_student("pocketnet"), facts)
    with pytest.raises(ValueError, match="student|fit"):
        load_student(tmp_path / "s.safetensors")


@pytest.mark.parametrize(("trained", "claimed"), [("legacy", "v2"), ("v2", "legacy")])
def test_the_wrong_patch_merging_is_refused(tmp_path, trained, claimed):
    """Both fit the weights; only the probe tells. The right one loads and gives the same logits."""
    torch.manual_seed(0)
    student = build_student("swinunetr-tiny", merging=trained).eval()
    path = tmp_path / "s.safetensors"
    save_student(path, student, {"student": "swinunetr-tiny", "merging": trained})
    loaded, _ = load_student(path)
    x = torch.rand(1, 1, 64, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), student(x))
    with safe_open(path, framework="pt") as file:
        probe = file.metadata()["probe"]
    save_file(student.state_dict(), path, metadata={"student": "swinunetr-tiny", "merging": claimed, "probe": probe})
    with pytest.raises(ValueError, match="patch merging"):
        load_student(path)


@pytest.mark.parametrize("facts", [{}, {"merging": "merging"}])
def test_a_swin_checkpoint_says_which_patch_merging_it_was_trained_with(tmp_path, facts):
    """Nothing is guessed."""
    save_file(build_student("swinunetr-tiny").state_dict(), tmp_path / "s.safetensors", metadata={"student": "swinunetr-tiny", **facts})
    with pytest.raises(ValueError, match="expected one of legacy, v2"):
        load_student(tmp_path / "s.safetensors")


def test_the_legacy_merging_repeats_two_of_its_slices():
    """MONAI 1.4's order: the neighbors (1, 1, 0) and (0, 1, 1) are never seen, (0, 1, 0) and (0, 0, 1) twice."""
    merging = LegacyPatchMerging(dim=1)
    merging.norm = torch.nn.Identity()
    merging.reduction = torch.nn.Identity()
    x = torch.arange(8.0).reshape(1, 2, 2, 2, 1)
    assert merging(x).flatten().tolist() == [0, 4, 2, 1, 5, 2, 1, 7]

"""The students have the sizes the paper gives, and a checkpoint holds exactly one of them."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from autosam_edge_training.convnet import PocketNet, fold
from autosam_edge_training.students import build_student, load_student, parameter_count, save_student


@pytest.mark.parametrize(("name", "parameters"), [("swinunetr-tiny", 4_078_220), ("swinunetr-small", 15_703_304), ("pocketnet", 3_669_148)])
def test_sizes(name, parameters):
    """4.0 M and 15.7 M are the paper's; PocketNet stays below Tiny."""
    assert parameter_count(build_student(name)) == parameters


def test_fold_keeps_every_voxel():
    """Channel (i, j, k) of the folded image is the image at offset (i, j, k)."""
    x = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    folded = fold(x)
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
    save_student(tmp_path / "s.safetensors", student.state_dict(), {"student": "pocketnet", "classes": "14"})
    loaded, facts = load_student(tmp_path / "s.safetensors")
    assert facts["student"] == "pocketnet"
    assert all(torch.equal(a, b) for a, b in zip(student.state_dict().values(), loaded.state_dict().values(), strict=True))


@pytest.mark.parametrize("facts", [{}, {"student": "unet"}, {"student": "swinunetr-tiny"}])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, facts):
    """No name, an unknown name, another student's weights."""
    save_student(tmp_path / "s.safetensors", build_student("pocketnet").state_dict(), facts)
    with pytest.raises(ValueError, match="student|fit"):
        load_student(tmp_path / "s.safetensors")

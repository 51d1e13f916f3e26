"""The students have the paper's sizes, MONAI's networks work too, and a checkpoint holds exactly one."""

from __future__ import annotations

import errno
import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_networks import checkpoint_metadata
from monai.networks.nets.swin_unetr import PatchMerging, PatchMergingV2
from safetensors.torch import save_file

from autosam_edge.errors import OutputError
from autosam_edge_training.networks.pocketnet import Fold, PocketNet
from autosam_edge_training.networks.students import (
    STUDENTS,
    build_student,
    load_student,
    parameter_count,
    save_student,
)

UNET = {"channels": [4, 8, 16], "strides": [2, 2]}
UNETR = {"img_size": [32, 32, 64], "feature_size": 2, "hidden_size": 24, "mlp_dim": 24, "num_heads": 2}
DYNUNET = {
    "kernel_size": [3, 3, 3],
    "strides": [1, 2, 2],
    "upsample_kernel_size": [2, 2],
    "filters": [2, 4, 8],
}
SWIN = {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2]}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("swinunetr-tiny", 4_078_220), ("swinunetr-small", 15_703_304), ("pocketnet", 3_669_148)],
)
def test_sizes(name, parameters):
    """4.0 M and 15.7 M are the paper's; PocketNet stays below Tiny."""
    assert parameter_count(build_student(name)) == parameters


@pytest.mark.parametrize(("name", "arguments"), [("UNet", UNET), ("UNETR", UNETR), ("SwinUNETR", SWIN)])
def test_a_network_of_monai_maps_scans_to_logits(name, arguments):
    """(B, 1, D, H, W) to (B, classes, D, H, W) in three dimensions; the arguments are not changed."""
    before = json.dumps(arguments)
    student = build_student(f"monai:{name}", classes=5, arguments=arguments).eval()
    assert json.dumps(arguments) == before
    assert type(student).__name__ == name
    with torch.no_grad():
        assert student(torch.rand(2, 1, 32, 32, 64)).shape == (2, 5, 32, 32, 64)


def test_a_network_that_knows_no_dimensions_is_not_told_any():
    """Some classes of MONAI take ``spatial_dims``, some do not; both are built."""

    class Flat(torch.nn.Conv3d):
        def __init__(self, in_channels, out_channels):
            super().__init__(in_channels, out_channels, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("monai.networks.nets.Flat", Flat, raising=False)
        assert build_student("monai:Flat", classes=3)(torch.rand(1, 1, 2, 3, 4)).shape == (1, 3, 2, 3, 4)


@pytest.mark.parametrize(
    "name",
    [
        "UNet",
        "unetr",
        "swinunetr",
        "",
        "monai:",
        "monai:NoNet",
        "monai:unet",
        "monai:PatchEmbed",
        "monai:__name__",
    ],
)
def test_a_student_that_there_is_not_is_refused(name):
    """Misspelled names, and what lies beside the networks in MONAI's module."""
    with pytest.raises(ValueError, match="no student|no network"):
        build_student(name)


@pytest.mark.parametrize(
    ("name", "arguments", "named"),
    [
        ("UNet", {}, "channels"),
        ("UNet", {**UNET, "stride": [2, 2]}, "stride"),
        ("UNet", {"channels": [4], "strides": [2]}, "channels"),
        ("UNet", {"channels": 4, "strides": [2]}, "int"),
        ("UNet", {**UNET, "norm": "none such"}, "NONE SUCH"),
        ("UNETR", {**UNETR, "num_heads": 5}, "num_heads"),
        ("UNETR", {**UNETR, "num_heads": 0}, "modulo"),
        ("UNet", {**UNET, "out_channels": 3}, "out_channels"),
        ("UNet", {**UNET, "spatial_dims": 2}, "spatial_dims"),
        ("UNet", {**UNET, "in_channels": 1}, "in_channels"),
        ("Discriminator", {"in_shape": [1, 8, 8]}, "in_channels"),
    ],
)
def test_arguments_that_a_network_does_not_take_are_refused(name, arguments, named):
    """Missing, unknown, impossible, or not for a recipe to choose; one line names the argument."""
    with pytest.raises(ValueError, match=named) as caught:
        build_student(f"monai:{name}", classes=14, arguments=arguments)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", STUDENTS)
def test_our_own_students_take_no_arguments(name):
    """Their sizes are in one place; no arguments at all are none."""
    with pytest.raises(ValueError, match=f"{name} takes no arguments"):
        build_student(name, arguments={"feature_size": 6})


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
    """Weights and facts survive; nothing is pickled, and the umask says who may read the file."""
    student = build_student("pocketnet")
    save_student(tmp_path / "s.safetensors", student, checkpoint_metadata())
    (tmp_path / "other").touch()
    assert (tmp_path / "s.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    loaded, metadata = load_student(tmp_path / "s.safetensors")
    assert metadata == replace(checkpoint_metadata(), probe=metadata.probe)
    assert len(metadata.probe) == 12
    assert all(
        torch.equal(a, b)
        for a, b in zip(student.state_dict().values(), loaded.state_dict().values(), strict=True)
    )


@pytest.mark.parametrize(("name", "arguments"), [("UNet", UNET), ("UNETR", UNETR), ("DynUNet", DYNUNET)])
def test_a_network_of_monai_comes_back_with_its_arguments(tmp_path, name, arguments):
    """The file says how to build it: the loaded one computes the same logits, in eval mode.

    Each layer of DynUNet has two names in it.
    """
    torch.manual_seed(0)
    student = build_student(f"monai:{name}", classes=5, arguments=arguments)
    metadata = checkpoint_metadata(f"monai:{name}", classes=5, arguments=arguments)
    save_student(tmp_path / "s.safetensors", student, metadata)
    assert student.training
    loaded, found = load_student(tmp_path / "s.safetensors")
    assert found == metadata
    assert not loaded.training
    x = torch.rand(1, 1, 32, 32, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), student.eval()(x))


@pytest.mark.parametrize(
    "changes",
    [
        {"arguments": json.dumps({**UNET, "channels": [4, 8, 8]})},
        {"arguments": "{"},
        {"classes": "6"},
        {"arguments": "{}"},
    ],
)
def test_a_network_of_monai_that_is_another_is_refused(tmp_path, changes):
    """Weights of other sizes, arguments that are no JSON, or none."""
    metadata = checkpoint_metadata("monai:UNet", classes=5, arguments=UNET).to_strings()
    state = build_student("monai:UNet", classes=5, arguments=UNET).state_dict()
    save_file(state, tmp_path / "s.safetensors", metadata={**metadata, **changes})
    with pytest.raises(ValueError, match=r"fit|arguments|Expecting|6 outputs"):
        load_student(tmp_path / "s.safetensors")


@pytest.mark.parametrize("existed", [True, False])
def test_a_checkpoint_appears_in_one_piece(tmp_path, monkeypatch, existed):
    """A disk that fills up half way leaves the last checkpoint, or none."""
    path = tmp_path / "s.safetensors"
    metadata = checkpoint_metadata("monai:UNet", classes=5, arguments=UNET)
    student = build_student("monai:UNet", classes=5, arguments=UNET)
    if existed:
        save_student(path, student, metadata)
        before = path.read_bytes()

    def half(tensors, filename, metadata):
        filename.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("autosam_edge_training.networks.checkpoint_metadata.save_file", half)
    with pytest.raises(OutputError, match="AE-OUTPUT-003"):
        save_student(path, student, metadata)
    assert [entry.name for entry in tmp_path.iterdir()] == ([path.name] if existed else [])
    if existed:
        assert path.read_bytes() == before


def test_the_same_weights_are_the_same_bytes(tmp_path):
    """The package safetensors itself writes the metadata in another order each time."""
    student, files = build_student("monai:UNet", classes=5, arguments=UNET), set()
    for number in range(4):
        path = tmp_path / f"{number}.safetensors"
        save_student(path, student, checkpoint_metadata("monai:UNet", classes=5))
        files.add(path.read_bytes())
    assert len(files) == 1


def test_a_finished_checkpoint_leaves_nothing_beside_it(tmp_path):
    """Neither the first nor one that replaces it."""
    student = build_student("monai:UNet", classes=5, arguments=UNET)
    for _ in range(2):
        save_student(tmp_path / "s.safetensors", student, checkpoint_metadata("monai:UNet", classes=5))
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


@pytest.mark.parametrize("name", [None, "unet", "swinunetr-tiny"])
def test_a_checkpoint_of_something_else_is_refused(tmp_path, name):
    """No name, an unknown name, another student's weights."""
    metadata = {**checkpoint_metadata().to_strings(), "student": name}
    state = build_student("pocketnet").state_dict()
    save_file(
        state, tmp_path / "s.safetensors", metadata={k: v for k, v in metadata.items() if v is not None}
    )
    with pytest.raises(ValueError, match="student|fit"):
        load_student(tmp_path / "s.safetensors")


def test_weights_that_compute_something_else_are_refused(tmp_path, monkeypatch):
    """Such as those of MONAI before 1.5, whose patch merging has another order; only the probe tells."""
    torch.manual_seed(0)
    student = build_student("swinunetr-tiny").eval()
    path = tmp_path / "s.safetensors"
    save_student(path, student, checkpoint_metadata("swinunetr-tiny"))
    loaded, _ = load_student(path)
    x = torch.rand(1, 1, 64, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(x), student(x))
    monkeypatch.setattr(PatchMerging, "forward", lambda self, x: PatchMergingV2.forward(self, x.flip(1)))
    with pytest.raises(ValueError, match="patch merging"):
        load_student(path)


@pytest.mark.parametrize(("merging", "message"), [({}, "no key 'merging'"), ({"merging": "merging"}, "'v2'")])
def test_a_swin_checkpoint_says_which_patch_merging_it_was_trained_with(tmp_path, merging, message):
    """Nothing is guessed."""
    metadata = checkpoint_metadata("swinunetr-tiny").to_strings()
    del metadata["merging"]
    save_file(
        build_student("swinunetr-tiny").state_dict(),
        tmp_path / "s.safetensors",
        metadata={**metadata, **merging},
    )
    with pytest.raises(ValueError, match=message):
        load_student(tmp_path / "s.safetensors")

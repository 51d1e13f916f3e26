"""SAM's weights arrive whole, and nothing else is taken for them."""

from __future__ import annotations

import hashlib
import os
import zipfile

import pytest

torch = pytest.importorskip("torch")
from safetensors.torch import save_file

from autosam_edge.errors import TrainingError
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.sam_checkpoint import RandomWeightsWarning, load_sam, match_sam


def small_teacher(vit):
    return build_autosam(
        TeacherConfig(vit=vit, window=(4, 4, 4), necks={"out": 8}, apg={"enabled": False}, decoder={"mid": 4})
    )


@pytest.fixture
def teacher(small_vit):
    return small_teacher(small_vit)


@pytest.mark.teacher
@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_every_weight_arrives(teacher, small_sam, small_checkpoint, tmp_path, kind):
    """All of SAM's encoder but its neck, bit for bit; the depth tables are means; the hash is the file's."""
    path = tmp_path / f"sam.{kind}"
    (torch.save if kind == "pth" else save_file)(small_checkpoint, path)
    sha256 = load_sam(teacher, path)
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    ours = dict(teacher.image_encoder.named_parameters())
    theirs = {name: p for name, p in small_sam.named_parameters() if not name.startswith("neck.")}
    assert len(theirs) == 3 + 4 * 14
    for name, parameter in theirs.items():
        assert torch.equal(ours["positions.pos_embed" if name == "pos_embed" else name], parameter), name
    for block in teacher.image_encoder.blocks:
        assert torch.equal(block.attn.rel_pos_d, (block.attn.rel_pos_h + block.attn.rel_pos_w) / 2)
        assert block.attn.rel_pos_d.any()


@pytest.mark.teacher
@pytest.mark.parametrize(("vit", "keys", "consumed"), [("b", 314, 171), ("l", 482, 339), ("h", 594, 451)])
def test_the_keys_of_the_public_checkpoints(segment_anything, vit, keys, consumed):
    """Each encoder key of the real models is taken but the neck's 6; 137 belong to other parts."""
    with torch.device("meta"):
        state = segment_anything.sam_model_registry[f"vit_{vit}"]().state_dict()
        teacher = build_autosam(TeacherConfig(vit=vit))
    assert len(state) == keys
    assert len(match_sam(teacher, state)) == consumed == keys - 6 - 137


def test_without_a_file_it_says_so_loudly(teacher):
    """Random weights are for smoke runs."""
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    with pytest.warns(RandomWeightsWarning, match="NO SAM CHECKPOINT"):
        assert load_sam(teacher, None) is None
    assert all(torch.equal(p, before[name]) for name, p in teacher.named_parameters())


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_a_pickle_with_code_is_refused_and_not_run(teacher, small_checkpoint, tmp_path):
    """Among good weights too; the message does not advise to trust the file."""
    trace = tmp_path / "trace"
    torch.save({**small_checkpoint, "extra": Code(f"touch {trace}")}, tmp_path / "sam.pth")
    with pytest.raises(TrainingError, match="AE-TRAIN-011") as error:
        load_sam(teacher, tmp_path / "sam.pth")
    assert "weights_only" not in str(error.value)
    assert not trace.exists()


@pytest.mark.parametrize("path", ["absent.pth", "absent.safetensors", "."])
def test_no_file(teacher, tmp_path, path):
    """Missing, or a folder."""
    with pytest.raises(TrainingError, match="AE-TRAIN-010"):
        load_sam(teacher, tmp_path / path)


@pytest.mark.parametrize("name", ["sam.pth", "sam.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "noise"])
def test_a_damaged_file(teacher, small_checkpoint, tmp_path, name, damage):
    """Whatever the reader says to it, the answer is ours."""
    path = tmp_path / name
    (torch.save if name.endswith("pth") else save_file)(small_checkpoint, path)
    whole = path.read_bytes()
    path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": whole[::-1]}[damage])
    with pytest.raises(TrainingError, match="AE-TRAIN-01[12]"):
        load_sam(teacher, path)


def test_every_broken_pickle_is_ours(teacher, small_checkpoint, tmp_path):
    """A changed byte at many places of the pickle gives a typed error, or other tensors and nothing else."""
    path = tmp_path / "sam.pth"
    torch.save({"image_encoder.pos_embed": small_checkpoint["image_encoder.pos_embed"]}, path)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        parts = {name: archive.read(name) for name in names}
    pickled = next(name for name in names if name.endswith("data.pkl"))
    for place in range(len(parts[pickled])):
        broken = bytearray(parts[pickled])
        broken[place] ^= 0x15
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for name in names:
                archive.writestr(name, bytes(broken) if name == pickled else parts[name])
        with pytest.raises(TrainingError, match="AE-TRAIN-01[124]"):
            load_sam(teacher, path)


@pytest.mark.parametrize(
    "content",
    [[1, 2], {"model": {"image_encoder.pos_embed": torch.zeros(1)}}, torch.zeros(3), {1: torch.zeros(1)}],
)
def test_what_is_no_table_of_tensors(teacher, tmp_path, content):
    """A training state around the weights, a list, a bare tensor."""
    torch.save(content, tmp_path / "sam.pth")
    with pytest.raises(TrainingError, match="AE-TRAIN-012"):
        load_sam(teacher, tmp_path / "sam.pth")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda s: s.pop("image_encoder.blocks.2.attn.qkv.bias"),
            "1 missing (image_encoder.blocks.2.attn.qkv.bias)",
        ),
        (
            lambda s: s.update({"image_encoder.blocks.4.norm1.weight": torch.ones(48)}),
            "1 unknown (image_encoder.blocks.4.norm1.weight)",
        ),
        (lambda s: s.update({"optimizer.step": torch.ones(1)}), "1 unknown (optimizer.step)"),
        (
            lambda s: s.update({"image_encoder.blocks.0.adapter.up.weight": torch.ones(1)}),
            "1 unknown (image_encoder.blocks.0.adapter",
        ),
        (
            lambda s: s.update({"image_encoder.pos_embed": torch.ones(1, 8, 8, 48)}),
            "positions.pos_embed (1, 8, 8, 48) instead of (1, 10, 10, 48)",
        ),
    ],
)
def test_other_keys_and_shapes_are_named(teacher, small_checkpoint, tmp_path, change, said):
    """Nothing is loaded in part: the teacher stays as it was."""
    change(small_checkpoint)
    torch.save(small_checkpoint, tmp_path / "sam.pth")
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    with pytest.raises(TrainingError, match="AE-TRAIN-014") as error:
        load_sam(teacher, tmp_path / "sam.pth")
    assert said in error.value.message
    assert all(torch.equal(p, before[name]) for name, p in teacher.named_parameters())


def test_another_size_of_sam_is_refused(small_checkpoint, tmp_path):
    """ViT-tiny is given the small SAM's file."""
    torch.save(small_checkpoint, tmp_path / "sam.pth")
    with pytest.raises(TrainingError, match="not of this ViT"):
        load_sam(small_teacher("tiny"), tmp_path / "sam.pth")

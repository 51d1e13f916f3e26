"""The teacher learns around SAM's weights, which stay as they are and are not stored twice."""

from __future__ import annotations

import hashlib
import warnings

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    PLAIN,
    changed,
    losses,
    reports,
    same_weights,
    teacher_config,
    tiny_teacher,
    weights_of,
    write_recipe,
)

from autosam_edge.errors import TrainingError
from autosam_edge_training import train_teacher
from autosam_edge_training.config import read_config
from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.checkpoint import load_teacher
from autosam_edge_training.networks.autosam.sam_checkpoint import RandomWeightsWarning, sam_parameters
from autosam_edge_training.networks.autosam.trainables import trainable_parameters
from autosam_edge_training.patches.sampler import Sampling
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.train_teacher import Config, train

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sam_state():
    """Random weights under SAM's names, of the tiny ViT."""
    torch.manual_seed(11)
    names = {"positions.pos_embed": "pos_embed"}
    parameters = sam_parameters(build_autosam(tiny_teacher()))
    return {
        f"image_encoder.{names.get(name, name)}": torch.randn_like(p) * 0.05 for name, p in parameters.items()
    }


@pytest.fixture
def sam(sam_state, tmp_path):
    """Its file."""
    torch.save(sam_state, tmp_path / "sam.pth")
    return tmp_path / "sam.pth"


@pytest.fixture
def built(monkeypatch):
    """The networks that a run builds."""
    networks = []

    def build(config):
        networks.append(build_autosam(config))
        return networks[-1]

    monkeypatch.setattr(train_teacher, "build_autosam", build)
    return networks


@pytest.fixture
def real():
    """A recipe that is no smoke run."""
    return teacher_config(smoke=False)


def test_what_sam_brought_is_still_there_bit_for_bit(real, sam, sam_state, built, cubes, tmp_path):
    """After five steps every frozen weight is SAM's own, and every one that trains has moved."""
    train(real, cubes, tmp_path / "run", sam=sam)
    (network,) = built
    learning = trainable_parameters(network)
    theirs = {name.removeprefix("image_encoder."): tensor for name, tensor in sam_state.items()}
    frozen = {
        name: p
        for name, p in network.image_encoder.named_parameters()
        if f"image_encoder.{name}" not in learning
    }
    kept = [name for name in frozen if name in theirs or name == "positions.pos_embed"]
    assert len(kept) > 30
    assert all(
        torch.equal(frozen[name], theirs["pos_embed" if name == "positions.pos_embed" else name])
        for name in kept
    )
    torch.manual_seed(real.seed)
    born = dict(build_autosam(tiny_teacher(classes=3)).named_parameters())
    still = [name for name, p in learning.items() if torch.equal(p, born[name]) and "norm" not in name]
    assert still == []


def test_only_what_trains_is_stored(real, sam, cubes, tmp_path):
    """In the checkpoint and in the file, which names SAM's by its hash and comes back with it."""
    weights = train(real, cubes, tmp_path / "run", sam=sam)
    names = trainable_parameters(build_autosam(tiny_teacher(classes=3))).keys()
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    state, facts = weights_of(weights)
    assert kept["teacher"].keys() == kept["average"].keys() == state.keys() == names
    assert sum(len(group["params"]) for group in kept["optimizer"]["param_groups"]) == len(names)
    assert facts["sam_sha256"] == hashlib.sha256(sam.read_bytes()).hexdigest()
    assert all(torch.equal(state[name], kept["average"][name]) for name in names)
    network, _ = load_teacher(weights, sam=sam)
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_without_sam_the_file_holds_everything_and_training_warns(real, cubes, tmp_path):
    """Random frozen weights come back too, since no other file has them; a smoke run says nothing."""
    with pytest.warns(RandomWeightsWarning):
        weights = train(real, cubes, tmp_path / "run")
    assert (
        weights_of(weights)[0].keys()
        == dict(build_autosam(tiny_teacher(classes=3)).named_parameters()).keys()
    )
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["teacher"].keys() < weights_of(weights)[0].keys()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RandomWeightsWarning)
        smoke = train(teacher_config(), cubes, tmp_path / "smoke")
    assert same_weights(smoke, weights)


@pytest.mark.slow
def test_a_vit_of_its_own_trains_everything_and_learns(cubes, tmp_path):
    """``trains: all`` needs no SAM and warns of nothing; in 40 steps it begins to find the liver."""
    schedule = Schedule(steps=40, lr=3e-3, warmup=0.1, decay="cosine", batch=2)
    config = teacher_config(
        network=tiny_teacher(trains="all"), schedule=schedule, smoke=False, ema=0.0, validate_every=40
    )
    weights = train(changed(config, "sampling", **PLAIN), cubes, tmp_path / "run")
    found = losses(tmp_path / "run")
    assert sum(found[-3:]) < 0.65 * sum(found[:3])
    assert reports(tmp_path / "run")[-1]["dice"][0] > 0.3
    assert len(trainable_parameters(load_teacher(weights)[0])) == len(weights_of(weights)[0])


def test_another_sam_file_is_refused_on_the_way(real, sam, sam_state, cubes, tmp_path):
    """A run that began on one SAM goes on with no other, and not without."""
    train(real, cubes, tmp_path / "run", sam=sam)
    torch.save({name: tensor + 1.0 for name, tensor in sam_state.items()}, tmp_path / "other.pth")
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in sam_sha256"):
        train(real, cubes, tmp_path / "run", sam=tmp_path / "other.pth")
    with (
        pytest.warns(RandomWeightsWarning),
        pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in sam_sha256"),
    ):
        train(real, cubes, tmp_path / "run")


def test_a_wrong_sam_file_leaves_nothing(real, sam_state, cubes, tmp_path):
    """A key is missing: AE-TRAIN-014, and no folder."""
    torch.save(
        {name: t for name, t in sam_state.items() if "blocks.2.attn.qkv.bias" not in name},
        tmp_path / "sam.pth",
    )
    with pytest.raises(TrainingError, match="AE-TRAIN-014"):
        train(real, cubes, tmp_path / "run", sam=tmp_path / "sam.pth")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_no_number_stops_the_run(real, sam_state, cubes, tmp_path):
    """A SAM file with a NaN in it: AE-TRAIN-006 at the first step."""
    torch.save(
        {**sam_state, "image_encoder.pos_embed": sam_state["image_encoder.pos_embed"] * float("nan")},
        tmp_path / "sam.pth",
    )
    with pytest.raises(TrainingError, match="AE-TRAIN-006.*step 0"):
        train(real, cubes, tmp_path / "run", sam=tmp_path / "sam.pth")
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


def test_patches_are_those_of_the_network(tmp_path):
    """Two sizes in one recipe are an error that names both."""
    path = write_recipe(teacher_config(), tmp_path / "r.yaml")
    assert read_config(Config, path) == teacher_config()
    with pytest.raises(
        ValueError, match=r"sampling\.patch \(32, 32, 32\) is not network\.patch \(16, 16, 16\)"
    ):
        teacher_config(sampling=Sampling(patch=(32, 32, 32)))
    path.write_text(path.read_text().replace("- 16\n", "- 32\n", 3))  # one of the two
    with pytest.raises(TrainingError, match=r"AE-TRAIN-001.*is not network\.patch"):
        read_config(Config, path)


def test_the_classes_are_the_datas(cubes, tmp_path):
    """Whatever the recipe says: three here, not the fourteen of BTCV."""
    assert teacher_config().network.classes == 14
    network, metadata = load_teacher(train(teacher_config(), cubes, tmp_path / "run"))
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape[1] == 3
    assert metadata.input.labels == ("background", "liver", "spleen")

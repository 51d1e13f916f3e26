"""A student learns, and what cannot be trained is refused before anything is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import yaml

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    NAMES,
    NO_DROPOUT,
    PLAIN,
    UNET,
    losses,
    prepare_boxes,
    prepare_unlabeled,
    reports,
    same_weights,
    student_config,
    weights_of,
    write_recipe,
)
from autosam_edge_test_support import refused
from safetensors.torch import save_file

from autosam_edge.errors import InputError, OutputError, TrainingError
from autosam_edge_training.config import parse_config, read_config, with_changes
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Prepared
from autosam_edge_training.networks.checkpoint import read_metadata
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import load_student
from autosam_edge_training.patches.sampler import Sampler, Sampling
from autosam_edge_training.recipe_parts import setup
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.train_student import Config, train

pytestmark = pytest.mark.usefixtures("one_thread")
WHOLE = Sampling(patch=(32, 32, 32), **PLAIN)


@pytest.mark.parametrize("student", ["monai:UNet", "pocketnet"])
def test_a_short_run_learns_the_boxes(student, cubes, tmp_path, monkeypatch):
    """Forty steps: the loss falls to less than half, and the liver of a scan held out is found."""
    monkeypatch.setattr(setup, "build_student", _narrow if student == "pocketnet" else setup.build_student)
    arguments = NO_DROPOUT if student == "monai:UNet" else {}
    schedule = Schedule(steps=40, lr=3e-2, warmup=0.1, decay="cosine")
    weights = train(
        student_config(student=student, arguments=arguments, schedule=schedule, sampling=WHOLE),
        cubes,
        tmp_path / "run",
    )
    assert losses(tmp_path / "run")[-1] < losses(tmp_path / "run")[0] / 2
    last = reports(tmp_path / "run")[-1]
    assert last["dice"][NAMES.index("liver") - 1] > 0.8
    assert last["mean_dice"] == pytest.approx(sum(last["dice"]) / 2)
    assert weights == tmp_path / "run" / "student.safetensors"


def _narrow(name, *, classes, arguments):
    """PocketNet, some channels wide."""
    assert (name, arguments) == ("pocketnet", {})
    return PocketNet(classes=classes, widths=(8, 16, 16))


def test_the_file_says_what_it_is(cubes, tmp_path):
    """Network, labels, grid, window, data, recipe and cases; loading it gives the trained network."""
    config = student_config()
    network, metadata = load_student(train(config, cubes, tmp_path / "run"))
    prepared = Prepared.read(cubes)
    assert (metadata.student, metadata.arguments, metadata.classes) == ("monai:UNet", config.arguments, 3)
    assert metadata.input == NetworkInput((3.0, 3.0, 3.0), BTCV_INTENSITY, NAMES, "btcv")
    assert (metadata.data_sha256, metadata.teacher, metadata.patch) == (prepared.sha256, None, (16, 16, 16))
    assert parse_config(Config, metadata.config) == config
    assert (sum(metadata.datasets.values(), ()), metadata.steps) == (("training0", "training1"), 5)
    assert network(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


def test_the_average_is_saved_and_without_one_the_last_weights(cubes, tmp_path):
    """Both come from the same steps: the checkpoints' weights are equal, the files differ by the average."""
    averaged = train(student_config(ema=0.9), cubes, tmp_path / "a")
    last = train(student_config(ema=0.0), cubes, tmp_path / "b")
    a, b = (torch.load(run.parent / "checkpoint.pt", weights_only=True) for run in (averaged, last))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    for name, tensor in weights_of(last)[0].items():
        assert torch.equal(tensor, a["student"][name])
        assert torch.equal(tensor, b["student"][name])
    for name, tensor in weights_of(averaged)[0].items():
        assert torch.equal(tensor, a["average"][name])
    assert not same_weights(averaged, last)


def test_the_seed_decides_everything(cubes, tmp_path):
    """Weights, patches and dropout: the same seed gives the same bits, another one does not."""
    first, again, other = (
        train(student_config(seed=seed), cubes, tmp_path / str(n)) for n, seed in enumerate((3, 3, 4))
    )
    assert same_weights(first, again)
    assert losses(first.parent) == losses(again.parent)
    assert losses(first.parent) != losses(other.parent)


def test_changes_that_the_data_cannot_have_are_refused(tmp_path):
    """Masses in images that are not in [0, 1]: AE-TRAIN-027, and no folder."""
    data = prepare_boxes(tmp_path, intensity=AMOS_INTENSITY)
    with pytest.raises(TrainingError, match="AE-TRAIN-027.*masses"):
        train(student_config(sampling=replace(student_config().sampling, masses=0.5)), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_it_starts_from_the_weights_of_another_run(cubes, taught, tmp_path):
    """With a learning rate of next to nothing they are still there; another network's are refused."""
    config = student_config(arguments=NO_DROPOUT, ema=0.0, schedule=Schedule(steps=1, lr=1e-12))
    started, expected = (
        weights_of(path)[0] for path in (train(config, cubes, tmp_path / "run", init=taught), taught)
    )
    assert all(torch.allclose(started[name], tensor, atol=1e-9) for name, tensor in expected.items())
    with refused("AE-TRAIN-005", "holds monai:UNet"):
        train(replace(config, student="swinunetr-tiny", arguments={}), cubes, tmp_path / "other", init=taught)
    dropout = replace(config, arguments=UNET["arguments"])
    weights = train(dropout, cubes, tmp_path / "dropout", init=taught)
    assert read_metadata(weights).arguments == UNET["arguments"]
    assert 0.1 in {getattr(part, "p", None) for part in load_student(weights)[0].modules()}
    other = {**NO_DROPOUT, "channels": [8, 16]}
    with pytest.raises(TrainingError, match="AE-TRAIN-005.*the weights do not fit monai:UNet"):
        train(replace(config, arguments=other), cubes, tmp_path / "other", init=taught)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "names", [("background", "spleen", "liver"), ("background", "liver", "spleen", "aorta")]
)
def test_weights_for_other_labels_are_no_start(names, taught, tmp_path):
    """In another order they would find the liver in the spleen; more of them do not fit."""
    data = prepare_boxes(tmp_path, names=names)
    with pytest.raises(TrainingError, match="AE-TRAIN-008.*other labels"):
        train(student_config(arguments=NO_DROPOUT), data, tmp_path / "run", init=taught)
    assert not (tmp_path / "run").exists()


def test_a_file_without_weights_is_no_start(cubes, tmp_path):
    """AE-TRAIN-005."""
    (tmp_path / "weights").write_bytes(b"no weights")
    with pytest.raises(TrainingError, match="AE-TRAIN-005"):
        train(student_config(), cubes, tmp_path / "run", init=tmp_path / "weights")
    assert not (tmp_path / "run").exists()


def test_a_patch_that_the_student_does_not_take_is_refused(cubes, tmp_path):
    """One that it rounds up, and one that is too small for its levels; nothing is written."""
    for changes, patch, said in (
        ({}, (15, 16, 16), "answers a patch of 15 x 16 x 16"),
        ({"student": "pocketnet", "arguments": {}}, (12, 12, 12), "takes no patch of 12 x 12 x 12"),
    ):
        config = student_config(sampling=replace(student_config().sampling, patch=patch), **changes)
        with pytest.raises(TrainingError, match=f"AE-TRAIN-005.*{said}"):
            train(config, cubes, tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_a_file_in_the_place_of_the_run_is_an_error_of_the_output(cubes, tmp_path):
    """AE-OUTPUT-001."""
    (tmp_path / "run").write_text("")
    with pytest.raises(OutputError, match="AE-OUTPUT-001"):
        train(student_config(), cubes, tmp_path / "run")


@pytest.mark.parametrize("held", ["training0", "validation0", "test0"])
@pytest.mark.parametrize("what", ["name", "image"])
def test_extra_data_with_a_case_of_the_data_set_are_refused(what, held, cubes, tmp_path):
    """It would be trained on twice, or trained on and scored: AE-DATA-004, whatever it is called."""
    seed = {"training0": 0, "validation0": 2, "test0": 3}[held]
    name, seed = (held, 9) if what == "name" else ("renamed", seed)
    extra = prepare_unlabeled(tmp_path, name=name, seed=seed)
    with pytest.raises(InputError, match=f"AE-DATA-004.*{name} of training in prepared.*{held}"):
        train(student_config(), cubes, tmp_path / "run", extra=[extra])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"distance": "divergence", "reduction": "element"},
        {"sampling": {"phantoms": 2}},
        {"sampling": {"negatives": 2}},
    ],
)
def test_a_key_without_effect_is_refused(changes):
    """The reduction of another distance, and phantoms of which no patch is drawn."""
    with pytest.raises(TrainingError, match="AE-TRAIN-001.*(reduction|phantom_share)"):
        with_changes(student_config(), **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"student": "swinunetr-huge", "arguments": {}},
        {"student": "monai:NoNet"},
        {"student": "pocketnet", "arguments": {"widths": [8]}},
        {"arguments": {"chanels": [4, 8]}},
    ],
)
def test_an_unknown_student_is_refused(changes, cubes, tmp_path):
    """No such name of ours or MONAI's, arguments that it does not take."""
    with refused("AE-TRAIN-005"):
        train(student_config(**changes), cubes, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_gradient_that_is_no_number_stops_the_run(cubes, taught, tmp_path):
    """Weights with a NaN in them: the first step says so; there is no checkpoint and no result."""
    state, facts = weights_of(taught)
    next(iter(state.values())).fill_(float("nan"))
    save_file(state, tmp_path / "nan.safetensors", metadata=facts)
    with refused("AE-TRAIN-006", "step 0"):
        train(student_config(), cubes, tmp_path / "run", init=tmp_path / "nan.safetensors")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"config.json", "tensorboard"}


def test_a_gradient_that_overflows_later_leaves_the_last_checkpoint(cubes, tmp_path, monkeypatch):
    """The fourth patch is broken: what was learned by the third step is still there and is a number."""
    draw = Sampler.batch

    def batch(self, step, **shared):
        patches = draw(self, step, **shared)
        return replace(patches, image=patches.image * float("inf")) if step == 3 else patches

    monkeypatch.setattr(Sampler, "batch", batch)
    with pytest.raises(TrainingError, match="AE-TRAIN-006.*step 3"):
        train(student_config(), cubes, tmp_path / "run")
    kept = torch.load(tmp_path / "run" / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 3
    assert all(torch.isfinite(tensor).all() for tensor in kept["student"].values())


def test_occupancies_and_batches_and_the_other_loss_train_too(tmp_path):
    """Fractions as targets, two patches a step, class weights: the loss falls."""
    data = prepare_boxes(tmp_path, targets="occupancy")
    config = student_config(
        loss="present",
        schedule=Schedule(steps=12, lr=3e-2, warmup=0.0, batch=2),
        sampling=WHOLE,
        arguments=NO_DROPOUT,
    )
    train(config, data, tmp_path / "run")
    assert losses(tmp_path / "run")[-1] < 0.8 * losses(tmp_path / "run")[0]


def test_bf16_trains(cubes, tmp_path):
    """Under autocast the losses are near those of fp32 and the weights stay float32."""
    weights = train(student_config(precision="bf16"), cubes, tmp_path / "bf16")
    train(student_config(), cubes, tmp_path / "fp32")
    assert losses(tmp_path / "bf16") != losses(tmp_path / "fp32")
    assert losses(tmp_path / "bf16") == pytest.approx(losses(tmp_path / "fp32"), rel=0.02)
    assert {tensor.dtype for tensor in weights_of(weights)[0].values()} == {torch.float32}


def test_a_recipe_with_a_teacher_needs_one(cubes, tmp_path):
    """Lambda below 1, or a cache, without a teacher: AE-TRAIN-001, and no folder."""
    for config, given in ((student_config(weight=0.5), {}), (student_config(), {"cache": tmp_path})):
        with pytest.raises(TrainingError, match="AE-TRAIN-001.*no teacher is given"):
            train(config, cubes, tmp_path / "run", **given)
    assert not (tmp_path / "run").exists()


def test_without_a_training_case_there_is_no_run(tmp_path):
    """AE-DATA-005; the folder is not made."""
    data = prepare_boxes(tmp_path)
    content = json.loads((data / "prepared.json").read_text())
    content["split"]["test"] += content["split"]["training"]
    content["split"]["training"] = []
    (data / "prepared.json").write_text(json.dumps(content))
    with refused("AE-DATA-005"):
        train(student_config(), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("ema", 1.0, "ema must lie in"),
        ("weight", 1.5, "weight must lie in"),
        ("minutes", 60, "minutes: unexpected"),
    ],
)
def test_a_wrong_key_is_named(key, value, said, tmp_path):
    """Values out of range, and a key that recipes do not have."""
    path = write_recipe(student_config(), tmp_path / "r.yaml")
    assert read_config(Config, path) == student_config()
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), key: value}))
    with refused("AE-TRAIN-001", said):
        read_config(Config, path)

"""Equation 2: lambda 1 is a student alone, lambda 0 the teacher alone; probabilities may be cached."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    NO_DROPOUT,
    PLAIN,
    changed,
    distill_config,
    losses,
    prepare_boxes,
    prepare_unlabeled,
    reports,
    same_weights,
    student_config,
    weights_of,
)
from autosam_edge_test_support import refused

from autosam_edge.errors import TrainingError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training import train_student
from autosam_edge_training.config import parse_config
from autosam_edge_training.data import AMOS_INTENSITY, Prepared
from autosam_edge_training.networks.checkpoint import open_network, read_metadata
from autosam_edge_training.networks.checkpoint_metadata import TeacherRecord
from autosam_edge_training.networks.students import build_student
from autosam_edge_training.networks.teacher_cache import cache_probabilities, load_cached_probabilities
from autosam_edge_training.patches.sampler import Sampler, Sampling
from autosam_edge_training.recipe_parts.losses import distillation
from autosam_edge_training.recipe_parts.schedule import Schedule
from autosam_edge_training.recipe_parts.teacher import Teacher
from autosam_edge_training.train_student import Config, train

pytestmark = pytest.mark.usefixtures("one_thread")
WHOLE = Sampling(patch=(32, 32, 32), **PLAIN)  # always the whole case, as it is


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_all_truth_is_a_student_without_a_teacher(ema, cubes, taught, tmp_path):
    """Lambda 1 gives the weights of a student without a teacher, bit for bit, dropout included."""
    distilled = train(distill_config(weight=1.0, ema=ema), cubes, tmp_path / "a", teachers=[taught])
    alone = train(student_config(ema=ema), cubes, tmp_path / "b")
    assert same_weights(distilled, alone)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_no_truth_does_not_look_at_it(cubes, taught, tmp_path):
    """With liver and spleen exchanged in the truth, the weights stay the same with lambda 0 only."""
    swapped = prepare_boxes(tmp_path / "swapped", swapped=True)
    for weight, same in ((0.0, True), (0.5, False)):
        config = distill_config(weight=weight, sampling=WHOLE)
        runs = [
            train(config, data, tmp_path / f"{weight}{n}", teachers=[taught])
            for n, data in enumerate((cubes, swapped))
        ]
        assert same_weights(*runs) is same
        assert reports(runs[0].parent)[0]["loss_truth"] != reports(runs[1].parent)[0]["loss_truth"]


@pytest.mark.parametrize("weight", [0.0, 0.2, 0.5, 1.0])
def test_the_loss_is_equation_2(weight, cubes, taught, tmp_path):
    """Of the two parts that are reported, in every line."""
    train(distill_config(weight=weight), cubes, tmp_path / "run", teachers=[taught])
    for line in reports(tmp_path / "run"):
        assert line["loss"] == pytest.approx(
            weight * line["loss_truth"] + (1 - weight) * line["loss_teacher"], rel=1e-6
        )


def test_the_first_step_by_hand(cubes, taught, tmp_path):
    """The first distillation loss is the squared distance of a fresh student from the teacher on patch 0."""
    config = changed(distill_config(weight=0.3, arguments=NO_DROPOUT), "schedule", steps=1)
    train(config, cubes, tmp_path / "run", teachers=[taught])
    (line,) = reports(tmp_path / "run")
    image = (
        Sampler(Prepared.read(cubes).cases("training"), config.sampling, spacing_mm=(3.0, 3.0, 3.0), seed=0)
        .patch(0)
        .image
    )
    torch.manual_seed(0)
    student = build_student(config.student, classes=3, arguments=config.arguments)
    with torch.no_grad():
        answer = open_network(taught)[0](image).softmax(dim=1)
        expected = ((student(image).softmax(dim=1) - answer) ** 2).sum(dim=1).mean()
    assert line["loss_teacher"] == pytest.approx(expected.item(), rel=1e-5)


def test_an_element_mean_is_smaller_by_the_number_of_classes(cubes, taught, tmp_path):
    """Three classes: a third, at the first step."""
    for reduction in ("voxel", "element"):
        train(distill_config(reduction=reduction), cubes, tmp_path / reduction, teachers=[taught])
    voxel, element = (reports(tmp_path / reduction)[0]["loss_teacher"] for reduction in ("voxel", "element"))
    assert voxel == pytest.approx(3 * element, rel=1e-5)


def test_the_teacher_alone_teaches(cubes, taught, tmp_path):
    """Without labels the student approaches its teacher: a quarter of the distance, liver found."""
    schedule = Schedule(steps=50, lr=3e-2, warmup=0.1, decay="cosine")
    config = distill_config(
        weight=0.0, ema=0.0, schedule=schedule, sampling=WHOLE, arguments=NO_DROPOUT, validate_every=50
    )
    train(config, cubes, tmp_path / "run", teachers=[taught])
    lines = reports(tmp_path / "run")
    assert lines[-1]["loss_teacher"] < lines[0]["loss_teacher"] / 4
    taught_dice = json.loads((taught.parent / "metrics.jsonl").read_text().splitlines()[-1])["dice"]
    assert lines[-1]["dice"][0] == pytest.approx(taught_dice[0], abs=0.15)


@pytest.fixture(scope="module")
def cache(cubes, taught, tmp_path_factory):
    """The teacher's answers for the whole of both cases, one window each."""
    folder = tmp_path_factory.mktemp("cache") / "cache"
    return cache_probabilities([taught], [(Prepared.read(cubes), "training")], folder, patch=(32, 32, 32))


def stored_in(cache, cubes, taught):
    return load_cached_probabilities(cache, [taught], [(Prepared.read(cubes), "training")])


def test_cached_probabilities_are_those_of_the_teacher(cubes, taught, cache):
    """A patch of the whole case has the teacher's probabilities, to the rounding of uint8."""
    prepared = Prepared.read(cubes)
    stored = stored_in(cache, cubes, taught)
    sampler = Sampler(prepared.cases("training"), WHOLE, spacing_mm=(3.0, 3.0, 3.0), seed=0, teacher=stored)
    network, _ = open_network(taught)
    for number in range(2):
        patch = sampler.patch(number)
        with torch.no_grad():
            online = network(patch.image).softmax(dim=1)
        # An organ is off by 1/510 at most, and by 0.01 outside of its box; the background by the sum of both.
        assert (patch.teacher - online).abs().max() <= 2 * 0.01
        assert (patch.teacher - online).abs().mean() <= 1 / 510
        assert torch.allclose(patch.teacher.sum(dim=1), torch.ones(()), atol=1e-6)


def test_cached_probabilities_teach_as_the_teacher_does(cubes, taught, cache, tmp_path):
    """Without augmentation the losses of a run are the same, to the rounding of the cache."""
    config = distill_config(weight=0.2, sampling=WHOLE)
    train(config, cubes, tmp_path / "online", teachers=[taught])
    weights = train(config, cubes, tmp_path / "cached", teachers=[taught], cache=cache)
    online, beforehand = reports(tmp_path / "online"), reports(tmp_path / "cached")
    for a, b in zip(online, beforehand, strict=True):
        assert a["loss_truth"] == pytest.approx(b["loss_truth"], rel=1e-3)
        assert a["loss_teacher"] == pytest.approx(b["loss_teacher"], rel=1e-2)
        assert a["loss_teacher"] != b["loss_teacher"]
    assert weights_of(weights)[1]["teacher"] == "cached"


def test_a_run_does_not_change_from_cached_to_online(cubes, taught, cache, tmp_path):
    """The two are not the same signal."""
    train(distill_config(sampling=WHOLE), cubes, tmp_path / "run", teachers=[taught], cache=cache)
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in teacher\\."):
        train(distill_config(sampling=WHOLE), cubes, tmp_path / "run", teachers=[taught])


def test_cached_probabilities_turn_with_the_patch(cubes, taught, cache):
    """Cached probabilities are flipped and rotated with the image: distances to the truth stay the same."""
    prepared = Prepared.read(cubes)
    stored = stored_in(cache, cubes, taught)
    turned = Sampler(
        prepared.cases("training"),
        Sampling(patch=(32, 32, 32), flip=1.0, rotate=1.0, scale=0.0),
        spacing_mm=(3.0, 3.0, 3.0),
        seed=5,
        teacher=stored,
    )
    plain = Sampler(prepared.cases("training"), WHOLE, spacing_mm=(3.0, 3.0, 3.0), seed=5, teacher=stored)
    for number in range(4):
        a, b = (sampler.patch(number) for sampler in (plain, turned))
        assert not torch.equal(a.occupancy, b.occupancy)
        assert ((a.teacher - a.occupancy) ** 2).sum().item() == pytest.approx(
            ((b.teacher - b.occupancy) ** 2).sum().item(), rel=1e-5
        )


def test_autosam_teaches_and_the_file_says_who(cubes, autosam_teacher, tmp_path):
    """An AutoSAM teacher whose file holds everything; the student's file has its hash, lambda and recipe."""
    config = distill_config(weight=0.8)
    weights = train(config, cubes, tmp_path / "run", teachers=[autosam_teacher])
    metadata = read_metadata(weights)
    assert metadata.teacher == TeacherRecord("autosam-vit-tiny", file_digest(autosam_teacher), "online", 0.8)
    assert metadata.student == "monai:UNet"
    assert parse_config(Config, metadata.config) == config
    assert (
        json.loads((tmp_path / "run" / "config.json").read_text())["teacher_sha256"]
        == metadata.teacher.sha256
    )


def test_the_teacher_is_not_changed(cubes, taught, tmp_path, monkeypatch):
    """It runs in eval mode and without gradients, and its weights stay."""
    opened = []

    class Spy(Teacher):
        def __init__(self, *given, **named):
            super().__init__(*given, **named)
            opened.append(self.network)

    monkeypatch.setattr(train_student, "Teacher", Spy)
    train(distill_config(), cubes, tmp_path / "run", teachers=[taught])
    (network,) = opened
    assert not network.training
    assert all(p.grad is None for p in network.parameters())
    assert all(
        torch.equal(tensor, weights_of(taught)[0][name]) for name, tensor in network.state_dict().items()
    )


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"names": ("background", "spleen", "liver")}, "labels"),
        ({"spacing_mm": (3.0, 4.0, 4.0)}, "spacing_mm"),
        ({"intensity": AMOS_INTENSITY}, "intensity"),
    ],
)
def test_a_teacher_of_other_data_is_refused(other, named, taught, tmp_path):
    """Other labels, another grid, another window; the folder is not made."""
    data = prepare_boxes(tmp_path, **other)
    with refused("AE-TRAIN-008") as caught:
        train(distill_config(), data, tmp_path / "run", teachers=[taught])
    assert f"the teacher was trained on data with other {named}." == caught.value.message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_what_is_no_network_is_refused(content, cubes, tmp_path):
    """Nothing, something else, no such file; the folder is not made."""
    if content is not None:
        (tmp_path / "teacher.safetensors").write_bytes(content)
    with refused("AE-TRAIN-007"):
        train(distill_config(), cubes, tmp_path / "run", teachers=[tmp_path / "teacher.safetensors"])
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def unlabeled(tmp_path_factory):
    """A prepared scan that nobody labeled."""
    return prepare_unlabeled(tmp_path_factory.mktemp("unlabeled"))


@pytest.mark.parametrize(
    ("loss", "changes"),
    [
        ("paper", {"distance": "squared"}),
        ("present", {"distance": "divergence", "temperature": 2.0}),
        ("present", {"distance": "labels"}),
        *(
            pytest.param(*pair, marks=pytest.mark.slow)
            for pair in (
                ("present", {"distance": "squared"}),
                ("paper", {"distance": "divergence", "temperature": 2.0}),
                ("paper", {"distance": "labels"}),
            )
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value["distance"],
)
def test_scans_without_labels_are_learned_from_the_teacher(loss, changes, unlabeled, taught, tmp_path):
    """Without any label the student comes to say what its teacher says, in every voxel."""
    cache = cache_probabilities([taught], [(Prepared.read(unlabeled), "training")], tmp_path / "cache")
    config = distill_config(
        schedule=Schedule(steps=50, lr=3e-2, warmup=0.1, decay="cosine"),
        sampling=WHOLE,
        arguments=NO_DROPOUT,
        loss=loss,
        ema=0.0,
        report_every=50,
        **changes,
    )
    weights = train(config, unlabeled, tmp_path / "run", teachers=[taught], cache=cache)
    assert read_metadata(weights).datasets == {"partial": ("strange",), "btcv": ()}
    case = Prepared.read(unlabeled).case("strange")
    image = torch.from_numpy(case.image_in(case.whole))
    torch.manual_seed(0)
    untaught = build_student(config.student, classes=3, arguments=config.arguments).eval()
    networks = untaught, open_network(weights)[0], open_network(taught)[0]
    with torch.no_grad():
        before, after, teachers = (network(image[None, None]).softmax(dim=1) for network in networks)
    assert float((after - teachers).abs().mean()) < 0.6 * float((before - teachers).abs().mean())


def test_further_scans_join_and_their_probabilities_too(cubes, unlabeled, taught, tmp_path):
    """With one more scan every third patch is of it; without its probabilities the run does not begin."""
    parts = [(Prepared.read(folder), "training") for folder in (cubes, unlabeled)]
    config = distill_config(distance="labels", schedule=Schedule(steps=3, lr=1e-2), ema=0.0)
    half = cache_probabilities([taught], parts[:1], tmp_path / "half")
    with pytest.raises(TrainingError, match="AE-TRAIN-009.*strange"):
        train(config, cubes, tmp_path / "run", teachers=[taught], cache=half, extra=[unlabeled])
    cache = cache_probabilities([taught], parts, tmp_path / "cache")
    weights = train(config, cubes, tmp_path / "run", teachers=[taught], cache=cache, extra=[unlabeled])
    seen = {"btcv": ("training0", "training1"), "partial": ("strange",)}
    assert read_metadata(weights).datasets == seen
    assert sum(line["loss_truth"] < 1e-3 for line in reports(tmp_path / "run")) <= 1


def test_a_final_model_trains_on_the_validation_cases_too(cubes, taught, tmp_path):
    """And is not validated; a run starts from the weights of another, and says of which."""
    config = distill_config(fold="all")
    weights = train(config, cubes, tmp_path / "run", teachers=[taught])
    seen = sum(read_metadata(weights).datasets.values(), ())
    assert seen == ("training0", "training1", "validation0")
    assert not any("dice" in line for line in reports(tmp_path / "run"))
    again = train(distill_config(), cubes, tmp_path / "again", teachers=[taught], init=weights)
    assert set(sum(read_metadata(again).datasets.values(), ())) == set(seen)  # it has seen them all
    assert json.loads((again.parent / "config.json").read_text())["init_sha256"] == file_digest(weights)
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in init_sha256"):
        train(distill_config(), cubes, tmp_path / "again", teachers=[taught])


def test_a_gradient_that_is_no_number_stops_the_run(cubes, taught, tmp_path, monkeypatch):
    """AE-TRAIN-006, as in the other recipes."""
    monkeypatch.setattr(
        train_student.losses,
        "distillation",
        lambda *given, **named: distillation(*given, **named) * float("nan"),
    )
    with pytest.raises(TrainingError, match="AE-TRAIN-006.*step 0"):
        train(distill_config(), cubes, tmp_path / "run", teachers=[taught])
    assert not (tmp_path / "run" / "checkpoint.pt").exists()


@pytest.mark.parametrize("weight", [1.1, -0.1])
def test_a_weight_beyond_its_range_is_an_error(weight):
    """By its name."""
    with pytest.raises(ValueError, match="weight"):
        distill_config(weight=weight)

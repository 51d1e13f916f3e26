"""A run that is stopped goes on as if nothing had been, and a folder of anything else is refused."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    changed,
    prepare_boxes,
    recipe,
    reports,
    same_weights,
    student_config,
    weights_of,
    write_recipe,
)
from autosam_edge_test_support import refused
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from autosam_edge import __version__
from autosam_edge.errors import TrainingError
from autosam_edge_training import train_student
from autosam_edge_training.config import as_dict
from autosam_edge_training.data import Prepared
from autosam_edge_training.patches.sampler import Sampler
from autosam_edge_training.recipe_parts.fabric import start_fabric
from autosam_edge_training.recipe_parts.run_folder import (
    CHECKPOINT,
    CONFIG,
    RunFolder,
    commit,
    held_folder,
    read_run_record,
)

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPES = ("student", "teacher", "distill")


class Stop(KeyboardInterrupt):
    """Control-C in a test: pytest itself ends at any other."""


def train_until(step, one, cubes, out, monkeypatch):
    """Interrupt a run before this step, counted from 0."""
    draw = Sampler.batch

    def batch(self, number, **shared):
        if number == step:
            raise Stop
        return draw(self, number, **shared)

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "batch", batch)
        with pytest.raises(Stop):
            one.train(one.config, cubes, out)


@pytest.fixture(scope="module")
def uninterrupted(cubes, taught, tmp_path_factory):
    """(recipe, weights) of each recipe's run in one go, made once."""
    made = {}

    def of(name):
        if name not in made:
            one = recipe(name, taught)
            made[name] = one, one.train(one.config, cubes, tmp_path_factory.mktemp(name) / "run")
        return made[name]

    return of


@pytest.fixture
def copied(uninterrupted, tmp_path):
    """A copy of the student's run in one go, for a test to change: (recipe, weights of the run, copy)."""
    one, weights = uninterrupted("student")
    return one, weights, Path(shutil.copytree(weights.parent, tmp_path / "run"))


def test_the_folder_of_a_run_tells_what_decided_it(uninterrupted, cubes):
    """``config.json`` has recipe, seed, commit, hash and machine; each report is a line and a curve point."""
    one, weights = uninterrupted("student")
    run = weights.parent
    assert {path.name for path in run.iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "tensorboard",
        "checkpoint.pt",
        "student.safetensors",
    }
    record = read_run_record(run)
    assert record.config == as_dict(one.config)
    assert record.config["seed"] == 0
    assert (record.recipe, record.dataset) == ("student", "btcv")
    assert record.data_sha256 == Prepared.read(cubes).sha256
    assert record.labels == ("background", "liver", "spleen")
    assert record.split == {
        "training": ("training0", "training1"),
        "validation": ("validation0",),
        "test": ("test0",),
    }
    assert (record.commit, record.version) == (commit(), __version__)
    assert (record.processes, record.threads) == (1, 1)
    assert "cores" in record.machine
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert all(line["seconds_per_step"] > 0 and line["peak_memory_mb"] > 50 for line in lines)
    assert ["mean_dice" in line for line in lines] == [False, True, False, True, True]
    curves = EventAccumulator(str(run / "tensorboard")).Reload()
    points = [(event.step, event.value) for event in curves.Scalars("loss")]
    assert points == [(line["step"], pytest.approx(line["loss"])) for line in lines]
    assert {"loss", "lr", "mean_dice"} <= set(curves.Tags()["scalars"])


def test_the_commit_is_of_the_checkout():
    """What git says of this checkout, shortened; with a + where files differ from it."""
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    if head.returncode:
        assert commit() is None
    else:
        assert head.stdout.startswith(commit().removesuffix("+"))
        assert len(commit().removesuffix("+")) >= 12


@pytest.mark.parametrize("step", [1, 2, 3])
@pytest.mark.parametrize("name", RECIPES)
def test_a_stopped_run_ends_with_the_same_bits(name, step, uninterrupted, cubes, tmp_path, monkeypatch):
    """Stopped before its first checkpoint, right after one, or between two, and started again."""
    one, expected = uninterrupted(name)
    train_until(step, one, cubes, tmp_path / "run", monkeypatch)
    assert not list((tmp_path / "run").glob("*.safetensors"))
    assert len(reports(tmp_path / "run")) == step
    found = one.train(one.config, cubes, tmp_path / "run")
    assert same_weights(found, expected)
    assert weights_of(found)[1] == weights_of(expected)[1]
    assert reports(found.parent) == reports(expected.parent)


def test_it_can_be_stopped_again_and_again(uninterrupted, cubes, tmp_path, monkeypatch):
    """Three stops, the second before the next checkpoint, do not change the result; nor does a later call."""
    one, expected = uninterrupted("student")
    for step in (2, 3, 4):
        train_until(step, one, cubes, tmp_path / "run", monkeypatch)
    found = one.train(one.config, cubes, tmp_path / "run")
    assert same_weights(found, expected)
    assert one.train(one.config, cubes, tmp_path / "run") == found
    assert same_weights(found, expected)
    assert reports(found.parent) == reports(expected.parent)


@pytest.mark.parametrize("name", RECIPES)
def test_a_finished_run_keeps_its_weights_byte_for_byte(name, uninterrupted, cubes, tmp_path, monkeypatch):
    """Caches and other runs name them by their hash; a file that is missing is written."""
    one, expected = uninterrupted(name)
    shutil.copytree(expected.parent, tmp_path / "run")
    weights = tmp_path / "run" / expected.name
    for module in ("setup", "run_folder"):
        monkeypatch.setattr(f"autosam_edge_training.recipe_parts.{module}.commit", lambda: "of a later day")
    before = weights.stat()
    assert one.train(one.config, cubes, tmp_path / "run") == weights
    assert weights.read_bytes() == expected.read_bytes()
    assert weights.stat().st_ino == before.st_ino
    assert (tmp_path / "run" / CONFIG).read_bytes() == (expected.parent / CONFIG).read_bytes()
    weights.unlink()
    assert same_weights(one.train(one.config, cubes, tmp_path / "run"), expected)
    (tmp_path / "run" / CHECKPOINT).unlink()
    weights.write_bytes(b"of the run before")
    assert same_weights(one.train(one.config, cubes, tmp_path / "run"), expected)


def test_the_seconds_of_a_step_are_without_validation(cubes, taught, tmp_path, monkeypatch):
    """A validation of 40 s, and an hour in which the process was stopped; the clock counts no other time."""
    clock = [0.0]

    def validate(*_, **__):
        clock[0] += 40.0
        return (0.5, 0.5)

    def stopped(_, step, __):
        clock[0] += 3600.0 * (step == 3)

    monkeypatch.setattr("autosam_edge_training.recipe_parts.setup.validate", validate)
    monkeypatch.setattr("autosam_edge_training.recipe_parts.run_folder.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(RunFolder, "save", stopped)
    one = recipe("student", taught)
    run = one.train(one.config, cubes, tmp_path / "run").parent
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert clock[0] == 3720.0
    assert [line["seconds_per_step"] for line in lines] == [0.0] * 5


def test_a_stop_while_a_checkpoint_is_written_costs_only_that_one(
    uninterrupted, cubes, tmp_path, monkeypatch
):
    """Half of the second checkpoint was written: the first one counts, and the later line is dropped."""
    one, expected = uninterrupted("student")
    saves = []

    def save(state, file):
        saves.append(state["step"])
        if len(saves) == 2:
            file.write(b"PK half of it")
            raise Stop
        torch.serialization.save(state, file)

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", save)
        with pytest.raises(Stop):
            one.train(one.config, cubes, tmp_path / "run")
    assert saves == [1, 2]
    assert [path.name for path in (tmp_path / "run").iterdir() if path.suffix == ".partial"] == []
    assert [line["step"] for line in reports(tmp_path / "run")] == [1, 2]
    prepared, fabric = Prepared.read(cubes), start_fabric("fp32", batch=1)
    run = RunFolder(tmp_path / "run", "student", one.config, prepared=prepared, fabric=fabric)
    assert next(run.steps(5)) == 1
    assert [line["step"] for line in reports(tmp_path / "run")] == [1]
    assert same_weights(one.train(one.config, cubes, tmp_path / "run"), expected)


def test_a_full_disk_is_told(cubes, taught, tmp_path, monkeypatch):
    """Torch raises an error about the end of its file over that of the system."""

    def save(_state, _file):
        try:
            raise OSError(errno.ENOSPC, "full")
        finally:
            raise RuntimeError("unexpected pos")  # as torch does it

    config, fabric = recipe("student", taught).config, start_fabric("fp32", batch=1)
    run = RunFolder(tmp_path / "run", "student", config, prepared=Prepared.read(cubes), fabric=fabric)
    next(run.steps(1))
    monkeypatch.setattr(torch, "save", save)
    with refused("AE-OUTPUT-003"):
        run.save(1, {})


def test_a_line_without_an_end_is_dropped(copied, cubes):
    """What a killed process was writing; the lines before it stay."""
    one, expected, run = copied
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    one.train(one.config, cubes, run)
    assert reports(run) == reports(expected.parent)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_killed_process_goes_on(name, cubes, taught, tmp_path):
    """SIGKILL at a moment of nobody's choice; the same command then ends with the bits of a run in one go."""
    one = recipe(name, taught)
    config = changed(replace(one.config, validate_every=7), "schedule", steps=60)
    options = [
        "--config",
        write_recipe(config, tmp_path / "r.yaml"),
        "--data",
        cubes,
        "--out",
        tmp_path / "run",
    ]
    options += ["--teacher", taught] if name == "distill" else []
    command = [sys.executable, "-m", "autosam_edge", *one.command, *map(str, options)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    lines, wanted = tmp_path / "run" / "metrics.jsonl", 10 + time.time_ns() % 25
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if lines.is_file() and lines.read_bytes().count(b"\n") >= wanted:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.002)
    assert process.returncode == -signal.SIGKILL
    assert not list((tmp_path / "run").glob("*.safetensors"))
    again = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert again.returncode == 0, again.stderr
    expected = one.train(config, cubes, tmp_path / "whole")
    assert same_weights(tmp_path / "run" / expected.name, expected)
    assert reports(tmp_path / "run") == reports(tmp_path / "whole")


@pytest.mark.parametrize("name", RECIPES)
def test_a_folder_in_which_another_process_trains_is_refused(name, cubes, taught, tmp_path, monkeypatch):
    """Its folder stays as it is; the other processes of one ``torchrun`` hold nothing."""
    monkeypatch.setattr("autosam_edge_training.recipe_parts.run_folder._WAIT_S", 0.0)
    out, one, fabric = tmp_path / "new" / "run", recipe(name, taught), start_fabric("fp32", batch=1)
    with held_folder(out, fabric):
        with held_folder(out, SimpleNamespace(is_global_zero=False, barrier=lambda: None)):
            before = list(tmp_path.rglob("*"))
        with pytest.raises(TrainingError) as caught:
            one.train(replace(one.config, seed=1), cubes, out)
        assert str(caught.value).startswith(
            "AE-TRAIN-031: another process trains in the folder run. Remedy: "
        )
        assert list(tmp_path.rglob("*")) == before
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 1}, ["config.seed"]),
        ({"ema": 0.5, "loss": "present"}, ["config.ema", "config.loss"]),
        ({"reduction": "element"}, ["config.reduction"]),
        ({"arguments": {"channels": [4, 8], "strides": [2]}}, ["config.arguments"]),
    ],
)
def test_another_recipe_is_refused(changes, named, copied, cubes):
    """Each key that differs is named, and the folder stays as it was."""
    one, _, run = copied
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    with refused("AE-TRAIN-002", rf"differs in {', '.join(named)}\."):
        one.train(replace(one.config, **changes), cubes, run)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


def test_a_run_that_is_older_than_a_key_of_the_recipe_goes_on(copied, cubes):
    """The key has its default then, as the run had; another value is refused."""
    one, expected, run = copied
    record = json.loads((run / "config.json").read_text())
    del record["config"]["distance"], record["init_sha256"]
    (run / "config.json").write_text(json.dumps(record))
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in config.distance\\."):
        one.train(replace(one.config, distance="labels"), cubes, run)
    assert same_weights(one.train(one.config, cubes, run), expected)


def test_other_data_another_kind_and_another_teacher_are_refused(
    uninterrupted, cubes, taught, autosam_teacher, tmp_path
):
    """The hash of the data, the recipe's kind, and what a distillation learns from belong to a run."""
    student, student_run = uninterrupted("student")
    other = prepare_boxes(tmp_path / "data", noise_hu=5.0)
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in data_sha256"):
        student.train(student.config, other, student_run.parent)
    distilled, distilled_run = uninterrupted("distill")
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in recipe"):
        distilled.train(distilled.config, cubes, student_run.parent)
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*differs in teacher_network, teacher_sha256\\."):
        recipe("distill", autosam_teacher).train(distilled.config, cubes, distilled_run.parent)


def test_a_folder_that_is_no_run_is_told(tmp_path):
    """No ``config.json``, or one that is cut."""
    for content in (None, '{"recipe": "stu'):
        if content is not None:
            (tmp_path / "config.json").write_text(content)
        with refused("AE-TRAIN-003"):
            read_run_record(tmp_path)


class Trap:
    """Unpickling it would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize(
    "damage", ["cut", "empty", "noise", "code", "a list", "no step", "no network", "other shape"]
)
def test_a_damaged_checkpoint_is_refused(damage, copied, cubes, tmp_path):
    """Cut short, emptied, other bytes, a pickle with code (which does not run), or no checkpoint of a run."""
    one, _, run = copied
    path = run / "checkpoint.pt"
    whole = path.read_bytes()
    if damage in ("cut", "empty", "noise"):
        path.write_bytes({"cut": whole[: len(whole) // 2], "empty": b"", "noise": b"noise" * 1000}[damage])
    else:
        kept = torch.load(path, weights_only=True)
        step = kept.pop("step")
        broken = {
            "code": {**kept, "step": Trap(tmp_path / "ran")},
            "a list": [1, 2],
            "no step": kept,
            "no network": {"step": step},
            "other shape": {
                **kept,
                "step": step,
                "student": {name: tensor[:0] for name, tensor in kept["student"].items()},
            },
        }
        torch.save(broken[damage], path)
    lines = (run / "metrics.jsonl").read_bytes()
    with refused("AE-TRAIN-002", "damaged"):
        one.train(one.config, cubes, run)
    assert not (tmp_path / "ran").exists()
    assert (run / "metrics.jsonl").read_bytes() == lines


@pytest.mark.parametrize("line", [b"no line of a run\n", b"[1]\n", b"{}\n", b"\xff\n"])
def test_damaged_metrics_are_refused(line, copied, cubes):
    """The message names the file; without it the run goes on."""
    one, expected, run = copied
    path = run / "metrics.jsonl"
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(TrainingError, match="AE-TRAIN-002.*metrics.jsonl in run is damaged"):
        one.train(one.config, cubes, run)
    path.unlink()
    assert same_weights(one.train(one.config, cubes, run), expected)


def test_without_its_checkpoint_a_run_begins_again(copied, cubes):
    """As the error about a damaged one advises: all lines are dropped, and the result is the same."""
    one, expected, run = copied
    (run / "checkpoint.pt").unlink()
    found = one.train(one.config, cubes, run)
    assert same_weights(found, expected)
    assert [line["step"] for line in reports(run)] == [1, 2, 3, 4, 5]


def test_a_run_that_is_refused_leaves_no_folder(cubes, tmp_path):
    """Whatever is wrong is found before anything is written."""
    with pytest.raises(TrainingError, match="AE-TRAIN-005"):
        train_student.train(student_config(student="monai:NoNet"), cubes, tmp_path / "run")
    assert not (tmp_path / "run").exists()

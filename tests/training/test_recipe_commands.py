"""``train``, ``distill`` and ``score`` on the command line: smoke runs, real runs, wrong usage."""

from __future__ import annotations

import json
import tempfile

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import (
    distill_config,
    prepare_boxes,
    prepare_unlabeled,
    student_config,
    teacher_config,
    weights_of,
    write_recipe,
)
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.errors import TrainingError
from autosam_edge.system.file_hash import file_digest
from autosam_edge_training import train_student, train_teacher
from autosam_edge_training.config import as_dict
from autosam_edge_training.evaluate.scored_runs import read_run

pytestmark = pytest.mark.usefixtures("one_thread")
COMMANDS = [("train", "teacher"), ("train", "student"), ("distill",)]
SMOKE = "the recipe runs; its weights mean nothing\n"


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where temporary folders are made."""
    (tmp_path / "scratch").mkdir()
    # The first command of a process makes a folder for matplotlib, which goes when the process ends.
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    return tmp_path / "scratch"


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_smoke_run_needs_nothing_and_leaves_nothing(command, scratch):
    """On phantoms, with a tiny network; a distillation first trains its own teacher."""
    result = run(*command, "--smoke")
    assert result.exit_code == 0, result.output
    assert result.stdout == SMOKE
    assert "mean_dice" in result.stderr
    assert list(scratch.iterdir()) == []


def test_a_smoke_run_can_be_looked_at(cubes, scratch, tmp_path):
    """With data and a run folder given, nothing else appears, though a teacher was trained too."""
    result = run("distill", "--smoke", "--data", cubes, "-o", tmp_path / "out" / "run", "--seed", "3")
    assert result.exit_code == 0, result.output
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run"]
    assert weights_of(tmp_path / "out" / "run" / "student.safetensors")[1]["teacher"] == "online"
    assert json.loads((tmp_path / "out" / "run" / "config.json").read_text())["config"]["seed"] == 3
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("command", ["teacher", "student"])
def test_a_smoke_run_reads_the_recipe_that_it_is_given(command, tmp_path):
    """And then runs the tiny one: a recipe with an unknown key is found out in no time."""
    config = {"teacher": teacher_config, "student": student_config}[command]()
    path = write_recipe(config, tmp_path / "r.yaml")
    path.write_text(path.read_text() + "learning_rte: 3\n")
    result = run("train", command, "--smoke", "--config", path)
    assert isinstance(result.exception, TrainingError)
    assert result.exception.code == "AE-TRAIN-001"
    assert "learning_rte" in str(result.exception)


def test_a_student_is_trained_taught_and_scored(cubes, taught, tmp_path):
    """The way of a run: each command prints what it made, and the next one takes it."""
    recipe = write_recipe(student_config(), tmp_path / "s.yaml")
    alone = run("train", "student", "--config", recipe, "--data", cubes, "-o", tmp_path / "s")
    assert alone.exit_code == 0, alone.output
    assert alone.stdout == f"{tmp_path / 's' / 'student.safetensors'}\n"
    recipe = write_recipe(distill_config(), tmp_path / "d.yaml")
    places = ["--config", recipe, "--data", cubes, "--teacher", tmp_path / "s" / "student.safetensors"]
    distilled = run(
        "distill", *places, "-o", tmp_path / "d", "--lambda", "0.2", "--seed", "5", "--reduction", "element"
    )
    assert distilled.exit_code == 0, distilled.output
    assert json.loads((tmp_path / "d" / "config.json").read_text())["config"] == {
        **as_dict(distill_config()),
        "weight": 0.2,
        "seed": 5,
        "reduction": "element",
    }
    places = ["--data", cubes, "-o", tmp_path / "scored", "--labels", tmp_path / "labels"]
    scored = run("score", tmp_path / "d", *places, "--split", "validation")
    assert scored.exit_code == 0, scored.output
    assert scored.stdout == f"{tmp_path / 'scored'}\n{tmp_path / 'labels'}\n"
    assert [path.name for path in (tmp_path / "labels").iterdir()] == ["validation0.nii.gz"]
    assert "case validation0: mean Dice" in scored.stderr
    assert read_run(tmp_path / "scored").facts.weight == 0.2


def test_a_teacher_is_asked_once_for_several_runs(cubes, taught, tmp_path):
    """``--cache`` writes the folder in the first run and reads it in the second, without the teacher."""
    recipe = write_recipe(distill_config(), tmp_path / "d.yaml")
    places = ["--config", recipe, "--data", cubes, "--teacher", taught, "--cache", tmp_path / "kept"]
    first = run("distill", *places, "-o", tmp_path / "a", "--lambda", "0")
    assert first.exit_code == 0, first.output
    made = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    second = run("distill", *places, "-o", tmp_path / "b", "--lambda", "0.5")
    assert second.exit_code == 0, second.output
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == made
    for name in "ab":
        assert weights_of(tmp_path / name / "student.safetensors")[1]["teacher"] == "cached"


def test_two_teachers_of_another_spacing_teach_with_further_scans(cubes, taught, tmp_path):
    """Everything that a tier is made with: the mean of two, a cache, more scans, weights to start from."""
    data = prepare_boxes(tmp_path / "data", spacing_mm=(4.5, 4.5, 4.5))
    more = prepare_unlabeled(tmp_path / "more", spacing_mm=(4.5, 4.5, 4.5))
    teachers = ["--teacher", taught, "--teacher", taught, "--cache", tmp_path / "kept"]
    places = ["--data", data, "--extra-data", more, *teachers]
    recipe = write_recipe(distill_config(), tmp_path / "d.yaml")
    first = run("distill", "--config", recipe, *places, "-o", tmp_path / "a", "--distance", "labels")
    assert first.exit_code == 0, first.output
    weights = tmp_path / "a" / "student.safetensors"
    assert weights_of(weights)[1]["teacher_network"] == "monai:UNet + monai:UNet"
    second = run("distill", "--config", recipe, *places, "-o", tmp_path / "b", "--init", tmp_path / "a")
    assert second.exit_code == 0, second.output
    given = [json.loads((tmp_path / name / "config.json").read_text())["init_sha256"] for name in "ab"]
    assert given == [None, file_digest(weights)]
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_a_dry_run_shows_the_parameters_of_every_part(tmp_path):
    """The paper's teacher, the network of a recipe and the tiny one have different numbers."""
    paper = run("train", "teacher", "--dry-run")
    assert paper.exit_code == 0, paper.output
    assert "26,530,176" in paper.stdout
    assert "88,892,928" in paper.stdout
    assert "ViT b, 14 classes" in paper.stdout
    own = run(
        "train", "teacher", "--dry-run", "--config", write_recipe(teacher_config(), tmp_path / "r.yaml")
    )
    tiny = run("train", "teacher", "--dry-run", "--smoke")
    assert len({paper.stdout, own.stdout, tiny.stdout}) == 3
    assert "ViT tiny" in own.stdout


@pytest.mark.parametrize(
    ("command", "missing"),
    [(command, missing) for command in COMMANDS for missing in ("--config", "--data", "--out")]
    + [(("distill",), "--teacher")],
)
def test_what_is_missing_is_wrong_usage(command, missing, cubes, taught, tmp_path):
    """Exit code 2 and the option's name; nothing is made."""
    config = {"teacher": teacher_config, "student": student_config, "distill": distill_config}[command[-1]]()
    options = {
        "--config": write_recipe(config, tmp_path / "r.yaml"),
        "--data": cubes,
        "--out": tmp_path / "run",
    }
    if command == ("distill",):
        options["--teacher"] = taught
    del options[missing]
    result = run(*command, *(word for option in options.items() for word in option))
    assert result.exit_code == 2
    assert missing in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "student", "--smoke", "--seed", "-1"),
        ("train", "student", "--smoke", "--workers", "3"),
        ("train", "teacher", "--dry-run", "--workers", "3"),
        ("distill", "--smoke", "--workers", "3"),
        ("distill", "--smoke", "--lambda", "1.5"),
        ("distill", "--smoke", "--lambda", "-0.5"),
        ("distill", "--smoke", "--teacher", "absent.safetensors"),
        ("train", "student", "--config", "absent.yaml"),
        ("train", "teacher", "--smoke", "--sam", "absent.pth"),
        ("train", "student", "--smoke", "--init", "."),
        ("train", "unet"),
        ("score", "absent", "--data", ".", "--out", "scored"),
        ("score", ".", "--data", ".", "--out", "scored", "--split", "training"),
        ("score", "."),
    ],
    ids=" ".join,
)
def test_values_that_cannot_be_are_wrong_usage(arguments, tmp_path, monkeypatch):
    """Out of range, files that are not there, splits that are not scored; nothing is made."""
    monkeypatch.chdir(tmp_path)
    assert run(*arguments).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_the_smoke_recipes_are_small_and_say_so():
    """Four steps, one line each, validated once, in fp32, and marked: no table takes them for results."""
    for module in (train_teacher, train_student):
        config = module.Config.smoke_run()
        assert config.smoke
        assert (config.schedule.steps, config.report_every, config.validate_every) == (4, 1, 4)
        assert (config.precision, config.sampling.patch) == ("fp32", (32, 32, 32))

"""A recipe is right in every key before a run begins, or is refused by the names of the keys that are not."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import field
from pathlib import Path
from typing import Literal

import pytest
import yaml

pytest.importorskip("torch")
pytest.importorskip("pydantic")

from autosam_edge_test_support import refused

from autosam_edge.errors import TrainingError
from autosam_edge_training import train_student, train_teacher
from autosam_edge_training.config import as_dict, parse_config, read_config
from autosam_edge_training.strict import STRICT, checked_dataclass, parse_json

RECIPES = sorted((Path(__file__).parents[2] / "training" / "recipes").glob("*.yaml"))


@checked_dataclass(config=STRICT)
class Oven:
    """A part of a recipe."""

    degrees: float
    heat: Literal["top", "bottom"] = "top"

    def __post_init__(self):
        if self.degrees <= 0:
            raise ValueError("degrees must be positive")


@checked_dataclass(config=STRICT)
class Cake:
    """A recipe."""

    minutes: int
    tin: tuple[int, int] = (20, 30)
    oven: Oven = field(default_factory=lambda: Oven(180.0))


def written(folder, text):
    """A recipe's file of this text, or of these bytes."""
    path = folder / "cake.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_becomes_the_dataclass_with_its_parts(tmp_path):
    """Lists are tuples, mappings are parts, what is not given has its default."""
    cake = read_config(Cake, written(tmp_path, "minutes: 45\noven: {degrees: 200, heat: bottom}\n"))
    assert cake == Cake(45, (20, 30), Oven(200.0, "bottom"))
    assert read_config(Cake, written(tmp_path, "{minutes: 45, tin: [1, 2]}")).tin == (1, 2)


@pytest.mark.parametrize(
    "text", ["minutes: 45\nminutes: 5\n", "minutes: 45\noven: {degrees: 2, degrees: 3}\n"]
)
def test_a_key_that_stands_twice_is_named(text, tmp_path):
    """YAML takes the last one and says nothing."""
    with pytest.raises(TrainingError, match="AE-TRAIN-001.*the key (minutes|degrees) stands there twice"):
        read_config(Cake, written(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("minutes: true", "minutes: it is True, expected a number"),
        ("minutes: 1\ntin: [1, true]", "tin.1: it is True, expected a number"),
        ("minutes: 1\noven: {degrees: yes}", "oven.degrees: it is True, expected a number"),
        (f"minutes: {10**400}", "minutes: the number is too large"),
        (f"minutes: '{10**400}'", "minutes: the number is too large"),
    ],
)
def test_what_counts_as_a_number(text, said, tmp_path):
    """To Python, true is 1, and a whole number has no end."""
    with pytest.raises(TrainingError, match=f"AE-TRAIN-001: the recipe is not valid: {said}"):
        read_config(Cake, written(tmp_path, text))
    if "'" not in text:
        with pytest.raises(ValueError, match=r"^(minutes|tin.1|oven.degrees): "):
            parse_json(Cake, json.dumps(yaml.safe_load(text)))


def test_a_number_that_yaml_takes_for_text_is_a_number(tmp_path):
    """YAML 1.1 reads 1e-3, without a point, as text; whoever writes it means the number."""
    assert read_config(Cake, written(tmp_path, "{minutes: 1, oven: {degrees: 1e-3}}")).oven.degrees == 0.001


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"minutes": 1, "minuts": 2}, ["minuts: unexpected"]),
        ({}, ["minutes: field required"]),
        ({"minutes": "long"}, ["minutes: input should be a valid integer"]),
        ({"minutes": 1.5}, ["minutes: input should be a valid integer"]),
        ({"minutes": 1, "tin": [1, 2, 3]}, ["tin: tuple"]),
        ({"minutes": 1, "tin": [1]}, ["tin.1: field required"]),
        ({"minutes": 1, "oven": 180}, ["oven: input should be"]),
        (
            {"minutes": 1, "oven": {"degree": 180}},
            ["oven.degrees: field required", "oven.degree: unexpected"],
        ),
        (
            {"minutes": 1, "oven": {"degrees": 180, "heat": "fire"}},
            ["oven.heat: input should be 'top' or 'bottom'"],
        ),
        ({"minutes": 1, "oven": {"degrees": -1}}, ["oven: value error, degrees must be positive"]),
        (
            {"minutes": 1, "oven": {"degrees": float("inf")}},
            ["oven.degrees: input should be a finite number"],
        ),
        (
            {"minutes": None, "oven": {"degrees": float("nan")}},
            ["minutes: ", "oven.degrees: input should be a finite number"],
        ),
        ({"minutes": 1, 2: 3}, ["2: "]),
    ],
)
def test_every_key_that_is_wrong_is_named(values, named):
    """Unknown, missing, of another type, or refused by the part itself; with the way to it."""
    with refused("AE-TRAIN-001") as caught:
        parse_config(Cake, values)
    assert [name for name in named if name not in caught.value.message] == []


@pytest.mark.parametrize("text", ["", "just words", "- 1\n- 2\n", "3"])
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text):
    """Nothing, text, a list, a number."""
    with refused("AE-TRAIN-001", "the file: input should be"):
        read_config(Cake, written(tmp_path, text))


@pytest.mark.parametrize(
    "content", ["minutes: [1\n", "a: b: c\n", "\tminutes: 1", b"\x80\xff\xfe\x00", b"PK\x03\x04\x00"]
)
def test_a_file_that_is_no_yaml_is_refused(tmp_path, content):
    """Broken YAML and files of another kind: one line that names the file."""
    with refused("AE-TRAIN-001", r"cake\.yaml cannot be read"):
        read_config(Cake, written(tmp_path, content))


def test_a_file_that_is_not_there_is_refused(tmp_path):
    """By its name, not by its folder."""
    with refused("AE-TRAIN-001", r"cake\.yaml cannot be read: No such file"):
        read_config(Cake, tmp_path / "cake.yaml")


def test_a_recipe_does_not_change():
    """Frozen; a changed copy is checked again."""
    cake = Cake(45)
    with pytest.raises(dataclasses.FrozenInstanceError):
        cake.minutes = 50
    with pytest.raises(ValueError, match="minutes"):
        dataclasses.replace(cake, minutes="long")


def recipe_kind(path):
    """The recipe that a file's name says it is for."""
    return train_teacher.Config if path.name.startswith("teacher") else train_student.Config


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_of_ours_is_valid(path):
    """As a file, and again as the JSON that a run's record keeps of it."""
    config = read_config(recipe_kind(path), path)
    assert parse_config(recipe_kind(path), json.loads(json.dumps(as_dict(config)))) == config
    assert not config.smoke


@pytest.mark.parametrize("kind", [train_student.Config, train_teacher.Config])
def test_a_recipe_refuses_what_its_parts_refuse(kind):
    """A share beyond 1, a misspelled key and an average that never moves, each by its name."""
    for wrong, named in (
        ({"sampling": {"flip": 1.5}}, "flip must lie in"),
        ({"schedule": {"steps": 1, "lrr": 1}}, r"schedule\.lrr"),
        ({"ema": 1.0}, "ema must lie in"),
        ({"report_every": 0}, "report_every"),
        ({"validate_every": 0}, "validate_every"),
        ({"seed": -1}, "seed not be negative"),
    ):
        with refused("AE-TRAIN-001", named):
            parse_config(kind, {"schedule": {"steps": 1}, **wrong})


def test_all_recipes_are_looked_at():
    """The test above is not empty: there is one of each kind."""
    assert {recipe_kind(path) for path in RECIPES} == {train_student.Config, train_teacher.Config}

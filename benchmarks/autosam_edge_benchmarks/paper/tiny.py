"""The real recipes, as small as they go: what ``--smoke`` hands to :mod:`autosam_edge_benchmarks.paper.smoke`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from autosam_edge_benchmarks.paper.smoke import Recipes
from autosam_edge_training import distill, train_student, train_teacher
from autosam_edge_training.data import prepare_smoke_phantoms
from autosam_edge_training.evaluate.score_run import predict_run, score_run
from autosam_edge_training.recipe_parts.setup import TEACHER_WEIGHTS

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge_benchmarks.paper.smoke import Role

# Two networks of different names that train in seconds.
_STUDENTS: dict[Role, dict[str, Any]] = {
    "small": {
        "student": "monai:UNet",
        "arguments": {"channels": [8, 16, 32], "strides": [2, 2], "norm": "instance"},
    },
    "tiny": {"student": "monai:BasicUNet", "arguments": {"features": [4, 4, 8, 8, 8, 4]}},
}


def _teacher(apg: bool, data: Path, out: Path) -> Path:
    config = train_teacher.Config.smoke_run()
    network = replace(config.network, apg=replace(config.network.apg, enabled=apg))
    return train_teacher.train(replace(config, network=network), data, out).parent


def _student(role: Role, data: Path, out: Path) -> Path:
    return train_student.train(replace(train_student.Config.smoke_run(), **_STUDENTS[role]), data, out).parent


def _distill(role: Role, weight: float, data: Path, teacher: Path, out: Path) -> Path:
    config = replace(distill.Config.smoke_run(), **_STUDENTS[role], weight=weight)
    return distill.train(config, data, out, teacher=teacher / TEACHER_WEIGHTS).parent


RECIPES = Recipes(prepare_smoke_phantoms, _teacher, _student, _distill, score_run, predict_run)

"""What the tests of the recipes share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("autosam_edge_test_recipes")


@pytest.fixture(scope="session")
def cubes(tmp_path_factory):
    """A prepared folder of bright boxes, liver and spleen; not to be changed."""
    from autosam_edge_test_recipes import prepare_boxes

    return prepare_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="session")
def taught(cubes, tmp_path_factory):
    """A student that learned the boxes: what others are taught by. Not to be changed."""
    from autosam_edge_test_recipes import NO_DROPOUT, changed, student_config

    from autosam_edge_training import train_student

    config = changed(student_config(ema=0.0, validate_every=100, arguments=NO_DROPOUT), "schedule", steps=30)
    return train_student.train(config, cubes, tmp_path_factory.mktemp("taught") / "run")


@pytest.fixture(scope="session")
def autosam_teacher(cubes, tmp_path_factory):
    """A trained AutoSAM teacher, all of whose weights are in its file. Not to be changed."""
    from autosam_edge_test_recipes import teacher_config

    from autosam_edge_training import train_teacher

    return train_teacher.train(teacher_config(), cubes, tmp_path_factory.mktemp("autosam") / "run")

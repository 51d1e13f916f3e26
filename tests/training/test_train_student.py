"""The recipe runs from end to end, learns, resumes, and refuses what it does not know."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from autosam_edge_training import train_student
from autosam_edge_training.convnet import PocketNet
from autosam_edge_training.train_student import Config, learning_rate, train


def test_the_schedule_warms_up_and_ends_at_one_percent():
    """Linear to the peak, then a cosine."""
    config = Config(student="pocketnet", minutes=1, lr=1.0, warmup=0.1)
    assert learning_rate(config, 0.05) == pytest.approx(0.5)
    assert learning_rate(config, 0.1) == pytest.approx(1.0)
    assert learning_rate(config, 0.55) == pytest.approx(0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi / 2)))
    assert learning_rate(config, 1.0) == pytest.approx(0.01)


def test_an_unknown_key_of_a_recipe_is_an_error(tmp_path):
    """A misspelled knob never does nothing."""
    (tmp_path / "r.yaml").write_text("student: pocketnet\nminutes: 1\nlr: 0.1\nlearning_rte: 3\n")
    with pytest.raises(TypeError, match="learning_rte"):
        Config.read(tmp_path / "r.yaml")


@pytest.fixture
def prepared(tmp_path):
    """One case: a bright cube that is the liver."""
    folder = tmp_path / "data"
    folder.mkdir()
    image = np.zeros((32, 32, 32), np.uint8)
    image[8:24, 8:24, 8:24] = 200
    occupancy = np.zeros((14, 32, 32, 32), np.uint8)
    occupancy[6][image > 0] = 255
    occupancy[0][image == 0] = 255
    np.savez(folder / "0001.npz", image=image, occupancy=occupancy)
    split = {"spacing_mm": [3, 3, 3], "training": ["0001"], "validation": ["0001"], "test": [], "sha256": {}}
    (folder / "prepared.json").write_text(json.dumps(split))
    return folder


def test_a_short_run_learns_a_cube_and_resumes(prepared, tmp_path, monkeypatch):
    """Sixty steps find the cube; a second call with ten more goes on from the checkpoint."""
    monkeypatch.setattr(train_student, "build_student", lambda name, classes: PocketNet(classes=classes, widths=(8, 16, 16)))
    config = Config(student="pocketnet", minutes=60, steps=60, lr=1e-2, patch=(32, 32, 32), validate_every=1000, ema=0.9)
    weights = train(config, prepared, tmp_path / "run")
    first = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert first["dice"][5] > 0.8
    assert weights.is_file()
    train(dataclasses.replace(config, steps=70), prepared, tmp_path / "run")
    second = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert (first["step"], second["step"]) == (60, 70)
    assert second["minutes"] > first["minutes"]

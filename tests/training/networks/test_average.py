"""The mean of the weights of students: what it computes, what it says of itself, what has no mean."""

from __future__ import annotations

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import weights_of
from autosam_edge_test_support import refused

from autosam_edge_training.networks.average import average_students
from autosam_edge_training.networks.checkpoint import network_sha256, open_network
from autosam_edge_training.networks.students import save_student

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def doubled(taught, tmp_path):
    """The taught student with all weights doubled, trained on another case for longer."""
    network, metadata = open_network(taught)
    network.load_state_dict({name: 2 * tensor for name, tensor in network.state_dict().items()})
    path = tmp_path / "doubled.safetensors"
    save_student(
        path,
        network,
        dataclasses.replace(metadata, datasets={"boxes": ("another",), "btcv": ("far",)}, steps=77),
    )
    return path


def test_each_weight_is_the_mean_by_the_shares(taught, doubled, tmp_path):
    """One part of twice the weights and three of the weights: 1.25 times."""
    metadata = average_students(tmp_path / "mean.safetensors", [taught, doubled], [3.0, 1.0])
    mean, stored = open_network(tmp_path / "mean.safetensors")
    first = weights_of(taught)[0]
    for name, tensor in mean.state_dict().items():
        torch.testing.assert_close(tensor, first[name] * 1.25)
    assert stored == metadata
    assert stored.config["averaged"] == [
        {"sha256": network_sha256(taught), "share": 0.75, "steps": 30},
        {"sha256": network_sha256(doubled), "share": 0.25, "steps": 77},
    ]


def test_the_mean_counts_as_trained_on_the_cases_of_all(taught, doubled, tmp_path):
    """So that none of them is scored."""
    metadata = average_students(tmp_path / "mean.safetensors", [taught, doubled], [1.0, 1.0])
    assert set().union(*metadata.datasets.values()) == {
        *set().union(*open_network(taught)[1].datasets.values()),
        *("another", "far"),
    }
    assert set(metadata.datasets) == {*open_network(taught)[1].datasets, "boxes", "btcv"}


@pytest.mark.parametrize(
    "shares", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, 1.0, 1.0], [1.0, float("nan")], [1.0, float("inf")]]
)
def test_shares_that_give_no_mean_are_refused(shares, taught, doubled, tmp_path):
    """One above 0 for each; nothing is written."""
    with pytest.raises(ValueError, match="shares"):
        average_students(tmp_path / "mean.safetensors", [taught, doubled], shares)
    assert not (tmp_path / "mean.safetensors").exists()


def test_students_of_other_labels_and_teachers_have_no_mean(taught, autosam_teacher, tmp_path):
    """AE-TRAIN-030, naming what differs."""
    network, metadata = open_network(taught)
    labels = ("background", "spleen", "liver")
    other = tmp_path / "other.safetensors"
    save_student(
        other,
        network,
        dataclasses.replace(metadata, input=dataclasses.replace(metadata.input, labels=labels)),
    )
    for file, what in ((other, "labels"), (autosam_teacher, "teacher")):
        with refused("AE-TRAIN-030", what):
            average_students(tmp_path / "mean.safetensors", [taught, file], [1.0, 1.0])

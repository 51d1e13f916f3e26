"""A trained network of any kind opens, has a name, and is refused on other data."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_networks import checkpoint_metadata
from autosam_edge_test_recipes import prepare_boxes, weights_of
from autosam_edge_test_support import refused
from safetensors.torch import save_file

from autosam_edge.errors import TrainingError
from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.autosam.trainables import trainable_parameters
from autosam_edge_training.networks.checkpoint import (
    network_name,
    open_network,
    read_metadata,
    require_same_input,
)
from autosam_edge_training.networks.checkpoint_metadata import CheckpointMetadata

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def test_a_student_opens(taught):
    """In eval mode, with the logits of the weights in its file."""
    network, metadata = open_network(taught)
    assert metadata.student == "monai:UNet"
    assert not network.training
    assert all(
        torch.equal(tensor, weights_of(taught)[0][name]) for name, tensor in network.state_dict().items()
    )


def test_a_file_that_names_no_data_sets_was_trained_on_its_own():
    """As files were written before the metadata told where weights come from."""
    stored = checkpoint_metadata().to_strings()
    del stored["datasets"]
    assert CheckpointMetadata.parse({**stored, "cases": "1,2"}) == checkpoint_metadata()


def test_an_autosam_teacher_opens(autosam_teacher):
    """In eval mode, and what learned is still marked so: its size is counted by that."""
    network, metadata = open_network(autosam_teacher)
    assert metadata.student == "autosam"
    assert not network.training
    assert 0 < len(trainable_parameters(network)) < len(list(network.parameters()))


@pytest.mark.parametrize("prompts", [True, False])
def test_a_network_is_told_by_its_name(prompts, taught, autosam_teacher, tmp_path):
    """A student's, and a teacher's with its size and whether it prompts itself."""
    assert network_name(read_metadata(taught)) == "monai:UNet"
    metadata = read_metadata(autosam_teacher)
    metadata.arguments["apg"]["enabled"] = prompts
    ending = "" if prompts else " without prompts"
    assert network_name(metadata) == f"autosam-vit-tiny{ending}"
    metadata.arguments["vit"] = {"dim": 192, "depth": 8, "heads": 3, "taps": [1, 3, 5, 7]}
    assert network_name(metadata) == f"autosam-192x8{ending}"
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(TrainingError, match="AE-TRAIN-007"):
            read_metadata(path)


@pytest.mark.parametrize(
    "fault", ["absent", "a folder", "noise", "cut", "no metadata", "another student's weights"]
)
def test_a_file_without_a_network_is_refused(fault, taught, tmp_path):
    """AE-TRAIN-007 with the file's name."""
    path = tmp_path / "n.safetensors"
    state, facts = weights_of(taught)
    if fault == "a folder":
        path.mkdir()
    elif fault in ("noise", "cut"):
        path.write_bytes(b"noise" * 99 if fault == "noise" else taught.read_bytes()[:-50])
    elif fault != "absent":
        facts = (
            {**facts, "arguments": json.dumps({"channels": [8, 8], "strides": [2]})}
            if "student" in fault
            else None
        )
        save_file(state, path, metadata=facts)
    with refused("AE-TRAIN-007", r"n\.safetensors"):
        open_network(path)


def test_a_damaged_teacher_keeps_its_own_error(autosam_teacher, tmp_path):
    """What the teacher's reader says is not covered up."""
    state, facts = weights_of(autosam_teacher)
    state.popitem()
    save_file(state, tmp_path / "t.safetensors", metadata=facts)
    with refused("AE-TRAIN-015"):
        open_network(tmp_path / "t.safetensors")


def test_all_that_differs_is_named(taught, tmp_path):
    """Labels and grid are other ones, the window is the same."""
    metadata = read_metadata(taught)
    prepared = Prepared.read(
        prepare_boxes(tmp_path, names=("background", "a", "b"), spacing_mm=(4.0, 4.0, 4.0))
    )
    with pytest.raises(
        TrainingError, match=r"^AE-TRAIN-008: it was trained on data with other labels, spacing_mm\. "
    ):
        require_same_input(metadata, prepared, "it")


def test_the_same_data_fit(taught, cubes):
    """Nothing is raised for what the network was trained on."""
    require_same_input(read_metadata(taught), Prepared.read(cubes), "it")

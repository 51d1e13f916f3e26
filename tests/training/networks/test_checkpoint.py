"""A trained network of any kind opens, has a name, and is refused on other data."""

from __future__ import annotations

import json

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import prepare_boxes, weights_of
from safetensors.torch import save_file

from autosam_edge.errors import TrainingError
from autosam_edge_training.data import Prepared
from autosam_edge_training.networks.autosam import trainable_parameters
from autosam_edge_training.networks.checkpoint import (
    network_name,
    open_network,
    require_same_input,
    teacher_name,
)

pytestmark = pytest.mark.usefixtures("one_thread")
CPU = torch.device("cpu")


def test_a_student_opens(taught):
    """In eval mode, with the logits of the weights in its file."""
    network, facts = open_network(taught)
    assert facts["student"] == "monai:UNet"
    assert not network.training
    assert all(
        torch.equal(tensor, weights_of(taught)[0][name]) for name, tensor in network.state_dict().items()
    )


def test_an_autosam_teacher_opens(autosam_teacher):
    """In eval mode, and what learned is still marked so: its size is counted by that."""
    network, facts = open_network(autosam_teacher)
    assert facts["kind"] == "autosam-teacher"
    assert not network.training
    assert 0 < len(trainable_parameters(network)) < len(list(network.parameters()))


@pytest.mark.parametrize("prompts", [True, False])
def test_a_network_is_told_by_its_name(prompts, taught, autosam_teacher, tmp_path):
    """A student's, and a teacher's with its size and whether it prompts itself."""
    assert network_name(taught) == "monai:UNet"
    state, facts = weights_of(autosam_teacher)
    config = json.loads(facts["config"])
    config["apg"]["enabled"] = prompts
    save_file(state, tmp_path / "t.safetensors", metadata={**facts, "config": json.dumps(config)})
    size = f"autosam-vit-{config['vit']}"
    assert network_name(tmp_path / "t.safetensors") == (size if prompts else f"{size} without prompts")
    assert teacher_name({"dim": 192, "depth": 8}, prompts=True) == "autosam-192x8"
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(TrainingError, match="AE-TRAIN-007"):
            network_name(path)


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
    with pytest.raises(TrainingError) as caught:
        open_network(path)
    assert caught.value.code == "AE-TRAIN-007"
    assert "n.safetensors" in caught.value.message


def test_a_damaged_teacher_keeps_its_own_error(autosam_teacher, tmp_path):
    """What the teacher's reader says is not covered up."""
    state, facts = weights_of(autosam_teacher)
    state.popitem()
    save_file(state, tmp_path / "t.safetensors", metadata=facts)
    with pytest.raises(TrainingError) as caught:
        open_network(tmp_path / "t.safetensors")
    assert caught.value.code == "AE-TRAIN-015"


def test_all_that_differs_is_named(taught, tmp_path):
    """The same data fit; others do not; a file whose metadata are damaged fits nothing."""
    facts = weights_of(taught)[1]
    prepared = Prepared.read(
        prepare_boxes(tmp_path, names=("background", "a", "b"), spacing_mm=(4.0, 4.0, 4.0))
    )
    with pytest.raises(
        TrainingError, match=r"^AE-TRAIN-008: it was trained on data with other labels, spacing_mm\. "
    ):
        require_same_input(facts, prepared, "it")
    with pytest.raises(TrainingError, match="labels, spacing_mm, intensity"):
        require_same_input({"labels": "["}, prepared, "it")


def test_the_same_data_fit(taught, cubes):
    """Nothing is raised for what the network was trained on."""
    require_same_input(weights_of(taught)[1], Prepared.read(cubes), "it")

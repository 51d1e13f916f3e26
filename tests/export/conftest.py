"""What several test files of the export room share."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("autosam_edge_test_mil", "autosam_edge_test_networks")


@pytest.fixture(scope="module")
def small_students():
    """Every checkpoint that is loaded holds a small PocketNet."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from autosam_edge_test_students import small_student

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("autosam_edge_training.networks.students.build_student", small_student)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Checkpoint of a small PocketNet with random weights and large differences between its logits."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnx")
    from autosam_edge_test_networks import checkpoint_metadata
    from autosam_edge_test_students import small_student

    from autosam_edge_training.networks.students import save_student

    torch.manual_seed(0)
    student = small_student()
    with torch.no_grad():
        student.head.project.weight.mul_(20.0)
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_student(path, student, checkpoint_metadata())
    return path


@pytest.fixture(scope="module")
def volumes():
    """One coarse phantom to compare artifacts on."""
    pytest.importorskip("torch")
    from autosam_edge.phantom import make_phantom

    return {"phantom": make_phantom(1, spacing_mm=(6.0, 6.0, 6.0), shape=(20, 24, 30)).volume}

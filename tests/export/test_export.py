"""A bundle exists only if it is the student."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_support import write_bundle

from autosam_edge.bundle import Bundle
from autosam_edge.engines.onnx_engine import OnnxEngine
from autosam_edge.errors import ExportError, OutputError
from autosam_edge.phantom import make_phantom
from autosam_edge.session import open_session
from autosam_edge_export import export as export_module
from autosam_edge_export.device_form import DeviceForm, TorchEngine
from autosam_edge_export.export import export_bundle
from autosam_edge_export.parity import judge
from autosam_edge_training.convnet import PocketNet
from autosam_edge_training.students import save_student


def small_student(name="pocketnet", classes=14):
    return PocketNet(classes=classes, widths=(8, 8, 8))


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Every checkpoint of these tests holds a small PocketNet."""
    monkeypatch.setattr("autosam_edge_training.students.build_student", small_student)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Random weights."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("student") / "student.safetensors"
    save_student(path, small_student().state_dict(), {"student": "pocketnet", "classes": "14", "cases": "1,2"})
    return path


@pytest.fixture(scope="module")
def volumes():
    return {"phantom": make_phantom(1, spacing_mm=(6.0, 6.0, 6.0)).volume}


def test_the_device_form_windows_and_scales():
    """Below, inside and above the window: 0, the middle, 1."""
    form = DeviceForm(torch.nn.Identity(), (-125.0, 275.0))
    image = torch.tensor([-1000.0, 75.0, 3000.0]).reshape(1, 1, 3, 1, 1)
    assert form(image).flatten().tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_an_export_is_a_verified_bundle_that_the_runtime_runs(checkpoint, volumes, tmp_path):
    """Files, hashes, golden logits, parity, and labels from the runtime."""
    report = export_bundle(checkpoint, tmp_path / "s.edge", patch=(32, 32, 32), volumes=volumes)
    assert report["worst_organ"]["dice"] >= 0.999
    bundle = Bundle(tmp_path / "s.edge")
    bundle.verify()
    assert json.loads(bundle.read("parity.json"))[0]["agreement"] >= 0.9999
    with np.load(tmp_path / "s.edge" / "golden" / "tile.npz") as golden:
        artifact = bundle.artifact("onnx")
        engine = OnnxEngine(bundle.read(artifact.path), sha256="", precision="fp32")
        step = int(golden["stride"])
        logits = engine.run(golden["tile_hu"].astype(np.float32))[:, ::step, ::step, ::step]
        np.testing.assert_allclose(logits, golden["logits"], atol=1e-2)
    assert artifact.working_set_mb > 0
    labels = open_session(bundle).segment(volumes["phantom"]).labels
    assert labels.shape == volumes["phantom"].shape


def test_a_second_export_replaces_the_bundle_and_nothing_else(checkpoint, volumes, tmp_path):
    """A bundle gives way to its successor; a folder that is no bundle does not."""
    write_bundle(tmp_path / "s.edge")
    export_bundle(checkpoint, tmp_path / "s.edge", patch=(32, 32, 32), volumes=volumes)
    Bundle(tmp_path / "s.edge").verify()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="AE-OUTPUT-002"):
        export_bundle(checkpoint, tmp_path / "mine", patch=(32, 32, 32), volumes=volumes)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine", "s.edge"]


def test_a_conversion_that_changes_the_network_is_refused(checkpoint, volumes, tmp_path, monkeypatch):
    """Weights altered on the way: AE-EXPORT-003, and no bundle."""
    honest = export_module.convert

    def dishonest(model, patch, metadata):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1.1)
        data = honest(model, patch, metadata)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.div_(1.1)
        return data

    monkeypatch.setattr(export_module, "convert", dishonest)
    with pytest.raises(ExportError, match="AE-EXPORT-003"):
        export_bundle(checkpoint, tmp_path / "s.edge", patch=(32, 32, 32), volumes=volumes)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_is_refused(checkpoint, tmp_path):
    """An unknown target, a file that is no checkpoint, a patch that does not divide."""
    (tmp_path / "junk").write_bytes(b"junk")
    for options, code in (
        ({"checkpoint": checkpoint, "target": "abacus"}, "AE-EXPORT-001"),
        ({"checkpoint": tmp_path / "junk"}, "AE-EXPORT-002"),
        ({"checkpoint": checkpoint, "patch": (96, 96, 90)}, "AE-EXPORT-006"),
    ):
        source = options.pop("checkpoint")
        with pytest.raises(ExportError, match=code):
            export_bundle(source, tmp_path / "s.edge", **options)
    assert not (tmp_path / "s.edge").exists()


def test_nothing_found_proves_nothing():
    """A student that labels no voxel passes no parity."""
    with pytest.raises(ExportError, match="AE-EXPORT-004"):
        judge("onnx", "fp32", [{"volume": "v", "agreement": 1.0, "logit_error": 0.0, "organs": []}])


def test_one_bad_organ_fails_the_export_by_name():
    """All others may be perfect."""
    organs = [{"organ": "liver", "dice": 1.0}, {"organ": "pancreas", "dice": 0.9}]
    with pytest.raises(ExportError, match="AE-EXPORT-003.*pancreas"):
        judge("onnx", "fp32", [{"volume": "v", "agreement": 1.0, "logit_error": 0.0, "organs": organs}])


def test_the_torch_engine_is_the_student():
    """The reference that artifacts are held against returns the module's own logits."""
    net = PocketNet(classes=3, widths=(8, 8)).eval()
    tile = np.random.default_rng(0).uniform(-200, 300, (16, 16, 16)).astype(np.float32)
    with torch.no_grad():
        expected = net(((torch.from_numpy(tile).clamp(-125, 275) + 125) / 400)[None, None])[0]
    np.testing.assert_allclose(TorchEngine(net, (-125.0, 275.0)).run(tile), expected.numpy(), atol=1e-5)

"""Each form has its size, memory, time and distance from torch."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")
pytest.importorskip("onnx")
pytest.importorskip("psutil")
from autosam_edge.bundle import STUDENT_FILE, default_bundle_path
from autosam_edge.errors import ExportError
from autosam_edge_benchmarks.studies import edge_form
from autosam_edge_training.networks.pocketnet import PocketNet


@pytest.mark.slow
def test_every_form_is_measured_and_is_the_student(monkeypatch):
    """The original form comes first, with relative time 1; float forms are within 1e-3 of torch."""
    monkeypatch.setattr(edge_form, "build_student", lambda name: PocketNet(classes=4, widths=(8, 8, 8)))
    result = edge_form.measure_edge_form("pocketnet", patch=(32, 32, 32), rounds=1)
    assert [form["form"].split(",")[0] for form in result["forms"]] == ["stock"] * 2 + ["edge"] * 4
    assert result["forms"][0]["relative_time"] == 1.0
    assert result["trained"] is False
    for form in result["forms"]:
        assert form["peak_rss_mb"] > form["working_set_mb"] > 0
        assert form["tile_ms"] > 0
        assert form["logit_error"] < (1e-1 if "weights" in form["form"] else 1e-3)


def test_a_checkpoint_names_its_student():
    """Whatever the option says, which has a default."""
    student, module = edge_form._load("swinunetr-tiny", default_bundle_path() / STUDENT_FILE)
    assert student == "pocketnet"
    assert isinstance(module, PocketNet)


def test_a_checkpoint_that_is_none_is_refused(tmp_path):
    """As an export refuses it."""
    (tmp_path / "a.json").write_text("{}")
    with pytest.raises(ExportError, match=r"AE-EXPORT-002.*a\.json"):
        edge_form._load("pocketnet", tmp_path / "a.json")

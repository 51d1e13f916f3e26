"""What an export refuses, and that nothing is left of it."""

from __future__ import annotations

import dataclasses
import errno
import importlib
import importlib.util

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from autosam_edge_test_networks import CONFIDENCE, checkpoint_metadata
from autosam_edge_test_students import forms_of, small_student
from safetensors.torch import save_file

from autosam_edge.errors import ExportError, MissingExtraError, OutputError
from autosam_edge_export import export as export_module
from autosam_edge_export.bundle_writer import Description, read_confidence, read_decision_weights
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.export import export_bundle
from autosam_edge_export.targets import wanted_artifacts
from autosam_edge_training.data import BTCV_INTENSITY
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import load_student, save_student

pytestmark = pytest.mark.usefixtures("small_students")


def test_decision_weights_and_confidence_that_do_not_fit_are_refused(checkpoint, tmp_path):
    """An organ that the student does not know, and a file that holds none: AE-EXPORT-014, AE-EXPORT-017."""
    with pytest.raises(ExportError, match=r"AE-EXPORT-014.*'toe', which is no label"):
        export_bundle(checkpoint, tmp_path / "a.edge", description=Description(confidence=CONFIDENCE))
    (tmp_path / "confidence.json").write_text('{"confidence": {"temperature": 1.3}}')
    with pytest.raises(ExportError, match=r"AE-EXPORT-017.*confidence\.json"):
        read_confidence(tmp_path / "confidence.json")
    with pytest.raises(ExportError, match=r"AE-EXPORT-014.*'toe', which is no label"):
        export_bundle(checkpoint, tmp_path / "a.edge", description=Description(decision_weights={"toe": 2.5}))
    (tmp_path / "weights.json").write_text('{"decision_weights": {"liver": "much"}}')
    with pytest.raises(ExportError, match=r"AE-EXPORT-014.*weights\.json"):
        read_decision_weights(tmp_path / "weights.json")
    (tmp_path / "weights.json").write_text('{"benchmark": "confidence", "decision_weights": {}}')
    with pytest.raises(ExportError, match=r"AE-EXPORT-014.*weights\.json is the result of another command"):
        read_decision_weights(tmp_path / "weights.json")


@pytest.mark.parametrize(
    "change",
    [
        {"labels": '["background", "liver"]'},
        {"intensity": "[1, 2]"},
        {"spacing_mm": '"fine"'},
        {"spacing_mm": "[300.0, 1.0, 1.0]"},
    ],
)
def test_a_student_whose_input_is_not_clear_is_refused(small_students, checkpoint, tmp_path, change):
    """Fewer labels than outputs, metadata that nobody wrote, or a grid that no runtime takes."""
    module, facts = load_student(checkpoint)
    save_file(module.state_dict(), tmp_path / "a.safetensors", metadata={**facts.to_strings(), **change})
    with pytest.raises(ExportError, match="AE-EXPORT-002"):
        export_bundle(tmp_path / "a.safetensors", tmp_path / "a.edge")


def test_what_cannot_be_exported_is_refused(checkpoint, tmp_path):
    """Unknown targets, precisions that a target lacks, a file that is no checkpoint, unsuitable patches."""
    (tmp_path / "junk").write_bytes(b"junk")
    for options, code in (
        ({"targets": ("abacus",)}, "AE-EXPORT-001"),
        ({"precisions": ("int3",)}, "AE-EXPORT-001"),
        ({"precisions": ("fp32", "int3")}, "AE-EXPORT-001"),
        ({"precisions": ("bf16",)}, "AE-EXPORT-001"),
        ({"checkpoint": tmp_path / "junk"}, "AE-EXPORT-002"),
        ({"checkpoint": tmp_path / "nowhere"}, "AE-EXPORT-002"),
        ({"patch": (96, 96, 90)}, "AE-EXPORT-006"),
        ({"patch": (0, 96, 96)}, "AE-EXPORT-006"),
        ({"patch": (544, 96, 96)}, "AE-EXPORT-006"),
    ):
        source = options.pop("checkpoint", checkpoint)
        with pytest.raises(ExportError, match=code):
            export_bundle(source, tmp_path / "s.edge", **options)
    assert [p.name for p in tmp_path.iterdir()] == ["junk"]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"description": Description(name="n" * 101)}, "name is out of range"),
        ({"description": Description(name="a\udcff")}, "control characters"),
        ({"description": Description(training_data="t" * 4001)}, "training_data is out of range"),
        ({"patch": (512, 512, 96)}, "at most 16777216 voxels in all"),
        ({"labels": ("background", "left/right")}, "label 'left/right' is out of range"),
        ({"labels": ("background", "liver", "liver")}, "a name of its own for each organ"),
        ({"labels": ("background", "tumor-1", "Tumor 1")}, "whatever its blanks and capitals"),
    ],
)
def test_what_no_manifest_may_hold_is_refused_before_the_conversions(
    small_students, tmp_path, monkeypatch, options, named
):
    """AE-EXPORT-018 names it; a conversion of a large student takes an hour."""
    labels = options.pop("labels", ("background", "liver"))
    monkeypatch.setattr(export_module, "_make_bundle", lambda *_: pytest.fail("converted"))
    student = small_student(classes=len(labels))
    told = NetworkInput((3.0, 3.0, 3.0), BTCV_INTENSITY, labels, "own")
    save_student(tmp_path / "a.safetensors", student, checkpoint_metadata(input=told))
    with pytest.raises(ExportError, match=f"AE-EXPORT-018: .*{named}"):
        export_bundle(tmp_path / "a.safetensors", tmp_path / "a.edge", **options)


def test_a_student_of_a_training_that_diverged_is_refused(small_students, tmp_path):
    """One weight that is no number makes every logit none."""
    student = small_student()
    with torch.no_grad():
        student.head.project.weight[3].fill_(float("nan"))
    save_student(tmp_path / "a.safetensors", student, checkpoint_metadata("monai:Own"))
    with pytest.raises(ExportError, match=r"AE-EXPORT-002: .*its weights are not all finite"):
        export_bundle(tmp_path / "a.safetensors", tmp_path / "a.edge")


def test_a_network_of_monai_takes_sides_of_sixteen(small_students, checkpoint, tmp_path, monkeypatch):
    """nnU-Net plans such patches; our own students halve a side five times."""
    module, facts = load_student(checkpoint)
    path = tmp_path / "a.safetensors"
    save_student(path, module, dataclasses.replace(facts, student="monai:Own", probe=()))
    made = []
    monkeypatch.setattr(
        export_module, "_make_bundle", lambda _, __, contract, *___: made.append(contract) or {}
    )
    export_bundle(path, tmp_path / "a.edge", patch=(48, 160, 160))
    assert made[0].patch == (48, 160, 160)
    with pytest.raises(ExportError, match="AE-EXPORT-006"):
        export_bundle(path, tmp_path / "b.edge", patch=(40, 160, 160))


def test_a_target_whose_runtime_is_missing_names_its_extra(checkpoint, tmp_path, monkeypatch):
    """Before anything is converted: nothing could be proven."""
    honest = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "openvino" else honest(name)
    )
    with pytest.raises(MissingExtraError, match=r"AE-EXTRA-001.*pip install 'autosam-edge\[openvino\]'"):
        export_bundle(checkpoint, tmp_path / "s.edge", targets=("onnx", "openvino"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "code"), [(errno.ENOSPC, "AE-OUTPUT-003"), (errno.EROFS, "AE-OUTPUT-001")]
)
def test_a_full_disk_leaves_no_bundle(checkpoint, volumes, tmp_path, monkeypatch, number, code):
    """Whatever was written so far vanishes."""

    def full(*_):
        raise OSError(number, "no")

    monkeypatch.setattr(export_module, "write_golden", full)
    with pytest.raises(OutputError, match=code):
        export_bundle(
            checkpoint, tmp_path / "s.edge", patch=(32, 32, 32), volumes=volumes, calibration=volumes
        )
    assert list(tmp_path.iterdir()) == []


def test_bfloat16_that_is_computed_as_float32_is_refused(checkpoint, volumes, tmp_path, monkeypatch):
    """OpenVINO does so in silence on processors without AVX-512, and every comparison would pass."""
    module = pytest.importorskip("autosam_edge.engines.openvino_engine")
    monkeypatch.setattr(module.OpenVinoEngine, "has_instructions", lambda precision: precision != "bf16")
    monkeypatch.setitem(module._ARITHMETIC, "bf16", module._ARITHMETIC["fp32"])
    monkeypatch.setattr(export_module, "compare", None)  # it takes minutes, so the refusal comes before it
    with pytest.raises(ExportError, match="AE-EXPORT-013.*computed in float32"):
        export_bundle(
            checkpoint,
            tmp_path / "s.edge",
            targets=("openvino",),
            precisions=("bf16",),
            patch=(32, 32, 32),
            volumes=volumes,
        )
    assert list(tmp_path.iterdir()) == []


def test_the_reason_of_a_failed_trace_ends_with_one_full_stop():
    """MONAI ends its sentences with one of its own."""

    class Picky(PocketNet):
        def forward(self, x):
            raise ValueError("must be divisible by 32.")

    with pytest.raises(ExportError, match=r"AE-EXPORT-007: .* by 32\. Remedy"):
        forms_of(Picky(classes=4, widths=(8, 8, 8)), (48, 48, 48)).program(EdgeOptions())


def test_a_student_that_cannot_be_traced_is_refused(small_students, volumes, tmp_path, monkeypatch):
    """A network of MONAI with a convolution that has no 2D form."""
    monai = pytest.importorskip("monai.networks.nets")
    network = monai.UNet(3, 1, 14, channels=[8, 16], strides=[2], norm="instance")
    save_student(tmp_path / "u.safetensors", network, checkpoint_metadata("monai:Own"))
    monkeypatch.setattr("autosam_edge_training.networks.students.build_student", lambda *_, **__: network)
    with pytest.raises(ExportError, match="AE-EXPORT-007: this student cannot be traced at 32x32x32"):
        export_bundle(
            tmp_path / "u.safetensors",
            tmp_path / "s.edge",
            targets=("coreml-2d",),
            patch=(32, 32, 32),
            volumes=volumes,
        )
    assert [path.name for path in tmp_path.iterdir()] == ["u.safetensors"]


@pytest.mark.parametrize(
    ("target", "precision"), [("executorch-coreml", "int8"), ("coreml", "bf16"), ("onnx", "palette6")]
)
def test_a_precision_that_a_target_lacks_is_refused(target, precision):
    """There is no other precision to stand for it."""
    with pytest.raises(ExportError, match=f"AE-EXPORT-001: there is no {target}/{precision}"):
        wanted_artifacts((target,), (precision,))

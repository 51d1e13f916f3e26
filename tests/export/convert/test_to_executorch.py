"""ExecuTorch programs hold what the student holds, and delegates do the work."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("onnx")
pytest.importorskip("executorch")
pytest.importorskip("torchao")
from autosam_edge_test_networks import stirred
from autosam_edge_test_students import forms_of, logits_in_torch, random_tile, spread
from autosam_edge_test_support import PLACES_HERE
from monai.networks.blocks.dynunet_block import UnetResBlock
from monai.networks.nets.swin_unetr import BasicLayer, PatchMerging
from torch import nn

from autosam_edge.engines.executorch_engine import ExecuTorchEngine
from autosam_edge.errors import ExportError
from autosam_edge_export.convert.quantization import QuantizationPlan, Range
from autosam_edge_export.convert.quiet import quiet
from autosam_edge_export.convert.student_forms import StudentForms
from autosam_edge_export.convert.to_executorch import Delegation, lower
from autosam_edge_export.edge import EdgeOptions
from autosam_edge_export.export import delegation_lines
from autosam_edge_export.mil.engine import MilEngine
from autosam_edge_export.targets import TARGETS, executorch_coreml
from autosam_edge_export.targets.executorch import ExecuTorch, _with_int8_convolutions
from autosam_edge_export.targets.target import preflight
from autosam_edge_training.networks.pocketnet import PocketNet
from autosam_edge_training.networks.students import parameter_count

with quiet():
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner

PATCH = (32, 32, 32)


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tile():
    return random_tile(PATCH)


def run(made, tile):
    return ExecuTorchEngine(made.files, sha256="", precision="", threads=1).run(tile)


@pytest.fixture(scope="module")
def pocket():
    """The forms of a small PocketNet."""
    torch.manual_seed(0)
    return forms_of(PocketNet(classes=4, widths=(8, 16)).eval(), PATCH)


@pytest.fixture(scope="module")
def lowered(pocket):
    return TARGETS["executorch"].convert(pocket, "fp32")


def test_a_program_is_the_student(pocket, lowered, tile):
    """In ExecuTorch's own runtime: 1e-4 at most."""
    np.testing.assert_allclose(run(lowered, tile), logits_in_torch(pocket.student, tile), atol=1e-4)


def test_one_delegate_does_all_the_work(lowered):
    """Nothing is left to slow kernels, and the report says so."""
    assert lowered.facts["delegation"] == {"delegates": 1, "node_share": 1.0, "work_share": 1.0, "left": {}}
    report = {
        "artifacts": [{"name": "onnx/fp32", "facts": {}}, {"name": "executorch/fp32", "facts": lowered.facts}]
    }
    (line,) = delegation_lines(report)
    shares = "100.0 % of the operators and 100.00 % of the multiplications"
    assert line == f"executorch/fp32: delegated {shares}, in one part; 0 operators left"


def test_the_program_names_no_place_of_this_machine(lowered):
    """The file that goes to a device; the record beside it is for developers."""
    (name,) = lowered.developer_files
    assert (lowered.path, name) == ("executorch/fp32.pte", "executorch/fp32.etrecord")
    assert lowered.developer_files[name].startswith(b"PK")
    for place in PLACES_HERE:
        assert place.encode() not in lowered.files[""]


class Mixed(nn.Module):
    """A convolution that XNNPACK takes and one that it does not."""

    def __init__(self):
        super().__init__()
        self.plane = nn.Conv2d(8, 2, 3)
        self.volume = nn.Conv3d(1, 4, 3)

    def forward(self, x):
        return self.plane(x[0]), self.volume(x)


def test_what_no_delegate_takes_is_counted():
    """By work: 8 x 9 multiplications for each of 2 x 36 values inside, 27 for each of 4 x 216 outside."""
    program = torch.export.export(Mixed().eval(), (torch.zeros(1, 1, 8, 8, 8),))
    found = lower(program, [XnnpackPartitioner()]).delegation
    assert found.left["aten.convolution.default"] == 1
    assert found.delegates == 1
    assert 0 < found.node_share < 1
    inside, outside = 72 * 2 * 36, 27 * 4 * 216
    assert found.work_share == pytest.approx(inside / (inside + outside))


def test_matrix_products_and_transposed_convolutions_count_as_work():
    """Without any delegate everything is left: the share is that of nothing."""

    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.up = nn.Linear(8, 8), nn.ConvTranspose2d(1, 2, 2, stride=2)

        def forward(self, x):
            y = self.linear(x)
            return self.up(torch.bmm(y, y.transpose(1, 2))[None])

    program = torch.export.export(Products().eval(), (torch.zeros(1, 8, 8),))
    none, some = (lower(program, partitioners).delegation for partitioners in ([], [XnnpackPartitioner()]))
    assert (none.delegates, none.work_share, none.node_share) == (0, 0.0, 0.0)
    assert {"aten.bmm.default", "aten.convolution.default"} <= set(none.left)
    assert some.work_share == 1.0


class InVolumes(ExecuTorch):
    """The target as it would be without planes."""

    options = EdgeOptions()


def test_a_student_in_3d_is_refused(pocket, layers):
    """By its operators before it is lowered, and by what XNNPACK leaves if it were."""
    with pytest.raises(
        ExportError, match=r"AE-EXPORT-007: the export to executorch .*: the operators aten\.conv3d\.default"
    ):
        preflight(InVolumes(), pocket.program(InVolumes.options))
    preflight(TARGETS["executorch"], pocket.program(ExecuTorch.options))
    with pytest.raises(ExportError, match="AE-EXPORT-011: XNNPACK takes 0 % of the work, needs 95 %"):
        InVolumes().convert(layers, "fp32")


@pytest.fixture(scope="module")
def layers():
    """The forms of three convolutions, of which the second is by far the largest."""
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv3d(1, 8, 3, padding=1), nn.Conv3d(8, 96, 3, padding=1), nn.Conv3d(96, 4, 1)
    )
    return forms_of(student.eval(), PATCH)


def planned(forms, *names):
    """The forms with a plan that allows these layers."""
    forms.quantization = QuantizationPlan({f"student.{name}": Range(0.0, 1.0) for name in names}, (), (), 0)
    return forms


@pytest.mark.parametrize(("names", "count"), [((), 0), (("1",), 3), (("0", "2"), 1), (("0", "1", "2"), 4)])
def test_only_the_layers_of_the_plan_get_eight_bits(layers, names, count):
    """Each depth tap has its own weights: three, three and one; one channel of input has no kernel."""
    program = _with_int8_convolutions(layers.program(ExecuTorch.options), planned(layers, *names))
    operators = [str(node.target) for node in program.graph.nodes]
    assert sum("dequantize_per_channel" in name for name in operators) == count
    assert sum("choose_qparams" in name for name in operators) == count, (
        "the inputs' ranges are those of the moment"
    )
    assert operators.count("aten.conv2d.default") == 7


@pytest.mark.slow
def test_int8_is_small_and_close(layers, tile):
    """Less than half the size of the weights, all work delegated, logits within 3 %."""
    small = TARGETS["executorch"].convert(planned(layers, "1"), "int8")
    assert len(small.files[""]) < 0.5 * 4 * parameter_count(layers.student)
    assert 1e-4 < spread(run(small, tile), logits_in_torch(layers.student, tile)) < 0.03
    assert small.facts["delegation"]["work_share"] == 1.0
    assert (small.path, *small.developer_files) == ("executorch/int8.pte", "executorch/int8.etrecord")


@pytest.fixture(scope="module")
def attentive():
    """The forms of a student whose Swin stage two paths of convolutions read."""
    torch.manual_seed(0)
    stage = BasicLayer(6, 1, 3, (8, 8, 8), [0.0], qkv_bias=True, downsample=PatchMerging)
    begin, end = nn.Conv3d(1, 6, 3, stride=4, padding=1), nn.ConvTranspose3d(6, 4, 8, stride=8)
    return forms_of(
        stirred(nn.Sequential(begin, stage, UnetResBlock(3, 12, 6, 3, 1, "instance"), end)), PATCH
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pocket", "attentive"])
def test_int8_runs_whatever_a_convolution_follows(name, tile, request):
    """The artifact runs, logits are within 3 %, and no change of layout is left between the delegates."""
    forms = request.getfixturevalue(name)
    convolutions = [layer for layer, module in forms.student.named_modules() if isinstance(module, nn.Conv3d)]
    small = TARGETS["executorch"].convert(planned(forms, *convolutions), "int8")
    assert 1e-4 < spread(run(small, tile), logits_in_torch(forms.student, tile)) < 0.03
    assert small.facts["delegation"]["work_share"] == 1.0
    assert not [operator for operator in small.facts["delegation"]["left"] if "dim_order" in operator]


def test_int8_asks_for_the_plan_that_all_targets_share(layers, monkeypatch):
    """And takes what it says."""
    plan = QuantizationPlan({"student.2": Range(0.0, 1.0)}, ("student.1",), (), 0)
    monkeypatch.setattr(StudentForms, "quantization", property(lambda self: plan))
    program = _with_int8_convolutions(layers.program(ExecuTorch.options), layers)
    assert sum("dequantize_per_channel" in str(node.target) for node in program.graph.nodes) == 1


@pytest.fixture(scope="module")
def for_apple(pocket):
    pytest.importorskip("coremltools")
    return TARGETS["executorch-coreml"].convert(pocket, "fp16")


def test_the_package_inside_a_program_is_the_student(pocket, for_apple, tile):
    """Read back from the file and interpreted; it is float16."""
    engine = TARGETS["executorch-coreml"].make_interpreter(for_apple.files)
    assert isinstance(engine, MilEngine)
    assert 1e-6 < spread(engine.run(tile), logits_in_torch(pocket.student, tile)) < 5e-3
    assert set(executorch_coreml._package(for_apple.files[""])) >= {
        "Manifest.json",
        "Data/com.apple.CoreML/weights/weight.bin",
    }


def test_core_ml_does_all_of_it(for_apple):
    """One delegate with everything, of a rank that Core ML takes; no place of this machine in it."""
    assert for_apple.facts["delegation"] == {"delegates": 1, "node_share": 1.0, "work_share": 1.0, "left": {}}
    assert (for_apple.facts["specification"], for_apple.facts["highest_rank"]) == (8, 5)
    assert for_apple.path == "executorch-coreml/fp16.pte"
    for place in PLACES_HERE:
        assert place.encode() not in for_apple.files[""]


def test_a_program_that_core_ml_takes_in_parts_is_refused(pocket, monkeypatch):
    """An app would wait between the parts."""
    made = Delegation(2, node_share=0.9, work_share=1.0, left={"aten.roll.default": 1})
    monkeypatch.setattr(
        executorch_coreml, "lower", lambda *_: type("Lowered", (), {"delegation": made, "pte": b""})
    )
    with pytest.raises(ExportError, match="AE-EXPORT-011: Core ML takes 100 % of the work in 2 parts"):
        TARGETS["executorch-coreml"].convert(pocket, "fp16")
